"""Scores against a plain loop, who may read the test part, and the pictures of a transformer."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from baselines.backbones import Backbone
from experiments.images.draws import permutation
from experiments.images.poses import disc_mask, no_pose
from experiments.images.tasks import Images, Task
from experiments.networks.network import Batch, Network, Site
from experiments.runs import evaluation
from experiments.runs.evaluation import Scores, ask, calibration_error, evaluate, evaluate_on_test
from experiments.runs.images import DeviceImages, to_device
from experiments.runs.pictures import before_and_after
from ledger.config import Protocol, RunConfig
from tests.support.networks import build


def some_images(num: int, num_classes: int = 10, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    return Images(
        pixels_NHWC=generator.integers(0, 256, (num, 32, 32, 3), dtype=np.uint8),
        labels_N=generator.integers(0, num_classes, num),
        theta_N23=np.tile(np.eye(2, 3, dtype=np.float32), (num, 1, 1)),
    )


def on_cpu(images: Images) -> DeviceImages:
    return to_device(images, "upright", torch.device("cpu"), part="train")


def scores_by_loop(network: Network, images: Images) -> Scores:
    """Image by image, in float64 after the logits."""
    network.eval()
    loss, hits, totals = 0.0, [0] * network.num_classes, [0] * network.num_classes
    for pixels_HWC, label in zip(images.pixels_NHWC, images.labels_N.tolist(), strict=True):
        x_1CHW = torch.from_numpy(pixels_HWC / 255).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            logits = network(Batch.of(x_1CHW))[0].double().numpy()
        loss += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]
        hits[label] += int(logits.argmax() == label)
        totals[label] += 1
    return Scores(
        sum(hits) / len(images),
        loss / len(images),
        len(images),
        [hit / total if total else None for hit, total in zip(hits, totals, strict=True)],
    )


@pytest.mark.parametrize("name", ["cnn", "stn_affine@lenet"])
@pytest.mark.parametrize("batch_size", [1000, 64, 7])
def test_scores_are_those_of_a_plain_loop(name, batch_size, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH_SIZE", batch_size)
    network, images = build(name), some_images(130, num_classes=8)
    network(Batch.of(torch.rand(8, 3, 32, 32)))  # moves the running statistics off their start
    expected = scores_by_loop(network, images)
    scores = evaluate(network.train(), on_cpu(images), "fp32")
    assert scores.accuracy == expected.accuracy
    assert scores.loss == pytest.approx(expected.loss, rel=1e-5)
    assert scores.num_images == 130
    assert scores.class_accuracy == expected.class_accuracy
    assert expected.class_accuracy[8:] == [None, None]


def test_nothing_of_the_network_changes():
    network, images = build("cnn").train(), on_cpu(some_images(50))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    first = evaluate(network, images, "fp32")
    assert evaluate(network, images, "fp32") == first
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_perfect_and_a_constant_network():
    class Answer(Backbone):
        """Reads the label out of the red channel; or always says 3."""

        def __init__(self, honest: bool) -> None:
            super().__init__([], nn.Identity())
            self.honest = honest

        def forward(self, x_BCHW: Tensor) -> Tensor:
            labels_B = (x_BCHW[:, 0, 0, 0] * 255).round().long() if self.honest else x_BCHW.new_full((len(x_BCHW),), 3)
            return 50.0 * nn.functional.one_hot(labels_B.long(), 10).float()

    labels_N = torch.arange(40) % 10
    pixels_NHWC = labels_N.to(torch.uint8)[:, None, None, None].expand(40, 4, 4, 3)
    images = DeviceImages(pixels_NHWC, labels_N)
    site = Site(lambda *_: Answer(True), 4, 10, torch.zeros(3), torch.ones(3))
    perfect, constant = (evaluate(Network(site, Answer(honest)), images, "fp32") for honest in (True, False))
    assert (perfect.accuracy, perfect.class_accuracy) == (1.0, [1.0] * 10)
    assert perfect.loss == pytest.approx(0, abs=1e-6)
    assert (constant.accuracy, constant.class_accuracy) == (0.1, [0.0] * 3 + [1.0] + [0.0] * 6)
    assert constant.loss == pytest.approx(45)


@pytest.mark.parametrize("batch_size", [1000, 7])
def test_answers_are_in_the_order_of_the_images(batch_size, monkeypatch):
    """Although batches are not: the only image of a class is found at its place, with what is said of it alone."""
    monkeypatch.setattr(evaluation, "BATCH_SIZE", batch_size)
    network, images = build("cnn@lenet").eval(), some_images(40)
    network(Batch.of(torch.rand(8, 3, 32, 32)))
    answers = ask(network, on_cpu(images), "fp32")
    assert answers.label_N.tolist() == images.labels_N.tolist()
    for place, pixels_HWC in enumerate(images.pixels_NHWC):
        with torch.no_grad():
            logits_X = network(Batch.of(torch.from_numpy(pixels_HWC / 255).permute(2, 0, 1)[None].float()))[0]
        probability_X = np.exp(logits_X.double().numpy())
        probability_X /= probability_X.sum()
        assert answers.predicted_N[place] == probability_X.argmax()
        assert answers.confidence_N[place].item() == pytest.approx(probability_X.max(), rel=1e-5)
        label = images.labels_N[place]
        assert answers.label_probability_N[place].item() == pytest.approx(probability_X[label], rel=1e-5)


def calibration_error_by_loop(confidences: list[float], correct: list[bool]) -> float:
    """As the paper writes it: for each bin its share of the images times |accuracy - confidence|."""
    error = 0.0
    for low in range(15):
        inside = [i for i, value in enumerate(confidences) if low / 15 < value <= (low + 1) / 15]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@given(answers=st.lists(st.tuples(st.floats(0.0625, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_the_error_is_that_of_a_plain_loop(answers):
    confidences, correct = map(list, zip(*answers, strict=True))
    error = calibration_error(torch.tensor(confidences), torch.tensor(correct))
    assert error == pytest.approx(calibration_error_by_loop(confidences, correct), abs=1e-9)


@pytest.mark.parametrize(
    ("confidence", "share", "error"), [(0.7, 0.7, 0.0), (0.7, 0.4, 0.3), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)]
)
def test_one_confidence_for_all(confidence, share, error):
    confidence_N, correct_N = torch.full((10,), confidence), torch.arange(10) < 10 * share
    assert calibration_error(confidence_N, correct_N) == pytest.approx(error, abs=1e-6)


def test_too_sure_in_one_bin_does_not_make_up_for_too_modest_in_another():
    confidence_N = torch.tensor([0.9, 0.9, 0.5, 0.5])
    assert calibration_error(confidence_N, torch.tensor([True, False, True, True])) == pytest.approx(0.45)


TASK = Task("folder", "mine", tuple("abcdefghij"), some_images(20), some_images(60, seed=1), "0" * 64)


def run_test_part(test_images: int = 0, **changes: Any) -> RunConfig:
    protocol = Protocol(precision="fp32", device="cpu", test_images=test_images, robustness="none")
    return RunConfig(protocol=protocol, **changes)


def test_a_trial_may_not_read_it():
    with pytest.raises(ValueError, match="a trial may not read the test part"):
        evaluate_on_test(build("cnn@lenet"), TASK, run_test_part(stage="trial"), torch.device("cpu"))


@pytest.mark.parametrize("pose", ["upright", "R"])
def test_a_final_run_reads_all_of_it_under_its_pose(pose):
    network = build("cnn@lenet")
    run = run_test_part(stage="final", pose=pose)
    found = evaluate_on_test(network, TASK, run, torch.device("cpu"))
    assert found is not None and found.maps is None and found.robustness is None
    posed = to_device(TASK.test, pose, torch.device("cpu"), part="test")
    assert found.scores == evaluate(network, posed, "fp32")
    assert found.scores.num_images == 60
    assert found.answers.label_N.tolist() == TASK.test.labels_N.tolist()
    other = to_device(TASK.test, "R" if pose == "upright" else "upright", torch.device("cpu"), part="test")
    assert found.scores != evaluate(network, other, "fp32")


def test_a_final_run_reads_as_many_images_as_the_protocol_says():
    network, run = build("stn_affine@lenet"), run_test_part(test_images=25)
    found = evaluate_on_test(network, TASK, run, torch.device("cpu"))
    assert found is not None and found.maps is not None
    assert found.scores.num_images == 25
    diagnosis = found.maps.describe()
    assert (diagnosis.num_images, diagnosis.verdict, diagnosis.identity_fraction) == (25, "idle", 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_network_whose_loss_is_no_number_has_no_evaluation(value):
    network = build("cnn@lenet")
    network.offset_1C11.fill_(value)
    assert evaluate_on_test(network, TASK, run_test_part(), torch.device("cpu")) is None


def test_draws_of_a_network_are_the_same_every_time():
    network, images = build("stn_random@lenet"), on_cpu(some_images(130))
    first = evaluate(network, images, "fp32")
    torch.manual_seed(5)
    assert evaluate(network, images, "fp32") == first
    assert evaluate(network, images.subset(torch.arange(130)), "fp32") == first
    assert evaluate(build("cnn@lenet"), images, "fp32") != first


def in_order(images: DeviceImages) -> Tensor:
    """The first images as they are, in the order of evaluation."""
    first_N = torch.arange(min(8, len(images)))
    return images.pixels_NHWC[permutation(first_N, seed=0, epoch=0, purpose="evaluation order")]


def tiles(network: Network, images: DeviceImages) -> tuple[Tensor, Tensor]:
    """The upper and the lower row of the picture, uint8 (n, 32, 32, 3)."""
    data = before_and_after(network, images)
    assert data is not None
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    picture.load()
    num = min(8, len(images))
    assert picture.size == (3 * (34 * num + 2), 3 * (34 * 2 + 2))
    pixels = torch.from_numpy(np.array(picture))[1::3, 1::3]
    assert pixels.shape[2] == 3
    rows = [torch.stack([pixels[top : top + 32, 2 + 34 * i : 34 + 34 * i] for i in range(num)]) for top in (2, 36)]
    return rows[0], rows[1]


@pytest.mark.parametrize("num", [1, 8, 11])
def test_the_identity_shows_every_image_twice(num):
    images = on_cpu(some_images(num))
    above, below = tiles(build("stn_affine@lenet").train(), images)
    assert torch.equal(above, in_order(images))
    assert torch.equal(below, above)


def test_below_is_what_the_backbone_sees():
    network, images = build("stn_affine@lenet"), on_cpu(some_images(3))
    with torch.no_grad():
        network.get_parameter("localisation.10.bias")[2] = 0.5
    above, below = tiles(network, images)
    assert torch.equal(above, in_order(images))
    assert torch.equal(below[:, :, :24], above[:, :, 8:])
    assert not below[:, :, 24:].any()


def test_a_smaller_look_is_enlarged():
    above, below = tiles(build("stn_affine:size=0.5"), on_cpu(some_images(2)))
    assert below.shape == above.shape
    assert torch.equal(below[:, ::2, ::2], below[:, 1::2, 1::2])


def test_the_oracle_s_pictures_are_upright():
    images = some_images(2)
    images.pixels_NHWC[:] = np.linspace(0, 255, 32).astype(np.uint8)[:, None, None]  # dark above, bright below
    posed = to_device(images, "R", torch.device("cpu"), part="train")
    above, below = tiles(build("oracle_unwarp"), posed)
    disc = disc_mask(no_pose(1), 32)[0, 4:-4, 4:-4, 0]
    upright = torch.from_numpy(images.pixels_NHWC)[:, 4:-4, 4:-4][:, disc].int()
    assert (below[:, 4:-4, 4:-4][:, disc].int() - upright).abs().float().mean() < 3
    assert (above[:, 4:-4, 4:-4][:, disc].int() - upright).abs().float().mean() > 10


def test_a_network_without_a_transformer_has_no_picture():
    assert before_and_after(build("cnn"), on_cpu(some_images(2))) is None
