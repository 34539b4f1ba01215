"""One new file makes a model, a policy or a pose, and the report speaks of it rightly, whatever it is called."""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import earlier_names
from analysis.answer import answer, headline
from analysis.earlier_names import model_said, pose_said
from analysis.findings import Findings, find
from analysis.questions import question_of
from analysis.report import report_html
from analysis.report.method import method, variant_facts
from analysis.tables import builders
from analysis.tables.parameters import equal_parameters
from baselines.policies import POLICIES
from baselines.registry import Registry
from experiments.images.poses import POSES
from experiments.networks.models import MODELS
from experiments.study.arms import ArmPlan
from experiments.terminal.cli import main
from tests.support.tiny_study import STUDY, TINY, HereAndNow, sweep_here, write_sweep

MODEL = '''
from dataclasses import dataclass
from typing import ClassVar
from experiments.networks.models import MODELS
from experiments.networks.models.stn import StnAffine
from experiments.networks.models.stn_shuffled import StnShuffled
from experiments.networks.network import Network, Site
from ledger.roles import Role

@MODELS.register("{name}")
@dataclass(frozen=True)
class Model:
    """{about}"""

    {role}
    num_draws: ClassVar[int] = 0

    def build(self, site: Site) -> Network:
        return Stn{like}().build(site)

    def lr_factors(self):
        return {{"localisation": 0.1}}
'''
POLICY = '''
from dataclasses import dataclass
from baselines.policies import POLICIES
from baselines.registry import Registry
from baselines.policies.rotate import Rotate

@POLICIES.register("twirl")
@dataclass(frozen=True)
class Twirl(Rotate):
    """Each image turned a little."""
'''
POSE = '''
from dataclasses import dataclass
from experiments.images.poses import POSES
from experiments.images.poses.rotated import Rotated

@POSES.register("Tilt")
@dataclass(frozen=True)
class Tilted(Rotated):
    """Tilted images. By as much as a hand is."""

    max_deg: float = 20.0
'''
SEARCH = {**TINY["search"], "trials": 1, "extras": {}}
Add = Callable[[Registry[Any], str, str], None]


@pytest.fixture
def add(tmp_path: Path) -> Iterator[Add]:
    """add(registry, name, text): a new file in the registry's package, until the test is over."""
    added = []
    with pytest.MonkeyPatch.context() as patch:

        def add_file(registry: Registry[Any], name: str, text: str) -> None:
            patch.setattr(registry, "_entries", dict(registry))
            folder = tmp_path / registry.package
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.py").write_text(text)
            package = importlib.import_module(registry.package)
            patch.setattr(package, "__path__", [*package.__path__, str(folder)])
            patch.setattr(registry, "_complete", False)
            added.append(f"{registry.package}.{name}")

        yield add_file
    for module in added:
        sys.modules.pop(module, None)


def add_model(add: Add, name: str, about: str, role: str, like: str = "Affine") -> None:
    role = role and f'role: ClassVar[Role] = "{role}"'
    add(MODELS, name, MODEL.format(name=name, about=about, role=role, like=like))


@pytest.mark.long
def test_the_report_speaks_rightly_of_what_one_new_file_brings(tmp_path: Path, add: Add, cache: Path) -> None:
    add_model(add, "warp_x", "Looks at each image bent, as it predicts. Source: here.", "transformer")
    add_model(add, "blind_x", "Looks where another image would be looked at.", "floor", "Shuffled")
    add(POLICIES, "twirl", POLICY)
    add(POSES, "tilted", POSE)
    found = findings_of(tmp_path, "Tilt", "cnn", "cnn+twirl", "warp_x", "warp_x+twirl", "blind_x", "cnn_matched")
    words_are_right(found)
    tables_and_notes_are_right(found)


def findings_of(folder: Path, pose: str, *names: str) -> Findings:
    """Of a tiny study."""
    baselines = {"warp_x+twirl": "cnn+twirl"}
    variants = [{"variant": name, "baseline": baselines.get(name, "cnn")} for name in names]
    protocol = TINY["protocol"] | {"epochs": 1}
    sweep_here(folder, HereAndNow(), poses=[pose], variants=variants, search=SEARCH, protocol=protocol)
    return find(folder / "runs", STUDY)


