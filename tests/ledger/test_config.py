"""Run keys: every part of a run's configuration decides them, and nothing else does."""

import dataclasses
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.study.study import read_protocol
from experiments.study.sweep_file import Section
from experiments.terminal.cli import command_line
from ledger.config import Optim, Protocol, RunConfig, canonical, num_steps, protocol_hash, run_key
from ledger.options import Value

CONTENT_HASH = "a" * 64

CHANGED_PROTOCOL: dict[str, Any] = {
    "image_px": 64,
    "train_images": 45_000,
    "val_images": 4_999,
    "test_images": 10_000,
    "epochs": 31,
    "width": 2.0,
    "batch_size": 64,
    "optimiser": "sgd",
    "momentum": 0.8,
    "nesterov": False,
    "schedule": "constant",
    "averaging": True,
    "label_smoothing": 0.0,
    "class_weights": "balanced",
    "precision": "bf16",
    "device": "cpu",
    "robustness": "full",
    "robustness_images": 0,
    "fit": "pad",
}
CHANGED_OPTIM: dict[str, Any] = {"lr": 0.2, "weight_decay": 1e-3}
CHANGED_RUN: dict[str, Any] = {
    "variant": "stn_affine",
    "seed": 1,
    "stage": "trial",
    "pose": "R",
    "test_pose": "R",
    "model": {"loc_lr_factor": 0.1},
    "policy": {"max_deg": 15.0},
    "prune_below": (0.5,),
}


def changed_runs() -> dict[str, RunConfig]:
    """A run with one field changed, by the field's dotted name."""
    run = RunConfig()
    parts: dict[str, tuple[Any, dict[str, Any]]] = {
        "": (run, CHANGED_RUN),
        "protocol.": (run.protocol, CHANGED_PROTOCOL),
        "optim.": (run.optim, CHANGED_OPTIM),
    }
    runs = {}
    for prefix, (part, changes) in parts.items():
        for name, value in changes.items():
            changed: Any = dataclasses.replace(part, **{name: value})
            runs[prefix + name] = dataclasses.replace(run, **{prefix[:-1]: changed}) if prefix else changed
    return runs


def test_every_field_has_a_change_below() -> None:
    names = {field.name for field in dataclasses.fields(RunConfig)}
    assert names == set(CHANGED_RUN) | {"protocol", "optim"}
    assert {field.name for field in dataclasses.fields(Protocol)} == set(CHANGED_PROTOCOL)
    assert {field.name for field in dataclasses.fields(Optim)} == set(CHANGED_OPTIM)


@pytest.mark.parametrize("field", changed_runs())
def test_every_field_changes_the_key(field: str) -> None:
    assert run_key(changed_runs()[field], CONTENT_HASH) != run_key(RunConfig(), CONTENT_HASH)


def test_no_two_changes_give_the_same_key() -> None:
    keys = [run_key(run, CONTENT_HASH) for run in [RunConfig(), *changed_runs().values()]]
    keys.append(run_key(RunConfig(), "b" * 64))
    assert len(set(keys)) == len(keys)


def test_hyper_parameters_of_model_and_policy_do_not_pass_for_each_other() -> None:
    one, other = RunConfig(model={"x": 1.0}), RunConfig(policy={"x": 1.0})
    assert run_key(one, CONTENT_HASH) != run_key(other, CONTENT_HASH)


def test_the_key_of_a_run_stays_what_it_is() -> None:
    """These keys are in people's ledgers: another spelling of the configuration would make them train all again."""
    protocol = Protocol(
        image_px=32,
        train_images=0,
        val_images=5000,
        test_images=0,
        epochs=5,
        width=1.0,
        batch_size=128,
        optimiser="muon",
        momentum=0.9,
        nesterov=True,
        schedule="one_cycle",
        averaging=True,
        label_smoothing=0.1,
        precision="bf16",
        device="cpu",
        robustness="quick",
        robustness_images=256,
    )
    run = RunConfig(
        variant="stn_affine@lenet+affine",
        seed=7,
        stage="trial",
        pose="RTS",
        protocol=protocol,
        optim=Optim(lr=0.2, weight_decay=1e-3),
        model={"loc_lr_factor": 0.03},
        policy={"max_shift": 0.1, "max_deg": 30.0},
        prune_below=(0.0, 0.25),
    )
    plain = RunConfig(variant="cnn", protocol=protocol, optim=Optim(lr=0.1, weight_decay=5e-4))
    assert run_key(run, CONTENT_HASH) == "2f1bce4accadd531"
    assert run_key(plain, CONTENT_HASH) == "d96b5b442ff26348"
    assert protocol_hash(protocol) == "04ab2e70"


