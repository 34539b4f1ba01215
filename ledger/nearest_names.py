"""What may be meant by a name that is not known, judged by meaning as well as by letters."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cache

SYNONYMS = """
lr: learning rate, base lr, initial lr, init lr
weight decay: wd, decay, l2
batch size: batch, bs, minibatch
image px: image size, input size, resolution, crop size
image: img
val: valid, validation, dev
num: n, number of
epochs: max epochs
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
lenet: lenet 5
p4cnn: gcnn, group cnn
deformable: dcn, deform
"""
"""What else is said for our words, or for a word that stands in several of our names."""

FILLERS = {"random", "num", "total", "train", "training", "use"}
"""Words that a name may have beside ours without being another name."""

MAX_MEANT, MAX_LISTED, NUM_NEAREST = 3, 25, 5


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: what was meant, or what is known where that is unclear.

    Of a list that is too long to read, the few that look like it, if some do.
    """
    known = sorted(set(known))
    if not known:
        return "none are known"
    meant = _meant(name.lstrip("-"), known)
    if 0 < len(meant) <= MAX_MEANT:
        *others, last = map(repr, meant)
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    few = get_close_matches(name, known, NUM_NEAREST, cutoff=0.4) if len(known) > MAX_LISTED else []
    return f"the nearest of {len(known)} are {', '.join(few)}" if few else "known: " + ", ".join(known)


def _meant(name: str, known: list[str]) -> list[str]:
    """Those that are alike in the surest way in which any are."""
    joined = set() if re.search("[@+]", "".join(known)) else set(re.split("[@+]", name))
    ways: list[Callable[[str], bool]] = [
        lambda other: _is_same(name, other),
        lambda other: other in joined,
        lambda other: set(_letters(name)) <= set(_letters(other)) and _is_slip(name, other, 1),  # no letter is foreign
        lambda other: _is_slip(name, other, 1),
        lambda other: _is_slip(name, other, 2),
        lambda other: _is_part(_meaning(_last(name)), _meaning(_last(other))),
    ]
    return next((meant for way in ways if (meant := [*filter(way, known)])), [])


def _is_same(name: str, known: str) -> bool:
    """But for capitals, separators, plurals, synonyms, the group before a dot, and options."""
    meant, known_meant = (_meaning(re.sub(r":[^@+]*", "", _last(text))) for text in (name, known))
    return bool(meant) and (meant == known_meant or _letters(name) == _letters(known))


def _is_slip(name: str, known: str, most: int) -> bool:
    """Whether fingers may have slipped. Another first letter or number, and min for max, are another name."""
    known = _letters(known if "." not in name and name[:1] == known[:1] else _last(known))
    name = _letters(_last(name))
    marks, known_marks = (re.findall(r"\d+|min|max", text) for text in (name, known))
    short, long = sorted((len(name), len(known)))
    if name[:1] not in known[:2] or (marks and marks != known_marks) or 3 * most > long or (most > 1 and short < 6):
        return False
    return _within(name, known, most)


def _within(name: str, known: str, most: int) -> bool:
    """Whether so many letters dropped, added, changed, or swapped with the next make one of the other."""
    if not name or not known:
        return len(name or known) <= most
    if name[0] == known[0]:
        return _within(name[1:], known[1:], most)
    pairs = [(name[1:], known), (name, known[1:]), (name[1:], known[1:])]
    if name[:2] == known[1::-1]:
        pairs.append((name[2:], known[2:]))
    return most > 0 and any(_within(*pair, most - 1) for pair in pairs)


def _is_part(name: list[str], known: list[str]) -> bool:
    """Some of the known words, or these and nothing else that says anything."""
    return bool(name and known) and (set(name) <= set(known) or set(known) <= set(name) <= {*known, *FILLERS})


def _last(name: str) -> str:
    """A dotted name without its groups."""
    return re.sub(r"^([a-z]\w*\.)*", "", name)


def _words(name: str) -> list[str]:
    words = re.findall(r"\d+|[^\W\d_]+", name.lower())
    return [word.rstrip("s") if len(word) > 3 else word for word in words]


def _letters(name: str) -> str:
    return "".join(_words(name))


@cache
def _meaning(name: str) -> list[str]:
    return _SYNONYM.sub(lambda synonym: _MEANING[synonym[0]], " ".join(_words(name))).split()


_MEANING = {
    " ".join(_words(synonym)): " ".join(_words(word))
    for word, synonyms in [line.split(": ") for line in SYNONYMS.strip().splitlines()]
    for synonym in (word, *synonyms.split(", "))
}
_SYNONYM = re.compile(rf"(?<!\S)(?:{'|'.join(sorted(_MEANING, key=len, reverse=True))})(?!\S)")
