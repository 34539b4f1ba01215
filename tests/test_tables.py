"""The ledger read back, and what the tables say, in every format and for every kind of loss."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from scipy import stats

from analysis.ablation import COLUMNS, Mean, Row, percent_text
from analysis.errors import AnalysisError
from analysis.formats import TextTable, csv_table, latex_tabular, latex_text, markdown_table, markdown_text
from analysis.records import read_histories, read_study
from analysis.tables import ablation, ablation_csv, ablation_latex, ablation_markdown, write_tables
from tests.synthetic_ledger import SEEDS, TASK, edit_json, key_of, write_arm, write_study

STUDY = "tiny-cpu"
ODD = [
    "a_b & 100% | <c> =cmd",
    "_x_ *y* `z` [w](v) #1 ~q~ $m$ \\n ^",
    "猫 é İ ß → “q”",
    "@[x]{y}--z",
    "-1+2",
    "a\nb\x00c",
]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Five arms: whole, better, with losses, without a completed run, not begun."""
    ledger = tmp_path / "runs"
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.50, 0.52, 0.54, 0.53, 0.51]),
        write_arm(ledger, "cnn+affine", "cnn", [0.55, 0.57, 0.585, 0.58, 0.56]),
        write_arm(
            ledger, "stn_affine", "cnn", [0.50, "diverged", 0.55, None, 0.50],
            trial_statuses=("completed", "completed", "pruned", "failed"), model={"loc_lr_factor": 0.25},
            num_parameters=243_146, train_flops=3.2e12,
        ),
        write_arm(ledger, "stn_affine+affine", "cnn+affine", ["failed", "failed", None, None, None]),
        {"pose": "upright", "variant": "late", "baseline": "stn_affine", "trials": [], "winner": None, "finals": []},
    ]  # fmt: skip
    write_study(ledger, arms)
    return ledger


def row_of(ledger: Path, variant: str, pose: str = "upright") -> Row:
    return next(row for row in ablation(ledger, STUDY).rows if (row.variant, row.pose) == (variant, pose))


def cells_of(ledger: Path, variant: str) -> dict[str, str]:
    (section,) = ablation(ledger, STUDY).sections
    return dict(zip(COLUMNS, next(cells for cells in section.table.rows if cells[0] == variant), strict=True))


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def html(markdown: str) -> str:
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def shown(markdown: str) -> list[str]:
    """The text of every table cell, as a reader sees it."""
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html(markdown))
    assert not any("<" in cell for cell in cells), cells
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        cells = [cell.replace(entity, character) for cell in cells]
    return cells


