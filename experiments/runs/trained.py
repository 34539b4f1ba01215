"""A final run's network, built again from the ledger: what `export` and `predict` start from."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from experiments.images.poses import posed_px
from experiments.images.tasks.reading import ToRgb
from experiments.networks.network import Batch, Network
from experiments.networks.variants import DEFAULT_BACKBONE, assemble, parse_variant
from ledger.checksums import LEFT_OUT
from ledger.config import Fit, Protocol, RunConfig
from ledger.errors import UserError, nearest
from ledger.forms import is_key
from ledger.ledger import Ledger

MIN_PREFIX = 4
"""Characters of a key that must be given at least."""


@dataclass(frozen=True)
class Trained:
    """A final run and its network, in evaluation mode on the CPU.

    record: run.json. folder: of the run. image_px: side of the images that the network takes.
    """

    record: dict[str, Any]
    folder: Path
    network: Network
    image_px: int

    @property
    def key(self) -> str:
        return str(self.record["key"])

    @property
    def variant(self) -> str:
        return str(self.record["config"]["variant"])

    @property
    def pose(self) -> str:
        return str(self.record["config"]["pose"])

    @property
    def classes(self) -> list[str]:
        return list(self.record["task"]["classes"])

    @property
    def num_channels(self) -> int:
        """Of the images that it takes: 1 for grey ones, else 3."""
        return self.network.num_channels

    @property
    def fit(self) -> Fit:
        """How those that are not square became so."""
        fit: Fit = self.record["config"]["protocol"].get("fit", Protocol.fit)
        return fit

    @property
    def to_rgb(self) -> ToRgb:
        """How its images were read."""
        return ToRgb.of(self.record["task"])


class Classifier(nn.Module):
    """Pixels in [0, 1], (B, C, H, W), to logits (B, K): a network that is told nothing else.

    Uniform numbers that a network asks for are all one half.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.network = trained.network

    def forward(self, image_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(Batch.of(image_BCHW, self.network.num_draws))
        return logits_BK


def find_run(ledger: Ledger, name: str) -> str:
    """The key of the run whose key begins like that, or whose folder that is.

    Raises UserError if there is none, or more than one.
    """
    if (path := Path(name)).parent.resolve() == (ledger.root / "runs").resolve():
        name = path.name
    elif path.parent.name == "runs" and is_key(path.name) and (path / "run.json").is_file():
        own = shlex.quote(f"--runs={path.parents[1]}")
        raise UserError(f"run: {name!r} is not in the ledger {ledger.root}; {own} names its own")
    keys = sorted(path.parent.name for path in (ledger.root / "runs").glob("*/run.json"))
    fitting = [key for key in keys if key.startswith(name)] if len(name) >= MIN_PREFIX else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        these = f"{len(fitting)} keys in {ledger.root}: {', '.join(fitting[:3])}"
        raise UserError(f"run: {name!r} is the beginning of {these}")
    hint = nearest(name, keys) if len(keys) < 10 else "runs.md, among the tables of its study, lists them"
    raise UserError(f"run: no key in {ledger.root} begins with {name!r} ({MIN_PREFIX} characters or more); {hint}")


def load_trained(ledger: Ledger, name: str) -> Trained:
    """The final run whose key begins with `name`.

    Raises UserError if there is no such run, if it was damaged, has no weights, or others than its variant's.
    """
    key = find_run(ledger, name)
    ledger.check(key)
    record = ledger.read(key)
    config, folder = record["config"], ledger.folder(key)
    file = folder / "weights.safetensors"
    if not file.exists():
        if (folder / LEFT_OUT).exists():
            raise UserError(f"run: the weights of {key} were left out of the archive that it came from")
        what = f"is a {config['stage']}" if config["stage"] != "final" else f"is {record['status']}"
        raise UserError(f"run: {key} {what} and has no weights; only completed final runs keep them")
    variant = replace(parse_variant(config["variant"]), backbone_options={})  # what it started from has no say now
    if record["format"] < 5 and variant.backbone == DEFAULT_BACKBONE:
        variant = replace(variant, backbone="cnn4")  # as the default one is called since
    protocol = Protocol(image_px=config["protocol"]["image_px"], width=config["protocol"].get("width", 1.0))
    run = RunConfig(variant=str(variant), pose=config["pose"], protocol=protocol, model=config["model"])
    num_channels = record["task"].get("channels", 3)
    # The weights hold the true statistics.
    network = assemble(run, len(record["task"]["classes"]), torch.zeros(num_channels), torch.ones(num_channels))
    try:
        network.load_state_dict(safetensors.torch.load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file}: are not the weights of {config['variant']} ({reason})") from None
    return Trained(record, folder, network.eval(), posed_px(run.pose, protocol.image_px))
