"""Handing a run over: what is exported is the run's network, for whoever has torch alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
import yaml
from PIL import Image

from experiments.networks.models import MODELS
from experiments.runs.export import card, description, exported_program, loading_code
from experiments.runs.images import to_device
from experiments.runs.prediction import predict
from experiments.runs.trained import Classifier, find_run, load_trained
from experiments.terminal.cli import main
from ledger.config import Optim
from ledger.ledger import Ledger
from tests.support.trained_runs import TINY, sprites_in, train_on_sprites

EXPORTED = ("cnn@lenet", "stn_affine", "deformable@lenet")
OPTIONS = ("place=feature", "place=shared", "steps=2", "heads=2:size=0.5", "gradient=linearised:anti_alias=true")
MODEL_NAMES = (*MODELS, *(f"stn_affine:{option}" for option in OPTIONS), "cnn@resnet18", "cnn@lenet", "cnn@p4cnn")

# What a stranger does: nothing of this project, torch alone, and torchvision where the card says so.
STRANGER = """
import json, sys, torch
images = torch.load("images.pt", weights_only=True)
found = {}
for name in sys.argv[1:]:
    if name.startswith("deformable"):
        import torchvision
    else:
        assert "torchvision" not in sys.modules
    model = torch.export.load(f"{name}/model.pt2").module()
    probabilities = torch.cat([model(part).softmax(1) for part in images.split([1, 2, len(images) - 3])])
    found[name] = probabilities.tolist()
assert not {"experiments", "stn", "baselines"} & {module.split(".")[0] for module in sys.modules}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def sprites(cache):
    return sprites_in(cache)


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, cache):
    """Makes a run; returns its ledger and its key."""
    ledger = Ledger(tmp_path_factory.mktemp("exports") / "runs")
    return lambda variant, *stage, **settings: (ledger, train_on_sprites(ledger, cache, variant, *stage, **settings))


def folder_name(variant: str) -> str:
    return variant.replace("@", "-")


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """A folder with an export of each variant, through the command line, and the runs' keys."""
    out, keys = tmp_path_factory.mktemp("out"), {}
    for variant in EXPORTED:
        ledger, key = trained_run(variant)
        assert main(["export", key[:10], "--runs", str(ledger.root), "--out", str(out / folder_name(variant))]) == 0
        keys[variant] = key
    return out, keys


def run_code(code, folder, trained):
    """What the card's code prints of image.png in the folder, which must be what `predict` says."""
    ended = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    name, confidence = ended.stdout.split()
    (prediction,) = predict(trained, [folder / "image.png"])
    best, probability = prediction.classes[0]
    assert (name, float(confidence)) == (best, pytest.approx(probability, abs=1e-5))
    return prediction, confidence


def run_code_as_of(trained, folder, **task):
    """What the code of a card prints where the run's images were read from a folder, with other facts of its task."""
    record = {**trained.record, "task": {**trained.record["task"], "name": "folder", **task}}
    read_so = replace(trained, record=record)
    (folder / "config.json").write_text(json.dumps(description(read_so)))
    return read_so, *run_code(loading_code(read_so), folder, read_so)


@pytest.mark.long
def test_a_stranger_gets_the_runs_own_answers(exported, trained_run, sprites):
    out, keys = exported
    tested = to_device(sprites.test, "upright", torch.device("cpu"), part="test", num=TINY.test_images)
    torch.save(tested.raw(torch.arange(len(tested))), out / "images.pt")
    (out / "stranger.py").write_text(STRANGER)
    command = [sys.executable, "-I", "stranger.py", *map(folder_name, EXPORTED)]
    ended = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    for variant, key in keys.items():
        ledger, _ = trained_run(variant)
        said = safetensors.numpy.load_file(ledger.folder(key) / "predictions.safetensors")
        probability_NK = np.array(found[folder_name(variant)])
        assert len(set(said["confidence"].round(4))) > 10, "one answer for all images shows nothing"
        assert (probability_NK.argmax(1) == said["predicted"]).all(), variant
        np.testing.assert_allclose(probability_NK.max(1), said["confidence"], atol=1e-5)
        label_N = said["label"].astype(int)
        np.testing.assert_allclose(
            probability_NK[np.arange(len(label_N)), label_N], said["label_probability"], atol=1e-5
        )


