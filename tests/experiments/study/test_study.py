"""Studies and the shipped sweep.yaml: what loads, what is refused and in which words."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments.study.study import BUDGETS, Study, load_study
from ledger.config import Optim, Protocol
from ledger.errors import UserError
from tests.support.project import ROOT

SHIPPED = ROOT / "sweep.yaml"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Study]:
    """Loads the text of a sweep file."""

    def load_text(text: str, budget: str = "cpu", **options: Any) -> Study:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return load_study(path, budget, **options)

    return load_text


def variant(*names: str) -> list[dict[str, str]]:
    return [{"variant": name, "baseline": names[0]} for name in names]


def small(**changes: Any) -> dict[str, Any]:
    """A small study as nested values, to change and to break."""
    study: dict[str, Any] = {
        "name": "small",
        "task": "sprites",
        "variants": variant("cnn", "stn_affine@lenet+affine"),
        "search": {
            "space": {"optim.lr": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0}},
            "extras": {
                "stn_affine": {"model.loc_lr_factor": {"values": [0.1, 1]}},
                "affine": {"policy.max_deg": {"min": 5, "max": 45}},
            },
        },
        "budgets": {"smoke": {"trials": 2}},
    }
    return study | changes


def changed(keys: str, value: Any) -> str:
    """The small study as YAML with one value replaced. keys: those that lead there."""
    study = small()
    place: Any = study
    *parents, last = keys.split()
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return yaml.safe_dump(study)


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_shipped_study_loads_at_each_budget(budget: str) -> None:
    study = load_study(SHIPPED, budget)
    assert study.name == "stn-vs-augmentation"
    assert study.task == ("sprites" if budget == "smoke" else "cifar10")
    assert study.budget == budget
    variants = ["cnn", "cnn_matched", "stn_affine", "cnn+flip_crop", "cnn+affine", "stn_affine+affine"]
    if budget == "cpu":
        variants = ["cnn", "stn_affine", "cnn+affine", "stn_affine+affine"]
    if budget == "night":
        variants = ["cnn", "stn_affine", "cnn+flip_crop", "stn_affine+flip_crop"]
    assert list(study.variants) == variants
    assert study.variants[variants[-1]] == variants[-1].replace("stn_affine", "cnn")
    names = [parameter.name for parameter in study.search.parameters("stn_affine+affine")]
    assert names == ["optim.lr", "optim.weight_decay", "model.loc_lr_factor", "policy.max_deg"]
    assert [parameter.name for parameter in study.search.parameters("cnn")] == ["optim.lr", "optim.weight_decay"]


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_shipped_space_holds_the_default_setting(budget: str) -> None:
    defaults = {f"optim.{name}": value for name, value in dataclasses.asdict(Optim()).items()}
    for parameter in load_study(SHIPPED, budget).search.space:
        assert parameter.low <= defaults[parameter.name] <= parameter.high


def test_the_gpu_budget_is_the_full_study() -> None:
    study = load_study(SHIPPED, "gpu")
    protocol = study.protocol
    assert (protocol.train_images, protocol.val_images, protocol.test_images) == (45_000, 5_000, 10_000)
    assert protocol.width >= 4 and protocol.epochs >= 10
    assert study.search.trials * study.final_seeds >= 60 and study.final_seeds >= 8


@pytest.mark.parametrize("budget", ["cpu", "night", "gpu"])
def test_the_shipped_study_tunes_each_seed_and_climbs_a_ladder_that_costs_no_more_than_itself(budget: str) -> None:
    study = load_study(SHIPPED, budget)
    assert study.search.tuning == "per_seed" and study.ladder.tuned_at == 1
    own = study.protocol.train_images * study.protocol.epochs
    sizes = [
        (rung.train_images or study.protocol.train_images) * (rung.epochs or study.protocol.epochs)
        for rung in study.ladder.rungs
    ]
    assert 2 * sizes[-1] >= own / 2 and sum(sizes) <= own + study.search.trials * sizes[0]


@pytest.mark.parametrize("budget", ["cpu", "night", "gpu"])
def test_the_shipped_study_declares_few_claims_and_has_the_seeds_to_decide_them(budget: str) -> None:
    study = load_study(SHIPPED, budget)
    assert study.claims.declared
    shown = "flip_crop" if budget == "night" else "affine"
    assert {(claim.variant, claim.baseline) for claim in study.claims.family} == {
        ("stn_affine", "cnn"),
        (f"cnn+{shown}", "cnn"),
        (f"stn_affine+{shown}", f"cnn+{shown}"),
    }
    assert 2 / 2**study.final_seeds <= study.claims.alpha / 3


def test_a_budget_overrides_and_the_rest_stays(load: Callable[..., Study]) -> None:
    budgets = {
        "cpu": {
            "task": "cifar10",
            "poses": ["R", "RTS"],
            "variants": [{"variant": "cnn", "baseline": "cnn"}],
            "protocol": {"epochs": 3},
            "trials": 7,
            "wave_size": 5,
            "final_seeds": 9,
        }
    }
    text = yaml.safe_dump(small(protocol={"epochs": 2, "batch_size": 64}, final_seeds=4, budgets=budgets))
    cpu, gpu = load(text, "cpu"), load(text, "gpu")
    assert (cpu.task, cpu.poses, cpu.variants) == ("cifar10", ("R", "RTS"), {"cnn": "cnn"})
    assert cpu.protocol == Protocol(epochs=3, batch_size=64)
    assert (cpu.search.trials, cpu.search.wave_size, cpu.final_seeds) == (7, 5, 9)
    assert (gpu.task, gpu.poses, len(gpu.variants)) == ("sprites", ("upright",), 2)
    assert gpu.protocol == Protocol(epochs=2, batch_size=64)
    assert (gpu.search.trials, gpu.final_seeds) == (20, 4)


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_command_lines_task_wins_at_any_budget(budget: str) -> None:
    assert load_study(SHIPPED, budget, task="folder:/some where").task == "folder:/some where"


@pytest.mark.parametrize("literal", ["1e-3", "1E-3", "1.e-3", ".001", "+0.001"])
def test_numbers_are_read_as_yaml_1_2_has_them(load: Callable[..., Study], literal: str) -> None:
    text = yaml.safe_dump(small()).replace("min: 0.01", f"min: {literal}")
    assert load(text).search.space[0].low == 0.001


def test_whole_numbers_and_words_keep_their_kind(load: Callable[..., Study]) -> None:
    assert load(changed("protocol train_images", 0).replace("train_images: 0", "train_images: 45_000"))
    assert load(changed("name", "X").replace("name: X", "name: no")).name == "no"
    with pytest.raises(UserError, match=r"protocol\.nesterov: 'yes' is neither true nor false"):
        load(changed("protocol nesterov", "yes"))


REFUSED: dict[str, tuple[str, Any, str]] = {
    "unknown key": ("serch", {}, "serch: unknown key; did you mean 'search'?"),
    "unknown protocol key": ("protocol epoch", 3, "protocol.epoch: unknown key; did you mean 'epochs'?"),
    "unknown search key": ("search trails", 3, "search.trails: unknown key; did you mean 'trials'?"),
    "unknown wandb key": ("wandb projct", "x", "wandb.projct: unknown key; did you mean 'project'?"),
    "budget's name": ("budgets a/b", {}, "budgets.'a/b': is not a name of the letters a to z, digits, - and _"),
    "budget auto": ("budgets auto", {}, "budgets.auto: is what lets the device decide; choose another name"),
    "budget of any name": ("budgets lab protocol", {"epochs": 0}, "budgets.lab.protocol.epochs: 0 is not between"),
    "unknown budget key": ("budgets gpu epochs", 3, "budgets.gpu.epochs: unknown key; "),
    "epochs 0": ("protocol epochs", 0, "protocol.epochs: 0 is not between 1 and 10000"),
    "epochs 1e9": ("protocol epochs", 10**9, "protocol.epochs: 1000000000 is not between 1 and 10000"),
    "epochs 2.0": ("protocol epochs", 2.0, "protocol.epochs: 2.0 is not a whole number between 1 and 10000"),
    "epochs true": ("protocol epochs", True, "protocol.epochs: True is not a whole number"),
    "epochs null": ("protocol epochs", None, "protocol.epochs: None is not a whole number"),
    "another budget": ("budgets gpu protocol epochs", 0, "budgets.gpu.protocol.epochs: 0 is not between"),
    "batch 0": ("protocol batch_size", 0, "protocol.batch_size: 0 is not between 1 and 65536"),
    "negative images": ("protocol train_images", -1, "protocol.train_images: -1 is not between 0 and 10000000"),
    "nothing to tune on": ("protocol val_images", 0, "protocol.val_images: 0 leaves nothing to tune on"),
    "momentum 1": ("protocol momentum", 1, "protocol.momentum: 1 is not between 0.0 and 0.9999"),
    "width 0": ("protocol width", 0, "protocol.width: 0 is not between 0.01 and 100.0"),
    "width negative": ("protocol width", -1, "protocol.width: -1 is not between 0.01 and 100.0"),
    "width huge": ("protocol width", 101, "protocol.width: 101 is not between 0.01 and 100.0"),
    "width text": ("protocol width", "wide", "protocol.width: 'wide' is not a number"),
    "optimiser": ("protocol optimiser", "mun", "protocol.optimiser: 'mun' is unknown; did you mean 'muon'?"),
    "averaging": ("protocol averaging", "yes please", "protocol.averaging: 'yes please' is neither true nor false"),
    "momentum nan": ("protocol momentum", float("nan"), "protocol.momentum: nan is not a number"),
    "nesterov alone": ("protocol momentum", 0, "protocol.momentum: 0 does not go with nesterov: true"),
    "schedule": (
        "protocol schedule",
        "onecycle",
        "protocol.schedule: 'onecycle' is unknown; did you mean 'one_cycle'?",
    ),
    "protocol a list": ("protocol", [1], "protocol: [1] is not a set of keys with values"),
    "trials 0": ("search trials", 0, "search.trials: 0 is not between 1 and 10000"),
    "budget trials 0": ("budgets cpu trials", 0, "budgets.cpu.trials: 0 is not between 1 and 10000"),
    "wave 0": ("search wave_size", 0, "search.wave_size: 0 is not between 1 and 10000"),
    "sampler": ("search sampler", "tpee", "search.sampler: 'tpee' is unknown; did you mean 'tpe'?"),
    "pruner": ("search pruner", ["median"], "search.pruner: ['median'] is unknown; did you mean 'median'?"),
    "final seeds 0": ("final_seeds", 0, "final_seeds: 0 is not between 1 and 1000"),
    "first seed 0": ("first_seed", 0, "first_seed: 0 is not between 1 and 1000000"),  # which is that of tuning
    "wandb mode": ("wandb mode", "ofline", "wandb.mode: 'ofline' is unknown; did you mean 'offline'?"),
    "name with a slash": ("name", "../x", "name: '../x' is not a name of the letters a to z, digits"),
    "task a number": ("task", 10, "task: 10 is not a text"),
    "task on two lines": ("task", "a\nb", "task: 'a\\nb' is not a text"),
    "no poses": ("poses", [], "poses: [] is not a list of at least one"),
    "pose twice": ("poses", ["R", "R"], "poses[1]: 'R' is there twice"),
    "no variants": ("variants", [], "variants: [] is not a list of at least one"),
    "variant twice": ("variants", variant("cnn", "cnn"), "variants[1]: 'cnn' is there twice"),
    "two networks": (
        "variants",
        variant("cnn@timm:a:b", "cnn"),
        "variants[0].variant: 'cnn@timm:a:b' is not of the form",
    ),
    "variant's form": ("variants", variant("cnn+", "cnn"), "variants[0].variant: 'cnn+' is not of the form MODEL"),
    "variant a text": ("variants", ["cnn"], "variants[0]: 'cnn' is not a set of keys with values"),
    "no baseline": ("variants", [{"variant": "cnn"}], "variants[0].baseline: is missing"),
    "baseline unknown": (
        "variants",
        [{"variant": "cnn", "baseline": "cnnn"}],
        "variants[0].baseline: 'cnnn' is not among the variants; did you mean 'cnn'?",
    ),
    "budget's baseline": (
        "budgets gpu variants",
        [{"variant": "stn_affine@lenet+affine", "baseline": "cnn"}],
        "budgets.gpu.variants[0].baseline: 'cnn' is not among the variants; ",
    ),
    "extra of nobody": (
        "search extras stn_afine",
        {},
        "search.extras.stn_afine: no variant has this model or policy; did you mean 'stn_affine'?",
    ),
    "extra that is shared": (
        "search extras affine optim.lr",
        {"value": 1},
        "search.extras: stn_affine@lenet+affine would have optim.lr twice",
    ),
}


def refusal(load: Callable[..., Study], text: str, tmp_path: Path) -> str:
    """The one line that the text is refused with, the file's name taken off."""
    with pytest.raises(UserError) as caught:
        load(text)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{tmp_path / 'sweep.yaml'}: ")
    return message.removeprefix(f"{tmp_path / 'sweep.yaml'}: ")


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_begins_with_file_and_key(load: Callable[..., Study], tmp_path: Path, case: str) -> None:
    keys, value, expected = REFUSED[case]
    assert refusal(load, changed(keys, value), tmp_path).startswith(expected)


