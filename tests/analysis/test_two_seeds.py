"""Two seeds: an interval over them would reach 12.7 standard errors to each side, so there is a dash, everywhere."""

import re
from pathlib import Path

import pytest

from analysis.answer import answer, headline
from analysis.figures import style
from analysis.figures.registry import builders
from analysis.findings import Findings, find
from analysis.means import Mean, mean_text
from analysis.report import report_html
from analysis.tables import write_tables
from tests.support.synthetic_ledger import (
    SEEDS,
    STUDY,
    key_of,
    transformer_record,
    write_arm,
    write_evaluation,
    write_study,
)

ACCURACIES = {"cnn": [0.50, 0.54], "cnn+affine": [0.61, 0.62], "oracle_unwarp": [0.7, 0.73], "stn_affine": [0.6, 0.61]}


@pytest.fixture
def two(tmp_path: Path) -> Findings:
    ledger = tmp_path / "runs"
    arms = []
    for name, accuracies in ACCURACIES.items():
        looks = [transformer_record()] * 2 if "stn" in name else ()
        arms.append(write_arm(ledger, name, "cnn", accuracies, pose="R", transformers=looks))
        for seed, accuracy in zip(SEEDS, accuracies, strict=False):
            write_evaluation(ledger, key_of("R", name, seed), accuracy=accuracy, seed=seed)
    write_study(ledger, arms)
    return find(ledger, STUDY)


def test_no_text_has_an_interval(two: Findings, tmp_path: Path) -> None:
    paths = [path for path in write_tables(two, tmp_path / "out") if path.suffix != ".gz"]
    texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
    texts |= {"report": report_html(two, []), "answer": " ".join([headline(two), *answer(two)])}
    with style.applied():
        for name, (_, build) in builders().items():
            figure = build(two)
            said = [text.get_text() for text in figure.findobj() if hasattr(text, "get_text")] if figure else []
            texts[f"figure {name}"] = "\n".join(said)
    assert not two.faults
    interval = re.compile(r"(±|\\pm\$)\s*\d+\.\d|\d \[[−\d]")
    assert {name: found[0] for name, text in texts.items() if (found := interval.search(text))} == {}
    assert "| cnn+affine | cnn | 62.5 ± — | 61.5 ± — | 2 | +9.5 ± — | — |" in texts["ablation.md"]
    assert "+9.5 ± —  (2 seeds)" in texts["figure forest"]
    assert "so far it is 9.5 points above it (2 seeds, Holm p = 1, given one tuning)" in texts["answer"].replace(
        "\n", " "
    )


def test_a_dash_stands_for_the_interval_of_two() -> None:
    assert mean_text(Mean(54.3, 0.6, 3), 1, dash=True) == "54.3 ± 0.6"
    assert mean_text(Mean(54.3, float("nan"), 2), 1, dash=True) == "54.3 ± —"
    assert mean_text(Mean(54.3, float("nan"), 2), 1) == "54.3"
    assert mean_text(Mean(54.3, float("nan"), 1), 1, dash=True) == "54.3"
