"""Overrides on the command line: they do what the same values in the file do, and are kept with what was before."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.records import read_study
from analysis.report.method import protocol_facts
from analysis.report.reproduce import run_line, sweep_line
from experiments.images.tasks.cache import cache_folder
from experiments.study.overrides import read_overrides, recorded, recorded_group
from experiments.study.plan import make_plan
from experiments.study.study import Study, load_study
from experiments.sweep.sweep import Sweep
from experiments.terminal.cli import command_line, find_run_defaults, main
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.overrides import overrides_text, typed_overrides
from tests.support.command_line import contents
from tests.support.tiny_study import STUDY, TINY, HereAndNow, sweep_here, write_sweep

BUDGETS = {
    "cpu": {"protocol": {"epochs": 3, "width": 2}, "trials": 5, "ladder": {"rungs": [{"epochs": 1}]}},
    "lab": {"claims": {"alpha": 0.01}, "poses": ["R"], "first_seed": 7},
}
FILE: dict[str, Any] = TINY | {"budgets": BUDGETS}


def load(folder: Path, file: Mapping[str, Any], *texts: str, budget: str = "cpu") -> Study:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(dict(file)))
    return load_study(path, budget, given=texts)


def put(file: Mapping[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The file with another value in the place that the keys lead to."""
    key, *others = keys
    return {**file, key: put(file.get(key) or {}, tuple(others), value) if others else value}


# By what is typed: what has the same effect in the file's budget `cpu`, or at its top, and what was there before.
LIKE: dict[str, tuple[tuple[str, ...], Any, Any]] = {
    "protocol.epochs=10": (("budgets", "cpu", "protocol", "epochs"), 10, 3),
    "protocol.batch_size=16": (("protocol", "batch_size"), 16, 32),
    "protocol.label_smoothing=0.2": (("protocol", "label_smoothing"), 0.2, 0.1),
    "protocol.nesterov=false": (("protocol", "nesterov"), False, True),
    "search.trials=4": (("budgets", "cpu", "trials"), 4, 5),
    "tuning=per_seed": (("budgets", "cpu", "tuning"), "per_seed", "once"),
    "search.sampler=random": (("search", "sampler"), "random", "tpe"),
    "search.space.optim.lr.min=1e-3": (("search", "space", "optim.lr", "min"), 0.001, 0.02),
    "search.space.optim.weight_decay={values: [0, 0.1]}": (
        ("search", "space", "optim.weight_decay"), {"values": [0, 0.1]}, None,
    ),
    "search.extras.stn_affine.model.loc_lr_factor.max=0.5": (
        ("search", "extras", "stn_affine", "model.loc_lr_factor", "max"), 0.5, 1,
    ),
    "ladder={rungs: [{epochs: 2}]}": (
        ("budgets", "cpu", "ladder"), {"rungs": [{"epochs": 2}]}, {"rungs": [{"epochs": 1}]},
    ),
    "ladder.tuned_at=1": (("budgets", "cpu", "ladder", "tuned_at"), 1, None),
    "ladder=": (("budgets", "cpu", "ladder"), None, {"rungs": [{"epochs": 1}]}),
    "poses=[R, upright]": (("poses",), ["R", "upright"], None),
    "final_seeds=9": (("final_seeds",), 9, 2),
    "claims.margin=0.02": (("claims", "margin"), 0.02, 0.01),
    "tracker=trackio": (("tracker",), "trackio", "wandb"),
    "wandb.mode=disabled": (("wandb", "mode"), "disabled", "auto"),
    "name=other": (("name",), "other", "tiny"),
}  # fmt: skip


@pytest.mark.parametrize("text", LIKE)
def test_an_override_does_what_the_file_would_do(text: str, tmp_path: Path) -> None:
    keys, value, was = LIKE[text]
    study = load(tmp_path, FILE, text)
    assert replace(study, overrides={}) == load(tmp_path, put(FILE, keys, value))
    (record,) = study.overrides.values()
    assert record == {"was": was, "now": value}


def test_several_overrides_count_at_the_budget_that_is_chosen(tmp_path: Path) -> None:
    texts = ("claims.alpha=0.02 protocol.epochs=4", "  search.trials=3  ")
    lab = load(tmp_path, FILE, *texts, budget="lab")
    assert (lab.claims.alpha, lab.protocol.epochs, lab.search.trials) == (0.02, 4, 3)
    assert (lab.poses, lab.first_seed, lab.budget, lab.protocol.width) == (("R",), 7, "lab", 1.0)
    assert list(lab.overrides) == ["claims.alpha", "protocol.epochs", "search.trials"]
    assert lab.overrides["claims.alpha"]["was"] == 0.01
    assert lab.file == str(tmp_path / "sweep.yaml")
    assert overrides_text(lab.overrides) == (
        "claims.alpha=0.02 (0.01 before), protocol.epochs=4 (2 before), search.trials=3 (2 before)"
    )


