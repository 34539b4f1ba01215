"""Runs in a tracker while they train: what a process of its own shows, which may hang or die and nothing is lost.

It follows the marks that runs in progress leave in the ledger, and logs their rows: online to the server, else into
files. When a run is committed, it is replayed whole, as every run is (replayer.py): offline in place of what is
here, online after what the server has by then. So that never both write of one run, this process has a file for each
that it has open, and opens none that is not wanted: `wanted/<key>` is the replayer's, `open/<key>` this process's, and
`shown/<key>` says that the server may have heard of the run.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from experiments.machine.parent_death import end_with_parent
from experiments.tracking.sink import Shown, Sink, sink_of
from ledger.ledger import Ledger
from ledger.markers import Following

LOOK_S = 1.0
"""From one look at the runs in progress to the next."""
SHORT_S = 3.0
"""A run that takes no longer is not worth opening: it is replayed at once."""
LET_GO_S = 20.0
"""For how long a run that is done may take to be closed: on cores that train, opening another one takes that long."""
RESTART_S, LONGEST_RESTART_S = 15.0, 240.0
"""After its end the process is started again: after so long, then after twice that, and so on."""


class Live:
    """The process, for the replayer. Nothing that trains waits for it, and its troubles are not reported.

    Args:
        environment: of the process: says where and as whom to log, and that all else goes into `scratch`.
        scratch: folder for what it writes besides runs.
        tracker: name of the sink.
    """

    def __init__(self, environment: Mapping[str, str], scratch: Path, *, online: bool, tracker: str = "wandb") -> None:
        self._environment, self._online, self._tracker = dict(environment), online, tracker
        self._folder = scratch / "live"
        self._wanted, self._open, self._shown = (self._folder / name for name in ("wanted", "open", "shown"))
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._is_over = threading.Event()

    def follow(self, following: Following) -> None:
        """Have a run shown from when it begins until it is let go."""
        if self._is_over.is_set():
            return
        try:
            for folder in (self._wanted, self._shown):
                folder.mkdir(parents=True, exist_ok=True)
            draft = self._folder / "draft"
            draft.write_text(json.dumps(following), encoding="utf-8")
            draft.replace(self._wanted / following["key"])
        except OSError:  # a full disk: it is replayed when it is done
            return
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, daemon=True)
            self._keeper.start()

    def let_go(self, key: str) -> bool:
        """No more is logged of the run after this; returns whether anything was."""
        (self._wanted / key).unlink(missing_ok=True)
        until = time.monotonic() + LET_GO_S
        while self._lives() and (self._open / key).exists():
            if time.monotonic() > until:
                self._kill()
            time.sleep(0.02)
        return (self._shown / key).exists()

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self._is_over.set()
        self._kill()

    def _lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _kill(self) -> None:
        if self._process and self._lives():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with a service that it has started

    def _keep(self) -> None:
        """Start it, again and again. This thread lives as long as the replayer, so the process ends with that."""
        pause_s = RESTART_S
        order = {"parent": os.getpid(), "folder": str(self._folder), "ledger": os.getcwd()}
        order |= {"online": self._online, "tracker": self._tracker}
        while not self._is_over.is_set():
            with suppress(OSError):  # no room for a folder, or for a process: tried again as after its end
                shutil.rmtree(self._open, ignore_errors=True)
                self._open.mkdir()
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "experiments.tracking.live", json.dumps(order)],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    process_group=0,
                )
                if self._is_over.is_set():  # `stop` may have come too early to see it
                    self._kill()
                self._process.wait()
            self._is_over.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RESTART_S)


class Screen:
    """What the process has open, by key, and since when it knows of each."""

    def __init__(self, ledger: Path, folder: Path, sink: Sink) -> None:
        self.ledger, self.sink = Ledger(ledger, read_only=True), sink
        self.wanted, self.open, self.shown = (folder / name for name in ("wanted", "open", "shown"))
        self.runs: dict[str, Shown] = {}
        self.seen_s: dict[str, float] = {}

    def look(self) -> None:
        """Close what is no longer wanted, and log what the runs in progress have done since the last look."""
        wanted = {path.name for path in self.wanted.iterdir()}
        for key in self.runs.keys() - wanted:
            self.runs.pop(key).close()
            (self.open / key).unlink()
        for key, mark in self.ledger.running().items() if wanted else ():
            now_s = time.monotonic()
            if key in wanted and now_s - self.seen_s.setdefault(key, now_s) >= SHORT_S and self.is_open(key):
                self.runs[key].log(mark.get("history", []))

    def is_open(self, key: str) -> bool:
        """Open the run, if need be and if it may be."""
        if key in self.runs:
            return True
        (self.open / key).touch()  # before this process asks whether it is wanted
        try:
            following: Following = json.loads((self.wanted / key).read_text(encoding="utf-8"))
        except FileNotFoundError:
            (self.open / key).unlink()
            return False
        (self.shown / key).touch()
        self.runs[key] = self.sink.show(following)
        return True


def serve(ledger: Path, folder: Path, tracker: str, *, online: bool) -> None:
    """Show runs until the end. Whatever goes wrong ends the process at once, without the library's work at its end."""
    os.chdir(folder if online else ledger)  # what is online writes nothing into the ledger
    try:
        screen = Screen(ledger, folder, sink_of(tracker, {}, online=online))
        while True:
            screen.look()
            time.sleep(LOOK_S)
    finally:
        os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = json.loads(sys.argv[1])
    end_with_parent(order["parent"], signal.SIGKILL)
    serve(Path(order["ledger"]), Path(order["folder"]), order["tracker"], online=order["online"])
