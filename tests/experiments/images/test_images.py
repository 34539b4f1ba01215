"""Images on the device: the split, the batches, what a small task makes of the protocol, channel statistics."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.images.draws import permutation
from experiments.images.poses import put_in_pose
from experiments.images.tasks import Images, Task
from experiments.runs.images import DeviceImages, channel_statistics, fit_to_task, split, to_device
from ledger.config import Protocol
from ledger.errors import UserError
from stn.affine import from_parts
from stn.maps import AffineMap

CPU = torch.device("cpu")
PROTOCOL = Protocol(train_images=100, val_images=30, test_images=20)
LABELS_N = torch.arange(200) % 7 % 3


def labels_of(num: int) -> st.SearchStrategy[torch.Tensor]:
    """Of so many images, in up to six classes of any sizes."""
    return st.lists(st.integers(0, 5), min_size=num, max_size=num).map(torch.tensor)


def some_images(num: int, size_px: int = 8, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    pixels_NHWC = generator.integers(0, 256, (num, size_px, size_px, 3), dtype=np.uint8)
    return Images.upright(pixels_NHWC, generator.integers(0, 3, num))


def some_task(num_train: int, num_test: int) -> Task:
    return Task("folder", "my images", ("a", "b", "c"), some_images(num_train), some_images(num_test, seed=1), "0" * 64)


@given(st.integers(2, 300), st.data())
def test_parts_are_disjoint_and_as_large_as_asked_for(num, data):
    val = data.draw(st.integers(0, num - 1))
    train = data.draw(st.integers(0, num - val))
    protocol = replace(PROTOCOL, train_images=train, val_images=val)
    train_N, val_N = split(data.draw(labels_of(num)), protocol, data.draw(st.integers(0, 1000)))
    assert len(val_N) == val
    assert len(train_N) == (train or num - val)
    together = torch.cat([train_N, val_N])
    assert len(together.unique()) == len(together)
    assert together.min() >= 0
    assert together.max() < num


def test_split_is_the_seed_s():
    first, again, other = (split(LABELS_N, PROTOCOL, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert set(first[1].tolist()) != set(other[1].tolist())


def test_epochs_batches_and_precision_do_not_change_it():
    """Variants are compared on the same images, whatever else a protocol says."""
    other = replace(PROTOCOL, epochs=1, batch_size=7, precision="bf16", label_smoothing=0.0)
    for ours, theirs in zip(split(LABELS_N, PROTOCOL, 1), split(LABELS_N, other, 1), strict=True):
        assert torch.equal(ours, theirs)


def test_fewer_training_images_are_a_part_of_more_and_validation_stays():
    few, many = (split(LABELS_N, replace(PROTOCOL, train_images=num), 1) for num in (50, 150))
    assert torch.equal(few[1], many[1])
    assert torch.equal(few[0], many[0][torch.isin(many[0], few[0])])


@given(st.integers(2, 300), st.data())
def test_every_class_keeps_its_share_in_every_part(num, data):
    """Of validation among all images, of training among those that validation leaves: to less than one."""
    labels_N = data.draw(labels_of(num))
    val = data.draw(st.integers(0, num - 1))
    train = data.draw(st.integers(1, num - val))
    train_N, val_N = split(labels_N, replace(PROTOCOL, train_images=train, val_images=val), 5)
    rest_N = torch.arange(num)[~torch.isin(torch.arange(num), val_N)]
    for part_N, of_N, asked in ((val_N, torch.arange(num), val), (train_N, rest_N, train)):
        for label in labels_N.unique():
            quota = Fraction(asked * int((labels_N[of_N] == label).sum()), len(of_N))
            assert abs(int((labels_N[part_N] == label).sum()) - quota) < 1


def test_the_largest_remainders_are_rounded_up():
    """10 of 66, 23 and 11 images are 6.6, 2.3 and 1.1 of each class; of 61, 23 and 16, 6.1, 2.3 and 1.6."""
    for sizes, expected in (((66, 23, 11), [7, 2, 1]), ((61, 23, 16), [6, 2, 2])):
        labels_N = torch.arange(3).repeat_interleave(torch.tensor(sizes))
        _, val_N = split(labels_N, replace(PROTOCOL, val_images=10), 0)
        assert labels_N[val_N].bincount().tolist() == expected


def test_of_equal_remainders_none_is_preferred():
    """Where each of four classes is due 2.5 images, it is the seed that says which two have one more."""
    labels_N = torch.arange(4).repeat_interleave(25)
    counts = [labels_N[split(labels_N, replace(PROTOCOL, val_images=10), seed)[1]].bincount() for seed in range(40)]
    assert all(sorted(each.tolist()) == [2, 2, 3, 3] for each in counts)
    assert (torch.stack(counts) == 3).sum(0).min() > 10


def test_all_that_validation_leaves_are_in_the_order_of_the_seed():
    """Of a task that is taken whole, the split is what it was before classes kept their shares."""
    protocol = replace(PROTOCOL, train_images=0, val_images=0)
    expected_N = permutation(torch.arange(200), seed=7, epoch=0, purpose="split")
    for train_images in (0, 200):
        train_N, val_N = split(LABELS_N, replace(protocol, train_images=train_images), 7)
        assert torch.equal(train_N, expected_N) and len(val_N) == 0


def test_a_class_that_is_rare_is_in_every_part():
    """Drawn without regard to classes, validation would have none of it in every third seed."""
    labels_N = (torch.arange(200) < 10).long()
    for seed in range(30):
        train_N, val_N = split(labels_N, replace(PROTOCOL, train_images=80, val_images=20), seed)
        assert [int(labels_N[part_N].sum()) for part_N in (train_N, val_N)] == [4, 1]


def test_a_large_task_changes_nothing():
    assert fit_to_task(PROTOCOL, some_task(150, 20)) == (PROTOCOL, "")


def test_0_becomes_all_that_there_are():
    fitted, shrunk = fit_to_task(replace(PROTOCOL, train_images=0, test_images=0), some_task(200, 50))
    assert (fitted.train_images, fitted.val_images, fitted.test_images) == (170, 30, 50)
    assert shrunk == ""


def test_no_validation_images_are_fine():
    fitted, shrunk = fit_to_task(replace(PROTOCOL, train_images=0, val_images=0), some_task(200, 50))
    assert (fitted.train_images, fitted.val_images) == (200, 0)
    assert shrunk == ""


def test_what_shrinks_is_said():
    fitted, shrunk = fit_to_task(replace(PROTOCOL, train_images=2000), some_task(100, 5))
    assert (fitted.train_images, fitted.val_images, fitted.test_images) == (80, 20, 5)
    numbers = "train 2,000 -> 80, val 30 -> 20, test 20 -> 5"
    assert shrunk == f"my images has too few images for what was asked: {numbers} (validation: a fifth at most)"


@given(st.integers(0, 60), st.integers(0, 5), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_what_comes_out_can_be_split_and_is_never_more(num_train, num_test, train, val, test):
    protocol = replace(PROTOCOL, train_images=train, val_images=val, test_images=test)
    try:
        fitted, shrunk = fit_to_task(protocol, some_task(num_train, num_test))
    except UserError as error:
        assert num_train < 5 or num_test < 1 or train == 1, error  # noqa: PT017
        return
    assert replace(fitted, train_images=train, val_images=val, test_images=test) == protocol
    train_N, val_N = split(torch.from_numpy(some_images(num_train).labels_N), fitted, 0)
    assert len(train_N) == fitted.train_images >= 2
    assert len(val_N) == fitted.val_images <= num_train / 5
    assert (fitted.val_images > 0) == (val > 0)
    assert 1 <= fitted.test_images <= num_test
    asked = ((train, fitted.train_images), (val, fitted.val_images), (test, fitted.test_images))
    assert bool(shrunk) == any(wanted > got for wanted, got in asked)
    assert all(got <= wanted or wanted == 0 for wanted, got in asked)


@pytest.mark.parametrize(("num_train", "num_test"), [(0, 10), (1, 10), (4, 10), (10, 0)])
def test_too_few_images_are_refused(num_train, num_test):
    with pytest.raises(UserError, match=f"my images: {num_train} training and {num_test} test images are too few"):
        fit_to_task(PROTOCOL, some_task(num_train, num_test))


def test_what_was_asked_for_is_refused_by_its_own_name():
    with pytest.raises(UserError, match=r"^protocol\.train_images: 1 image is too few to train on"):
        fit_to_task(Protocol(train_images=1), some_task(100, 100))


def test_all_images_in_their_order():
    images = some_images(12)
    there = to_device(images, "upright", CPU, part="train")
    assert len(there) == 12
    assert torch.equal(there.pixels_NHWC, torch.from_numpy(images.pixels_NHWC))
    assert torch.equal(there.labels_N, torch.from_numpy(images.labels_N))


def test_the_originals_are_copied():
    """They may be a read-only map of a file."""
    images = some_images(4)
    images.pixels_NHWC.flags.writeable = False
    there = to_device(images, "upright", CPU, part="train")
    there.pixels_NHWC.zero_()
    assert images.pixels_NHWC.any()


def test_a_number_takes_the_same_images_every_time():
    images = some_images(50)
    few, again, more, other_part = (
        to_device(images, "upright", CPU, part=part, num=num)
        for part, num in (("test", 10), ("test", 10), ("test", 20), ("train", 10))
    )
    assert len(few) == 10
    assert torch.equal(few.pixels_NHWC, again.pixels_NHWC)

    def of(there: DeviceImages) -> set[bytes]:
        return {image.numpy().tobytes() for image in there.pixels_NHWC}

    assert len(of(few)) == 10
    assert of(few) < of(more)
    assert of(few) != of(other_part)


def test_every_class_keeps_its_share():
    images = some_images(100)
    images.labels_N[:] = np.repeat([0, 1, 2], [66, 23, 11])
    few = to_device(images, "upright", CPU, part="test", num=10)
    assert few.labels_N.bincount().tolist() == [7, 2, 1]


def test_a_map_that_is_read_only_is_nothing_to_warn_of(recwarn):
    images = some_images(50)
    images.labels_N.flags.writeable = images.pixels_NHWC.flags.writeable = False
    to_device(images, "upright", CPU, part="test", num=10)
    assert not recwarn.list


@pytest.mark.parametrize("num", [0, 50, 60])
def test_0_or_as_many_as_there_are_takes_all(num):
    assert len(to_device(some_images(50), "upright", CPU, part="test", num=num)) == 50


def test_an_image_of_a_subset_has_the_pose_it_has_among_all():
    images = some_images(50, 16)
    full = to_device(images, "R", CPU, part="test")
    few = to_device(images, "R", CPU, part="test", num=10)
    everything = [image.numpy().tobytes() for image in full.pixels_NHWC]
    places = [everything.index(image.numpy().tobytes()) for image in few.pixels_NHWC]
    assert places == sorted(places)
    assert torch.equal(full.labels_N[places], few.labels_N)
    posed, poses = put_in_pose(torch.from_numpy(images.pixels_NHWC), torch.arange(50), "R", part="test")
    assert torch.equal(full.pixels_NHWC, posed)
    torch.testing.assert_close(full.poses.theta_N33, poses.theta_N33)
    assert torch.equal(full.poses.theta_N33[places], few.poses.theta_N33)


def test_an_image_s_own_pose_comes_before_the_task_s():
    images = some_images(3)
    own = from_parts(angle_rad_B=torch.tensor([0.1, 0.2, 0.3]), shift_B2=torch.rand(3, 2))
    images.theta_N23[:] = own.numpy()
    upright = to_device(images, "upright", CPU, part="train")
    torch.testing.assert_close(upright.poses.theta_N33[:, :2], own)
    turned = to_device(images, "R", CPU, part="train")
    _, poses = put_in_pose(torch.from_numpy(images.pixels_NHWC), torch.arange(3), "R", part="train")
    points = torch.rand(5, 2)
    torch.testing.assert_close(turned.poses.apply(points), AffineMap(own).apply(poses.apply(points)))


IMAGES = to_device(some_images(9, 6), "upright", CPU, part="train")


def test_a_batch_is_the_pixels_between_0_and_1_channels_last():
    index_B = torch.tensor([4, 0, 4, 8])
    x_BCHW = IMAGES.raw(index_B)
    assert x_BCHW.shape == (4, 3, 6, 6)
    assert x_BCHW.dtype == torch.float32
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)
    for image_CHW, index in zip(x_BCHW, index_B.tolist(), strict=True):
        expected = IMAGES.pixels_NHWC[index].permute(2, 0, 1).numpy() / 255
        np.testing.assert_allclose(image_CHW, expected, atol=1e-7)


def test_a_batch_is_a_copy():
    before = IMAGES.pixels_NHWC.clone()
    IMAGES.raw(torch.arange(9)).zero_()
    assert torch.equal(IMAGES.pixels_NHWC, before)


def test_white_is_1_and_black_0():
    ends = DeviceImages(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1), torch.zeros(2).long())
    assert ends.raw(torch.arange(2)).flatten().tolist() == [0, 1]


def test_a_subset_has_its_images_and_labels():
    index_N = torch.tensor([7, 1])
    subset = IMAGES.subset(index_N)
    assert torch.equal(subset.poses.theta_N33, IMAGES.poses.theta_N33[index_N])
    assert len(subset) == 2
    assert torch.equal(subset.pixels_NHWC, IMAGES.pixels_NHWC[index_N])
    assert torch.equal(subset.labels_N, IMAGES.labels_N[index_N])


def test_evaluation_sees_all_images_in_one_mixed_order_with_draws_of_their_own():
    images = to_device(some_images(9, 6), "R", CPU, part="test")
    found = list(images.batches(3, 4))
    assert [len(batch) for _, batch in found] == [4, 4, 1]
    (whole_labels_N, whole), *others = images.batches(3, 9)
    assert not others
    everything = list(images.raw(torch.arange(9)))
    order = [next(i for i, x in enumerate(everything) if torch.equal(x, raw_CHW)) for raw_CHW in whole.raw_BCHW]
    assert order != sorted(order) == list(range(9))
    assert torch.equal(whole_labels_N, images.labels_N[order])
    assert torch.equal(whole.poses.theta_N33, images.poses.theta_N33[order])
    assert whole.u_BK.shape == (9, 3)
    assert len(whole.u_BK.unique()) == 27
    assert torch.equal(torch.cat([labels_B for labels_B, _ in found]), whole_labels_N)
    assert torch.equal(torch.cat([batch.raw_BCHW for _, batch in found]), whole.raw_BCHW)
    assert torch.equal(torch.cat([batch.poses.theta_N33 for _, batch in found]), whole.poses.theta_N33)
    assert torch.equal(torch.cat([batch.u_BK for _, batch in found]), whole.u_BK)
    assert {batch.progress for _, batch in found} == {1.0}
    assert [batch.u_BK.shape for _, batch in images.batches(0, 9)] == [(9, 0)]


def test_images_of_unknown_pose_are_upright():
    poses = DeviceImages(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(2).long()).poses
    assert torch.equal(poses.theta_N33, torch.eye(3).expand(2, 3, 3))


@given(st.integers(2, 40), st.integers(0, 1000))
def test_channel_statistics_are_numpy_s(num, seed):
    images = some_images(num, 5, seed)
    mean_C, std_C = channel_statistics(to_device(images, "upright", CPU, part="train"))
    pixels_XC = images.pixels_NHWC.reshape(-1, 3) / 255
    assert mean_C.dtype == std_C.dtype == torch.float32
    np.testing.assert_allclose(mean_C, pixels_XC.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std_C, pixels_XC.std(0, ddof=1), rtol=1e-6)


def test_channels_are_kept_apart():
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    pixels[0, ..., 1] = 255
    pixels[..., 2] = 51
    mean_C, std_C = channel_statistics(DeviceImages(pixels, torch.zeros(2).long()))
    torch.testing.assert_close(mean_C, torch.tensor([0, 0.5, 0.2]))
    assert std_C[1] > 0.5
    # A constant channel must not be divided by nothing.
    assert std_C[0] == std_C[2] == pytest.approx(1e-3)
