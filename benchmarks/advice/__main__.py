"""`python -m benchmarks.advice`: the probe on each folder, several times, beside what a long study says of it.

The answers are kept in one file. What is in it is not made again, so that a stopped run goes on where it was.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from benchmarks.advice.folders import Folder, folders
from benchmarks.advice.judged import QUESTIONS, Difference, Outcome, differences, judged, of_probe
from benchmarks.advice.truth import truth
from experiments.study.plan import Plan
from experiments.terminal.commands.probe import compare
from ledger.files import write_atomically
from ledger.ledger import Ledger

SPEED = 1650.0
"""What an idle core of an AMD EPYC makes with bf16. Sizes follow from it, whatever else the machine does meanwhile."""
NUM_WORKERS = 2
STN_SPEED = 0.7
"""The speed of a variant with a spatial transformer over the plain network's; 0.66 and 0.82 were measured."""
TRUTH_SEED = 1000
"""Seed of the images for the truth: drawn ones that no probe sees; another draw of photographs and digits."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.advice", description=__doc__, allow_abbrev=False)
    parser.add_argument("answers", type=Path, help="file of the answers, such as docs/results/probe.json")
    parser.add_argument("--work", type=Path, default=Path("runs-advice"), help="folder for images and ledgers")
    parser.add_argument("--photos", default="", help="a folder with CIFAR-10's images, for the folders made of them")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each probe")
    parser.add_argument("--repeats", type=int, default=3, help="probes of each folder, each with other images")
    parser.add_argument("--only", nargs="+", default=[], help="names of folders; all if not given")
    parser.add_argument(
        "--speed", type=float, default=SPEED, help="training images/s of each of two workers that the probe plans with"
    )
    options = parser.parse_args(arguments)
    known = folders(options.photos)
    names = [folder.name for folder in known]
    for name in options.only:
        if name not in names:
            parser.error(f"only: {name!r} is not one of {', '.join(names)}")
    os.environ["WANDB_MODE"] = "disabled"
    rows = json.loads(options.answers.read_text(encoding="utf-8")) if options.answers.exists() else []
    for repeat in range(options.repeats):  # so that a part of the whole is of all folders
        for folder in known:
            if folder.name in (options.only or names) and not any(is_of(row, folder, repeat, options) for row in rows):
                rows.append(answer(folder, repeat, rows, options))
                write_atomically(options.answers, json.dumps(rows, indent=1).encode() + b"\n")
    print(table(known, rows))
    return 0


def is_of(row: dict[str, Any], folder: Folder, repeat: int, options: argparse.Namespace) -> bool:
    asked = {"folder": folder.name, "repeat": repeat, "minutes": options.minutes, "speed": options.speed}
    return asked.items() <= row.items()


def answer(folder: Folder, repeat: int, rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """What the probe says of the folder, beside the truth of what it asked, which may be in an earlier row."""
    images = folder.write(options.work / "images", repeat)
    print(f"{folder.name}, {repeat + 1} of {options.repeats}: the probe", flush=True)
    place = options.work / f"{folder.name}-{repeat}-{options.minutes:g}min-{options.speed:g}"
    asked = Namespace(
        path=images, minutes=options.minutes, turns="", mirror="", set=None, label="", group="", jobs=NUM_WORKERS,
        runs=place / "runs", reports=None,
    )  # fmt: skip
    place.mkdir(parents=True, exist_ok=True)
    with (place / "said.txt").open("a", encoding="utf-8") as said:
        plan, best, findings = compare(asked, Console(file=said, width=120), partial(speeds, options.speed))
    print(f"  {best.words}; the truth", flush=True)
    known = [row["truth"] for row in rows if (row["folder"], row["policy"]) == (folder.name, best.policy)]
    if not known:
        unseen = folder.write(options.work / "images", TRUTH_SEED)
        true = truth(unseen, best.policy, options.work / f"{folder.name}-truth", NUM_WORKERS)
        known = [[asdict(difference) for difference in differences(true)]]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    row = {
        "folder": folder.name,
        "repeat": repeat,
        "minutes": options.minutes,
        "speed": options.speed,
        "commit": commit.stdout.strip(),
        "policy": best.policy,
        "margin": 100 * findings.study.claims.margin,
        "protocol": {key: getattr(plan.protocol, key) for key in ("train_images", "epochs", "batch_size")},
        "probe": [asdict(difference) for difference in differences(findings)],
        "truth": known[0],
    }
    parts = zip(QUESTIONS, judged_answers(row), strict=True)
    lines = [f"{question}: {answer} (truth {truth}): {outcome}" for question, (answer, truth, outcome) in parts]
    print("  " + "; ".join(lines), flush=True)
    return row


def speeds(speed: float, plan: Plan, ledger: Ledger) -> list[float]:
    return [speed * (STN_SPEED if arm.variant.startswith("stn_") else 1) for arm in plan.arms]


def judged_answers(row: dict[str, Any]) -> list[tuple[str, str, Outcome]]:
    """The probe's answer to each question, the truth, and how the one compares with the other."""
    pairs = [(Difference(**a), Difference(**b)) for a, b in zip(row["probe"], row["truth"], strict=True)]
    return [(f"{said.text} {said.badge}", true.text, judged(said, true, row["margin"])) for said, true in pairs]


def table(known: Sequence[Folder], rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each probe, and how often it was right, could not tell, or was wrong."""
    headings = ["folder", "augmentation chosen", "images × epochs", *QUESTIONS, "probe"]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    of_probes, of_answers = Counter[str](), Counter[str]()
    for row in (row for folder in known for row in rows if row["folder"] == folder.name):
        answers = judged_answers(row)
        outcomes = [outcome for *_, outcome in answers]
        of_probes[of_probe(outcomes)] += 1
        of_answers.update(outcomes)
        cells = [f"{answer} ({truth}): {outcome}" for answer, truth, outcome in answers]
        sizes = f"{row['protocol']['train_images']:,} × {row['protocol']['epochs']}"
        lines.append(f"| {row['folder']} | `{row['policy']}` | {sizes} | {' | '.join(cells)} | {of_probe(outcomes)} |")
    counts = f"Of {len(lines) - 2} probes: {tally_text(of_probes)}. Of their answers: {tally_text(of_answers)}."
    return "\n".join([*lines, "", counts])


def tally_text(tally: Counter[str]) -> str:
    return ", ".join(f"{outcome} {tally[outcome]}" for outcome in ("right", "cannot tell", "wrong", "open"))


if __name__ == "__main__":
    sys.exit(main())
