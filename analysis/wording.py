"""Numbers, names and poses in plain words, for sentences. Fractions become percentage points here."""

import math
from statistics import median

from scipy import stats

from analysis.ablation import Row
from analysis.claims import ClaimResult
from analysis.formats import one_line
from analysis.means import Mean, mean_text, percent, percent_text
from analysis.records import Study
from analysis.scores import completed_finals
from analysis.statistics import CONFIDENCE
from ledger.wording import count


def pose_words(study: Study, pose: str) -> str:
    """`turned images (R)`; the name alone where nothing else is known of it."""
    text = _named(pose, study.pose_words[pose])
    return f"{text}, tested on {_named(study.test_pose, study.test_pose_words)}" if study.test_pose else text


def _named(pose: str, words: str) -> str:
    return f"{one_line(words)} ({one_line(pose)})" if words else f"pose {one_line(pose)}"


def points(mean: Mean) -> str:
    """The size of a difference that is one: `1.8 ± 0.4 points`, with as many decimals as it takes to be no zero."""
    size = abs(100 * mean.value)
    decimals = 1 if size >= 0.05 or size < 1e-9 else math.ceil(-math.log10(size)) + 1
    text = mean_text(Mean(size, 100 * mean.half_width, mean.num), decimals)
    return f"{text} point{'' if text == '1.0' else 's'}"


def signed_points(mean: Mean) -> str:
    """`+1.8 ± 0.4 points`."""
    return f"{percent_text(mean, signed=True)} points"


def level(difference: Mean) -> str:
    """Where something stands beside another: `1.8 ± 0.4 points above`, `level with`."""
    if abs(difference.value) < 0.0005:
        return "level with"
    return f"{points(difference)} {'above' if difference.value > 0 else 'below'}"


CHANGED = "°"
CHANGED_TEXT = "Claims, seeds, training or search were changed after the study had begun: they may be picked."
"""The sign of a study whose plan was changed, and what it means."""


def plain_points(fraction: float) -> str:
    """A margin: `1 point`, `0.5 points`."""
    text = f"{100 * fraction:.3g}"
    return f"{text} point{'' if text == '1' else 's'}"


def p_text(name: str, p: float) -> str:
    """`Holm p = 0.031`."""
    if math.isnan(p):
        return f"{name} unknown"
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.2g}"


def cost_text(study: Study, row: Row, baseline: Row) -> str:
    """` at 1.2 times the training time and 1.05 times the computation`; "" where nothing is known of either."""
    time = _time_ratio(study, row.pose, row.variant, baseline.variant)
    flops = (row.train_flops or math.nan) / (baseline.train_flops or math.nan)
    if math.isnan(time):
        return "" if math.isnan(flops) else f" at {_times(flops, 0.005)} training computation"
    took, computed = _times(time, 0.03), _times(flops, 0.005)
    if math.isnan(flops) or took == computed == "the same":
        return f" at {took} training time{'' if math.isnan(flops) else ' and computation'}"
    return f" at {took} training time and {computed} computation"


def _time_ratio(study: Study, pose: str, variant: str, baseline: str) -> float:
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


def _times(ratio: float, same: float) -> str:
    """`1.20 times the`; `the same` where the ratio is 1 but for a share `same`."""
    if abs(ratio - 1) < same:
        return "the same"
    decimals = 0 if ratio >= 100 else 1 if ratio >= 1.95 else 2
    return f"{ratio:,.{decimals}f} times the"


def size_text(study: Study) -> str:
    """What the study's training was, all that it says holds for: `384 images, 8 epochs, 48 steps, 32 px, tuned once`.

    "" where no run is in the ledger. Steps are the optimiser's.
    """
    num = study.runs.loc[study.runs["stage"] == "final", "num_train_images"].max()
    epochs, batch, px = (study.protocol.get(name) for name in ("epochs", "batch_size", "image_px"))
    if not (num > 0 and epochs and batch and px):
        return ""
    sizes = [count(int(num), "image"), count(epochs, "epoch"), count(epochs * math.ceil(num / batch), "step")]
    tuned = {"given one tuning": ["tuned once"], "untuned": ["untuned"]}.get(tuning_text(study), [])
    return ", ".join([*sizes, f"{px} px", *tuned])


def tuning_text(study: Study) -> str:
    """`given one tuning`, of which the seeds say nothing; "" where each seed was tuned anew."""
    if study.tuning == "per_seed":
        return ""
    return "given one tuning" if any(arm.trials for arm in study.arms) else "untuned"


def risk_text(result: ClaimResult) -> str:
    """How often the variant may collapse for all that was seen: `none of its 7 runs collapsed, up to 35 % may`."""
    bad, num = result.lost
    return f"{bad if bad else 'none'} of its {num} runs collapsed, up to {percent(risk_of(result))} % may"


def risk_of(result: ClaimResult) -> float:
    """The rate of collapse that its runs cannot exclude: the upper end of the exact one-sided 95 % interval.

    Source: Clopper and Pearson 1934. Of n runs without a collapse it is 1 - 0.05 ** (1 / n).
    """
    bad, num = result.lost
    return float(stats.beta.ppf(CONFIDENCE, bad + 1, num - bad)) if bad < num else 1.0


def capital(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]
