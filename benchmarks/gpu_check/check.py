"""The check: which parts, how much of the time each has, which packages they need, and the file of what was found.

Nothing here imports torch, but to see whether there is a GPU.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.clock import GRACE_S, Asked, carry_out
from experiments.machine.foreign_settings import drop_foreign_settings
from ledger.errors import STATUS_INCOMPLETE, UserError, nearest, remedy
from ledger.files import to_json, write_atomically
from ledger.plain_text import plain, print_anything

REPORT_FORMAT = 1
FUNCTIONS = "benchmarks.gpu_check.parts"
ROOT = Path(__file__).parents[2]
MIN_PART_S = 1.0
"""A part that would have less than this is left out."""
ALWAYS = ("numpy", "torch")
MODULES = {"pillow": "PIL", "pyyaml": "yaml"}
"""Of packages whose modules have another name."""


@dataclass(frozen=True)
class Part:
    """A function of FUNCTIONS.

    share: of the time, beside the others' shares. needs: packages besides numpy and torch.
    """

    name: str
    what: str
    share: float
    needs: tuple[str, ...] = ()


IMAGES = ("filelock", "pillow")
PARTS = (
    Part("machine", "the machine and what is installed", 40),
    Part("images", "real images", 60, IMAGES),
    Part(
        "correctness",
        "the tests marked gpu",
        150,
        (*IMAGES, "hypothesis", "pytest", "rich", "safetensors", "torchvision"),
    ),
    Part("precision", "fp32 against bf16: a short training's speed and accuracy", 40, (*IMAGES, "safetensors")),
    Part("matrix", "the rate of matrix products", 15),
    Part("workers", "1 to 8 workers that train on one GPU at once", 95),
    Part("accuracy", "time to 80 and to 94 % test accuracy", 100, (*IMAGES, "safetensors")),
)


@dataclass(frozen=True)
class Package:
    """One that this project names. version: "" where it is not installed. wanted: the oldest that will do."""

    name: str
    version: str
    wanted: str

    @property
    def is_old(self) -> bool:
        return bool(self.version) and _numbers(self.version) < _numbers(self.wanted)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.split("+")[0])[:3]))


def find_packages() -> dict[str, Package]:
    """Those that pyproject.toml asks for, as far as something needs them, without importing any of them."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {name for part in PARTS for name in part.needs}
    lines = [
        *project["dependencies"],
        *(each for each in project["optional-dependencies"]["dev"] if re.split(r"[[>]", each)[0] in needed),
    ]
    wanted = {name: version for line in lines for name, version in re.findall(r"^([\w-]+)(?:\[.*\])?>=([\d.]+)", line)}
    return {name: Package(name, _version(name), version) for name, version in wanted.items()}


def _version(name: str) -> str:
    try:
        if importlib.util.find_spec(MODULES.get(name, name.replace("-", "_"))) is None:
            return ""
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "?"
    except ImportError:
        return ""


def packages_line(packages: Mapping[str, Package], parts: Sequence[Part]) -> str:
    """What is missing or old of what the parts need, and what to do; "" where all is there."""
    needed = sorted({*ALWAYS, *(name for part in parts for name in part.needs)})
    lacking = [packages[name] for name in needed if not packages[name].version or packages[name].is_old]
    if not lacking:
        return ""
    names = ", ".join(f"{each.name} {f'is {each.version}' if each.version else 'is not installed'}" for each in lacking)
    asked = " ".join(f"'{each.name}>={each.wanted}'" for each in lacking)
    return f"{names}; run {sys.executable} -m pip install {asked}; without a package index, give pip their wheels"


def main(arguments: Sequence[str] | None = None) -> int:
    """Find, print, and write as JSON."""
    drop_foreign_settings()
    for stream in (sys.stdout, sys.stderr):
        print_anything(stream)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="JSON file; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=8.0, help="that all may take; default: %(default)g")
    parser.add_argument("--data", default="", help="folder of images, train/CLASS/*.jpg; default: CIFAR-10's own files")
    parser.add_argument("--parts", nargs="+", help=f"only these; default: {' '.join(part.name for part in PARTS)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to see that the check works")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that the check works")
    try:
        return check(parser.parse_args(arguments))
    except UserError as error:
        print(f"error: {plain(error)}", file=sys.stderr)
        return 2