class TestRecords:
    def test_one_row_a_listed_run(self, ledger: Path) -> None:
        study = read_study(ledger, STUDY)
        runs = study.runs
        assert len(runs) == 4 * 5 + 3 * 3 + 4
        assert (study.task_label, study.num_classes, study.epochs, study.budget) == ("Tiny (JPEG)", 2, 6, "cpu")
        finals = runs[(runs["variant"] == "stn_affine") & (runs["stage"] == "final")]
        assert finals["status"].tolist() == ["completed", "diverged", "completed", "missing", "completed"]
        assert finals["seed"].dropna().tolist() == [11, 12, 13, 15]
        assert finals["test_accuracy"].dropna().tolist() == [0.50, 0.55, 0.50]
        assert finals["model.loc_lr_factor"].dropna().unique().tolist() == [0.25]
        assert finals["train_seconds"].count() == 4
        assert runs["test_accuracy"].dtype == "float64"

    def test_histories(self, ledger: Path) -> None:
        study = read_study(ledger, STUDY)
        frame = read_histories(study, [key_of("upright", "cnn", 11), key_of("upright", "stn_affine", 12), "absent"])
        assert frame.groupby("key", sort=False).size().tolist() == [6, 3]
        assert frame["epoch"].tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3]

    def test_scores_that_are_null_altogether(self, ledger: Path) -> None:
        edit_json(ledger / "runs" / key_of("upright", "cnn", 12) / "run.json", result=None, status="failed")
        assert row_of(ledger, "cnn").test_accuracy.num == 4

    def test_a_completed_run_without_a_test_score_is_not_averaged(self, ledger: Path) -> None:
        file = ledger / "runs" / key_of("upright", "cnn", 12) / "run.json"
        edit_json(file, result=json.loads(file.read_text())["result"] | {"test_accuracy": None})
        assert row_of(ledger, "cnn").test_accuracy.num == 4
        assert row_of(ledger, "cnn").final_statuses == {"completed": 5}

    def test_no_ledger(self, tmp_path: Path) -> None:
        with pytest.raises(AnalysisError, match="nowhere: there is no ledger here"):
            read_study(tmp_path / "nowhere", STUDY)

    def test_ledger_without_studies(self, tmp_path: Path) -> None:
        with pytest.raises(AnalysisError, match="unknown study 'x'; none are known"):
            read_study(tmp_path, "x")

    @pytest.mark.parametrize("name", ["tiny-gpu", "../studies/tiny-cpu", ""])
    def test_unknown_study(self, ledger: Path, name: str) -> None:
        with pytest.raises(AnalysisError, match="unknown study .*tiny-cpu"):
            read_study(ledger, name)

    @pytest.mark.parametrize(
        ("file", "edit", "message"),
        [
            ("study", {"format": 2}, "study.json: format 2 is newer than 1"),
            ("run", {"format": 2}, "run.json: format 2 is newer than 1"),
            ("run", {"key": "other"}, "run.json: holds the run 'other'"),
            ("run", {"config": {"stage": "trial"}}, "run.json: is a trial run"),
            ("run", {"config": 3}, "run.json: 'config.stage' is missing"),
            ("run", {"status": None}, "run.json: 'status' is None, expected str"),
            ("run", {"result": {"test_accuracy": "high"}}, "run.json: 'test_accuracy' is 'high', expected a number"),
            ("study", {"arms": []}, "study.json: 'arms' is empty"),
            ("study", {"arms": [3]}, "study.json: 'arms' holds 3"),
            (
                "study",
                {"protocol_hash": "ffffffff"},
                "study.json: its protocol is ffffffff, but that of run .* 1234abcd",
            ),
        ],
    )
    def test_a_file_that_says_something_else(self, ledger: Path, file: str, edit: dict[str, Any], message: str) -> None:
        run_file = ledger / "runs" / key_of("upright", "cnn", 12) / "run.json"
        edit_json({"run": run_file, "study": ledger / "studies" / STUDY / "study.json"}[file], **edit)
        with pytest.raises(AnalysisError, match=message) as error:
            read_study(ledger, STUDY)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", ["run.json", "cost.json", "history.json"])
    @pytest.mark.parametrize("text", ["", '{"a": ', "\xff"])
    def test_a_file_that_is_not_json(self, ledger: Path, name: str, text: str) -> None:
        key = key_of("upright", "cnn", 12)
        (ledger / "runs" / key / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(AnalysisError, match=f"{key}/{name}: is not JSON") as error:
            read_histories(read_study(ledger, STUDY), [key])
        assert "\n" not in str(error.value)

    def test_two_protocols_do_not_mix(self, ledger: Path) -> None:
        key = key_of("upright", "stn_affine", 13)
        edit_json(ledger / "runs" / key / "run.json", protocol_hash="99999999")
        first = key_of("upright", "cnn", "trial", 0)
        message = f"two protocols do not mix in one table: 1234abcd .run {first}. and 99999999 .run {key}."
        with pytest.raises(AnalysisError, match=message):
            read_study(ledger, STUDY)

    def test_two_tasks_do_not_mix(self, ledger: Path) -> None:
        key = key_of("upright", "cnn+affine", 15)
        edit_json(ledger / "runs" / key / "run.json", task=TASK | {"content_hash": "dd" * 32})
        with pytest.raises(AnalysisError, match=f"two tasks do not mix .* {'dd' * 32} .run {key}."):
            read_study(ledger, STUDY)

    def test_two_runs_of_one_seed(self, ledger: Path) -> None:
        file = ledger / "runs" / key_of("upright", "cnn", 12) / "run.json"
        edit_json(file, config=json.loads(file.read_text())["config"] | {"seed": 11})
        with pytest.raises(AnalysisError, match="of 'cnn' have the same seed 11"):
            read_study(ledger, STUDY)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"baseline": "cnm"}, "baseline 'cnm' of 'stn' is no arm of pose 'upright'; did you mean 'cnn'"),
            ({"variant": "cnn"}, "arm 'cnn' at pose 'upright' is listed twice"),
            ({"winner": "k"}, "winner 'k' of 'stn' is none of its trials"),
            ({"finals": [1]}, "'finals' of 'stn' holds 1"),
            ({"trials": None}, "'trials' is None, expected list"),
        ],
    )
    def test_an_arm_that_makes_no_sense(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        arms = [write_arm(tmp_path, variant, "cnn", [0.5]) for variant in ("cnn", "stn")]
        arms[1] |= change
        write_study(tmp_path, arms)
        with pytest.raises(AnalysisError, match=message):
            read_study(tmp_path, STUDY)


class TestAblation:
    def test_rows_keep_the_order_of_the_study(self, ledger: Path) -> None:
        variants = [row.variant for row in ablation(ledger, STUDY).rows]
        assert variants == ["cnn", "cnn+affine", "stn_affine", "stn_affine+affine", "late"]

    def test_accuracy_and_paired_difference(self, ledger: Path) -> None:
        cnn, affine = [0.50, 0.52, 0.54, 0.53, 0.51], [0.55, 0.57, 0.585, 0.58, 0.56]
        row = row_of(ledger, "cnn+affine")
        low, high = stats.t.interval(0.95, 4, loc=0.569, scale=stats.sem(affine))
        assert row.test_accuracy == pytest.approx((0.569, (high - low) / 2, 5))
        assert row.val_accuracy.value == pytest.approx(0.579)
        interval = stats.ttest_rel(affine, cnn).confidence_interval(0.95)
        assert row.difference is not None
        assert row.difference == pytest.approx((0.049, (interval.high - interval.low) / 2, 5))
        assert cells_of(ledger, "cnn+affine")["Test %"] == "56.9 ± 1.8"
        assert cells_of(ledger, "cnn+affine")["Difference"] == "+4.9 ± 0.3 *"

    def test_lost_runs_are_counted_and_never_averaged(self, ledger: Path) -> None:
        row = row_of(ledger, "stn_affine")
        assert row.test_by_seed == {11: 0.50, 13: 0.55, 15: 0.50}
        assert row.difference_by_seed == pytest.approx({11: 0.0, 13: 0.01, 15: -0.01})
        cells = cells_of(ledger, "stn_affine")
        assert cells["n"] == "3"
        assert cells["Test %"] == "51.7 ± 7.2"
        assert cells["Difference"] == "0.0 ± 2.5"
        assert cells["Final runs"] == "3 completed, 1 diverged, 1 missing"
        assert cells["Trials"] == "2 completed, 1 pruned, 1 failed"

    def test_a_pair_needs_both(self, ledger: Path) -> None:
        edit_json(ledger / "runs" / key_of("upright", "cnn", 13) / "run.json", status="diverged")
        assert row_of(ledger, "stn_affine").difference_by_seed == pytest.approx({11: 0.0, 15: -0.01})
        assert cells_of(ledger, "stn_affine")["Difference"].endswith("(2 pairs)")
        shutil.rmtree(ledger / "runs" / key_of("upright", "cnn", 15))
        assert cells_of(ledger, "stn_affine")["Difference"] == "0.0 (1 pair)"

    def test_nothing_completed(self, ledger: Path) -> None:
        cells = cells_of(ledger, "stn_affine+affine")
        absent = ("Validation %", "Test %", "Difference", "Training FLOPs")
        assert [cells[name] for name in absent] == ["—"] * 4
        assert (cells["n"], cells["Final runs"]) == ("0", "2 failed, 3 missing")

    def test_nothing_begun(self, ledger: Path) -> None:
        cells = cells_of(ledger, "late")
        assert (cells["Parameters"], cells["Final runs"], cells["Trials"]) == ("—", "—", "—")

    def test_a_baseline_has_no_difference(self, ledger: Path) -> None:
        assert row_of(ledger, "cnn").difference is None
        assert (cells_of(ledger, "cnn")["Baseline"], cells_of(ledger, "cnn")["Difference"]) == ("—", "—")

    def test_flops_share_one_unit(self, ledger: Path) -> None:
        assert cells_of(ledger, "stn_affine")["Training FLOPs"] == "3.20 TFLOP"
        assert cells_of(ledger, "cnn")["Training FLOPs"] == "0.310 TFLOP"
        assert cells_of(ledger, "stn_affine")["Parameters"] == "243,146"

    def test_seeds_are_paired_by_seed_not_by_place(self, ledger: Path) -> None:
        file = ledger / "studies" / STUDY / "study.json"
        arms = json.loads(file.read_text())["arms"]
        expected = row_of(ledger, "cnn+affine").difference
        arms[0]["finals"].reverse()
        edit_json(file, arms=arms)
        assert row_of(ledger, "cnn+affine").difference == expected

    def test_poses_are_compared_apart(self, tmp_path: Path) -> None:
        arms = []
        for pose, shift in (("upright", 0.0), ("R", 0.2)):
            arms.append(write_arm(tmp_path, "cnn", "cnn", [0.6 - shift, 0.61 - shift], pose=pose))
            arms.append(write_arm(tmp_path, "stn", "cnn", [0.6 + shift, 0.61 + shift], pose=pose))
        write_study(tmp_path, arms)
        table = ablation(tmp_path, STUDY)
        assert [section.pose for section in table.sections] == ["upright", "R"]
        differences = [row.difference.value for row in table.rows if row.difference]
        assert differences == pytest.approx([0.0, 0.4])
        assert "poses upright, R" in table.caption
        markdown = ablation_markdown(table)
        assert markdown.index("## Pose upright") < markdown.index("## Pose R")
        assert table.hyper_parameters.columns[:2] == ("Variant", "Pose")
        assert [row["pose"] for row in csv_rows(ablation_csv(table))] == ["upright"] * 2 + ["R"] * 2
        assert r"\multicolumn{10}{l}{\textit{Pose R}}" in ablation_latex(table)

    def test_caption_says_what_was_done(self, ledger: Path) -> None:
        caption = ablation(ledger, STUDY).caption
        for fact in (
            "Task: Tiny (JPEG); 2 classes; pose upright; 6,000 training, 2,000 validation and 10,000 test images",
            "6 epochs; budget cpu; protocol 1234abcd.",
            "95 % Student-t interval",
            "of 0 to 5 a variant",
            "tuned on validation images only, with 0 to 4 trials",
            "read once in each final run",
            "* marks an interval that excludes 0",
        ):
            assert fact in caption

    def test_hyper_parameters_are_the_winners(self, ledger: Path) -> None:
        table = ablation(ledger, STUDY).hyper_parameters
        assert table.columns == ("Variant", "optim.lr", "optim.weight_decay", "model.loc_lr_factor", "Winning trial")
        assert table.rows[0] == ("cnn", "0.1", "0.0005", "—", key_of("upright", "cnn", "trial", 1))
        assert table.rows[2][3] == "0.25"
        assert table.rows[4] == ("late", "—", "—", "—", "—")

    def test_untuned_study_says_so(self, tmp_path: Path) -> None:
        write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [0.5], trial_statuses=(), lr=0.3)])
        table = ablation(tmp_path, STUDY)
        assert "Hyper-parameters were not tuned." in table.caption
        assert table.hyper_parameters.rows == (("cnn", "0.3", "0.0005", "—"),)
        assert table.sections[0].table.rows[0][2:5] == ("51.0", "50.0", "1")

    @pytest.mark.parametrize(
        ("mean", "text"),
        [
            (Mean(0.543, 0.006, 5), "+54.3 ± 0.6"),
            (Mean(-0.0125, 0.01, 5), "−1.2 ± 1.0"),
            (Mean(-0.0002, 0.01, 5), "0.0 ± 1.0"),
            (Mean(0.01, float("nan"), 1), "+1.0"),
            (Mean(float("nan"), float("nan"), 0), "—"),
        ],
    )
    def test_percent_text(self, mean: Mean, text: str) -> None:
        assert percent_text(mean, signed=True) == text
        assert percent_text(mean) == text.removeprefix("+")


