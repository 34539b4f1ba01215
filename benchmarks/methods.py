"""What each method costs: a training step of every network, a batch of every policy, beside the bare CNN's step.

Legend: B images of a batch, C channels, H rows, W columns, K uniform numbers an image, X logits.
"""

import dataclasses
import importlib.metadata
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from benchmarks.counterparts import GIVEN_MAPS, kornia_transforms, torchvision_transforms, turns
from benchmarks.engine import new_network
from benchmarks.machine import wait_for
from benchmarks.remote import Remote
from benchmarks.report import median
from benchmarks.workloads import Workload, random_images
from experiments.images.draws import uniform
from experiments.machine.device import autocast, prepare_device
from experiments.networks.models import MODELS
from experiments.networks.models.cnn_matched import count_parameters
from experiments.networks.network import Batch
from experiments.networks.variants import DEFAULT_BACKBONE, build_model, build_policy, parse_variant
from experiments.runs.images import Anew
from experiments.runs.optimiser import Optimiser
from experiments.runs.training import augment
from ledger.config import Optim, Protocol
from stn.sampler import warp

BARE = "cnn"
OURS, TORCHVISION, KORNIA = "stn-bench", "torchvision", "kornia"
POSE, POSED = "R", "posed"
"""The policy that draws from the pose: it works on upright images before they are a batch."""

OPTIONS = (
    "place=feature",
    "place=shared",
    "localisation=deep",
    "steps=2",
    "heads=4:size=0.5",
    "padding=border",
    "anti_alias=true",
    "gradient=linearised",
    "warp=normalised",
    "size=0.5",
    "blur_px=2",
    "consistency=1",
    "prior=0.3",
    "supervision=1",
)
"""Of stn_affine, one at a time."""

LARGE_BACKBONES = ("resnet18",)
"""Left out: a step takes as long as all other methods' together."""


@dataclass(frozen=True)
class Effort:
    """How long to look. seconds: of each figure in each round; one call at least."""

    num_rounds: int
    batch_size: int
    seconds: float


FULL = Effort(num_rounds=3, batch_size=128, seconds=0.3)
QUICK = Effort(num_rounds=1, batch_size=8, seconds=0.0)


@dataclass(frozen=True)
class Method:
    """One thing that is timed. kind: a network's training step, or what is done to a batch of images before it."""

    kind: Literal["network", "policy"]
    name: str
    side: str = OURS


def network_names() -> list[str]:
    """The bare CNN first, then every model, stn_affine with every option, and the other backbones."""
    models = [name for name in MODELS if name != BARE]
    others = [name for name in BACKBONES if name not in (DEFAULT_BACKBONE, *LARGE_BACKBONES)]
    return [BARE, *models, *(f"stn_affine:{option}" for option in OPTIONS), *(f"{BARE}@{name}" for name in others)]


