"""How a study was done, in plain words and in the numbers of its ledger: what the report says after the results."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from typing import Any, NamedTuple

from analysis.ablation import trials_of_a_tuning
from analysis.chance import majority
from analysis.findings import Findings
from analysis.flops import flop_cell, flop_unit
from analysis.formats import one_line
from analysis.records import Arm, Study
from analysis.statistics import CONFIDENCE
from analysis.wording import capital, plain_points, pose_words
from ledger.names import name_and_options, variant_parts
from ledger.overrides import overrides_text
from ledger.roles import WITH_TRANSFORMER, Role
from ledger.wording import count


class Fact(NamedTuple):
    """A name and a value, both for people."""

    name: str
    value: str


MAX_CLASSES = 40
"""Classes that are all named; of more, the first and the last are."""

_IN_FRONT = "in front of the network"
_ROLES: Mapping[Role, tuple[str, str]] = {
    "transformer": ("a spatial transformer", "transformer"),
    "told": ("a transformer that is told the true poses in training", "transformer"),
    "floor": ("a control", "control"),
    "ceiling": ("a network that is told each image's true pose", "true pose"),
}
"""What is said before a model's own words, unless they have the second of these."""
_OPTIONS = {
    ("localisation", "deep"): "its localisation network is a larger one",
    ("localisation", "paper"): "its localisation network is that of the first paper",
    ("steps", ""): "it looks {} times, each time at what it saw before",
    ("heads", ""): "it looks at {} parts of the image side by side",
    ("head", "classes"): "it says how likely each of many angles is, and turns by their mean",
    ("consistency", ""): "it is trained to see the same picture however an image is turned (weight {})",
    ("prior", ""): "it is trained to move images no more than it must (weight {})",
    ("start_sd", ""): "it starts with small random moves (weights of standard deviation {}), not with none",
}
"""The words on a transformer's options, by name and value; "" stands for any value but the default."""
_PROTOCOL = {
    "image_px": "Side of an image, pixels",
    "fit": "How pictures become squares",
    "train_images": "Training images",
    "val_images": "Validation images",
    "test_images": "Test images",
    "epochs": "Epochs (passes over the training images)",
    "width": "Width of the networks, as a factor",
    "batch_size": "Images a step",
    "optimiser": "Optimiser",
    "momentum": "Momentum of SGD (beside Muon: of all but the filters)",
    "nesterov": "Nesterov momentum",
    "schedule": "Learning-rate schedule",
    "averaging": "Averaging of weights",
    "label_smoothing": "Label smoothing",
    "class_weights": "Weights of classes in the loss",
    "precision": "Precision of the arithmetic",
    "device": "Kind of device",
    "robustness": "Density of the robustness tests",
    "robustness_images": "Test images for robustness",
}


_CHANGED = (
    " Here the comparisons, the seeds, the training or the search were changed after the study had begun: take its "
    "decisions for hints, and confirm them in a study of another name, whose first_seed leads to runs that nobody has "
    "seen."
)


def facts(findings: Findings) -> Iterator[Fact]:
    """The size of the study at a glance."""
    study = findings.study
    num_finals = int((study.runs["stage"] == "final").sum())
    seeds = sorted({len(arm.finals) for arm in study.arms})
    yield Fact("Variants", f"{len({arm.variant for arm in study.arms}):,}")
    if {arm.pose for arm in study.arms} != {"upright"}:
        yield Fact("Ways that images are moved (poses)", f"{len({arm.pose for arm in study.arms})}")
    yield Fact("Seeds a variant", str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}")
    yield Fact("Final runs completed", f"{len(findings.completed):,} of {num_finals:,}")
    yield Fact("Tuning runs", f"{len(study.runs) - num_finals:,}")
    if study.rungs:
        statuses = [status for rung in study.rungs for status in rung.runs["status"]]
        yield Fact("Of smaller training, too", f"{statuses.count('completed'):,} of {len(statuses):,}")
    seconds = [float(size.runs["seconds"].sum()) for size in study.sizes]
    if sum(seconds):
        yield Fact("Worker time, all runs", _duration(sum(seconds)))
    costs = [row.train_flops for row in findings.rows if row.train_flops]
    if costs:
        least, most = (flop_cell(flops, flop_unit(costs)).text for flops in (min(costs), max(costs)))
        yield Fact("Computation of a training", least if least == most else f"{least} to {most}")


