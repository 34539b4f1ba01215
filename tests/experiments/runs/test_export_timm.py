"""A pretrained network behind a transformer, trained on a lab's images, is handed over to whoever has torch alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.images.tasks import load_task
from experiments.networks.variants import parse_variant
from experiments.runs.export import export
from experiments.runs.run import Job, Source, make_run
from experiments.runs.trained import Classifier, load_trained
from ledger.config import Optim, Protocol, RunConfig, run_key
from ledger.ledger import Ledger
from tests.support.image_folders import make_classes

STRANGER = """
import json, sys, torch
model = torch.export.load("model.pt2").module()
print(json.dumps(model(torch.load("images.pt", weights_only=True)).softmax(1).tolist()))
assert not {"experiments", "stn", "baselines", "timm"} & {module.split(".")[0] for module in sys.modules}
"""


@pytest.mark.long
def test_it_loads_where_there_is_neither_this_project_nor_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("STN_BENCH_CACHE", str(tmp_path / "cache"))
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    source = Source(f"folder:{make_classes(tmp_path / 'images')}", "", 128, tmp_path / "cache")
    task = load_task(source.task, image_px=128, cache=source.cache, say=lambda line: None)
    protocol = Protocol(
        image_px=128, train_images=15, val_images=3, epochs=1, batch_size=8, optimiser="adamw", schedule="cosine",
        precision="fp32", device="cpu", robustness="none",
    )  # fmt: skip
    variant = f"stn_affine@timm:test_resnet:weights={tmp_path / 'weights.pth'}:lr_decay=0.8"
    run = RunConfig(variant=str(parse_variant(variant)), protocol=protocol, optim=Optim(lr=1e-3))
    ledger = Ledger(tmp_path / "runs")
    key = make_run(Job(run, run_key(run, task.content_hash), source, ledger.root), torch.device("cpu"))
    assert ledger.read(key)["status"] == "completed"
    assert str(tmp_path) not in (ledger.folder(key) / "run.json").read_text()
    shutil.rmtree(tmp_path / "cache")  # what it started from is not needed any more
    trained, out = load_trained(ledger, key), tmp_path / "out"
    export(trained, out)
    images_BCHW = torch.rand(3, 3, 128, 128)
    torch.save(images_BCHW, out / "images.pt")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER], cwd=out, env=environment, capture_output=True, text=True, check=True
    )
    with torch.no_grad():
        expected = Classifier(trained)(images_BCHW).softmax(1)
    torch.testing.assert_close(torch.tensor(json.loads(told.stdout)), expected, atol=1e-5, rtol=0)