@pytest.mark.parametrize("key", ["name", "task", "variants"])
def test_what_has_no_default_must_be_there(load: Callable[..., Study], tmp_path: Path, key: str) -> None:
    study = small()
    del study[key]
    assert refusal(load, yaml.safe_dump(study), tmp_path) == f"{key}: is missing"


def test_an_unknown_budget_is_refused() -> None:
    with pytest.raises(UserError, match=r"sweep.yaml: budgets: there is no budget 'cpuu'; did you mean 'cpu'\?"):
        load_study(SHIPPED, "cpuu")


def test_a_budget_may_have_any_name(load: Callable[..., Study]) -> None:
    text = yaml.safe_dump(small(budgets={"lab-2": {"final_seeds": 9}, "cpu": {}}))
    study = load(text, "lab-2")
    assert (study.final_seeds, study.full_name("sprites"), study.has_budget) == (9, "small-sprites-lab-2", True)
    assert study.budgets == ("smoke", "cpu", "night", "gpu", "lab-2")
    assert not load(text, "gpu").has_budget, "one that every study has"
    with pytest.raises(UserError, match=r"budgets: there is no budget 'lab'; did you mean 'lab-2'\?"):
        load(text, "lab")


def loads_or_refuses(text: str, folder: Path) -> None:
    path = folder / "sweep.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    message = ""
    try:
        load_study(path, "cpu")
    except UserError as error:
        message = str(error)
    assert not message or message.isprintable()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


