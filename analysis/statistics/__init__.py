"""Statistics over seeds and images: pure functions of arrays, whose axes are in their names. One method a file.

Scores have any unit and keep it. A score that is missing is NaN, and never counted. What most need is handed on here.
"""

from analysis.statistics.intervals import CONFIDENCE, Estimate, Floats, mean_interval, paired_difference

__all__ = ["CONFIDENCE", "Estimate", "Floats", "mean_interval", "paired_difference"]
