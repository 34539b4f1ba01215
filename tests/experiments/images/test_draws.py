"""Random draws are Philox's, and functions of what they are for: nothing else can change them."""

import hashlib
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.images.draws import permutation, philox4x32, seed_of, uniform

indices = st.lists(st.integers(0, 2**40), min_size=1, max_size=30, unique=True)
seeds = st.integers(0, 2**31 - 1)
epochs = st.integers(0, 10_000)


def draw(index: list[int] | range, num_draws: int = 4, **changes) -> torch.Tensor:
    what_for: dict[str, Any] = {"seed": 0, "epoch": 1, "purpose": "augment"} | changes
    return uniform(torch.tensor(list(index)), num_draws, **what_for)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    counter_14 = torch.tensor([[int(word, 16) for word in counter.split()]])
    low, high = (int(word, 16) for word in key.split())
    words = philox4x32(counter_14, (low, high))[0].tolist()
    assert " ".join(f"{word:08x}" for word in words) == expected


def philox_of_whole_numbers(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds, from the paper's figure, in Python's numbers without end."""
    c, k = list(counter), list(key)
    for _ in range(10):
        product0, product1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            (product1 >> 32) ^ c[1] ^ k[0],
            product1 % 2**32,
            (product0 >> 32) ^ c[3] ^ k[1],
            product0 % 2**32,
        ]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


word = st.integers(0, 2**32 - 1)


@given(st.lists(word, min_size=4, max_size=4), st.lists(word, min_size=2, max_size=2))
def test_philox_is_exact_for_all_words(counter, key):
    words = philox4x32(torch.tensor([counter]), (key[0], key[1]))[0].tolist()
    assert words == philox_of_whole_numbers(counter, key)


@given(st.integers(0, 2**45), seeds, epochs)
def test_a_draw_is_the_word_of_its_image_epoch_and_place(index, seed, epoch):
    """Spelt out, so that a change that would give every run other numbers is seen."""
    key = seed_of(seed, "augment")
    words = [
        philox_of_whole_numbers([index % 2**32, index >> 32, epoch, block], [key % 2**32, key >> 32])
        for block in (0, 1)
    ]
    expected = [(number >> 8) / 2**24 for number in words[0] + words[1]][:6]
    assert draw([index], 6, seed=seed, epoch=epoch)[0].tolist() == expected


def test_a_seed_of_parts_stays_what_it_is():
    digest = hashlib.sha256(b"3/augment").hexdigest()
    assert seed_of(3, "augment") == int(digest[:16], 16) >> 1


def test_a_seed_is_a_function_of_all_its_parts():
    assert seed_of(1, "order") == seed_of(1, "order")
    different = {seed_of(1, 2, "x"), seed_of(12, "x"), seed_of(2, 1, "x"), seed_of(1, 2, "y"), seed_of("x", 1, 2)}
    assert len(different) == 5
    assert all(0 <= seed < 2**63 for seed in different)


@given(indices, seeds, epochs, st.randoms(use_true_random=False))
def test_a_draw_does_not_depend_on_order_or_batch(index, seed, epoch, random):
    together = draw(index, 5, seed=seed, epoch=epoch)
    order = random.sample(range(len(index)), len(index))
    shuffled = draw([index[i] for i in order], 5, seed=seed, epoch=epoch)
    assert torch.equal(shuffled, together[order])
    alone = torch.cat([draw([i], 5, seed=seed, epoch=epoch) for i in index])
    assert torch.equal(alone, together)


@given(indices, st.integers(0, 9), st.integers(0, 9))
def test_more_draws_begin_with_the_same_numbers(index, few, more):
    assert torch.equal(draw(index, few + more)[:, :few], draw(index, few))


@given(indices, seeds, epochs, st.integers(0, 9))
def test_draws_are_float32_in_0_1(index, seed, epoch, num_draws):
    u = draw(index, num_draws, seed=seed, epoch=epoch)
    assert u.shape == (len(index), num_draws)
    assert u.dtype == torch.float32
    assert ((u >= 0) & (u < 1)).all()


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 2}, {"purpose": "order"}, {"seed": 2**40}])
def test_another_seed_epoch_or_purpose_gives_other_numbers(change):
    ours, theirs = draw(range(1000)), draw(range(1000), **change)
    assert (ours == theirs).float().mean() < 0.01
    assert abs(np.corrcoef(ours.flatten(), theirs.flatten())[0, 1]) < 0.05


def test_indices_beyond_32_bits_have_their_own_numbers():
    assert not torch.equal(draw([5]), draw([5 + 2**32]))


def test_draws_are_uniform_and_independent():
    u_NK = draw(range(20_000), 6).double().numpy()
    for column in u_NK.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-3
    correlations = np.corrcoef(u_NK.T) - np.eye(6)
    assert np.abs(correlations).max() < 0.03
    neighbours = np.corrcoef(u_NK[:-1, 0], u_NK[1:, 0])[0, 1]
    assert abs(neighbours) < 0.03


@given(st.integers(0, 300), seeds, epochs)
def test_a_permutation_holds_every_index_once(num, seed, epoch):
    order = permutation(torch.arange(num), seed=seed, epoch=epoch, purpose="order")
    assert torch.equal(order.sort().values, torch.arange(num))


def test_a_permutation_is_a_function_of_seed_epoch_and_purpose():
    def order(**changes) -> torch.Tensor:
        what_for: dict[str, Any] = {"seed": 0, "epoch": 1, "purpose": "order"} | changes
        return permutation(torch.arange(500), **what_for)

    assert torch.equal(order(), order())
    for change in ({"seed": 1}, {"epoch": 2}, {"purpose": "split"}):
        assert not torch.equal(order(), order(**change))


def test_a_permutation_does_not_depend_on_the_order_it_is_given():
    index = torch.arange(500)
    shuffled = index[torch.randperm(500, generator=torch.Generator().manual_seed(0))]
    what_for = {"seed": 3, "epoch": 1}
    assert torch.equal(
        permutation(shuffled, purpose="order", **what_for), permutation(index, purpose="order", **what_for)
    )


def test_every_place_is_as_likely_for_every_index():
    first = torch.stack([permutation(torch.arange(10), seed=seed, epoch=1, purpose="order")[0] for seed in range(2000)])
    assert scipy.stats.chisquare(first.bincount(minlength=10).numpy()).pvalue > 1e-3


def test_draws_are_made_where_the_indices_are():
    assert uniform(torch.arange(3, device="meta"), 5, seed=0, epoch=0, purpose="x").device.type == "meta"
    assert uniform(torch.arange(3, device="meta"), 0, seed=0, epoch=0, purpose="x").device.type == "meta"