class TestFiles:
    def test_write_tables(self, ledger: Path, tmp_path: Path) -> None:
        out = tmp_path / "reports" / STUDY
        paths = write_tables(ledger, STUDY, out)
        names = ["ablation.md", "ablation.tex", "ablation.csv", "times.md", "times.csv"]
        assert [path.name for path in paths] == names
        assert sorted(path.name for path in out.iterdir()) == sorted(names)

    def test_costs_change_times_and_nothing_else(self, ledger: Path, tmp_path: Path) -> None:
        before = {path.name: path.read_bytes() for path in write_tables(ledger, STUDY, tmp_path / "before")}
        for file in ledger.glob("runs/*/cost.json"):
            edit_json(file, train_seconds=99.5, seconds=120.0, images_per_s=7.0, device_name="another")
        (ledger / "runs" / key_of("upright", "cnn", 11) / "cost.json").unlink()
        after = {path.name: path.read_bytes() for path in write_tables(ledger, STUDY, tmp_path / "after")}
        same = {name for name in before if before[name] == after[name]}
        assert same == {"ablation.md", "ablation.tex", "ablation.csv"}
        assert b"99.5" in after["times.csv"]
        assert b"another" in after["times.md"]

    def test_times(self, ledger: Path, tmp_path: Path) -> None:
        for seed, seconds in zip(SEEDS, (10.0, 20.0, 30.0, 40.0, 50.0), strict=True):
            edit_json(ledger / "runs" / key_of("upright", "cnn", seed) / "cost.json", train_seconds=seconds)
        write_tables(ledger, STUDY, tmp_path)
        rows = csv_rows((tmp_path / "times.csv").read_text())
        cnn = rows[0]
        assert [cnn[f"train_seconds{part}"] for part in ("", "_min", "_max")] == ["30.0", "10.0", "50.0"]
        assert float(cnn["all_runs_seconds"]) == pytest.approx(8 * 24.3)
        assert (rows[2]["num_runs"], rows[3]["num_runs"], rows[3]["train_seconds"]) == ("3", "0", "")
        assert (rows[4]["variant"], rows[4]["all_runs_seconds"]) == ("late", "")
        markdown = (tmp_path / "times.md").read_text()
        assert "| cnn | 5 | 30.0 | 10.0 | 50.0 | 1,410 | 512 | 194 |" in markdown
        assert "Measured on cpu A CPU, threads a run: 1." in markdown

    def test_times_of_nothing(self, tmp_path: Path) -> None:
        write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [None], trial_statuses=())])
        write_tables(tmp_path, STUDY, tmp_path / "out")
        assert "no machine yet" in (tmp_path / "out" / "times.md").read_text()

    def test_a_failed_write_leaves_the_old_file(
        self, ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "ablation.md").write_text("old")

        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(AnalysisError, match="cannot be written: No space left on device"):
            write_tables(ledger, STUDY, tmp_path)
        assert (tmp_path / "ablation.md").read_text() == "old"
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]

    def test_unwritable_folder(self, ledger: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(AnalysisError, match="file.*: cannot be written"):
            write_tables(ledger, STUDY, tmp_path / "file" / "out")

    def test_formats_say_the_same(self, ledger: Path) -> None:
        table = ablation(ledger, STUDY)
        cells = [cell for section in table.sections for row in section.table.rows for cell in row]
        markdown = ablation_markdown(table)
        assert shown(markdown)[: len(cells)] == cells
        assert "&lt;8 GiB&gt;" in markdown  # the error of a failed run
        latex = ablation_latex(table)
        for cell in cells:
            assert latex_text(cell) in latex
        for row, line in zip(table.rows, csv_rows(ablation_csv(table)), strict=True):
            assert line["variant"] == row.variant
            assert line["test_accuracy"] == (repr(row.test_accuracy.value) if row.test_accuracy.num else "")
            assert line["run_keys"].split() == [run.key for run in row.finals if run.averaged]
            for run in row.finals:
                assert run.key in markdown
                assert run.key in latex

    def test_csv_reads_as_numbers(self, ledger: Path, tmp_path: Path) -> None:
        write_tables(ledger, STUDY, tmp_path)
        frame = pd.read_csv(tmp_path / "ablation.csv").set_index("variant")
        assert frame["difference"].dtype == "float64"
        assert frame["difference_num_pairs"].dropna().tolist() == [5, 3, 0, 0]
        assert frame.loc["stn_affine", "difference"] == pytest.approx(0.0, abs=1e-15)
        assert frame.loc["stn_affine", "other_run_keys"] == (
            f"{key_of('upright', 'stn_affine', 12)}:diverged {key_of('upright', 'stn_affine', 14)}:missing"
        )


class TestFormats:
    @pytest.mark.parametrize("text", ODD)
    def test_markdown_shows_the_text(self, text: str) -> None:
        table = TextTable(("name", "x"), "lr", ((text, "1"), ("next", "2")))
        plain = " ".join(text.replace("\x00", " ").split())
        assert shown(markdown_table(table)) == [plain, "1", "next", "2"]

    def test_markdown_leaves_plain_names_alone(self) -> None:
        for text in ("stn_affine@lenet+affine", "54.3 ± 0.6 *", "a b-c (d)"):
            assert markdown_text(text) == text
        assert markdown_text("猫_é") == "猫_é"

    @pytest.mark.parametrize("text", ODD)
    def test_latex_is_ascii_without_bare_specials(self, text: str) -> None:
        latex = latex_text(text)
        assert latex.isascii()
        assert "\n" not in latex
        assert not re.search(r"(?<!\\)[&%#_~]", latex)

    def test_latex_accents(self) -> None:
        assert latex_text("é ï Ångström ø") == r"""\'{e} \"{\i} \r{A}ngstr\"{o}m \o{}"""
        assert latex_text("猫") == r"\texttt{U+732B}"
        assert latex_text("a--b − ±") == r"a-{}-b $-$ $\pm$"

    @pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "=cmd|' /C calc'!A0", "\t=1", "\n@x"])
    def test_csv_holds_no_formula(self, text: str) -> None:
        (cell,) = next(csv.reader(io.StringIO(csv_table(("name",), [(text,)]).partition("\n")[2])))
        assert cell == "'" + text.strip()

    def test_csv_keeps_numbers(self) -> None:
        text = csv_table(("a", "b", "c", "d", "e"), [(-0.1234567890123456, -3, None, float("nan"), True)])
        assert text == "a,b,c,d,e\n-0.1234567890123456,-3,,,true\n"

    def test_csv_quotes(self) -> None:
        text = csv_table(("name", "b"), [('a,"b"\nc', "é猫")])
        assert list(csv.reader(io.StringIO(text)))[1] == ['a,"b" c', "é猫"]