def test_claims_are_judged_by_what_takes_part_then(tmp_path: Path) -> None:
    """Extras of variants that do not any more stay as they are."""
    file = FILE | {"claims": {"family": [{"variant": "stn_affine+affine", "over": "cnn"}]}}
    only = 'variants=[{"variant": "cnn", "baseline": "cnn"}]'
    with pytest.raises(UserError, match=r"sweep\.yaml with SET: claims\.family\[0\]\.variant: .+ is not among the va"):
        load(tmp_path, file, only)
    study = load(tmp_path, FILE, only)
    assert list(study.variants) == ["cnn"] and study.claims.family == ()
    with pytest.raises(UserError, match=r"with SET: search\.extras\.stn_affin: no variant has this model"):
        load(tmp_path, FILE, "search.extras.stn_affin={model.loc_lr_factor: {value: 1}}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("protocol.epochs", "SET: 'protocol.epochs' is not of the form KEY=VALUE"),
        ("epochs=3", "SET: epochs: unknown key; did you mean 'protocol.epochs'?"),
        ("protocol.epoch=3", "sweep.yaml with SET: protocol.epoch: unknown key; did you mean 'epochs'?"),
        ("protocol.epochs.x=3", "sweep.yaml with SET: protocol.epochs: {'x': 3} is not a whole number"),
        ("trials=3 search.trials=4", "SET: search.trials is there twice"),
        ("budgets.cpu.trials=3", "SET: budgets.cpu.trials: what is set counts at any budget"),
        ("protocol.epochs=[1", "SET: protocol.epochs: line 1, column 3: "),
        ("search.space.optim.momentumm={value: 1}", "sweep.yaml with SET: search.space.optim.momentumm: unknown par"),
        ("x.y=1", "SET: x.y: unknown key; "),
        (".=1", "SET: '.=1' is not of the form KEY=VALUE"),
    ],
)
def test_what_cannot_be_set_is_refused_in_a_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, FILE, text)
    message = str(caught.value).removeprefix(f"{tmp_path}/")
    assert message.startswith(said) and message.isprintable()


def test_an_error_of_the_file_is_the_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sweep\.yaml: budgets\.gpu\.final_seeds: 0 is not between"):
        load(tmp_path, put(FILE, ("budgets", "gpu"), {"final_seeds": 0}), "final_seeds=3")


TEXTS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], max_codepoint=0x2FFF), max_size=8).filter(
    str.isprintable
)
PLAIN = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXTS


@given(st.dictionaries(
    st.from_regex(r"[a-z_]{1,4}(\.[a-z_]{1,4}){0,2}", fullmatch=True),
    st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)),
    min_size=1, max_size=3,
))  # fmt: skip
def test_what_is_typed_again_is_the_same(values: dict[str, Any]) -> None:
    typed = " ".join(typed_overrides({key: {"was": None, "now": value} for key, value in values.items()}))
    assert read_overrides([typed]) == values


@given(st.text(max_size=30) | st.text("ab.= \t[{'\"&*!1", max_size=30))
def test_no_text_escapes_as_another_error(text: str) -> None:
    message = ""
    try:
        read_overrides([text])
    except UserError as error:
        message = str(error)
    assert not message or message.isprintable()


