"""A study on a cluster, while its hosts come and go: the same tables as on one machine."""

import filecmp
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger.checksums import SUMS
from ledger.ledger import Ledger
from tests.cluster.two_hosts import KINDS, Hosts, Unavailable, two_hosts
from tests.support.command_line import run, wait_for
from tests.support.tiny_study import STUDY, TINY, write_sweep

NUM_RUNS = 6
MEASURED = ("times.*", "report.html")
"""What is measured anew in each repetition."""
SWEEP = ("sweep", "--budget", "smoke")

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def best_hosts(tmp_path: Path) -> Iterator[Hosts]:
    """As far apart as can be had here."""
    with ExitStack() as stack:
        for kind in KINDS:
            try:
                yield stack.enter_context(two_hosts(tmp_path / "hosts", kind))
                return
            except Unavailable as reason:
                print(reason)
        pytest.skip("no hosts can be made here")


def test_tables_are_those_of_one_machine_although_a_host_is_lost(
    best_hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Its processes are killed; with --whole it loses its power, which Ray notices late."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    protocol = TINY["protocol"] | {"train_images": 600, "epochs": 12}
    search = TINY["search"] | {"trials": 1}
    write_sweep(best_hosts.folder, protocol=protocol, search=search)
    ledger = Ledger(best_hosts.folder / "runs")
    sweep = best_hosts.start(*SWEEP, "--executor", "ray", WANDB_MODE="disabled")
    # Both hosts are at work, and the supervisor has something to go on from.
    at_work = lambda: {path.parent for path in ledger.root.glob("running/*/epoch-*")}  # noqa: E731
    wait_for(lambda: len(at_work()) >= 2 or sweep.poll() is not None)
    under_way = {path.stem for path in ledger.root.glob("running/*.json")}
    kept = {path.name for path in ledger.root.glob("running/*/epoch-*")}
    best_hosts.lose("second", silently=whole)
    output, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, errors
    assert len(under_way) == 2 and kept
    assert "2 nodes, 2 cores" in output
    assert "has left the cluster" in output
    assert len(ledger) == NUM_RUNS
    assert not list(ledger.root.glob("running/*"))

    here = tmp_path / "here"
    here.mkdir()
    write_sweep(here, protocol=protocol, search=search)
    told = run(*SWEEP, "--executor", "local", cwd=here, patience_s=600)
    assert told.returncode == 0, told.stderr
    assert_same_study(best_hosts.folder, here)


def assert_same_study(one: Path, other: Path) -> None:
    """The same bytes in the ledger, of every run and study, and in the reports: but for what was measured."""
    files = [sorted(path.relative_to(each) for path in each.glob("reports/**/*.*")) for each in (one, other)]
    assert files[0] == files[1] and len(files[0]) > 30
    compared = [path for path in files[0] if not any(path.match(pattern) for pattern in MEASURED)]
    assert not [path for path in compared if not filecmp.cmp(one / path, other / path, shallow=False)]
    ledgers = [Ledger(each / "runs") for each in (one, other)]
    assert ledgers[0].folders() == ledgers[1].folders()
    for key in ledgers[0].folders():
        ledgers[0].check(key)
        names = [sorted(path.name for path in each.folder(key).iterdir()) for each in ledgers]
        assert names[0] == names[1]
        for name in set(names[0]) - {"cost.json", SUMS}:
            assert filecmp.cmp(ledgers[0].folder(key) / name, ledgers[1].folder(key) / name, shallow=False), (key, name)
        assert ledgers[0].read(key, "cost.json")["code"] == ledgers[1].read(key, "cost.json")["code"]
    studies = [json.dumps(each.read_study(STUDY)) for each in ledgers]
    assert studies[0] == studies[1]