def words_are_right(found: Findings) -> None:
    study = found.study
    assert [(arm.role, arm.words) for arm in study.arms[2:5:2]] == [
        ("transformer", "looks at each image bent, as it predicts"),
        ("floor", "looks where another image would be looked at"),
    ]
    questions = {claim.variant: question_of(claim, study.roles) for claim in study.claims.family}
    assert questions == {
        "cnn+twirl": "augmentation", "warp_x": "transformer", "warp_x+twirl": "both", "blind_x": "control",
        "cnn_matched": "other",
    }  # fmt: skip
    text = headline(found)
    assert "tilted images (Tilt)" in text
    for subject in ("showing transformed copies in training", "learning where to look (a spatial transformer)"):
        assert subject in text
    assert "adding a spatial transformer to augmentation" in text
    assert "another change" not in text and "control" not in text and "blind_x" not in text
    assert "best of the five so far: " in text  # of six, without the control
    assert any("blind_x (a control)" in sentence for sentence in answer(found))


def tables_and_notes_are_right(found: Findings) -> None:
    matches = {row.variant: row.match for row in equal_parameters(found)}
    assert (matches["warp_x"], matches["cnn_matched"]) == ("cnn_matched", "warp_x")
    assert {row[2] for row in builders()["parameters"](found).rows} >= {"warp_x", "cnn_matched"}  # type: ignore[union-attr]
    facts = {fact.name: fact.value for fact in variant_facts(found.study)}
    assert facts["warp_x"] == "a spatial transformer: looks at each image bent, as it predicts"
    assert facts["blind_x"] == "a control: looks where another image would be looked at"
    assert facts["warp_x+twirl"].endswith("(augmentation twirl: each image turned a little)")
    assert "pose: tilted images (Tilt). A pose is" in method(found)[0]
    page = report_html(found, ())
    assert "<h3>Tilted images (Tilt)</h3>" in page and "<dd>A spatial transformer: looks at each image bent" in page


@pytest.mark.long
def test_who_is_told_the_pose_is_ranked_by_no_table_whatever_it_is_called(
    tmp_path: Path, add: Add, cache: Path
) -> None:
    add_model(add, "sighted", "Knows how each image lies.", "ceiling")
    found = findings_of(tmp_path, "R", "cnn", "sighted", "stn_affine:supervision=1")
    table = builders()["leaderboard"](found)
    assert table is not None
    assert "sighted and stn_affine:supervision=1 see the true pose and take no part." in table.notes[0]
    ranks = {row[3]: row[2] for row in table.rows}
    assert ranks == {"cnn": 1, "sighted": None, "stn_affine:supervision=1": None}
    assert "best of" not in headline(found) and "undoing each image's true pose" in headline(found)
    assert "in test accuracy to cnn as a percentage of that of sighted, which" in "".join(
        builders()["ablation"](found).notes  # type: ignore[union-attr]
    )
    facts = {fact.name: fact.value for fact in variant_facts(found.study)}
    assert facts["sighted"] == "a network that is told each image's true pose: knows how each image lies"


@pytest.mark.parametrize("role", ["", "transfomer"])
def test_a_model_without_a_role_is_refused(
    role: str, tmp_path: Path, add: Add, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_model(add, "warp_x", "Looks at each image bent.", role)
    sweep = write_sweep(tmp_path, variants=[{"variant": "warp_x", "baseline": "warp_x"}], search=SEARCH)
    assert main(["plan", "--sweep", str(sweep), "--budget", "smoke"]) == 2
    assert capsys.readouterr().err == (
        f"error: {sweep}: experiments.networks.models.warp_x: role: {role or None!r} is not one of plain, matched, "
        "transformer, other, floor, ceiling, told (ledger/roles.py)\n"
    )


@pytest.mark.parametrize("model", [*earlier_names.MODELS, "stn_tps:supervision=1"])
def test_studies_that_do_not_say_what_a_model_is_are_read_alike(model: str) -> None:
    plan = ArmPlan("upright", model, "cnn", (), {})
    assert (plan.said["role"], plan.said["words"]) == model_said(model)
    assert [replace(plan, pose=pose).said["pose_words"] for pose in POSES] == [pose_said(pose) for pose in POSES]