@pytest.fixture
def compile_latex(tmp_path: Path) -> Callable[[str], str]:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is not installed")

    def compiled(body: str) -> str:
        (tmp_path / "paper.tex").write_text(
            "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}\\begin{document}\n"
            + body
            + "\\end{document}\n"
        )
        command = [program, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=60)
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        return log

    return compiled


class TestLatex:
    def test_compiles(self, ledger: Path, compile_latex: Callable[[str], str]) -> None:
        log = compile_latex(ablation_latex(ablation(ledger, STUDY)))
        assert "Overfull \\hbox" not in log

    def test_compiles_with_odd_labels(self, tmp_path: Path, compile_latex: Callable[[str], str]) -> None:
        arms = [write_arm(tmp_path, variant, ODD[0], [0.5, 0.6], pose=ODD[1]) for variant in ODD]
        label = " ".join(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x180)])) + "\n\\end{table}"
        write_study(tmp_path, arms, task=TASK | {"label": label}, budget="a%b")
        compile_latex(ablation_latex(ablation(tmp_path, STUDY)))

    def test_rows_that_begin_like_an_argument(self, compile_latex: Callable[[str], str]) -> None:
        names = ("[1pt]", "*", "-", "[", "]", "{", "}", "\\", "&", "%")
        table = TextTable(("*", "[x]"), "ll", tuple((name, name) for name in names))
        compile_latex(latex_tabular([("[p]", table), ("", table)]))


def test_tables_import_no_plotting_and_no_torch() -> None:
    code = (
        "import sys, analysis.tables; print(*(m for m in ('torch','seaborn','matplotlib','scipy.stats','experiments')"
    )
    code += " if m in sys.modules))"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_ten_thousand_runs_take_no_quadratic_time(tmp_path: Path) -> None:
    """Missing runs only, so that the disk has no say: 500 arms of 20 listed runs."""
    arms = [
        {"pose": "upright", "variant": f"v{i}", "baseline": "v0", "trials": [f"t{i}-{j}" for j in range(15)],
         "winner": None, "finals": [f"f{i}-{j}" for j in range(5)]}
        for i in range(500)
    ]  # fmt: skip
    write_study(tmp_path, arms)
    start = time.process_time()
    assert len(ablation(tmp_path, STUDY).rows) == 500
    assert time.process_time() - start < 10  # 0.3 s; work that grows with the square takes minutes