def test_values_of_any_kind_are_told_apart() -> None:
    values: list[float | int | bool | str] = [1, 1.0, True, "1", 0, False, "false", "border"]
    keys = {run_key(RunConfig(model={"x": value}), CONTENT_HASH) for value in values}
    assert len(keys) == len(values)


@given(items=st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False), max_size=6))
def test_the_order_of_hyper_parameters_has_no_say(items: dict[str, Value]) -> None:
    shuffled = list(items.items())
    random.Random(0).shuffle(shuffled)
    one, other = RunConfig(model=items, policy=items), RunConfig(model=dict(shuffled), policy=dict(shuffled))
    assert run_key(one, CONTENT_HASH) == run_key(other, CONTENT_HASH)


def test_a_run_that_was_written_and_read_has_the_same_key() -> None:
    run = changed_runs()["policy"]
    stored = json.loads(json.dumps(dataclasses.asdict(run)))
    read = RunConfig(
        **stored
        | {
            "protocol": Protocol(**stored["protocol"]),
            "optim": Optim(**stored["optim"]),
            "prune_below": tuple(stored["prune_below"]),
        }
    )
    assert run_key(read, CONTENT_HASH) == run_key(run, CONTENT_HASH)


def run_of(arguments: list[str]) -> RunConfig:
    """The run that the command line describes, as far as its numbers go."""
    parser = command_line().parser
    options = parser.parse_args(["run", *arguments])["run"]
    return RunConfig(
        protocol=Protocol(**vars(options.protocol)),
        optim=Optim(**vars(options.optim)),
        model=options.model,
        policy=options.policy,
        prune_below=tuple(options.prune_below),
    )


@pytest.mark.parametrize(
    ("whole", "fraction"),
    [
        (["--optim.lr=1"], ["--optim.lr=1.0"]),
        (["--optim.weight_decay=0"], ["--optim.weight_decay=0.0"]),
        (["--protocol.momentum=0"], ["--protocol.momentum=0.0"]),
        (["--protocol.label_smoothing=0"], ["--protocol.label_smoothing=0.00"]),
        (["--model.loc_lr_factor=1"], ["--model.loc_lr_factor=1.0"]),
        (["--policy", '{"max_deg": 5}'], ["--policy", '{"max_deg": 5.0}']),
        (["--optim.lr=1e-1"], ["--optim.lr", "0.1"]),
        (["--prune_below=[0, 1]"], ["--prune_below=[0.0, 1.0]"]),
    ],
)
def test_a_whole_number_is_the_fraction_that_it_equals(whole: list[str], fraction: list[str]) -> None:
    assert run_of(whole) == run_of(fraction)
    assert run_key(run_of(whole), CONTENT_HASH) == run_key(run_of(fraction), CONTENT_HASH)


def test_a_sweep_file_and_the_command_line_spell_a_protocol_alike() -> None:
    written = {"momentum": 0, "nesterov": False, "label_smoothing": 0, "epochs": 3}
    from_file = read_protocol(Protocol(), Section("sweep.yaml", "protocol", written))
    arguments = [f"--protocol.{name}={json.dumps(value)}" for name, value in written.items()]
    assert protocol_hash(run_of(arguments).protocol) == protocol_hash(from_file)


def test_protocols_are_told_apart() -> None:
    protocols = [dataclasses.replace(Protocol(), **{name: value}) for name, value in CHANGED_PROTOCOL.items()]
    hashes = [protocol_hash(protocol) for protocol in [Protocol(), *protocols]]
    assert len(set(hashes)) == len(hashes)
    assert all(len(text) == 8 and int(text, 16) >= 0 for text in hashes)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"lr": -math.inf}])
def test_what_is_no_number_has_no_spelling(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(value)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "epochs", "expected"), [(100, 32, 2, 8), (96, 32, 3, 9), (1, 64, 1, 1)]
)
def test_the_last_batch_may_be_smaller(num_images: int, batch_size: int, epochs: int, expected: int) -> None:
    assert num_steps(num_images, batch_size, epochs) == expected