class Methods:
    """Everything that is timed, ready in a process of its own, with one thread on a CPU."""

    def __init__(self, device: torch.device, protocol: Protocol) -> None:
        prepare_device(device)
        torch.manual_seed(0)
        self.device, self.protocol = device, protocol
        self.images = random_images(protocol.batch_size, device)
        self.index_B = torch.arange(protocol.batch_size, device=device)
        self.num_parameters: dict[str, int] = {}
        self.left_out: dict[str, str] = {}
        self.calls: dict[Method, Callable[[], object]] = {}
        for name in network_names():
            self.calls[Method("network", name)] = self.training_step(name)
        for name in (GIVEN_MAPS, *(name for name in POLICIES if name != "none")):
            self.calls[Method("policy", name)] = self.policy_batch(name)
        self.add_counterparts()
        for call in self.calls.values():
            call()

    def add_counterparts(self) -> None:
        """Those that a library has, and that work in the version installed."""
        raw_BCHW = self.images.raw(self.index_B).contiguous()  # not channels-last: what both are used to
        for side, transforms in ((TORCHVISION, torchvision_transforms()), (KORNIA, kornia_transforms())):
            for name, transform in transforms.items():
                try:
                    transform(raw_BCHW)
                except Exception as fault:  # kornia is not a dependency: any version may be there
                    self.left_out[f"{side}, {name}"] = " ".join(f"{type(fault).__name__}: {fault}".split())
                else:
                    self.calls[Method("policy", name, side)] = lambda transform=transform: transform(raw_BCHW)  # type: ignore[misc]

    def contents(self) -> tuple[list[Method], dict[str, int], dict[str, str]]:
        """What can be timed, parameters by network, and what is left out and why."""
        return list(self.calls), self.num_parameters, self.left_out

    def training_step(self, name: str) -> Callable[[], object]:
        """Forward pass, backward pass and optimiser step on one batch that is ready in memory."""
        device, protocol, optim = self.device, self.protocol, Optim()
        recipe = build_model(parse_variant(name), {})
        network = new_network(Workload(name, name, protocol, optim), device).train()
        self.num_parameters[name] = count_parameters(network)
        optimiser = Optimiser(network, protocol, optim, recipe.lr_factors())
        loss_function = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
        u_BK = uniform(self.index_B, network.num_draws, seed=0, epoch=1, purpose="model")
        batch = Batch(self.images.raw(self.index_B), self.images.poses, u_BK, progress=0.5)

        def step() -> None:
            with autocast(device, protocol.precision):
                logits_BX, penalty = network.logits_and_penalty(batch)
            loss = loss_function(logits_BX.float(), self.images.labels_N)
            optimiser.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            optimiser.step()

        return step

    def policy_batch(self, name: str) -> Callable[[], object]:
        """A batch as the policy shows it, drawing included; or resampled under given maps."""
        index_B, raw_BCHW = self.index_B, self.images.raw(self.index_B)
        if name == GIVEN_MAPS:
            return lambda: warp(raw_BCHW, turns(len(index_B), self.device))
        if name == POSED:
            no_pose_M23 = self.images.poses.theta_N33[:, :2]
            anew = Anew(POSE, self.images.pixels_NHWC, no_pose_M23, index_B)
            return lambda: anew.show(seed=0, epoch=1)
        policy = build_policy(parse_variant(f"{BARE}+{name}"), {})
        return lambda: augment(raw_BCHW, policy, uniform(index_B, policy.num_draws, seed=0, epoch=1, purpose="augment"))

    def seconds(self, method: Method, at_least: float) -> float:
        """Seconds of one call, the mean of as many as take so long."""
        call, num_calls = self.calls[method], 0
        wait_for(self.device)
        start = time.perf_counter()
        while num_calls == 0 or time.perf_counter() - start < at_least:
            call()
            wait_for(self.device)
            num_calls += 1
        return (time.perf_counter() - start) / num_calls


def measure_methods(device: torch.device, protocol: Protocol, effort: Effort, console: Console) -> dict[str, Any]:
    """What the JSON says of the methods under this protocol, but for the effort's size of a batch."""
    protocol = dataclasses.replace(protocol, batch_size=effort.batch_size)
    start = time.perf_counter()
    if not kornia_version():
        console.print("kornia is not installed: left out", highlight=False)
    rounds: dict[Method, list[float]] = defaultdict(list)
    with Remote(Methods, device, protocol) as remote:
        methods, num_parameters, left_out = remote.call("contents")
        for number in range(effort.num_rounds):
            console.print(f"methods, round {number + 1} of {effort.num_rounds} ...", style="dim", highlight=False)
            for method in methods:
                # All others are held against the bare CNN, so it gets a longer look.
                longer = 5 if method == Method("network", BARE) else 1
                rounds[method].append(remote.call("seconds", method, longer * effort.seconds))
    return {
        "batch_size": effort.batch_size,
        "precision": protocol.precision,
        "threads": 1,
        "num_rounds": effort.num_rounds,
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {TORCHVISION: importlib.metadata.version("torchvision"), KORNIA: kornia_version()},
        "left_out": left_out,
        **tables(rounds, num_parameters),
    }


def kornia_version() -> str | None:
    try:
        return importlib.metadata.version("kornia")
    except importlib.metadata.PackageNotFoundError:
        return None


def tables(rounds: Mapping[Method, list[float]], num_parameters: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Networks and policies: milliseconds of a batch, and their ratio to the bare CNN's training step.

    rounds: seconds, a figure for each round. Ratios are medians of the rounds' ratios: drift hits both sides.
    """
    bare = rounds[Method("network", BARE)]
    found: dict[str, list[dict[str, Any]]] = {"networks": [], "policies": []}
    for method, seconds in rounds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, bare, strict=True))
        figures = {**median("ms", [1e3 * value for value in seconds]), "ratio": round(ratio, 4)}
        if method.kind == "network":
            entry = {"variant": method.name, "num_parameters": num_parameters[method.name]}
            found["networks"].append({**entry, **figures})
        else:
            found["policies"].append({"policy": method.name, "side": method.side, **figures})
    return found