def check(options: argparse.Namespace) -> int:
    """Carry out the parts. Raises UserError for what cannot be done at all."""
    end_s = time.monotonic() + 60 * options.minutes
    known = {part.name: part for part in PARTS}
    for name in options.parts or ():
        if name not in known:
            raise UserError(f"parts: {name!r} is unknown; {nearest(name, known)}")
    if not 0 < options.minutes <= 1e6:
        raise UserError(f"minutes: {options.minutes:g} is not a number above 0")
    if options.data and not Path(options.data).is_dir():
        raise UserError(f"data: {options.data!r} is not a folder")
    parts = [part for part in PARTS if part.name in (options.parts or known)]
    packages = find_packages()
    for name in ALWAYS:
        if not packages[name].version or packages[name].is_old:
            raise UserError(packages_line(packages, ()))
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"device: PyTorch {torch.__version__} of {sys.executable} sees no CUDA GPU on this machine")
    report = Report(options, parts, packages)
    if line := packages_line(packages, parts):
        print(f"packages: {line}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for place, part in enumerate(parts):
            left_s = end_s - time.monotonic()
            share_s = left_s * part.share / sum(later.share for later in parts[place:]) - GRACE_S
            report.carry_out(part, share_s)
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        return 130
    finally:
        report.save()
        print(f"Written to {plain(options.out)}", flush=True)
    return STATUS_INCOMPLETE if any(each["status"] == "failed" for each in report.parts.values()) else 0


class Report:
    """What is written, after every finding anew, and printed as it comes."""

    def __init__(self, options: argparse.Namespace, parts: Sequence[Part], packages: Mapping[str, Package]) -> None:
        """Raises UserError if the file cannot be written."""
        self.options, self.packages, self._start_s = options, packages, time.monotonic()
        self.parts: dict[str, dict[str, Any]] = {part.name: {"status": "not begun"} for part in parts}
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.save()

    def save(self) -> None:
        content = {
            "format": REPORT_FORMAT,
            "started": self._started,
            "seconds": round(time.monotonic() - self._start_s, 1),
            "minutes": self.options.minutes,
            "device": self.options.device,
            "quick": self.options.quick,
            "packages": {each.name: each.version or None for each in self.packages.values()},
            "parts": self.parts,
        }
        try:
            if self.options.out.is_dir():  # such as `.`, which has no name
                raise IsADirectoryError(0, "it is a folder")
            write_atomically(self.options.out, to_json(content))
        except OSError as error:
            raise UserError(f"out: {self.options.out} cannot be written ({error.strerror}){remedy(error)}") from None

    def found(self, part: str) -> dict[str, Any]:
        findings: dict[str, Any] = self.parts.get(part, {}).get("findings", {})
        return findings

    def carry_out(self, part: Part, share_s: float) -> None:
        """In so many seconds."""
        print(f"{part.name}: {part.what}, up to {max(0.0, share_s):.0f} s", flush=True)
        entry = self.parts[part.name]
        entry |= {"status": "cut", "reason": "stopped", "limit_s": round(share_s, 1), "findings": {}, "left_out": []}
        missing = [name for name in part.needs if not self.packages[name].version]
        start_s, log = time.monotonic(), ""
        if missing:
            entry |= {"status": "left out", "reason": f"needs {', '.join(missing)}"}
        elif share_s < MIN_PART_S:
            entry |= {"status": "left out", "reason": "no time was left"}
        else:
            asked = Asked(
                self.options.device,
                self.options.quick,
                self.options.data,
                self.found("images").get("task", {}).get("spec", ""),
                {name: each["gflops_per_s"] for name, each in self.found("matrix").items()},
                start_s + share_s,
            )
            function = f"{FUNCTIONS}:{part.name}"
            entry["status"], entry["reason"], log = carry_out(
                function, asked, lambda message: self.take(entry, message)
            )
        entry["seconds"] = round(time.monotonic() - start_s, 1)
        if log:
            entry["log"] = log
        if entry["status"] != "done":
            print(f"  {entry['status']}: {plain(entry['reason'])}", flush=True)
        self.save()

    def take(self, entry: dict[str, Any], message: tuple[Any, ...]) -> None:
        """What a part has told."""
        match message:
            case ("found", name, text, values):
                entry["findings"][name] = {**({"text": text} if text else {}), **values}
            case (_, text):
                entry["left_out"].append(text)
                text = f"no time for {text}"
        if text:
            print(f"  {plain(text)}", flush=True)
        self.save()
