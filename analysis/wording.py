"""Numbers, names and poses in plain words, for sentences. Fractions become percentage points here."""

import math

from analysis.ablation import Row
from analysis.formats import one_line
from analysis.means import Mean, mean_text, percent_text
from analysis.names import name_and_options

_POSES = {
    "upright": "images as they are",
    "R": "turned images",
    "RTS": "turned, scaled and shifted images",
    "P": "images in perspective",
    "E": "elastically bent images",
    "TC": "images somewhere on a large canvas",
}


def pose_words(pose: str) -> str:
    """`turned images (R)`; the name alone where it is not one of ours."""
    name = one_line(pose)
    words = _POSES.get(name_and_options(pose)[0])
    return f"{words} ({name})" if words else f"pose {name}"


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


def plain_points(fraction: float) -> str:
    """A margin: `1 point`, `0.5 points`."""
    text = f"{100 * fraction:.3g}"
    return f"{text} point{'' if text == '1' else 's'}"


def percent(fraction: float) -> str:
    """In whole per cent: `−12`."""
    return str(round(100 * fraction)).replace("-", "−")


def count(num: int, what: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{num:,} {what}{'' if num == 1 else 's'}"


def p_text(name: str, p: float) -> str:
    """`Holm p = 0.031`."""
    if math.isnan(p):
        return f"{name} unknown"
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.2g}"


def cost_text(row: Row | None, baseline: Row | None) -> str:
    """` at 1.2 times the training computation`, by the FLOPs of a training; "" where either is unknown."""
    if row is None or baseline is None or not row.train_flops or not baseline.train_flops:
        return ""
    ratio = row.train_flops / baseline.train_flops
    if 0.995 <= ratio < 1.005:
        return " at the same training computation"
    decimals = 0 if ratio >= 100 else 1 if ratio >= 1.95 else 2
    return f" at {ratio:,.{decimals}f} times the training computation"


def capital(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]
