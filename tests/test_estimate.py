"""How fast a variant trains: as the ledger knows it, else measured once, however many arms there are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import simulated_cluster
from benchmarks.simulated_cluster import Simulation, made_up_plan
from experiments.estimate import known_rates, rates_of_arms
from experiments.ledger import Ledger


def test_speed_is_measured_once_for_arms_that_differ_in_the_pose(tmp_path: Path) -> None:
    plan = made_up_plan(tmp_path, 40 * 25)  # two poses of 20 variants
    poses = list(dict.fromkeys(arm.pose for arm in plan.arms))
    large = tuple(replace(arm, pose="TC:canvas_px=60") for arm in plan.arms if arm.pose == poses[0])
    plan = replace(plan, arms=(*plan.arms, *large))
    measured: list[tuple[str, str]] = []

    def call(function: Callable[..., Any], arm: Any, *arguments: Any) -> Any:
        measured.append((arm.pose, arm.variant))
        return float(len(measured))

    rates = rates_of_arms(plan, Ledger(tmp_path / "runs"), call)
    variants = [arm.variant for arm in large]
    assert len(poses) == 2 and len(set(variants)) == 20
    assert measured == [(pose, variant) for pose in (poses[0], "TC:canvas_px=60") for variant in variants]
    assert rates == [*range(1, 21), *range(1, 21), *range(21, 41)]


def test_speed_is_that_of_the_last_runs_of_a_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUM_TRIALS": 6, "NUM_FINALS": 2, "NUM_EPOCHS": 2, "RUNS_OF_ARM": 8}.items():
        monkeypatch.setattr(simulated_cluster, name, value)
    simulation = Simulation(tmp_path, 21 * 8, 4, False)  # three poses of seven variants
    simulation.measure()
    plan, ledger = simulation.plan, Ledger(tmp_path / "runs", read_only=True)
    variant, reads = plan.arms[0].variant, list[str]()
    keys = [arm for arm in ledger.read_study(plan.name)["arms"] if arm["variant"] == variant]
    last = {key for arm in keys for key in (*arm["trials"], *arm["finals"])[-5:]}
    rates = {key: 100.0 * number for number, key in enumerate(sorted(last), 1)}

    def read(self: Ledger, key: str, name: str = "run.json") -> dict[str, Any]:
        reads.append(key)
        return {"images_per_s": rates.get(key)}

    monkeypatch.setattr(Ledger, "read", read)
    known = known_rates(plan, ledger)
    assert known == {variant: pytest.approx(sum(rates.values()) / len(rates))}  # the others have no figures
    assert len(reads) == len(plan.arms) * 5 and last <= set(reads)
    assert rates_of_arms(replace(plan, arms=plan.arms[:1]), ledger) == [known[variant]]
