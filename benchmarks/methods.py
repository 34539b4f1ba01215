"""What each method costs: every network's training step and prediction beside the bare CNN's, a batch of every policy.

Legend: B images of a batch, M images of a part, C channels, H rows, W columns.
"""

import dataclasses
import importlib.metadata
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from rich.console import Console

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from benchmarks.counterparts import GIVEN_MAPS, kornia_transforms, torchvision_transforms, turns
from benchmarks.engine import new_network, prediction, training_step
from benchmarks.machine import mean_seconds
from benchmarks.remote import Remote
from benchmarks.report import median, print_note
from benchmarks.workloads import Effort, Workload, random_images
from experiments.images.draws import uniform
from experiments.machine.device import prepare_device
from experiments.networks.models import MODELS
from experiments.networks.network import count_parameters
from experiments.networks.variants import DEFAULT_BACKBONE, build_policy, parse_variant
from experiments.runs.images import Anew
from experiments.runs.training import augment
from ledger.config import Optim, Protocol
from stn.sampler import warp

BARE = "cnn"
OURS, TORCHVISION, KORNIA = "stn-bench", "torchvision", "kornia"
POSE, POSED = "R", "posed"
"""The policy that draws from the pose: it works on upright images before they are a batch."""

OPTIONS = (
    "place=feature", "place=shared", "localisation=deep", "steps=2", "heads=4:size=0.5", "padding=border",
    "anti_alias=true", "gradient=linearised", "warp=normalised", "size=0.5", "blur_px=2", "consistency=1", "prior=0.3",
    "supervision=1",
)  # fmt: skip
"""Options of stn_affine that are timed, one at a time."""

LARGE_BACKBONES = ("resnet18",)
"""Left out: a step takes as long as all other methods' together."""


@dataclass(frozen=True)
class Method:
    """One thing that is timed. kind: a network's training step, its prediction, or what is done to a batch before."""

    kind: Literal["network", "prediction", "policy"]
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
        self.device, self.images = device, random_images(protocol.batch_size, device)
        self.index_B = torch.arange(protocol.batch_size, device=device)
        self.calls: dict[Method, Callable[[], object]] = {}
        for name in network_names():
            workload = workload_of(name, protocol)
            self.calls[Method("network", name)] = training_step(workload, self.images)
            self.calls[Method("prediction", name)] = prediction(workload, self.images)
        for name in (GIVEN_MAPS, *(name for name in POLICIES if name != "none")):
            self.calls[Method("policy", name)] = self.policy_batch(name)
        self.left_out = dict(self.add_counterparts())
        for call in self.calls.values():
            call()

    def add_counterparts(self) -> Iterator[tuple[str, str]]:
        """Adds those that a library has; yields which do not work in the version installed, and why."""
        raw_BCHW = self.images.raw(self.index_B).contiguous()  # not channels-last: what both are used to
        for side, transforms in ((TORCHVISION, torchvision_transforms()), (KORNIA, kornia_transforms())):
            for name, transform in transforms.items():
                try:
                    transform(raw_BCHW)
                except Exception as fault:  # kornia is not a dependency: any version may be there
                    yield f"{side}, {name}", " ".join(f"{type(fault).__name__}: {fault}".split())
                else:
                    self.calls[Method("policy", name, side)] = partial(transform, raw_BCHW)

    def contents(self) -> tuple[list[Method], dict[str, str]]:
        """What can be timed, and what is left out and why."""
        return list(self.calls), self.left_out

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
        return mean_seconds(self.calls[method], self.device, at_least)


def workload_of(network: str, protocol: Protocol) -> Workload:
    return Workload(network, network, protocol, Optim())


def measure_methods(device: torch.device, protocol: Protocol, effort: Effort, console: Console) -> dict[str, Any]:
    """What the JSON says of the methods under this protocol, but for the effort's size of a batch."""
    protocol = dataclasses.replace(protocol, batch_size=effort.method_batch)
    start = time.perf_counter()
    if not kornia_version():
        console.print("kornia is not installed: left out", highlight=False)
    rounds: dict[Method, list[float]] = defaultdict(list)
    with Remote(Methods, device, protocol) as remote:
        methods, left_out = remote.call("contents")
        for number in range(effort.num_rounds):
            print_note(console, f"methods, round {number + 1} of {effort.num_rounds} ...")
            for method in methods:
                # All others are held against the bare CNN, so it gets a longer look.
                longer = 5 if method in (Method("network", BARE), Method("prediction", BARE)) else 1
                rounds[method].append(remote.call("seconds", method, longer * effort.method_s))
    return {
        "batch_size": protocol.batch_size,
        "precision": protocol.precision,
        "threads": 1,
        "num_rounds": effort.num_rounds,
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {TORCHVISION: importlib.metadata.version("torchvision"), KORNIA: kornia_version()},
        "left_out": left_out,
        **tables(rounds, protocol),
    }


def kornia_version() -> str | None:
    try:
        return importlib.metadata.version("kornia")
    except importlib.metadata.PackageNotFoundError:
        return None


def tables(rounds: Mapping[Method, Sequence[float]], protocol: Protocol) -> dict[str, list[dict[str, Any]]]:
    """Networks and policies: milliseconds of a batch, and their ratio to the bare CNN's training step.

    A network's prediction has its ratio to the bare CNN's prediction.
    rounds: seconds, a figure for each round. Ratios are medians of the rounds' ratios: drift hits both sides.
    """

    def figures(method: Method, bare: Method, prefix: str = "") -> dict[str, Any]:
        seconds = rounds[method]
        ratio = statistics.median(a / b for a, b in zip(seconds, rounds[bare], strict=True))
        found = {**median("ms", [1e3 * value for value in seconds]), "ratio": round(ratio, 4)}
        return {f"{prefix}{name}": value for name, value in found.items()}

    networks, policies = list[dict[str, Any]](), list[dict[str, Any]]()
    step, answer = Method("network", BARE), Method("prediction", BARE)
    for method in rounds:
        if method.kind == "network":
            network = new_network(workload_of(method.name, protocol), torch.device("cpu"))
            predicted = figures(Method("prediction", method.name), answer, "predict_")
            about = {"variant": method.name, "num_parameters": count_parameters(network)}
            networks.append({**about, **figures(method, step), **predicted})
        elif method.kind == "policy":
            policies.append({"policy": method.name, "side": method.side, **figures(method, step)})
    return {"networks": networks, "policies": policies}
