"""What variants cost beside each other, by the clock."""

import math
from statistics import median

from analysis.records import Study
from analysis.scores import completed_finals


def time_ratio(study: Study, pose: str, variant: str, baseline: str) -> float:
    """Median training time an image of the variant's completed final runs, over that of the baseline's.

    On the machine that most of both were made on; NaN where none is common to them.
    """
    runs = completed_finals(study.runs)
    kept = runs[runs["pose"] == pose]
    took: dict[tuple[object, ...], dict[str, list[float]]] = {}
    names = ("variant", "device", "device_name", "threads", "train_seconds", "num_train_images", "epochs")
    for name, *machine, seconds, num, epochs in zip(*(kept[name].tolist() for name in names), strict=True):
        if name in (variant, baseline) and seconds > 0 and num * epochs > 0:
            took.setdefault(tuple(map(str, machine)), {}).setdefault(name, []).append(seconds / num / epochs)
    both = [by_name for by_name in took.values() if variant in by_name and baseline in by_name]
    if not both:
        return math.nan
    most = max(both, key=lambda by_name: min(map(len, by_name.values())))
    return median(most[variant]) / median(most[baseline])
