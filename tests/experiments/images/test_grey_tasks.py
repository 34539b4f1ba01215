"""Tasks whose images are all grey: one channel, from the files to the network, the pictures and what is handed over."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from baselines.backbones.fcn import NUM_PARAMETERS
from baselines.policies import POLICIES
from baselines.whitening import Whitening
from experiments.images.corruptions import CORRUPTIONS, SEVERITIES
from experiments.images.poses import POSES
from experiments.images.tasks import folder, load_task
from experiments.images.tasks.cache import content_hash
from experiments.networks.network import count_parameters
from experiments.networks.variants import build_policy, parse_variant
from experiments.runs.costs import count_train_flops
from experiments.runs.export import loading_code
from experiments.runs.images import channel_statistics, to_device
from experiments.runs.prediction import predict, read_image
from experiments.runs.run import Job, Source, make_run
from experiments.runs.trained import Trained, load_trained
from experiments.runs.training import augment, draws
from experiments.study.shown import image_facts
from experiments.terminal.cli import main
from ledger.config import Protocol, RunConfig, run_key
from ledger.ledger import Ledger
from tests.support.image_folders import CLASSES, load, pixels_of, save
from tests.support.networks import NETWORKS, build, some_batch
from tests.support.trained_runs import TINY


def grey_of(seed: int, side: int = 16) -> npt.NDArray[np.uint8]:
    return pixels_of(seed, side, side)[..., 0]


def make_grey(root: Path, per_class: int = 3, side: int = 16) -> Path:
    """train/ and test/ of grey PNGs; every third is saved as RGB of three equal channels."""
    for p, part in enumerate(("train", "test")):
        for c, name in enumerate(CLASSES):
            for i in range(per_class):
                grey_HW = grey_of(1000 * p + 100 * c + i, side)
                save(root / part / name / f"{i:02}.png", np.dstack([grey_HW] * 3) if i % 3 == 2 else grey_HW)
    return root


def test_a_folder_of_grey_images_has_one_channel(tmp_path):
    task = load(make_grey(tmp_path / "images"), tmp_path / "cache")
    assert task.num_channels == 1
    assert task.train.pixels_NHWC.shape == (9, 16, 16, 1)
    assert task.test.pixels_NHWC.shape == (9, 16, 16, 1)
    for i in (1, 2):
        assert np.array_equal(task.train.pixels_NHWC[i, ..., 0], grey_of(i))
    assert task.record()["channels"] == 1
    assert ("Channels", "one, since all images are grey") in image_facts(task, Protocol())
    again = load(tmp_path / "images", tmp_path / "cache")
    assert (again.content_hash, again.num_channels) == (task.content_hash, 1)


def test_grey_of_16_bits_and_transparency_too(tmp_path):
    root = make_grey(tmp_path / "images")
    Image.fromarray(grey_of(5).astype(np.uint16) * 257).save(root / "train/ant/deep.png")
    save(root / "train/ant/clear.png", np.dstack([grey_of(6), np.full((16, 16), 128, np.uint8)]))
    assert load(root, tmp_path / "cache").num_channels == 1


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_image_in_colour_keeps_all_in_rgb(part, tmp_path):
    root = make_grey(tmp_path / "images")
    coloured = np.dstack([grey_of(7)] * 3)
    coloured[3, 4, 2] ^= 1
    save(root / part / "bee/coloured.png", coloured)
    task = load(root, tmp_path / "cache")
    assert task.num_channels == 3
    assert "channels" not in task.record()
    assert np.array_equal(task.train.pixels_NHWC[0], np.dstack([grey_of(0)] * 3))
    assert "Channels" not in dict(image_facts(task, Protocol()))


def test_the_hash_differs_from_that_of_three_equal_channels(tmp_path):
    task = load(make_grey(tmp_path / "images"), tmp_path / "cache")
    spread = [
        type(part)(part.pixels_NHWC.repeat(3, axis=-1), part.labels_N, part.theta_N23)
        for part in (task.train, task.test)
    ]
    assert content_hash(task.classes, *spread) != task.content_hash


def test_an_entry_of_three_equal_channels_that_an_earlier_version_left_is_not_taken(tmp_path, monkeypatch):
    root, cache = make_grey(tmp_path / "images"), tmp_path / "cache"
    monkeypatch.setattr(folder, "DECODING", 2)
    task = load(root, cache)
    (entry,) = cache.glob("folder-*")
    for part in ("train", "test"):
        np.save(entry / f"{part}_pixels.npy", getattr(task, part).pixels_NHWC.repeat(3, axis=-1))
    assert load(root, cache).num_channels == 3
    monkeypatch.undo()
    assert load(root, cache).num_channels == 1


def test_an_entry_with_one_grey_part_is_made_again(tmp_path):
    root, cache = make_grey(tmp_path / "images"), tmp_path / "cache"
    task, said = load(root, cache), list[str]()
    (entry,) = cache.glob("folder-*")
    np.save(entry / "test_pixels.npy", task.test.pixels_NHWC.repeat(3, axis=-1))
    assert load(root, cache, say=said.append).test.pixels_NHWC.shape[3] == 1
    assert "cannot be read" in said[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_on_one_channel(name):
    network, batch = build(name, num_channels=1), some_batch(name, 4, num_channels=1)
    network.whiten(batch.raw_BCHW)
    logits_BX, penalty = network.train().logits_and_penalty(batch)
    assert logits_BX.shape == (4, 10)
    (logits_BX.sum() + (0 if penalty is None else penalty)).backward()
    assert network.num_channels == 1
    assert count_parameters(network) <= count_parameters(build(name)) or "fcn" in name
    seen = network.eval().look(batch)
    assert seen is None or seen.shape[1] == 1


def test_flops_are_those_of_one_channel():
    first_layer = 2 * 28**2 * 25 * 10  # convolution of 5 x 5 to 10 channels, which loses 4 px
    grey, rgb = (count_train_flops(build("cnn@lenet", num_channels=num), 32) for num in (1, 3))
    assert rgb - grey == 2 * 2 * first_layer  # forward, and the gradient of its weights


def test_whitening_makes_of_one_channel_what_is_uncorrelated():
    images_BCHW = 4 * torch.nn.functional.avg_pool2d(torch.rand(200, 1, 18, 18) - 0.5, 3, 1)
    layer = Whitening(1)
    layer.fit(images_BCHW)
    assert layer.weight.shape == (8, 1, 2, 2)
    out_KN = torch.nn.functional.conv2d(images_BCHW, layer.weight).transpose(0, 1).flatten(1)[:4]
    torch.testing.assert_close(out_KN @ out_KN.T / out_KN.shape[1], torch.eye(4), atol=0.05, rtol=0)


def test_the_paper_s_fully_connected_network():
    network = build("cnn@fcn", image_px=28, num_channels=1)
    assert [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)] == [349, 349, 10]
    assert abs(count_parameters(network) - NUM_PARAMETERS) < 1000


def test_the_paper_s_localisation_network_takes_the_paper_s_images():
    network = build("stn_affine:localisation=paper@fcn", image_px=28, num_channels=1)
    batch = some_batch("stn_affine", 3, image_px=28, num_channels=1)
    torch.testing.assert_close(network(batch), network.backbone(network.normalise(batch.raw_BCHW)))


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_shows_of_one_channel_what_it_shows_of_three_equal_ones(name):
    policy = build_policy(parse_variant(f"cnn+{name}"), {})
    grey_BCHW = (torch.rand(40, 1, 32, 32) * 255).round() / 255
    u_BK = draws(policy, torch.arange(40), seed=0, epoch=1)
    of_one, of_three = (augment(x_BCHW, policy, u_BK) for x_BCHW in (grey_BCHW, grey_BCHW.repeat(1, 3, 1, 1)))
    assert of_one.shape == (40, 1, 32, 32)
    # BT.601's weights add up to 0.9999: where a decision hangs on an 8-bit value, a few pixels take another one.
    differs = (of_one - of_three[:, :1]).abs() > 2e-3
    assert differs.float().mean() < 0.01
    assert of_one.min() >= 0 and of_one.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if CORRUPTIONS[name].kind == "photometric"])
def test_every_corruption_of_values(name):
    corruption, grey_BCHW = CORRUPTIONS[name], torch.rand(4, 1, 32, 32)
    for severity in SEVERITIES:
        u = corruption.draw(name, torch.arange(4), grey_BCHW.shape[1:])
        changed_BCHW = corruption.change(grey_BCHW, u, corruption.levels[severity - 1])
        assert changed_BCHW.shape == grey_BCHW.shape
        assert changed_BCHW.isfinite().all()
        assert torch.equal(changed_BCHW, grey_BCHW) == (name == "saturate")


@pytest.mark.parametrize("pose", list(POSES))
def test_every_pose_shows_of_one_channel_what_it_shows_of_three_equal_ones(pose, tmp_path):
    part = load(make_grey(tmp_path / "images"), tmp_path / "cache").train
    spread = type(part)(part.pixels_NHWC.repeat(3, axis=-1), part.labels_N, part.theta_N23)
    grey, rgb = (to_device(each, pose, torch.device("cpu"), part="train") for each in (part, spread))
    assert torch.equal(grey.pixels_NHWC.expand_as(rgb.pixels_NHWC), rgb.pixels_NHWC)
    assert torch.equal(torch.cat(channel_statistics(grey)), torch.cat(channel_statistics(rgb)).view(2, 3)[:, 0])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A final run of a transformer on grey images."""
    here = tmp_path_factory.mktemp("grey")
    spec, cache = f"folder:{make_grey(here / 'images', per_class=12, side=32)}", here / "cache"
    protocol = replace(TINY, train_images=30, val_images=6, test_images=36, robustness="quick")
    config = RunConfig(variant="stn_affine+flip_crop+auto_augment", protocol=protocol, seed=1)
    task = load_task(spec, image_px=32, cache=cache, say=lambda line: None)
    source, ledger = Source(task=spec, label="", image_px=32, cache=cache), Ledger(here / "runs")
    key = run_key(config, task.content_hash)
    return load_trained(ledger, make_run(Job(config, key, source, ledger.root), torch.device("cpu")))


