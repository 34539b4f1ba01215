"""Hints at what an unknown name may have meant: by meaning as well as by letters, and never a wrong one as if sure."""

import dataclasses
import re
from collections.abc import Iterator
from typing import get_args

import pytest

import benchmarks.cli
from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from experiments.images.poses import POSES
from experiments.images.tasks import TASKS
from experiments.networks.catalogue import KINDS
from experiments.networks.models import MODELS
from experiments.study.study import BUDGETS
from experiments.terminal import cli
from ledger.config import Optim, Protocol, Schedule
from ledger.nearest_names import SYNONYMS, nearest
from ledger.options import fields

ARGUMENTS = {
    name: sorted(set(re.findall(r"--([\w.-]+)", command.format_help())))
    for line in (cli.command_line(), benchmarks.cli.command_line())
    for name, command in line.commands.items()
}
PROTOCOL = [field.name for field in dataclasses.fields(Protocol)]
COMMANDS = list(ARGUMENTS)
SPACE = [f"optim.{field.name}" for field in dataclasses.fields(Optim)]
PRECISIONS, DEVICES = ["auto", "fp32", "bf16"], ["auto", "cpu", "cuda", "mps"]
SCHEDULES = list(get_args(Schedule))
PADDINGS = ["zeros", "border", "reflection"]


def lists_of_names() -> Iterator[tuple[str, list[str]]]:
    """All that a user can write a name from."""
    yield from ((kind, list(known)) for kind, known in KINDS.items())
    yield from ((f"arguments of {name}", known) for name, known in ARGUMENTS.items())
    for kind, known in KINDS.items():
        for name, owner in known.items():
            if dataclasses.is_dataclass(owner) and fields(owner):  # type: ignore[arg-type]
                yield f"options of {kind} {name}", list(fields(owner))  # type: ignore[arg-type]
    yield "protocol", PROTOCOL
    yield "space", SPACE
    yield "budgets", list(BUDGETS)
    yield "precision", PRECISIONS
    yield "device", DEVICES
    yield "schedule", SCHEDULES
    yield "padding", PADDINGS
    yield "every name", [name for known in KINDS.values() for name in known]


def misspelt(name: str) -> Iterator[str]:
    """With one letter dropped, one doubled, and two swapped, in every place."""
    for i in range(len(name)):
        yield name[:i] + name[i + 1 :]
        yield name[: i + 1] + name[i:]
        yield name[:i] + name[i + 1 : i + 2] + name[i] + name[i + 2 :]


def meant(hint: str) -> list[str]:
    """What it says was meant; none where it lists what is known."""
    return re.findall(r"'([^']+)'", hint) if hint.startswith("did you mean ") else []


@pytest.mark.parametrize(("what", "known"), [pytest.param(*case, id=case[0]) for case in lists_of_names()])
def test_a_slip_of_a_finger_is_found(what: str, known: list[str]) -> None:
    lost, sure, num = [], 0, 0
    for name in known:
        for wrong in {*misspelt(name)} - {"", *known}:
            hint = nearest(wrong, known)
            num, sure = num + 1, sure + bool(meant(hint))
            if name not in (meant(hint) or re.split(r"[ ,]+", hint)):
                lost.append((wrong, hint))
    assert not lost
    if len(known) > 6:  # where names have more than two letters
        assert sure > 0.85 * num


@pytest.mark.parametrize(
    ("wrong", "known", "right"),
    [
        ("--epochs", ARGUMENTS["run"], "protocol.epochs"),
        ("--max_epochs", ARGUMENTS["run"], "protocol.epochs"),
        ("--train_batch_size", ARGUMENTS["run"], "protocol.batch_size"),
        ("--lr", ARGUMENTS["run"], "optim.lr"),
        ("--learning-rate", ARGUMENTS["run"], "optim.lr"),
        ("--batch", ARGUMENTS["run"], "protocol.batch_size"),
        ("--image_size", ARGUMENTS["run"], "protocol.image_px"),
        ("--workers", ARGUMENTS["sweep"], "jobs"),
        ("--ledger", ARGUMENTS["tables"], "runs"),
        ("--output", ARGUMENTS["predict"], "out"),
        ("optim.learning_rate", SPACE, "optim.lr"),
        ("optim.wd", SPACE, "optim.weight_decay"),
        ("R", ["upright", "R:max_deg=180"], "R:max_deg=180"),
        ("stn_affine+affine", ["cnn", "stn_affine:place=shared+affine"], "stn_affine:place=shared+affine"),
        ("none", list(POSES), "upright"),
        ("rotation", list(POSES), "R"),
        ("perspective", list(POSES), "P"),
        ("identity", list(POLICIES), "none"),
        ("RandAugment", list(POLICIES), "rand_augment"),
        ("random_rotation", list(POLICIES), "rotate"),
        ("random_erasing", list(POLICIES), "cutout"),
        ("shift", list(POLICIES), "translate"),
        ("hflip", list(POLICIES), "flip_crop"),
        ("stn_rotate", list(MODELS), "stn_rotation"),
        ("tps", list(MODELS), "stn_tps"),
        ("CNN", list(MODELS), "cnn"),
        ("resnet", list(BACKBONES), "resnet18"),
        ("ResNet-18", list(BACKBONES), "resnet18"),
        ("mlp", list(BACKBONES), "fcn"),
        ("lenet5", list(BACKBONES), "lenet"),
        ("cifar-10", list(TASKS), "cifar10"),
        ("ImageFolder", list(TASKS), "folder"),
        ("gpu", DEVICES, "cuda"),
        ("cuda:0", DEVICES, "cuda"),
        ("cuda", list(BUDGETS), "gpu"),
        ("half", PRECISIONS, "bf16"),
        ("float32", PRECISIONS, "fp32"),
        ("replicate", PADDINGS, "border"),
        ("max_angle", list(fields(POLICIES["affine"])), "max_deg"),
        ("init_std", list(fields(MODELS["stn_affine"])), "start_sd"),
        ("protocol.epochs", ["optim.lr", "protocol.epoch", "model.x"], "protocol.epoch"),
        ("--optimizer", ARGUMENTS["run"], "protocol.optimiser"),
        ("optimizer", PROTOCOL, "optimiser"),
    ],
)
def test_other_words_for_the_same_are_known(wrong: str, known: list[str], right: str) -> None:
    assert nearest(wrong, known) == f"did you mean {right!r}?"