def variant_facts(study: Study) -> tuple[Fact, ...]:
    """Each variant's name in plain words."""
    arms = {arm.variant: arm for arm in study.arms}
    return tuple(
        Fact(one_line(name), variant_words(name, arm.role, arm.words, arm.policy_words)) for name, arm in arms.items()
    )


def named_variants(study: Study, texts: Iterable[str]) -> tuple[Fact, ...]:
    """What the variants are, in a phrase, that these texts name."""
    said, arms = " ".join(texts), {arm.variant: arm for arm in study.arms}
    is_named = {name: re.search(rf"(?<![\w+@:=.]){re.escape(one_line(name))}(?![\w+@:=])", said) for name in arms}
    named, first = list[Fact](), dict[str, str]()
    for name, arm in arms.items():
        if is_named[name]:
            named.append(Fact(one_line(name), _phrase(arm, first.get(variant_parts(name).policy, ""))))
            first.setdefault(variant_parts(name).policy, one_line(name))
    return tuple(named)


def _phrase(arm: Arm, same: str) -> str:
    """`the plain network, shown changed images in training: half of the images mirrored`; of some, all their words.

    same: a variant that is shown the same ones, and has been told of; or "".
    """
    parts = variant_parts(arm.variant)
    if ":" in arm.variant or not arm.words or arm.role not in ("plain", "transformer"):
        return variant_words(arm.variant, arm.role, arm.words, arm.policy_words)
    text = re.split("[:;]", one_line(arm.words))[0] + (f" {one_line(parts.backbone)}" if parts.backbone else "")
    if not parts.policies:
        return text
    if same:
        strength = (
            ", as strongly as its own tuning chose" if any(key.startswith("policy.") for key in arm.space) else ""
        )
        return f"{text}, shown images that are changed in the same way as for {same}{strength}"
    shown = "; then ".join(map(one_line, arm.policy_words))
    return f"{text}, shown changed images in training{f': {shown}' if shown else ''}"


def variant_words(variant: str, role: Role, words: str, policy_words: Sequence[str] = ()) -> str:
    """`a spatial transformer in front of the network; it chooses turns; shown changed copies in training (...)`."""
    parts = variant_parts(variant)
    name, options = name_and_options(parts.model)
    text = one_line(words) or f"the model {one_line(name)}"
    lead, known_by = _ROLES.get(role, ("", ""))
    if known_by not in text:
        text = f"{lead}: {text}"
    if role in WITH_TRANSFORMER:
        text, options = _transformer_words(text, options)
    if options:
        text += f", with {_options_text(options)}"
    if parts.backbone:
        text += f"; on the network {one_line(parts.backbone)}"
    policies = []
    for number, (policy, of_policy) in enumerate(map(name_and_options, parts.policies)):
        said = policy_words[number] if number < len(policy_words) else ""
        named = one_line(policy) + (f", {_options_text(of_policy)}" if of_policy else "")
        policies.append(f"{named}: {one_line(said)}" if said else named)
    return f"{text}; shown changed copies in training (augmentation {', then '.join(policies)})" if policies else text