@pytest.mark.long
def test_the_card_says_what_the_run_says_and_its_code_runs(exported, trained_run, sprites):
    """On a picture that is no square and has holes, as `predict` takes it."""
    out, keys = exported
    folder = out / "stn_affine"
    card = (folder / "README.md").read_text()
    record = json.loads((folder / "run.json").read_text())
    _, front, body = card.split("---\n", 2)
    (model,) = yaml.safe_load(front)["model-index"]
    metric = model["results"][0]["metrics"][0]
    assert metric["value"] == pytest.approx(record["result"]["test_accuracy"], abs=1e-4)
    assert keys["stn_affine"] in body and "![Images before and after the transformer](transformer.png)" in body
    assert (folder / "transformer.png").exists() and not (out / "cnn-lenet/transformer.png").exists()
    assert "transformer.png" not in (out / "cnn-lenet/README.md").read_text()
    picture = Image.fromarray(np.concatenate([*sprites.test.pixels_NHWC[:3]], axis=1)).resize((190, 70))
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(folder / "image.png")
    (code,) = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    run_code(code, folder, load_trained(*trained_run("stn_affine")))


@pytest.mark.long
def test_the_card_s_code_draws_over_the_ground_of_training(exported, trained_run, sprites, tmp_path):
    out, _ = exported
    trained = load_trained(*trained_run("stn_affine"))
    shutil.copy(out / "stn_affine/model.pt2", tmp_path / "model.pt2")
    sprite_HWC = sprites.test.pixels_NHWC[3]
    answers = []
    for ground, alpha_HW in (
        ("white", sprite_HWC.max(2)),
        ("black", sprite_HWC.max(2)),
        ("black", np.zeros_like(sprite_HWC[..., 0])),
    ):
        Image.fromarray(np.dstack([sprite_HWC, alpha_HW]), "RGBA").save(tmp_path / "image.png")
        answers.append(run_code_as_of(trained, tmp_path, ground=ground)[1].image_HWC)
    assert not np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[2], sprite_HWC)


