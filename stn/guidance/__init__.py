"""Terms added to a transformer's training loss that tell it more than the classification loss does. One file each.

Each is measured as the mean squared distance, on the circle that touches the image's edges, between where two maps
look: for turns alone it is 2 (1 - cos) of the angle between them.
"""

from stn.guidance.consistency import consistency
from stn.guidance.prior import prior
from stn.guidance.supervision import supervision

__all__ = ["consistency", "prior", "supervision"]