def test_the_record_and_the_picture(trained):
    record = trained.record
    assert (record["status"], record["error"], record["task"]["channels"]) == ("completed", None, 1)
    plain = build("stn_affine", num_classes=3, num_channels=1)
    assert record["result"]["num_parameters"] == count_parameters(plain)
    assert record["result"]["train_flops"] == count_train_flops(plain, 32) * 30
    with Image.open(trained.folder / "transformer.png") as image:
        pixels_HWC = np.asarray(image.convert("RGB"))
    assert (pixels_HWC == pixels_HWC[..., :1]).all()
    assert pixels_HWC.std() > 20


def test_what_is_asked_about_becomes_grey(trained, tmp_path):
    colour, grey = pixels_of(1, 32, 32), grey_of(2, 32)
    save(tmp_path / "colour.png", colour)
    save(tmp_path / "grey.png", grey)
    weights = np.array([19595, 38470, 7471])  # of ITU-R BT.601, in 65,536ths
    expected = (colour.astype(int) @ weights + 32768) >> 16
    assert np.array_equal(read_image(tmp_path / "colour.png", 32, num_channels=1)[..., 0], expected)
    found = predict(trained, [tmp_path / "colour.png", tmp_path / "grey.png"])
    assert [each.image_HWC.shape for each in found] == [(32, 32, 1)] * 2
    assert np.array_equal(found[1].image_HWC[..., 0], grey)
    command = ["predict", trained.key, str(tmp_path / "grey.png"), "--runs", str(trained.folder.parents[1])]
    assert main([*command, "--out", str(tmp_path / "seen.png")]) == 0
    with Image.open(tmp_path / "seen.png") as picture:
        shown_HWC = np.asarray(picture.convert("RGB"))
    assert np.array_equal(shown_HWC[20:148:4, 4:132:4], np.dstack([grey] * 3))


@pytest.mark.long
def test_what_is_handed_over_takes_colour_and_grey_and_says_so(trained, tmp_path):
    out = tmp_path / "out"
    assert main(["export", trained.key, "--runs", str(trained.folder.parents[1]), "--out", str(out)]) == 0
    assert (
        json.loads((out / "config.json").read_text())["input"] == "pixels in [0, 1], (B, 1, image_px, image_px), grey"
    )
    assert "takes pixels in [0, 1], (B, 1, 32, 32), and gives logits" in (out / "README.md").read_text()
    assert loading_code(trained) in (out / "README.md").read_text()
    for name, pixels in (("colour", pixels_of(3, 32, 32)), ("grey", grey_of(4, 32))):
        save(out / "image.png", pixels)
        (expected,) = predict(trained, [out / "image.png"])
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        ended = subprocess.run(
            [sys.executable, "-c", loading_code(trained)], cwd=out, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, f"{name}: {ended.stderr}"
        said, probability = re.fullmatch(r"(\w+) ([\d.]+)\n", ended.stdout).groups()  # type: ignore[union-attr]
        assert (said, float(probability)) == (
            expected.classes[0][0],
            pytest.approx(expected.classes[0][1], abs=1e-4),
        )
