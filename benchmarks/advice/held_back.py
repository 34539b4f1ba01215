"""`python -m benchmarks.advice.held_back LEDGER...`: how often the rule of ripeness is right, on ladders that exist.

For each claim at each smaller size of training: whether the rule would hold it back there, and whether it came out
otherwise at the study's own size.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.chance import chance
from analysis.findings import find
from analysis.ladder import Step
from analysis.records import Study
from analysis.ripeness import nothing_learned, too_short, trained_arms
from analysis.scores import final_scores
from ledger.ledger import Ledger


def main(arguments: Sequence[str]) -> int:
    counts = Counter(
        pair
        for ledger in map(Path, arguments)
        for name in Ledger(ledger, read_only=True).studies()
        for pair in told_early(find(ledger, name))
    )
    print("| at a smaller size | another answer at the study's own | the same | cannot be told there |")
    print("|---|---:|---:|---:|")
    for held in (True, False):
        words = "held back: trained too short" if held else "let pass"
        print(f"| {words} | {' | '.join(str(counts[held, came]) for came in ('turned', 'same', 'open'))} |")
    return 0


def told_early(findings: Any) -> Iterator[tuple[bool, str]]:
    """For each claim that is told at a smaller size: whether the rule holds it back, and what became of it."""
    study: Study = findings.study
    of_rung = [final_scores(study, rung.runs) for rung in study.rungs]
    for climb in findings.climbs:
        top = direction(climb.steps[-1], study.claims.margin)
        for scores, step in zip(of_rung, climb.steps[:-1], strict=True):
            said = direction(step, study.claims.margin)
            if said == "undecided":
                continue
            arms = [trained_arms(scores)[i] for i in scores.pairs(climb.claim).arms]
            why = nothing_learned(arms, chance(study))
            why = why or too_short(arms, said, step.difference.value, study.claims.margin)
            yield bool(why), "open" if top == "undecided" else "same" if top == said else "turned"


def direction(step: Step, margin: float) -> str:
    """What the interval of a difference says: `better`, `worse`, `equivalent`, or `undecided`."""
    value, half_width = step.difference.value, step.difference.half_width
    if abs(value) > half_width:
        return "better" if value > 0 else "worse"
    return "equivalent" if abs(value) + half_width < margin else "undecided"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
