"""What one run is: its configuration, and the key that follows from it."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Schedule = Literal["triangle", "one_cycle", "cosine", "constant"]
"""How the learning rate goes over a run; experiments/runs/schedule.py."""
Fit = Literal["crop", "pad", "stretch"]
"""How a picture that is not square becomes a square image: its middle square, or all of it, with black bars at two of
its sides or with its width and height resized each by a factor of its own."""

RESULT_FORMAT = 5
"""Version of what the ledger stores. Part of every key, so results of two formats never meet in one table."""


@dataclass(frozen=True)
class Protocol:
    """Everything that is identical for all variants of a comparison; frozen and hashed.

    Args:
        image_px: side of the square images that every network sees.
        train_images: images to train on; 0 takes all that validation leaves.
        val_images: images held out from the training part, by seed, for tuning; 0 for none. In every part, each class
            has its share.
        test_images: images of the test part to report on; 0 takes all.
        epochs: passes over the training images.
        width: factor on the number of channels of every variant's backbone.
        batch_size: images in an optimiser step.
        optimiser: Muon for the filters of the backbone and SGD for all else; or SGD, or AdamW, for everything.
        momentum: of SGD.
        nesterov: whether the momentum is Nesterov's.
        schedule: learning rate over the run: straight up and down, one cycle along cosines, a short way up and
            a cosine down to zero, or constant.
        averaging: whether weights are drawn to their running average as training ends.
        label_smoothing: share of the target spread over all classes.
        class_weights: what a training image counts in the loss: `none`, all the same; `balanced`, the less the more
            training images of its class there are, so that all classes count the same.
        precision: of convolutions and matrix products; `auto` takes what this machine trains faster with.
        device: kind of device; `auto` takes a GPU where there is one.
        robustness: how densely final runs are measured over angles, scales, shifts and corruptions, if at all.
        robustness_images: test images that this is measured on; 0 takes all.
        fit: how pictures of the user's own that are not square become square.
    """

    image_px: int = 32
    train_images: int = 0
    val_images: int = 5000
    test_images: int = 0
    epochs: int = 8
    width: float = 1.0
    batch_size: int = 256
    optimiser: Literal["muon", "sgd", "adamw"] = "muon"
    momentum: float = 0.85
    nesterov: bool = True
    schedule: Schedule = "triangle"
    averaging: bool = False
    label_smoothing: float = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    robustness: Literal["none", "quick", "full"] = "quick"
    robustness_images: int = 256
    fit: Fit = "crop"


LATER = ("fit", "class_weights")
"""Fields of a protocol that came later than others: at their defaults no record has them, so that keys stay."""


@dataclass(frozen=True)
class Optim:
    """Hyper-parameters that every variant has and that are tuned for each.

    Args:
        lr: peak of the learning rate: of Muon, and of SGD a fixed share of it; or of SGD or AdamW, where there is no
            Muon.
        weight_decay: L2 penalty on weights under SGD, or share of them that AdamW takes off, times lr; biases and
            normalisation are free of it.
    """

    lr: float = 0.15
    weight_decay: float = 5e-4


Stage = Literal["trial", "rung", "final"]


@dataclass(frozen=True)
class RunConfig:
    """One training of one variant.

    Args:
        variant: model, optionally its backbone, and augmentation policies: MODEL[@BACKBONE][+POLICY[+POLICY...]].
        seed: decides the split, the order, the initial weights and every augmentation.
        stage: a trial is scored on validation data only; a final run reads the test set, once, and so does one of a
            rung, which is the same at a smaller size of training.
        pose: how each image of the task was disturbed before anyone trains.
        test_pose: how each test image is disturbed instead; empty: as the others. Of a trial, which reads none, empty.
        protocol: what is identical for all variants.
        optim: hyper-parameters that every variant has.
        model: the model's own hyper-parameters, by name.
        policy: the augmentation policy's own hyper-parameters, by name; of several policies by POLICY.NAME.
        prune_below: validation accuracy under which the run stops after epoch 1, 2, ...; 0 never stops.
    """

    variant: str = "cnn"
    seed: int = 0
    stage: Stage = "final"
    pose: str = "upright"
    test_pose: str = ""
    protocol: Protocol = field(default_factory=Protocol)
    optim: Optim = field(default_factory=Optim)
    model: dict[str, float | int | bool | str] = field(default_factory=dict)
    policy: dict[str, float | int | bool | str] = field(default_factory=dict)
    prune_below: tuple[float, ...] = ()


RunKind = tuple[str, ...]
"""Pose, variant, stage, training images and epochs: what runs that take equally long have in common."""


def kind_of(*parts: object) -> RunKind:
    return tuple(map(str, parts))


def kind_of_run(run: RunConfig) -> RunKind:
    return kind_of(run.pose, run.variant, run.stage, run.protocol.train_images, run.protocol.epochs)


def config_record(run: RunConfig) -> dict[str, Any]:
    """What run.json has of a configuration. What came later than others is left out where it changes nothing."""
    record = dataclasses.asdict(run) | {"protocol": protocol_record(run.protocol)}
    if not run.test_pose:
        del record["test_pose"]
    return record


def protocol_record(protocol: Protocol) -> dict[str, Any]:
    """What run.json and study.json have of a protocol, and what its hash is made of."""
    values, usual = dataclasses.asdict(protocol), Protocol()
    return {name: value for name, value in values.items() if name not in LATER or value != getattr(usual, name)}


def whole_protocol(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record has of a protocol, with what it leaves out as it came later than others."""
    return {**record} | {name: getattr(Protocol(), name) for name in LATER if name not in record}


def canonical(value: Any) -> str:
    """JSON with one spelling for one value: sorted keys, no spaces, no NaN; 1.0 and 1 stay apart."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dataclasses.asdict)


def sha256_of(value: Any) -> str:
    """64 hex digits over the value's one spelling."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def run_key(config: RunConfig | Mapping[str, Any], content_hash: str, version: int = RESULT_FORMAT) -> str:
    """The run's name everywhere: 16 hex digits over all that decides its result.

    config: or what run.json of that format has of it. content_hash: of the task's images and labels. Where the images
    lie and what they are called has no say.
    """
    record = config_record(config) if isinstance(config, RunConfig) else config
    return sha256_of({"format": version, "run": record, "task": content_hash})[:16]


def protocol_hash(protocol: Protocol | Mapping[str, Any]) -> str:
    """8 hex digits that tell protocols, or what run.json has of them, apart; tables refuse to mix two."""
    return sha256_of(protocol_record(protocol) if isinstance(protocol, Protocol) else protocol)[:8]


def num_steps(num_images: int, batch_size: int, epochs: int) -> int:
    """Optimiser steps of a run; the last batch of an epoch may be smaller."""
    return epochs * math.ceil(num_images / batch_size)