@pytest.mark.long
def test_the_card_s_code_reads_16_bit_grey_on_the_scale_of_training(exported, trained_run, sprites, tmp_path):
    out, _ = exported
    trained = load_trained(*trained_run("stn_affine"))
    shutil.copy(out / "stn_affine/model.pt2", tmp_path / "model.pt2")
    grey_HW = sprites.test.pixels_NHWC[3].mean(2).astype(np.uint16)
    Image.fromarray(grey_HW * 4 + 3).save(tmp_path / "image.png")
    answers = []
    for bits in (10, 16):
        facts = {"grey_bits": bits} if bits < 16 else {}
        read_so, prediction, confidence = run_code_as_of(trained, tmp_path, **facts)
        assert np.array_equal(prediction.image_HWC[..., 0], (grey_HW * 4 + 3).astype(int) * 255 // (2**bits - 1))
        answers.append(confidence)
        note = (
            "Values of 16 bits are read as 10 bits; 16-bit colour must be shifted right by 2 and saved as 8-bit colour"
        )
        assert (note in card(read_so)) is (bits < 16)
    assert answers[0] != answers[1]


@pytest.mark.long
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_the_card_s_code_reads_floats_and_makes_pictures_square_as_in_training(
    fit, exported, trained_run, sprites, tmp_path
):
    out, _ = exported
    trained = load_trained(*trained_run("stn_affine"))
    shutil.copy(out / "stn_affine/model.pt2", tmp_path / "model.pt2")
    protocol = {**trained.record["config"]["protocol"], "fit": fit}
    record = {**trained.record, "config": {**trained.record["config"], "protocol": protocol}}
    wide_HW = sprites.test.pixels_NHWC[3:5].mean(3).reshape(64, 32).T.astype(np.float32) / 100
    Image.fromarray(wide_HW).save(tmp_path / "image.tif")
    (tmp_path / "image.tif").rename(tmp_path / "image.png")  # as the code calls it
    span = (0.25, 2.5)
    _, prediction, _ = run_code_as_of(replace(trained, record=record), tmp_path, float_range=span)
    bars_HWC = prediction.image_HWC[[0, -1]]
    assert bars_HWC.any() if fit == "stretch" else not bars_HWC.any()


def test_the_card_lists_what_was_tuned_and_what_was_set(trained_run, monkeypatch):
    ledger, key = trained_run("stn_affine", optim=Optim(lr=0.25), model={"loc_lr_factor": 0.5, "padding": "zeros"})
    alone = card(load_trained(ledger, key))
    assert "| tuned |" not in alone  # a run that no study has
    assert "| set, not tuned | |\n|---|---|\n| `optim.lr` | 0.25 |\n| `model.loc_lr_factor` | 0.5 |\n\n" in alone
    space = {
        "optim.lr": {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5},
        "model.padding": {"distribution": "categorical", "values": ["zeros", "border"]},
        "model.loc_lr_factor": {"distribution": "constant", "value": 0.5},
    }
    arms = [{"finals": ["another"], "space": {}}, {"finals": [key], "space": space}]
    monkeypatch.setattr(Ledger, "studies", lambda self: ["tiny"])
    monkeypatch.setattr(Ledger, "read_study", lambda self, study: {"arms": arms})
    of_study = card(load_trained(ledger, key))
    assert "| tuned | |\n|---|---|\n| `optim.lr` | 0.25 |\n| `model.padding` | zeros |\n\n" in of_study
    assert "| set, not tuned | |\n|---|---|\n| `model.loc_lr_factor` | 0.5 |\n\n" in of_study
    assert "start_sd" not in alone + of_study  # at its default


@pytest.mark.parametrize(
    ("variant", "pose", "said"),
    [
        ("cnn", "upright", "1 epoch on 64 images as they are,\ntested once on\n50."),
        ("cnn", "R", "1 epoch on 64 images under the pose `R`,\ntested once on\n50."),
        (
            "cnn+d4:mirror=false+flip_crop", "R",
            "1 epoch on 64 images under the pose `R`,\nshown with the augmentation "
            "`d4:mirror=false+flip_crop`,\ntested once on\n50.",
        ),
        ("cnn+none", "upright", "on 64 images as they are,"),
    ],
)  # fmt: skip
def test_the_card_says_what_was_shown_in_training(variant, pose, said, trained_run):
    trained = load_trained(*trained_run("stn_affine"))
    config = trained.record["config"] | {"variant": variant, "pose": pose}
    text = card(replace(trained, record=trained.record | {"config": config}))
    assert said in text.replace("\\", "")
    assert ("as they are" in text.partition("tested once")[0]) == ("d4" not in variant and pose == "upright")


QUICK = ("polar", "stn_affine:place=shared", "cnn@p4cnn")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.long]) for name in MODEL_NAMES]
)
def test_every_model_can_be_exported(name, trained_run):
    trained = load_trained(*trained_run(name))
    program = exported_program(trained).module()
    for num_images in (1, 3):
        image_BCHW = torch.rand(num_images, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(program(image_BCHW), Classifier(trained)(image_BCHW), atol=1e-5, rtol=0)


@pytest.mark.long
def test_another_export_is_not_overwritten(exported, trained_run, tmp_path, capsys):
    ledger, key = trained_run("cnn@lenet")
    (tmp_path / "mine.txt").write_text("mine")
    command = ["export", key, "--runs", str(ledger.root), "--out"]
    assert main([*command, str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: out: {tmp_path} is not empty, and holds no export of {key}")
    assert os.listdir(tmp_path) == ["mine.txt"]
    out, _ = exported
    assert main([*command, str(out / "cnn-lenet")]) == 0  # its own is made again


def test_a_model_that_differs_is_not_kept_and_the_same_command_makes_another(
    trained_run, tmp_path, monkeypatch, capsys
):
    ledger, key = trained_run("cnn@lenet")
    command = ["export", key, "--runs", str(ledger.root), "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr("experiments.runs.export.MAX_DIFFERENCE", -1.0)
        assert main(command) == 2
    said = r"error: export: the exported model differs from the run's network by .*; it was not kept\n"
    assert re.fullmatch(said, capsys.readouterr().err)
    assert not list((tmp_path / "out").glob("*.pt2"))
    assert main(command) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.pt2")] == ["model.pt2"]


def test_runs_that_cannot_be_handed_over(trained_run, capsys):
    ledger, trial = trained_run("cnn@lenet", "trial")
    for name, message in (
        (trial, f"run: {trial} is a trial and has no weights; only completed final runs keep them"),
        ("nothing", f"run: no key in {ledger.root} begins with 'nothing' (4 characters or more); "),
    ):
        assert main(["export", name, "--runs", str(ledger.root)]) == 2
        assert message in capsys.readouterr().err


def test_a_run_may_be_named_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger, key = Ledger(Path("runs")), "5f49a799dda6ec41"
    for root in (ledger.root, Path("other")):
        (root / "runs" / key).mkdir(parents=True)
        (root / "runs" / key / "run.json").write_text("{}")
    for name in (f"runs/runs/{key}", f"./runs/runs/{key}/", str(tmp_path / "runs/runs/5f49a"), key[:5]):
        assert find_run(ledger, name) == key
    for name in ("runs/runs", "runs/studies", f"runs/{'n' * 300}"):
        with pytest.raises(ValueError, match=r"no key in runs begins with"):
            find_run(ledger, name)
    with pytest.raises(ValueError, match=r"'other/runs/5f.*' is not in the ledger runs; --runs=other names its own"):
        find_run(ledger, f"other/runs/{key}")
    with pytest.raises(ValueError, match=r"no key in .* begins with 'nowhere/"):
        find_run(ledger, f"nowhere/{key}")


def test_a_damaged_run_is_not_handed_over(trained_run, capsys, tmp_path):
    ledger, key = trained_run("cnn@lenet")
    copy = tmp_path / "runs"
    shutil.copytree(ledger.root, copy)
    weights = copy / "runs" / key / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert main(["export", key, "--runs", str(copy), "--out", str(tmp_path / "out")]) == 2
    assert "weights.safetensors" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", [1, 4])
def test_the_default_backbone_of_older_runs_is_what_it_was(version, trained_run, tmp_path):
    """Before format 5 `cnn` was what is `cnn4` now, and protocols had no width."""
    ledger, key = trained_run("cnn@cnn4")
    record = json.loads((ledger.folder(key) / "run.json").read_text())
    record["config"]["variant"], record["format"] = "cnn", version
    for name in ("width", "optimiser", "averaging"):
        del record["config"]["protocol"][name]
    older = Ledger(tmp_path / "runs")
    weights = (ledger.folder(key) / "weights.safetensors").read_bytes()
    older.commit(key, {"run.json": json.dumps(record).encode(), "weights.safetensors": weights})
    x_BCHW = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        expected, found = (Classifier(load_trained(each, key))(x_BCHW) for each in (ledger, older))
    assert torch.equal(found, expected)


def test_a_width_of_the_protocol_is_that_of_the_network(trained_run, cache, tmp_path):
    ledger = Ledger(tmp_path / "runs")
    trained = load_trained(ledger, train_on_sprites(ledger, cache, "cnn@cnn4", protocol=replace(TINY, width=0.5)))
    assert trained.network.backbone.stages[0][0].weight.shape == (16, 3, 4, 4)  # type: ignore[index]


def test_other_weights_are_refused(trained_run, tmp_path):
    ledger, key = trained_run("cnn@lenet")
    record = json.loads((ledger.folder(key) / "run.json").read_text())
    record["config"]["variant"] = "cnn"
    other = Ledger(tmp_path / "runs")
    weights = (ledger.folder(key) / "weights.safetensors").read_bytes()
    other.commit(key, {"run.json": json.dumps(record).encode(), "weights.safetensors": weights})
    with pytest.raises(ValueError, match=r"weights.safetensors: are not the weights of cnn \("):
        load_trained(other, key)
