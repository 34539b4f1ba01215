"""How predicted numbers become maps: steps against the product by hand, heads against the tiles; localisation nets."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stn import LOCALISATIONS, TRANSFORMATIONS, Sampler, SpatialTransformer, base_grid
from stn.localisation import disturb, of_map, predict
from stn.maps import AffineMap, ProjectiveMap
from stn.transformer import tile_maps

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", [name for name, found in TRANSFORMATIONS.items() if found.composes])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_each_looks_at_what_the_last_one_saw(family, steps):
    transformation = TRANSFORMATIONS[family]
    weight = 0.3 * torch.randn(3 * 4, transformation.num_params)

    def localise(raw_BCHW: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(raw_BCHW, 2).flatten(1) @ weight

    x_BCHW, sampler = torch.rand(3, 3, 16, 16), Sampler("border")
    (found,) = SpatialTransformer(transformation, sampler, steps).maps(x_BCHW, localise)
    product_B33 = np.tile(np.eye(3), (3, 1, 1))
    for _ in range(steps):
        so_far = torch.from_numpy(product_B33).float()
        step = transformation(localise(sampler(x_BCHW, ProjectiveMap(so_far))))
        assert isinstance(step, AffineMap | ProjectiveMap)
        product_B33 = product_B33 @ step.projective().theta_B33.double().numpy()
    assert isinstance(found, AffineMap | ProjectiveMap)
    np.testing.assert_allclose(found.projective().theta_B33, product_B33, atol=1e-4)
    assert not np.allclose(product_B33, np.eye(3), atol=1e-2)


def test_steps_get_nearer_to_what_a_step_alone_undershoots():
    """A localisation that sees the shift left, and corrects half of it, leaves an eighth after three steps."""
    x, _ = base_grid(32, 32, CPU).T
    x_B1HW = (-((x - 0.5) ** 2) / 0.02).exp().view(1, 1, 32, 32)

    def half_way(raw_B1HW: Tensor) -> Tensor:
        centre = (raw_B1HW.flatten(1) * x).sum(1) / raw_B1HW.flatten(1).sum(1)
        return torch.stack([centre / 2, torch.zeros_like(centre)], 1)

    (found,) = SpatialTransformer(TRANSFORMATIONS["translation"], Sampler(), steps=3).maps(x_B1HW, half_way)
    assert isinstance(found, AffineMap)
    assert found.theta_B23[0, 0, 2].item() == pytest.approx(0.5 * (1 - 1 / 8), abs=5e-3)


@pytest.mark.parametrize("heads", range(1, 13))
def test_tiles_cover_the_image_exactly_once(heads):
    tiles = tile_maps(heads, 2, CPU)
    assert len(tiles) == heads
    corner_42 = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    boxes = [tile.apply(corner_42)[1].double().numpy() for tile in tiles]
    low, high = (np.stack([f(box, axis=0) for box in boxes]) for f in (np.min, np.max))
    assert np.prod(high - low, axis=1).sum() == pytest.approx(4, abs=1e-5)
    points = np.random.default_rng(0).uniform(-1, 1, (500, 1, 2))
    inside = ((points > low) & (points < high)).all(2)
    assert (inside.sum(1) == 1).all()
    order = [(round(y, 4), round(x, 4)) for x, y in (low + high) / 2]
    assert order == sorted(order), "row by row"


def test_the_arrangement_is_the_most_square_one():
    sides = {heads: tile_maps(heads, 1, CPU)[0].theta_B23[0, [0, 1], [0, 1]].tolist() for heads in (2, 3, 4, 6, 12)}
    expected = {2: (2, 1), 3: (3, 1), 4: (2, 2), 6: (3, 2), 12: (4, 3)}  # columns, rows
    for heads, (columns, rows) in expected.items():
        assert sides[heads] == pytest.approx([1 / columns, 1 / rows])


def test_heads_at_the_start_see_their_tiles_pixel_by_pixel():
    transformer = SpatialTransformer(TRANSFORMATIONS["attention"], Sampler(), heads=4)
    x_BCHW = torch.rand(2, 3, 32, 32)
    maps = transformer.maps(x_BCHW, lambda raw: torch.zeros(len(raw), transformer.num_params))
    views = transformer.look(x_BCHW, maps, 16)
    tiles = [x_BCHW[:, :, i : i + 16, j : j + 16] for i in (0, 16) for j in (0, 16)]
    for view, tile in zip(views, tiles, strict=True):
        assert torch.equal(view, tile)


def test_each_head_has_its_own_numbers_and_moves_within_its_tile_s_frame():
    transformer = SpatialTransformer(TRANSFORMATIONS["translation"], Sampler(), heads=2)
    assert transformer.num_params == 4
    x_BCHW = torch.rand(1, 1, 32, 32)
    maps = transformer.maps(x_BCHW, lambda raw: torch.tensor([[0.0, 0.0, -0.5, 0.0]]))
    left, right = transformer.look(x_BCHW, maps)
    # Two tiles are 16 px wide and 32 px high; a shift by half of half a tile is 4 px.
    crop = AffineMap(torch.tensor([[[0.5, 0.0, 0.25], [0.0, 1.0, 0.0]]]))
    torch.testing.assert_close(right, Sampler()(x_BCHW, crop))
    torch.testing.assert_close(left, Sampler()(x_BCHW, tile_maps(2, 1, CPU)[0]))


@pytest.mark.parametrize(
    ("family", "steps", "heads", "said"),
    [
        ("affine", 0, 1, "steps and heads are 1 or more, got 0 and 1"),
        ("affine", 1, -1, "steps and heads are 1 or more, got 1 and -1"),
        ("tps", 2, 1, "steps: maps of this transformation do not compose; take steps=1"),
        ("affine", 2, 2, "steps: several heads look once; take steps=1 or heads=1"),
    ],
)
def test_what_cannot_go_together_is_refused_in_one_line(family, steps, heads, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        SpatialTransformer(TRANSFORMATIONS[family], Sampler(), steps, heads)
    assert str(error.value) == said


def of_32_px(name: str) -> nn.Sequential:
    return of_map(32, 6, 16) if name == "of_map" else LOCALISATIONS[name](3, 6, 32)


# Weights and biases of each layer in turn; a batch normalisation has two numbers a channel.
COUNTS = (
    ("lenet", [3 * 49 * 8 + 8, 8 * 25 * 10 + 10, 160 * 32 + 32, 32 * 6 + 6]),
    ("paper", [3 * 25 * 20 + 20, 20 * 25 * 20 + 20, 320 * 20 + 20, 20 * 6 + 6]),
    ("deep", [3 * 16 * 32 + 64, 32 * 9 * 64 + 128, 64 * 9 * 64 + 128, 1024 * 64 + 64, 128, 64 * 6 + 6]),
    ("of_map", [32 * 9 * 16 + 16, 256 * 32 + 32, 32 * 6 + 6]),
)


every_net = pytest.mark.parametrize("name", [name for name, _ in COUNTS])


def test_all_are_tested_here():
    assert {name for name, _ in COUNTS} == {*LOCALISATIONS, "of_map"}
    assert sum(COUNTS[0][1]) == 8_544, "as many as in the tutorial"


@pytest.mark.parametrize(("name", "counts"), COUNTS)
def test_parameters_are_as_many_as_its_layers_have(name, counts):
    assert sum(p.numel() for p in of_32_px(name).parameters()) == sum(counts)


@pytest.mark.parametrize(("name", "least_px"), [("lenet", 18), ("paper", 24), ("deep", 16), ("of_map", 4)])
def test_images_may_be_as_small_as_documented_and_have_any_size_above(name, least_px):
    build = of_map if name == "of_map" else LOCALISATIONS[name]
    num = {sum(p.numel() for p in build(3, 6, px).parameters()) for px in (least_px, least_px + 1, 67)}
    assert len(num) == 1, "the parameters do not depend on the size"
    for image_px in (least_px, least_px + 1, 67):
        assert build(3, 6, image_px).eval()(torch.rand(2, 3, image_px, image_px)).shape == (2, 6)
    with pytest.raises(ValueError, match=rf"^[^\n]* of {least_px} px or more, got {least_px - 1}$"):
        build(3, 6, least_px - 1)


@every_net
def test_localisation_starts_at_zero_and_can_learn(name):
    net = of_32_px(name)
    x_BCHW = torch.rand(4, 32, 16, 16) if name == "of_map" else torch.rand(4, 3, 32, 32)
    params_BP = predict(net, x_BCHW)
    assert params_BP.shape == (4, 6) and not params_BP.any()
    params_BP.sum().backward()
    last = net[-1]
    assert isinstance(last, nn.Linear)
    assert last.weight.grad is not None and last.weight.grad.any()


@every_net
def test_a_disturbed_start_is_drawn_from_a_normal_distribution(name):
    net, draw = of_32_px(name), 0.02
    disturb(net, 0.0)
    last = net[-1]
    assert isinstance(last, nn.Linear) and not last.weight.any()
    disturb(net, draw)
    num = last.weight.numel()
    assert last.weight.std().item() == pytest.approx(draw, rel=4 / math.sqrt(2 * num))
    assert abs(last.weight.mean().item()) < 4 * draw / math.sqrt(num)
    assert not last.bias.any()


def test_predictions_are_float32_under_autocast():
    net = of_32_px("lenet")
    disturb(net, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.rand(2, 3, 32, 32)).dtype == torch.bfloat16
        assert predict(net, torch.rand(2, 3, 32, 32)).dtype == torch.float32
