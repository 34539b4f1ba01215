"""Every model and every policy: stopped in each epoch and resumed, it leaves the bytes of a run in peace."""

from collections.abc import Callable
from pathlib import Path

import pytest

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from experiments.networks.models import MODELS
from experiments.runs.run import make_run
from ledger.ledger import Ledger
from tests.support.stopped_runs import CPU, as_in_a_worker, files_of, job_of, make_run_with_stops

EPOCHS = 3


def variants() -> list[str]:
    """Each model on its default backbone, each other backbone, and each policy."""
    names = [*MODELS, *(f"cnn@{name}" for name in BACKBONES if name != "cnn")]
    return [*names, *(f"cnn@lenet+{name}" for name in POLICIES if name != "none")]


@pytest.mark.long
def test_every_variant_goes_on_to_the_same_bytes(
    whole: bool, cache: Path, monkeypatch: pytest.MonkeyPatch, record_figures: Callable[..., None], tmp_path: Path
) -> None:
    """Weights, history, scores, predictions and pictures. In short form: one model that draws, and one policy."""
    as_in_a_worker(monkeypatch)
    names = variants() if whole else ["stn_random@lenet", "cnn@lenet+elastic"]
    assert len(names) == len(set(names))
    num_stops, unequal = 0, []
    for name in names:
        peaceful, stopped = (
            job_of(cache, tmp_path / kind / name, variant=name, stage="final", protocol={"epochs": EPOCHS})
            for kind in ("peaceful", "stopped")
        )
        make_run(peaceful, CPU)
        num_stops += make_run_with_stops(stopped, EPOCHS)
        record = Ledger(peaceful.ledger).read(peaceful.key)
        assert (record["status"], record["result"]["epochs"]) == ("completed", EPOCHS), name
        files = files_of(peaceful)
        assert "weights.safetensors" in files
        if files != files_of(stopped):
            unequal.append(name)
    assert unequal == []
    record_figures("stopped in each epoch", variants=len(names), stops=num_stops, unequal=len(unequal))