PLAN = ["plan", "--budget", "smoke", "--jobs", "1", "--set"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_study_keeps_what_was_set_and_others_are_a_change(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs that were made with other overrides are announced as those of a file that was changed."""
    sweep_here(here, HereAndNow(fails=lambda job: True))
    source = Ledger(here / "runs").read_study(STUDY)["source"]
    assert "overrides" not in source
    before = contents(here / "runs")
    text = printed(capsys, *PLAN, "protocol.epochs=1")
    assert "Set protocol.epochs=1 (2 before)" in text
    assert "8 finished runs of this study will not count in it any more (protocol: epochs 2 -> 1)" in text
    assert contents(here / "runs") == before
    assert "nothing is left to train" in printed(capsys, *PLAN, "protocol.epochs=2")


def test_a_study_with_overrides_says_so_to_those_who_come_after(here: Path) -> None:
    text = "protocol.epochs=1 trials=1 final_seeds=1"
    study, ledger = load_study(write_sweep(here), "smoke", given=[text]), Ledger(here / "runs")
    plan = make_plan(study, label="", cache=cache_folder(), say=lambda line: None)
    under_way = Sweep(plan, ledger, store=True)
    under_way.replay()
    under_way.run(HereAndNow(fails=lambda job: True), on_finish=lambda job: None, on_tick=lambda: None)
    manifest = ledger.read_study(STUDY)
    assert manifest["source"]["overrides"] == {
        "protocol.epochs": {"was": 2, "now": 1},
        "search.trials": {"was": 2, "now": 1},
        "final_seeds": {"was": 2, "now": 1},
    }
    assert (manifest["protocol"]["epochs"], manifest["num_trials"], manifest["num_finals"]) == (1, 1, 1)
    found = read_study(ledger.root, STUDY)
    assert next(protocol_facts(found)) == (
        "Set on the command line",
        "protocol.epochs=1 (2 before), search.trials=1 (2 before), final_seeds=1 (2 before)",
    )
    assert shlex.split(sweep_line(found))[-1] == "SET=protocol.epochs=1 search.trials=1 final_seeds=1"
    run = found.runs.to_dict("records")[-1] | {"seed": 1}
    again = command_line().parser.parse_args(shlex.split(run_line(found, run))[1:])["run"]
    assert again.set == ["protocol.epochs=1", "search.trials=1", "final_seeds=1"]


def test_folders_do_not_leave_the_machine_with_an_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = load(tmp_path, FILE, f"task=folder:{tmp_path}/pictures")
    assert study.task == f"folder:{tmp_path}/pictures"
    assert study.overrides == {"task": {"was": "sprites", "now": "folder:.../pictures"}}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("folder:~/of jane/pictures", "folder:.../pictures"),
        ("folder:of a study/pictures", "folder:of a study/pictures"),
        ("csv:~/patients/p.csv:id", "csv:.../p.csv:id"),
        ("csv:~jane/her patients/p.csv:id/name", "csv:.../p.csv:id/name"),
        ("csv:/mnt/her patients/p.csv:id", "csv:.../p.csv:id"),
        ("csv:p.csv:id/name", "csv:p.csv:id/name"),
        (
            ["cnn", "cnn@timm:resnet18:weights=/home/jane/w.pth", "cnn@timm:resnet18:weights=~/of jane/w.pth+d4"],
            ["cnn", "cnn@timm:resnet18:weights=.../w.pth", "cnn@timm:resnet18:weights=.../w.pth+d4"],
        ),
        (
            [{"variant": "cnn@timm:vit:weights=/mnt/jane/w.pth:frozen=true", "baseline": "cnn"}],
            [{"variant": "cnn@timm:vit:weights=.../w.pth:frozen=true", "baseline": "cnn"}],
        ),
        ({"rungs": [{"epochs": 1}], "on": None}, {"rungs": [{"epochs": 1}], "on": None}),
    ],
)
def test_no_folder_is_recorded_wherever_a_value_has_one(value: Any, kept: Any) -> None:
    assert recorded({"key": value}, {"key": value}) == {"key": {"was": kept, "now": kept}}


@pytest.mark.parametrize(
    ("group", "kept"),
    [
        ("folder:2", "folder:2"),
        ("csv:tables/p.csv:id/name", "csv:tables/p.csv:id/name"),
        ("csv:/home/jane/her patients/p.csv:id", "csv:.../p.csv:id"),
        ("csv:~/p\udcff.csv:id", "csv:.../p?.csv:id"),
        ("csv:/home/jane/a\nb/p.csv:id", "csv:.../p.csv:id"),
        (r"name:^([^/]+)/[~/]/\d+", r"name:^([^/]+)/[~/]/\d+"),
    ],
)
def test_a_group_is_recorded_as_given_without_folders(group: str, kept: str) -> None:
    assert recorded_group(group) == kept


def test_a_run_and_a_search_of_wandb_take_overrides(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(here)
    defaults = find_run_defaults(["--budget=smoke", "--set=protocol.epochs=7", "--set", "poses=[R]"])
    assert (defaults["protocol"]["epochs"], defaults["pose"]) == (7, "R")
    command = ["wandb-sweep", "--budget", "smoke", "--set", "search.space.optim.lr.max=1 protocol.epochs=7"]
    assert main(command) == 0
    sweep_file = yaml.safe_load(capsys.readouterr().out)
    assert sweep_file["parameters"]["optim.lr"]["max"] == 1
    assert command[-2:] == [each for each in sweep_file["command"] if each in command[-2:]]
