"""Asking a run's network about images: what it says, and what its transformer looks at."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.networks.spatial_transformer import StnNetwork
from experiments.runs.prediction import Look, look_at, predict
from experiments.runs.trained import Classifier, Trained, load_trained
from experiments.terminal.cli import main
from experiments.terminal.commands.predict import in_words
from ledger.ledger import Ledger
from tests.support.trained_runs import sprites_in, train_on_sprites


@pytest.fixture(scope="module")
def sprites(cache):
    return sprites_in(cache)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    ledger = Ledger(tmp_path_factory.mktemp("trained") / "runs")
    return load_trained(ledger, train_on_sprites(ledger, cache, "stn_affine", model={"padding": "border"}))


@pytest.fixture
def image_file(tmp_path, sprites):
    file = tmp_path / "drawing.png"
    Image.fromarray(np.array(sprites.test.pixels_NHWC[7])).save(file)
    return file


def look_through(trained: Trained, theta: list[float], raw_1CHW: torch.Tensor) -> Look:
    """What is said of the transformer when it chooses this affine map, whatever the image."""
    network = trained.network
    assert isinstance(network, StnNetwork)
    last = [layer for layer in network.localisation.modules() if isinstance(layer, torch.nn.Linear)][-1]
    kept = {name: value.clone() for name, value in last.state_dict().items()}
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(theta) - torch.tensor([1.0, 0, 0, 0, 1, 0]))
    try:
        found = look_at(trained, raw_1CHW)
    finally:
        last.load_state_dict(kept)
    assert found
    return found


def test_what_is_said_of_a_known_map(trained):
    """Checked on the pixels: a bright spot lands where the words say."""
    raw_1CHW = torch.zeros(1, 3, 32, 32)
    raw_1CHW[0, :, 15:17, 23:25] = 1  # to the right of the middle
    # Output (x, y) looks at the input turned clockwise by 90 degrees on the screen, where y points down.
    turned = look_through(trained, [0.0, -1, 0, 1, 0, 0], raw_1CHW)
    rows, columns = np.nonzero(turned.seen_HWC[:, :, 0] > 128)
    assert rows.mean() < 10 and abs(columns.mean() - 15.5) < 1  # it is at the top now: turned anticlockwise
    assert turned.angle_deg == pytest.approx(90, abs=1e-3) and in_words(turned) == "turned 90° anticlockwise"
    closer = look_through(trained, [0.5, 0, 0.5, 0, 0.5, 0], raw_1CHW)
    rows, columns = np.nonzero(closer.seen_HWC[:, :, 0] > 128)
    assert abs(columns.mean() - 15.5) < 1 and len(rows) > 10  # in the middle, and larger
    assert in_words(closer) == "2.00 times as large, 8.0 px right"
    assert in_words(look_through(trained, [1, 0, 0, 0, 1, -0.25], raw_1CHW)) == "4.0 px up"
    assert in_words(look_through(trained, [1.0, 0, 0, 0, 1, 0], raw_1CHW)) == "the image as it is"
    sheared = look_through(trained, [1, 0.5, 0, 0, 1, 0], raw_1CHW)  # of area 1, singular values 1.28 and 0.78
    assert sheared.stretch == pytest.approx(((0.5 + math.sqrt(0.25 + 4)) / 2) ** 2, rel=1e-4)
    assert in_words(sheared) == "turned 14° clockwise, sheared or stretched 1.64 to 1"
    assert turned.stretch == pytest.approx(1, abs=1e-5) and closer.stretch == pytest.approx(1, abs=1e-5)
    assert in_words(None) == ""


def test_the_network_is_given_the_pixels_of_the_file(trained, image_file, sprites):
    (found,) = predict(trained, [image_file])
    pixels_1CHW = torch.from_numpy(np.array(sprites.test.pixels_NHWC[7:8])).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted_K = Classifier(trained)(pixels_1CHW).softmax(1)[0]
    assert dict(found.classes) == pytest.approx(dict(zip(sprites.classes, wanted_K.tolist(), strict=True)), abs=1e-6)
    probabilities = [probability for _, probability in found.classes]
    assert probabilities == sorted(probabilities, reverse=True)
    assert (found.image_HWC == sprites.test.pixels_NHWC[7]).all()


def test_the_command(trained, image_file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    ledger, out = str(trained.folder.parents[1]), image_file.with_name("seen.png")
    command = ["predict", trained.key[:8], str(image_file), str(image_file), "--runs", ledger]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    (found,) = predict(trained, [image_file])
    name, probability = found.classes[0]
    assert printed.count(f"{probability:.1%}") == 2 and name in printed and "Looks at" in printed
    with Image.open(out) as picture:
        assert picture.size == (2 * 34 * 4, 2 * 34 * 4 + 2 * 16)
        captions = np.array(picture.convert("L"))[[*range(16), *range(-16, 0)]]
        assert (captions < 100).sum() > 100  # each column says which file and what class
    assert main([*command, "--json"]) == 0
    first, _ = json.loads(capsys.readouterr().out)
    assert first["probabilities"] == pytest.approx(dict(found.classes))
    assert set(first["look"]) == {"zoom", "angle_deg", "shift_px", "stretch"}


def test_images_that_cannot_be_read(trained, tmp_path, capsys):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    command = ["predict", trained.key, "--runs", str(trained.folder.parents[1])]
    os.mkfifo(tmp_path / "pipe.png")
    for file, reason in (
        ("torn.png", "cannot be read: not an image (JPEG, "),
        ("none.png", "cannot be read: No such file or directory\n"),
        ("pipe.png", "is not a file\n"),
    ):
        assert main([*command, str(tmp_path / file)]) == 2
        assert capsys.readouterr().err.startswith(f"error: image '{tmp_path / file}': {reason}")
    assert main(command) == 2
    assert "images" in capsys.readouterr().err


def test_all_images_that_can_be_read_are_answered_and_the_others_named(trained, image_file, capsys):
    torn, folder = image_file.with_name("torn.png"), image_file.with_name("folder")
    torn.write_bytes(b"\x89PNG\r\n")
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.PNG", "a.png"):
        (folder / name).write_bytes(image_file.read_bytes())
    (folder / "notes.txt").write_text("no image")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    out = image_file.with_name("seen.png")
    command = ["predict", trained.key[:8], "--runs", str(trained.folder.parents[1]), "--json", "--out", str(out)]
    assert main([*command, *map(str, (torn, folder, image_file, folder / "deeper", "none.png"))]) == 1
    printed = capsys.readouterr()
    assert [Path(each["file"]).name for each in json.loads(printed.out)] == ["a.png", "b.PNG", image_file.name]
    assert printed.err.splitlines() == [
        f"warning: image '{torn}': cannot be read: not an image (JPEG, PNG, BMP, WEBP, GIF, TIFF)",
        f"warning: image '{folder / 'phone.heic'}': cannot be read: HEIC, which is not decoded: "
        "convert it to PNG or JPEG",
        f"warning: folder '{folder / 'deeper'}': has no images of its own "
        "(.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp)",
        "warning: image 'none.png': cannot be read: No such file or directory",
    ]
    with Image.open(out) as picture:
        assert picture.width == 3 * 34 * 4
    assert main([*command, str(torn), "none.png"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"error: image '{torn}': cannot be read: ")
    assert printed.err.endswith("TIFF), and 1 other\n")


def test_json_is_ascii_whatever_the_classes_are_called(trained, image_file, capsys, monkeypatch):
    monkeypatch.setattr(Trained, "classes", ["花", "鳥 é", *trained.classes[2:]])
    assert main(["predict", trained.key, str(image_file), "--runs", str(trained.folder.parents[1]), "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.isascii() and "鳥 é" in json.loads(printed)[0]["probabilities"]