@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        ("resnet50", list(BACKBONES)),
        ("vgg16", list(BACKBONES)),
        ("cifar100", list(TASKS)),
        ("imagenet", list(TASKS)),
        ("mixup", list(POLICIES)),
        ("shear", list(POLICIES)),
        ("vit", list(MODELS)),
        ("polynomial", SCHEDULES),
        ("optim.momentum", SPACE),
        ("RTS", ["upright", "R:max_deg=180"]),
        ("--max_deg", ARGUMENTS["run"]),
        ("clean", COMMANDS),
        ("start", COMMANDS),
        ("train", COMMANDS),
        ("upload", [name for name in COMMANDS if name != "sync"]),
        ("--dry_run", ARGUMENTS["sweep"]),
        ("--seed", ARGUMENTS["sweep"]),
        ("noise", list(POLICIES)),
        ("basic", list(POLICIES)),
        ("optimizer", SPACE),
        ("optim", SPACE),
        ("min_scale", list(fields(POLICIES["affine"]))),
        ("minscale", list(fields(POLICIES["affine"]))),
        ("--min_epochs", ARGUMENTS["run"]),
        ("--warmup_epochs", ARGUMENTS["run"]),
        ("warmup_epochs", PROTOCOL),
        ("emnist", list(TASKS)),
        ("kmnist", list(TASKS)),
        ("fashion_mnist", list(TASKS)),
        ("mobilenet", list(BACKBONES)),
        ("e2cnn", list(BACKBONES)),
        ("tcn", list(BACKBONES)),
        ("rnn", list(MODELS)),
        ("fp64", PRECISIONS),
    ],
)
def test_what_is_something_else_gets_no_answer_but_a_list(wrong: str, known: list[str]) -> None:
    assert nearest(wrong, known).startswith(("known: ", f"the nearest of {len(known)} are "))


def test_slips_in_the_names_of_documents_are_found() -> None:
    known = ["cifar10", "cnn", "max", "plus_minus", "stn_affine"]
    for wrong, right in (
        ("cnm", "cnn"),
        ("cifra10", "cifar10"),
        ("plusminus", "plus_minus"),
        ("stn_afine", "stn_affine"),
        ("stn_affinee", "stn_affine"),
        ("stn", "stn_affine"),
    ):
        assert nearest(wrong, known) == f"did you mean {right!r}?"
    for wrong in ("cifar100", "min", "mean", "", "c"):
        assert nearest(wrong, known) == "known: " + ", ".join(known)
    assert nearest("cnn", []) == "none are known"


def test_names_that_are_as_near_as_each_other_are_all_named() -> None:
    assert nearest("cn", BACKBONES) == "did you mean 'cnn' or 'fcn'?"
    assert nearest("max", ["max_deg", "max_scale", "max_shift", "p"]) == (
        "did you mean 'max_deg', 'max_scale' or 'max_shift'?"
    )
    assert nearest("stn", BACKBONES) == "known: " + ", ".join(sorted(BACKBONES))


def test_long_lists_are_cut_to_what_is_near_if_anything_is() -> None:
    names = [f"name_{i}" for i in range(26)]
    assert re.fullmatch(r"the nearest of 26 are name_\d+(, name_\d+){4}", nearest("named_thing", names))
    assert nearest("xyz", names) == "known: " + ", ".join(sorted(names))
    assert nearest("named_thing", names[:25]) == "known: " + ", ".join(sorted(names[:25]))
    assert nearest("x", ["b", "a"]) == "known: a, b"
    assert nearest("", MODELS) == "known: " + ", ".join(sorted(MODELS))
    assert nearest("x", []) == "none are known"


def test_no_word_stands_for_two_things() -> None:
    said = [word for line in SYNONYMS.strip().splitlines() for word in re.split("[:,] ", line)]
    assert len(set(said)) == len(said)
