"""Two manifests of one study as one: whatever a study was split by, its parts are the whole again."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.united_study import Misfit, united

Study = dict[str, Any]


def make(variants: list[str], seeds: range, *, per_seed: bool, rungs: int = 0) -> Study:
    """A study that is done; each key says of which variant, seed and size its run is."""
    planned = {
        "num_finals": len(seeds), "first_seed": seeds[0] if seeds else 1,
        "claims": {"alpha": 0.05, "margin": 0.01, "declared": True, "family": [
            {"pose": "upright", "variant": name, "baseline": "cnn", "interaction": False} for name in variants[1:]
        ]},
        "protocol_hash": "12345678", "num_trials": 2, "sampler": "tpe", "tuning": "per_seed" if per_seed else "once",
        "rungs": [{"train_images": 10}] * rungs, "tuned_at": None,
        "spaces": {f"upright/{name}": {"optim.lr": {}} for name in variants},
    }  # fmt: skip
    tunings = [f"-t{seed}" for seed in seeds] if per_seed else ["-t"]
    arms = [
        {
            "pose": "upright", "variant": name, "baseline": "cnn", "space": {"optim.lr": {}},
            "trials": [f"{name}{tuning}-{i}" for tuning in tunings for i in range(2)],
            "winners": [f"{name}{tuning}-1" for tuning in tunings], "finals": [f"{name}-{seed}" for seed in seeds],
            "rungs": [[f"{name}-{seed}-at{rung}" for seed in seeds] for rung in range(rungs)],
        }
        for name in variants
    ]  # fmt: skip
    about = {"format": 5, "study": "s", "budget": "cpu", "protocol": {"epochs": 3}, "found": {"device": "cpu"}}
    task = {"content_hash": "aa", "classes": ["a", "b"], "label": "T"}
    source = {"file": "sweep.yaml", "overrides": {"epochs": {"now": 3, "was": 2}}}
    return {**about, "task": task, "source": source, **planned, "arms": arms, "first": copy.deepcopy(planned)}


sizes = st.booleans(), st.integers(0, 2)


@given(*sizes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 5))
def test_parts_by_seeds_are_the_whole(
    per_seed: bool, rungs: int, num_one: int, num_two: int, common: int, first: int
) -> None:
    """Also where both have some of the seeds."""
    end = first + num_one + num_two
    one = make(["cnn", "stn"], range(first, first + num_one), per_seed=per_seed, rungs=rungs)
    two = make(["cnn", "stn"], range(max(first, first + num_one - common), end), per_seed=per_seed, rungs=rungs)
    whole = make(["cnn", "stn"], range(first, end), per_seed=per_seed, rungs=rungs)
    assert united(one, two) == united(two, one) == whole
    assert list(united(one, two)) == list(whole)  # the same bytes


@given(*sizes, st.permutations(["stn", "cnn+affine", "stn+affine"]), st.integers(0, 3), st.integers(1, 3))
def test_parts_by_variants_are_the_whole(
    per_seed: bool, rungs: int, others: list[str], at: int, num_seeds: int
) -> None:
    """Each part has what the others are compared with."""
    seeds = range(1, 1 + num_seeds)
    one, two, whole = (
        make(["cnn", *names], seeds, per_seed=per_seed, rungs=rungs) for names in (others[:at], others[at:], others)
    )
    assert united(one, two) == whole
    assert {arm["variant"]: arm for arm in united(two, one)["arms"]} == {arm["variant"]: arm for arm in whole["arms"]}
    assert united(whole, one) == united(whole, whole) == whole


def test_the_arm_that_came_further_is_taken() -> None:
    whole = make(["cnn", "stn"], range(1, 4), per_seed=False)
    behind = copy.deepcopy(whole)
    behind["arms"][1] |= {"trials": whole["arms"][1]["trials"][:1], "winners": [], "finals": []}
    assert united(whole, behind) == united(behind, whole) == whole
    elsewhere = copy.deepcopy(behind)
    elsewhere["arms"][1]["trials"] = ["another"]
    with pytest.raises(Misfit, match="lists runs of stn that the study here has not, and lacks others"):
        united(behind, elsewhere)


def test_what_was_changed_after_a_half_began_is_still_said() -> None:
    one, two = (make(["cnn"], range(seed, seed + 1), per_seed=False) for seed in (1, 2))
    two["first"]["num_trials"] = 7
    assert united(one, two)["first"] == united(two, one)["first"] == two["first"]


def test_of_two_commands_what_both_say_is_kept() -> None:
    one, two = (make(["cnn"], range(seed, seed + 1), per_seed=False) for seed in (1, 2))
    two["source"] = {
        "file": "other.yaml",
        "overrides": two["source"]["overrides"] | {"first_seed": {"now": 2, "was": 1}},
    }
    both = {"overrides": {"epochs": {"now": 3, "was": 2}}}
    assert united(one, two)["source"] == united(two, one)["source"] == both
    two["source"]["group"] = "csv:.../p.csv:id"  # older ledgers do not say it
    assert united(one, two)["source"] == united(two, one)["source"] == {**both, "group": "csv:.../p.csv:id"}
    one["source"]["group"] = "csv:p.csv:id"
    assert united(one, two)["source"] == {**both, "group": "csv:p.csv:id"}


def test_runs_of_a_seed_that_both_have_are_the_same() -> None:
    one, two = (make(["cnn"], range(seed, seed + 2), per_seed=True) for seed in (1, 2))
    for name, place in (("finals", 0), ("trials", 1), ("winners", 0)):
        changed = copy.deepcopy(two)
        changed["arms"][0][name][place] = "another"
        with pytest.raises(Misfit, match="has other runs of cnn with seed 2"):
            united(one, changed)


def of_factor(**pairs: Any) -> Study:
    study = make(["cnn"], range(1, 2), per_seed=False)
    values, studies = [int(name.strip("s")) for name in pairs], list(pairs.values())
    return study | {"factor": {"key": "protocol.image_px", "values": values, "studies": studies}}


def test_a_factor_has_the_values_of_both() -> None:
    less, more = of_factor(s16="a", s32="b"), of_factor(s16="a", s32="b", s64="c")
    other, without = of_factor(s64="c", s16="a"), make(["cnn"], range(1, 2), per_seed=False)
    for one, two in ((less, more), (more, less), (without, more), (more, without), (less, other), (more, more)):
        before = copy.deepcopy(one)
        assert united(one, two)["factor"] == more["factor"] and one == before
    assert "factor" not in united(without, without)


def test_another_factor_is_another_study() -> None:
    mine, theirs = of_factor(s16="a", s32="b"), of_factor(s16="a", s32="b")
    theirs["factor"]["key"] = "protocol.width"
    with pytest.raises(Misfit, match=r"its factor's key is .protocol\.width., and here .protocol\.image_px."):
        united(mine, theirs)
    with pytest.raises(Misfit, match=r"has the study d at protocol\.image_px = 32, and here that is b"):
        united(mine, of_factor(s16="a", s32="d"))


def test_seeds_and_variants_differ_one_at_a_time() -> None:
    one = make(["cnn"], range(1, 3), per_seed=False)
    with pytest.raises(Misfit, match="other variants and other final seeds"):
        united(one, make(["cnn", "stn"], range(3, 5), per_seed=False))
    with pytest.raises(Misfit, match="final seeds 5 to 6, and here are 1 to 2"):
        united(one, make(["cnn"], range(5, 7), per_seed=False))
