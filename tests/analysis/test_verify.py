"""`make verify-docs`: the real documents agree with the committed results, and whatever does not is found."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.document_numbers import verify
from ledger.errors import UserError
from tests.support.command_line import run
from tests.support.project import ROOT

README = """# Study

| Variant | Test % | Difference | Parameters |
| :--- | ---: | ---: | ---: |
| cnn | 56.4 ± 0.9 | — | 243,146 |
| stn | 54.8 ± 0.6 | −1.5 ± 1.2 \\* | 251,690 |

On this task the STN loses
1.5 ± 1.2 points, in 2 variants; it costs 1.26 times as much, from 114.6 to 144.6 ms,
and closes −58 % [−80, −37] of the gap. Elsewhere 5, and `50.0 ± 0.1` in code.
"""
CSV = """variant,test_accuracy,half,difference,difference_half,excludes,num_parameters,gap,low,high
cnn,0.56356,0.00926,,,,243146,0,,
stn,0.54796,0.006,-0.0154,0.0119,true,251690,-0.577,-0.798,-0.366
"""
BENCH = {"methods": {"runs": [{"variant": "cnn", "ms": 114.5586}, {"variant": "stn", "ms": 144.6476}]}}
CLAIMS: dict[str, Any] = {
    "files": {"table": "results/ablation.csv"},
    "claims": [
        {
            "in": "README.md",
            "says": "| {variant} | {test} | {difference} | {parameters} |",
            "each": "variant",
            "file": "table",
            "test": {"value": "test_accuracy", "plus_minus": "half", "as": "percent"},
            "difference": {
                "value": "difference", "plus_minus": "difference_half", "as": "points", "star": "excludes"
            },
            "parameters": {"value": "num_parameters"},
        },
        {
            "in": "README.md",
            "says": "the STN loses {points} points, in {variants} variants",
            "file": "table",
            "points": {
                "where": {"variant": "stn"}, "value": "difference", "plus_minus": "difference_half",
                "scale": -100, "decimals": 1,
            },
            "variants": {"value": "variant", "of": "count"},
        },
        {
            "in": "README.md",
            "says": "costs {ratio} times as much, from {low} to {high}",
            "file": "results/bench.json",
            "at": "methods.runs",
            "ratio": {
                "where": {"variant": "stn"}, "value": "ms", "over": {"where": {"variant": "cnn"}}, "decimals": 2
            },
            "low": {"value": "ms", "of": "min", "decimals": 1},
            "high": {"value": "ms", "of": "max", "decimals": 1, "unit": " ms"},
        },
        {
            "in": "README.md",
            "says": "closes {gap} % [{low}, {high}]",
            "file": "table",
            "where": {"variant": "stn"},
            "gap": {"value": "gap", "scale": 100},
            "low": {"value": "low", "scale": 100},
            "high": {"value": "high", "scale": 100},
        },
    ],
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "results" / "ablation.csv").write_text(CSV)
    (tmp_path / "results" / "bench.json").write_text(json.dumps(BENCH))
    write_claims(tmp_path, CLAIMS)
    return tmp_path


def write_claims(project: Path, claims: Any) -> None:
    (project / "docs" / "claims.yaml").write_text(yaml.safe_dump(claims, allow_unicode=True))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def differences(project: Path) -> list[str]:
    return [str(found) for found in verify(project / "docs" / "claims.yaml", project).differences]


def test_the_documents_agree_with_the_committed_results() -> None:
    found = verify(ROOT / "docs" / "claims.yaml", ROOT)
    assert not [str(difference) for difference in found.differences]
    assert found.num_numbers["docs/results.md"] > 100


def test_a_changed_digit_of_a_real_document_is_found(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.png", "*.svg"))
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    lines = (ROOT / "docs/results.md").read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line.startswith("| cnn | — | "))
    digit = lines[at].index(".") + 1
    lines[at] = f"{lines[at][:digit]}{(int(lines[at][digit]) + 1) % 10}{lines[at][digit + 1 :]}"
    (tmp_path / "docs/results.md").write_text("".join(lines))
    assert any(found.startswith(f"docs/results.md:{at + 1}: says ") for found in differences(tmp_path))


def test_documents_that_agree(project: Path) -> None:
    found = verify(project / "docs" / "claims.yaml", project)
    assert found.differences == ()
    assert found.num_numbers == {"README.md": 14}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("| 56.4 ± 0.9", "| 56.5 ± 0.9", "README.md:5: says '56.5 ± 0.9', but the results give '56.4 ± 0.9'"),
        ("| 56.4 ± 0.9", "| 6.4 ± 0.9", "README.md:5: says '6.4 ± 0.9', but the results give '56.4 ± 0.9'"),
        ("| 243,146", "| 243146", "README.md:5: says '243146', but the results give '243,146'"),
        ("| −1.5 ±", "| 1.5 ±", "README.md:6: says '1.5 ± 1.2 \\\\*', but the results give '−1.5 ± 1.2 \\\\*'"),
        (" \\*", "", "README.md:6: says '−1.5 ± 1.2', but the results give '−1.5 ± 1.2 \\\\*'"),
        ("| — |", "| 0.0 |", "README.md:5: says '0.0', but the results give '—'"),
        ("\n1.5 ±", "\n1.4 ±", "README.md:9: says '1.4 ± 1.2', but the results give '1.5 ± 1.2'"),
        ("in 2 variants", "in 12 variants", "README.md:9: says '12', but the results give '2'"),
        ("1.26 times", "1.27 times", "README.md:9: says '1.27', but the results give '1.26'"),
        ("144.6 ms", "144.7 ms", "README.md:9: says '144.7 ms', but the results give '144.6 ms'"),
        ("−80", "−81", "README.md:10: says '−81', but the results give '−80'"),
    ],
)
def test_a_changed_digit_is_found(project: Path, old: str, new: str, expected: str) -> None:
    edit(project / "README.md", old, new)
    assert differences(project) == [expected]


def test_a_changed_result_is_found(project: Path) -> None:
    edit(project / "results" / "ablation.csv", "0.56356", "0.5645")
    assert differences(project) == ["README.md:5: says '56.4 ± 0.9', but the results give '56.5 ± 0.9'"]


def test_text_that_is_gone_is_found(project: Path) -> None:
    edit(project / "README.md", "| stn | 54.8 ± 0.6 | −1.5 ± 1.2 \\* | 251,690 |\n", "")
    edit(project / "README.md", "the STN loses", "the transformer loses")
    gone, moved, unclaimed = differences(project)
    assert "'| stn | {test} | {difference} | {parameters} |'" in gone and "no such text" in gone
    assert "'the STN loses {points} points" in moved and "no such text" in moved
    assert unclaimed == "README.md:8: says '1.5 ± 1.2', but no claim lists it"


def test_a_row_that_is_missing_from_the_results_is_found(project: Path) -> None:
    file = project / "results" / "ablation.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    found = differences(project)
    assert "README.md:9: says '1.5 ± 1.2', but no row of table has {'variant': 'stn'}" in found
    assert "README.md:6: says '54.8 ± 0.6', but no claim lists it" in found


def test_a_missing_file_is_found(project: Path) -> None:
    (project / "results" / "bench.json").unlink()
    assert len(found := differences(project)) == 3
    assert all("bench.json cannot be read: No such file" in one for one in found)


@pytest.mark.parametrize("content", ["{", "", "[]", '{"methods": {"runs": []}}', '{"methods": {}}'])
def test_results_of_another_form_are_found(project: Path, content: str) -> None:
    (project / "results" / "bench.json").write_text(content)
    assert len(found := differences(project)) == 3
    assert all("bench.json" in one for one in found)


def test_an_ambiguous_query_is_found(project: Path) -> None:
    claims = json.loads(json.dumps(CLAIMS))
    del claims["claims"][3]["where"]
    write_claims(project, claims)
    assert differences(project)[0] == ("README.md:10: says '−58', but 2 rows of table have {}: which is meant?")


def test_an_ambiguous_quotation_is_found_and_can_be_told_apart(project: Path) -> None:
    with (project / "README.md").open("a") as file:
        file.write("\n| Variant | Elsewhere % | | |\n| --- | --- | --- | --- |\n| cnn | 1.0 | 2.0 | 3 |\n")
    assert "in more than one place: lines 5, 14" in differences(project)[0]
    claims = json.loads(json.dumps(CLAIMS))
    claims["claims"][0]["within"] = "| Variant | Test %"
    write_claims(project, claims)
    assert differences(project) == []


def test_a_column_that_is_not_there_is_found_with_the_nearest(project: Path) -> None:
    claims = json.loads(json.dumps(CLAIMS))
    claims["claims"][3]["gap"]["value"] = "gab"
    write_claims(project, claims)
    assert differences(project) == ["README.md:10: says '−58', but table has no column 'gab'; did you mean 'gap'?"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in": None}, r"claims\[0\].in: None was found where str was expected"),
        ({"in": "OTHER.md"}, "OTHER.md: cannot be read"),
        ({"says": "no number"}, "has no {placeholder}"),
        ({"wehre": {}}, "'wehre' is neither a known key nor a placeholder"),
        ({"test": {"value": "test_accuracy", "plusminus": "half"}}, "did you mean 'plus_minus'"),
        ({"test": {"value": "test_accuracy", "as": "per cent"}}, "did you mean 'percent'"),
        ({"test": {"value": "test_accuracy", "of": "mean"}}, "'mean' is unknown"),
        ({"test": {"plus_minus": "half"}}, r"claims\[0\].test: 'value' is missing"),
        ({"test": 56.4}, "56.4 was found where keys and values were expected"),
        ({"file": ["a"]}, r"claims\[0\].file: \['a'\] was found where str was expected"),
    ],
)
def test_claims_that_mean_nothing_are_refused_in_one_line(project: Path, change: Any, message: str) -> None:
    write_claims(project, {**CLAIMS, "claims": [CLAIMS["claims"][0] | change, *CLAIMS["claims"][1:]]})
    with pytest.raises(UserError, match=message) as refused:
        differences(project)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "claims: []", "- a", "claims: [a", "claims: 3"])
def test_files_of_claims_of_another_form_are_refused(project: Path, content: str) -> None:
    (project / "docs" / "claims.yaml").write_text(content)
    with pytest.raises(UserError, match=r"claims\.yaml"):
        differences(project)


READING = "Reading docs/claims.yaml and the results it names ...\n"


def test_command(project: Path) -> None:
    done = run("verify-docs", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{READING}README.md: 14 numbers computed again\n", "")
    edit(project / "README.md", "243,146", "243,147")
    done = run("verify-docs", cwd=project)
    assert done.returncode == 1
    assert "README.md:5: says '243,147', but the results give '243,146'" in done.stdout
    assert done.stdout.endswith("\n1 difference between documents and results\n")
    assert "Traceback" not in done.stderr
    done = run("verify-docs", "--claims", "docs/other.yaml", cwd=project)
    assert done.returncode == 2
    assert done.stderr == "error: docs/other.yaml: cannot be read: No such file or directory\n"
