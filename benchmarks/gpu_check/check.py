"""The check: which parts, how much of the time each has, which packages they need, and the file of findings.

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
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.clock import GRACE_S, Asked, carry_out
from benchmarks.report_file import REPORT_FORMAT, writing
from experiments.machine.foreign_settings import drop_foreign_settings
from ledger.errors import STATUS_INCOMPLETE, UserError, nearest
from ledger.files import to_json, write_atomically
from ledger.plain_text import plain, print_anything

FUNCTIONS = "benchmarks.gpu_check.parts"
ROOT = Path(__file__).parents[2]
MIN_PART_S = 1.0
"""A part that would have less than this is left out."""
ALWAYS = ("numpy", "torch")
MODULES = {"pillow": "PIL", "pyyaml": "yaml"}
"""Names of modules that are not those of their packages."""


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
TESTS = ("hypothesis", "pytest", "rich", "safetensors", "torchvision")
PARTS = (
    Part("machine", "the machine and what is installed", 40),
    Part("images", "real images", 60, IMAGES),
    Part("correctness", "the tests marked gpu", 150, (*IMAGES, *TESTS)),
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
    def trouble(self) -> str:
        """What keeps it from being used, in words; "" for nothing."""
        if not self.version:
            return "is not installed"
        return f"is {self.version}" if _numbers(self.version) < _numbers(self.wanted) else ""


def _numbers(version: str) -> list[int]:
    return list(map(int, re.findall(r"\d+", version.split("+")[0])[:3]))


def find_packages() -> dict[str, Package]:
    """The packages that pyproject.toml asks for, as far as something needs them; none is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {name for part in PARTS for name in part.needs}
    for_tests = [line for line in project["optional-dependencies"]["dev"] if re.split(r"[[>]", line)[0] in needed]
    packages = {}
    for line in (*project["dependencies"], *for_tests):
        name, oldest = re.findall(r"^([\w-]+)(?:\[.*\])?>=([\d.]+)", line)[0]
        packages[name] = Package(name, _version(name), oldest)
    return packages


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
    lacking = [packages[name] for name in needed if packages[name].trouble]
    if not lacking:
        return ""
    names = ", ".join(f"{package.name} {package.trouble}" for package in lacking)
    wanted = " ".join(f"'{package.name}>={package.wanted}'" for package in lacking)
    return f"{names}; run {sys.executable} -m pip install {wanted}; without a package index, give pip their wheels"


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
    if line := packages_line(packages, ()):
        raise UserError(line)
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
    return STATUS_INCOMPLETE if any(entry["status"] == "failed" for entry in report.parts.values()) else 0


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
            "packages": {name: package.version or None for name, package in self.packages.items()},
            "parts": self.parts,
        }
        with writing(self.options.out):
            write_atomically(self.options.out, to_json(content))

    def findings(self, part: str) -> dict[str, Any]:
        return self.parts.get(part, {}).get("findings") or {}

    def carry_out(self, part: Part, share_s: float) -> None:
        """In so many seconds."""
        print(f"{part.name}: {part.what}, up to {max(0.0, share_s):.0f} s", flush=True)
        entry, start_s, log = self.parts[part.name], time.monotonic(), ""
        entry |= {"status": "cut", "reason": "stopped", "limit_s": round(share_s, 1), "findings": {}, "left_out": []}
        if missing := [name for name in part.needs if not self.packages[name].version]:
            entry |= {"status": "left out", "reason": f"needs {', '.join(missing)}"}
        elif share_s < MIN_PART_S:
            entry |= {"status": "left out", "reason": "no time was left"}
        else:
            asked = Asked(
                self.options.device,
                self.options.quick,
                self.options.data,
                self.findings("images").get("task", {}).get("spec", ""),
                {name: values["gflops_per_s"] for name, values in self.findings("matrix").items()},
                start_s + share_s,
            )
            entry["status"], entry["reason"], log = carry_out(
                f"{FUNCTIONS}:{part.name}", asked, lambda message: self.take(entry, message)
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
            case (_, what):
                entry["left_out"].append(what)
                text = f"no time for {what}"
        if text:
            print(f"  {plain(text)}", flush=True)
        self.save()
