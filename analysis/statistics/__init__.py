"""Statistics over seeds, images and tasks: pure functions of arrays, whose axes are in their names. One method a file.

Scores have any unit and keep it. A score that is missing is NaN, and never counted.
"""

from analysis.statistics.bca import Interval, bca_interval
from analysis.statistics.equivalence import equivalence_p
from analysis.statistics.families import holm
from analysis.statistics.improvement import probability_of_improvement
from analysis.statistics.interaction import interaction
from analysis.statistics.intervals import CONFIDENCE, Estimate, Floats, mean_interval, paired_difference
from analysis.statistics.ratio import Ratio, paired_ratio
from analysis.statistics.seeds import MAX_SEEDS, POWER, seeds_needed_for_significance, seeds_to_decide
from analysis.statistics.seeds_by_images import ImageTests, seeds_by_images_interval, seeds_by_images_tests
from analysis.statistics.sign_flip import sign_flip_p, smallest_p
from analysis.statistics.trend import Direction, Trend, trends
from analysis.statistics.tuning import TuningBudget, check_random_search, tuning_budget

__all__ = [
    "CONFIDENCE",
    "MAX_SEEDS",
    "POWER",
    "Direction",
    "Estimate",
    "Floats",
    "ImageTests",
    "Interval",
    "Ratio",
    "Trend",
    "TuningBudget",
    "bca_interval",
    "check_random_search",
    "equivalence_p",
    "holm",
    "interaction",
    "mean_interval",
    "paired_difference",
    "paired_ratio",
    "probability_of_improvement",
    "seeds_by_images_interval",
    "seeds_by_images_tests",
    "seeds_needed_for_significance",
    "seeds_to_decide",
    "sign_flip_p",
    "smallest_p",
    "trends",
    "tuning_budget",
]