def _transformer_words(text: str, options: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The words on a transformer with those on its options, and the options that there are no words for."""
    place, stage = options.get("place"), options.get("stage", "1")
    stages = "first stage" if stage == "1" else f"first {one_line(stage)} stages"
    clauses, others = [], {}
    if place in ("feature", "shared"):
        options = {name: value for name, value in options.items() if name not in ("place", "stage")}
    if place == "shared":
        clauses.append(f"it looks through the network's own {stages}")
    if place == "feature":
        where = f"between the stages of the network, after the {stages}"
        clauses += [] if _IN_FRONT in text else [f"it stands {where}"]
        text = text.replace(_IN_FRONT, where)
    for name, value in options.items():
        if words := _OPTIONS.get((name, value)) or _OPTIONS.get((name, "")):
            clauses.append(words.format(one_line(value)))
        else:
            others[name] = value
    return "; ".join([text, *clauses]), others


def _options_text(options: Mapping[str, str]) -> str:
    return one_line(", ".join(f"{name} {value}" for name, value in options.items()))


def image_facts(study: Study) -> Iterator[Fact]:
    """The classes, how far one gets who always answers the largest, and what was read; none before format 4."""
    images = study.images
    if images is None:
        return
    counts = zip(map(one_line, study.classes), images.num_train, images.num_test, strict=True)
    classes = [f"{name} {train:,} + {test:,}" for name, train, test in counts]
    if len(classes) > MAX_CLASSES:
        classes = [*classes[: MAX_CLASSES // 2], "...", *classes[-MAX_CLASSES // 2 :]]
    yield Fact("Classes, training + test images", "; ".join(classes))
    if commonest := majority(study):
        name, share = commonest
        yield Fact(f"Always answering {one_line(name)}", f"right for {100 * share:.1f} % of the test images")
    for heading, text in images.facts:
        yield Fact(one_line(heading), one_line(text))


def protocol_facts(study: Study) -> Iterator[Fact]:
    """What is identical for all variants."""
    if overrides := study.source.get("overrides"):
        by = "by the study's factor, or on the command line" if study.factor else "on the command line"
        yield Fact(f"Set {by}", one_line(overrides_text(overrides)))
    for name, value in study.protocol.items():
        yield Fact(_PROTOCOL.get(name, one_line(name)), _value_text(name, value))
    yield Fact("Hash of the protocol", study.protocol_hash)
    yield Fact("Hash of the images", study.task_hash)


def machine_facts(study: Study) -> Iterator[Fact]:
    """Where the runs were made, and with what."""
    runs = study.runs
    measured = runs[runs["device"].notna()]
    machines = Counter(zip(measured["device"], measured["device_name"], measured["threads"].fillna(0), strict=True))
    for (device, name, threads), num in machines.items():
        text = one_line(f"{device}: {name}" if isinstance(name, str) else str(device))
        text += f"; {count(int(threads), 'thread')} a run" if threads else ""
        yield Fact("Machine", f"{text}; {count(num, 'run')}")
    for text in sorted(filter(None, runs["versions"].dropna().unique())):
        yield Fact("Versions", one_line(text))


def method(findings: Findings) -> tuple[str, ...]:
    """How it was done, in sentences."""
    study, claims = findings.study, findings.study.claims
    poses = [pose_words(study, pose) for pose in dict.fromkeys(arm.pose for arm in study.arms)]
    another = " or another draw of the tuning" if study.tuning == "once" else ""
    source = "the sweep file" if claims.declared else "the study's list of variants and baselines"
    return (
        f"Images: {one_line(study.task_label)}, {study.num_classes} classes; "
        f"{'poses' if len(poses) > 1 else 'pose'}: {', '.join(poses)}. A pose is how each image was "
        "disturbed before anyone trained, the same for every variant.",
        f"{_tuning_text(study)} The test images were read once in each of these final runs, and in no other."
        f"{_overlap_text(study)}",
        "All variants share one protocol: the same split, length of training, optimiser and precision. With the same "
        "seed, two variants see the same images in the same order, so their difference is taken seed by seed, which "
        "removes much of the luck.",
        f"Numbers after ± are half the width of a {100 * CONFIDENCE:g} % interval over seeds (Student's t). They say "
        f"how much the mean would move with other seeds, not with other images{another}.",
        f"Is a difference there? {capital(count(len(claims.family), 'comparison'))} come from {source}. Each is tested "
        "by flipping the signs of the seeds' differences in every possible way (sign-flip test, exact for differences "
        "that are symmetric about their mean; above 20 seeds, in 99,999 random ways); the p-values are then corrected "
        f"with Holm's method, so that the chance of any false alarm is at most {claims.alpha:g}. Where predictions are "
        "kept, a test that counts other images as well as other seeds must find the same. "
        "That holds for comparisons and a number of seeds that were settled before anyone saw results: whoever adds "
        f"seeds until a difference is found is fooled more often.{'' if study.is_as_planned else _CHANGED}",
        "Is there none? No evidence of a difference is no evidence that there is none. Two one-sided t tests ask "
        f"whether the difference lies within ±{plain_points(claims.margin)}, the margin below which it would not "
        "matter; only then does this report say that two variants are as good as each other.",
        "What neither test decides is called undecided. The number of seeds that could decide it assumes that what was "
        "seen so far is the truth.",
        "Whatever the tests say, nothing is decided between networks that were trained too short to tell: where one of "
        "them is near chance on its own training images, or the one that stands lower has more left to learn of them "
        "than half of the difference. Nor is it of a transformer that was idle in every run, of runs that give one "
        "answer, or of runs without a mistake. What is decided holds for this size of training.",
    )


def _tuning_text(study: Study) -> str:
    num_trials = trials_of_a_tuning(study)
    if not num_trials[-1]:
        return "Nothing was tuned: every variant has its default settings, and was trained once for each seed."
    trials = count(num_trials[-1], "trial") if len(num_trials) == 1 else f"{num_trials[0]} to {num_trials[-1]} trials"
    proposed = {"tpe": ", proposed by Optuna's TPE sampler,", "random": ", drawn at random,"}.get(
        study.sampler or "", ""
    )
    judged = f"{trials}{proposed} judged on validation images only; the best setting won."
    if study.tuning == "per_seed":
        return (
            f"Each variant was tuned anew for each final seed, each time with {judged} Every tuning has a validation "
            "split of its own, the same for all variants. Its winner was then trained again with that final seed, "
            "which no tuning ever saw."
        )
    return (
        f"Each variant was tuned with {judged} The winner was then trained again, once for each seed, with seeds that "
        "tuning never saw."
    )


def _overlap_text(study: Study) -> str:
    """Whether test images are training images too; "" where nobody looked."""
    if study.overlap is None:
        return ""
    num = study.overlap.num_test
    some = "One of them is a training image" if num == 1 else f"{num:,} of them are training images"
    found = f"{some} too" if num else "None of them is a training image too"
    return f" {found}, compared pixel for pixel before any pose; near copies were not looked for."


GLOSSARY = tuple(starmap(Fact, {
    "accuracy": "share of test images that are given their right class",
    "augmentation": "showing the network changed copies of its training images (turned, shifted, ...)",
    "baseline": "what a variant is compared with",
    "computation, FLOPs": "additions and multiplications of one whole training; sampling of images is not counted",
    "collapse": "a run that fails, or whose transformer loses the image; clean seeds leave a rate of it open",
    "equivalence": "evidence that a difference is too small to matter, which is more than no evidence of one",
    "final run": "a training with the tuned settings and a fresh seed; the only kind that reads the test images",
    "gap": "what a network gains when each image's true pose is undone for it: all that a transformer could win",
    "Holm p": "how surprising a difference would be if there were none, corrected for the number of comparisons",
    "idle, collapsed": "a transformer that moves no image, or all alike; one that loses most of the image",
    "interaction": "whether two ingredients together give more, or less, than each of them by itself promises",
    "given one tuning": "settings were found once, and all seeds share them: what other settings would do is not said",
    "ledger": "the folder of finished runs that everything here is computed from",
    "percentage point": "the unit of differences: from 60 % to 62 % are 2 points",
    "pose": "how an image lies in its frame: upright, turned, shifted, ...",
    "seed": "the number from which a run draws its luck: first weights, order of images, augmentation",
    "spatial transformer": "a small network that looks at an image and decides how to turn, scale or shift it first",
    "trial": "a training made while looking for good settings",
    "trained too short to tell": "a longer training could turn the comparison, whatever its p-value",
    "variant": "what is compared: a model, with or without augmentation, such as stn_affine+affine",
}.items()))  # fmt: skip
"""Words that the report uses, for somebody who has not met them."""


def _value_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_images") and value == 0:
        return "all"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
