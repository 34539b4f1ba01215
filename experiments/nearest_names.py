"""What somebody may have meant by a name that is not known, judged by meaning as well as by letters."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import cache

SYNONYMS = """
lr: learning rate, base lr, initial lr, init lr
weight decay: wd, decay, l2
batch size: batch, bs, minibatch
image px: image size, input size, resolution, crop size
image: img
val: valid, validation, dev
num: n, number of
max: maximum, upper, high
min: minimum, lower, low
value: choice, category
precision: dtype, amp
fp32: float32, single
bf16: bfloat16, fp16, float16, half, mixed
cuda: gpu, nvidia
schedule: scheduler, lr schedule, lr scheduler
jobs: workers, num workers, processes, threads
seed: random seed, random state
data: data dir, data path, data root
task: dataset
runs: ledger
out: output, output dir
stall: timeout
ray: cluster
tpe: bayes, bayesian
smoke: quick, tiny, debug
folder: imagefolder, directory, dir
deg: angle, degrees
max deg: max rotation, rotation range
shift: translate, translation
scale: zoom, resize
rotate: r, rotation, rotated, rot, turn
perspective: p, projective, homography
elastic: e, tps, spline, thin plate spline
rts: similarity
tc: clutter, cluttered, translation clutter
none: identity, no, off, null, upright, original, clean
flip: horizontal flip, hflip
cutout: random erasing, erasing, erase
augment: aug, augmentation
rand augment: randaug
auto augment: autoaug
reflect: reflection, mirror, symmetric
border: edge, replicate, clamp
disc: disk, circle
sd: std, sigma
start: init, initial
localisation: localization, loc, locnet
stn: spatial transformer, spatial transformer network
cnn: convnet, conv
fcn: mlp, fully connected
p4cnn: gcnn, group cnn
deformable: dcn, deform
"""
"""What else is said for our words, or for a word that stands in several of our names."""

SURE = 0.65
"""Likeness from which a name may be what was meant; two letters of three are just enough."""
TIED = 0.015
"""Difference in likeness below which neither of two is nearer."""
MAX_MEANT, MAX_LISTED, NUM_NEAREST = 3, 12, 5


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: what was meant, or what is known where that is unclear.

    Of a long list the few that are nearest.
    """
    likeness = {each: _likeness(name, each) for each in sorted(set(known))}
    if not likeness:
        return "none are known"
    best = max(likeness.values())
    meant = [each for each, value in likeness.items() if value >= best - TIED]
    if best >= SURE and len(meant) <= MAX_MEANT and not any(_differ_in_numbers(name, each) for each in meant):
        *others, last = map(repr, meant)
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    if len(likeness) <= MAX_LISTED or not name:
        return "known: " + ", ".join(likeness)
    few = sorted(likeness, key=likeness.__getitem__, reverse=True)[:NUM_NEAREST]
    return f"the nearest of {len(likeness)} are {', '.join(few)}"


def _differ_in_numbers(name: str, known: str) -> bool:
    """Such as cifar100 and cifar10, resnet50 and resnet18: no slip of a finger. Options may differ."""
    numbers, others = (re.findall(r"\d+", _without_options(each)) for each in (name, known))
    return bool(numbers and others and numbers != others)


def _likeness(name: str, known: str) -> float:
    """From 0 to 1; capitals, separators and plurals make no difference."""
    (group, name), (known_group, known) = _split(name), _split(known)
    likeness = max(
        _of_letters(_words(name), _words(known)),
        _of_words(_meaning(name), _meaning(known)),
        0.95 * _of_words(_meaning(_without_options(name)), _meaning(_without_options(known))),
    )
    if group == known_group:  # which are alike says nothing
        return likeness
    whole = 0.0 if group else _of_letters(_words(name), _words(f"{known_group} {known}"))
    return 0.95 * max(likeness, whole)


def _split(name: str) -> tuple[str, str]:
    """A dotted name's group, and its own."""
    name = name.lstrip("-")
    own = re.sub(r"^([a-z]\w*\.)*", "", name)
    return name.removesuffix(own), own


def _without_options(name: str) -> str:
    return re.sub(r":[^@+]*", "", name)


@cache
def _words(name: str) -> list[str]:
    words = re.findall(r"\d+|[^\W\d_]+", name.lower())
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]


@cache
def _meaning(name: str) -> list[str]:
    return _SAID.sub(lambda said: _MEANT[said[0]], " ".join(_words(name))).split()


def _of_letters(words: list[str], known: list[str]) -> float:
    return SequenceMatcher(None, "".join(words), "".join(known)).ratio()


def _of_words(words: list[str], known: list[str]) -> float:
    """Where all words of one are among the other's; less where the known name lacks some of them; else 0."""
    said, ours = set(words), set(known)
    if not said or not ours or not (said <= ours or ours <= said):
        return 0.0
    return SURE + ((1 - SURE) * len(said) / len(ours) if said <= ours else 0.1 * len(ours) / len(said))


_MEANT = {
    " ".join(_words(said)): " ".join(_words(ours))
    for line in SYNONYMS.strip().splitlines()
    for ours, others in [line.split(": ")]
    for said in (ours, *others.split(", "))
}
_SAID = re.compile(rf"(?<!\S)(?:{'|'.join(sorted(_MEANT, key=len, reverse=True))})(?!\S)")