YAML_PIECES = st.sampled_from(
    [*"{}[]:,-?#&*!|>%@\"'~ \n\t\\", "\n  ", ": ", "!!int ", "&a ", "*a", "\\U99999999", "1e999"]
)


@given(
    text=st.one_of(
        st.text(max_size=60), st.lists(st.one_of(YAML_PIECES, st.text(max_size=3)), max_size=40).map("".join)
    )
)
def test_no_text_escapes_as_another_error(text: str, folder: Path) -> None:
    loads_or_refuses(text, folder)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["cnn", "tpe"])
)
VALUES = st.recursive(
    SCALARS,
    lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.text(max_size=8), v, max_size=3)),
    max_leaves=5,
)
PLACES = [
    *(f"{name}" for name in small()),
    *(f"protocol {field.name}" for field in dataclasses.fields(Protocol)),
    *(f"search {name}" for name in ("sampler", "trials", "wave_size", "pruner", "seed", "space", "extras")),
    *(f"search space {name}" for name in ("optim.lr", "model.x", "policy.x")),
    *(f"search space optim.lr {name}" for name in ("distribution", "value", "values", "min", "max", "q")),
    *(f"search extras affine policy.max_deg {name}" for name in ("distribution", "min", "max", "q")),
    *(f"wandb {name}" for name in ("project", "mode")),
    *("claims", "claims alpha", "claims margin", "claims family", "budgets gpu claims", "budgets gpu claims family"),
    *(f"budgets smoke {name}" for name in ("task", "poses", "variants", "protocol", "trials", "final_seeds")),
]


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_no_value_anywhere_escapes_as_another_error(place: str, value: Any, folder: Path) -> None:
    loads_or_refuses(changed(place, value), folder)


def test_a_library_s_network_may_have_the_path_of_its_weights(load):
    names = ["cnn@timm:resnet18.a1_in1k", "cnn@timm:vit-b:weights=/my images/w=1.pth:lr_decay=0.8+affine:max_deg=5"]
    assert list(load(yaml.safe_dump(small(variants=variant(*names), search={}))).variants) == names
