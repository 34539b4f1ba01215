"""Bringing runs to W&B's server: whether it answers at all, and `wandb sync`, which is ended when it does not.

W&B's client waits for a silent server for minutes, retries for hours, and calls a run delivered whose history or files
the server refused. So the server is asked for signs of life beside it, and its log is read after it.
"""

import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ASK_EVERY_S = 0.5
"""From one question to the server to the next, while runs are uploaded."""

QUESTION_S = 5.0
"""How long one question may wait; then it is asked anew, for a server that was restarted forgets the first."""

# What makes an upload fail in seconds rather than hours: W&B's own defaults retry for as long as the server is away.
FEW_RETRIES = {
    "WANDB_HTTP_TIMEOUT": "20",
    "WANDB__GRAPHQL_RETRY_MAX": "1",
    "WANDB__FILE_STREAM_RETRY_MAX": "2",
    "WANDB__FILE_TRANSFER_RETRY_MAX": "2",
    **{f"WANDB__{part}_RETRY_WAIT_MIN_SECONDS": "1" for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")},
    **{f"WANDB__{part}_RETRY_WAIT_MAX_SECONDS": "2" for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")},
}

NO_ANSWER = "the server does not answer"

REFUSALS = {
    401: "the server does not know this login (HTTP 401): run `python -m wandb login`",
    403: "the server does not let this login write there (HTTP 403): run `python -m wandb login` as somebody who may",
}


class Server:
    """Asks W&B's server from time to time whether it answers.

    The question needs no account and carries no credentials. Whatever comes back in HTTP is an answer, unless it says
    that the server is broken (5xx): what else there is to say about it is `wandb sync`'s to find out.

    Args:
        url: base URL, as W&B's settings have it.
        proxies: by scheme, those of W&B's settings; the environment's count besides.
        patience_s: asked again and again: for how long the server may be silent now.
    """

    def __init__(self, url: str, proxies: Mapping[str, str], patience_s: Callable[[], float]) -> None:
        proxy = urllib.request.ProxyHandler({**urllib.request.getproxies(), **proxies})
        self._opener = urllib.request.build_opener(proxy, _Stay())
        self._url, self._patience_s = url.rstrip("/") + "/graphql", patience_s
        self._question: _Question | None = None
        self._next = self._heard = -float("inf")  # by time.monotonic()
        self.trouble = ""
        """What came instead of the last answer."""

    def answers(self) -> bool:
        """Ask now and wait for the answer."""
        started, self._next, self._question, self.trouble = time.monotonic(), 0.0, None, ""
        while self._heard < started and not self.trouble and time.monotonic() - started <= self._patience_s():
            self._listen()
            time.sleep(0.02)
        self.trouble = self.trouble or NO_ANSWER
        return self._heard >= started

    def is_silent(self) -> bool:
        """Whether it has been silent for too long. Asks and hears without waiting, so this wants to be called often."""
        self._listen()
        return time.monotonic() - self._heard > self._patience_s()

    def _listen(self) -> None:
        now = time.monotonic()
        if self._question is None and now >= self._next:
            self._question, self._next = _Question(self._opener, self._url), now + ASK_EVERY_S
        elif self._question and self._question.is_answered.is_set():
            self.trouble = self._question.trouble
            if not self.trouble:
                self._heard = now
            self._question = None


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: that is an answer as well."""

    def redirect_request(self, *_: object) -> None: ...


class _Question:
    """One question, asked in a thread: looking up a name takes no time limit, and bytes may drip in for ever."""

    def __init__(self, opener: urllib.request.OpenerDirector, url: str) -> None:
        self.trouble, self.is_answered = "", threading.Event()
        threading.Thread(target=self._ask, args=(opener, url), daemon=True).start()

    def _ask(self, opener: urllib.request.OpenerDirector, url: str) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "stn-bench"}
        try:
            request = urllib.request.Request(url, b'{"query": "{ __typename }"}', headers)
            with opener.open(request, timeout=QUESTION_S):
                pass
        except urllib.error.HTTPError as answer:
            self.trouble = f"the server answers with HTTP {answer.code}" if answer.code >= 500 else ""
        except TimeoutError:
            self.trouble = NO_ANSWER
        except (OSError, http.client.HTTPException, ValueError) as fault:
            reason = getattr(fault, "reason", fault)  # of a URLError
            if not _is_certificate(reason):  # somebody is there; whether to trust them, W&B's client decides
                words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
                self.trouble = f"{NO_ANSWER} ({words[:1].lower()}{words[1:]})"
        self.is_answered.set()


def _is_certificate(reason: object) -> bool:
    import ssl

    return isinstance(reason, ssl.SSLCertVerificationError)


class Upload:
    """`wandb sync`, as one process that can be stopped at any time.

    Args:
        command: what starts it, up to the folders of the runs.
        account: environment that says where and as whom to upload.
        scratch: folder for what W&B writes besides: its log carries the user's name, so it must not be in the ledger.
        server: where to.
        stall_s: for how long no run need be finished while the server answers.
    """

    def __init__(
        self, command: Iterable[str], account: Mapping[str, str], scratch: Path, server: Server, stall_s: float
    ) -> None:
        self._server, self._stall_s = server, stall_s
        self._logs = scratch / "wandb" / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        places = {name: str(scratch) for name in ("TMPDIR", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
        self._environment = {**account, **FEW_RETRIES, **places}
        self._command = [*command]
        if entity := account.get("WANDB_ENTITY"):  # it does not read this one itself
            self._command += ["--entity", entity]
        self._process: subprocess.Popen[bytes] | None = None
        self.is_refused = False
        """Whether the server turned this account away when it was last tried."""
        self.is_away = False
        """Whether the server did not answer when it was last tried, so that the same may succeed later."""
        self.there: set[str] = set()
        """Ids of runs that were left alone, since the server has something of them."""

    def run(self, folders: Iterable[Path], on_done: Callable[[Path], None], *, resume: bool = False) -> str:
        """Upload the runs in W&B's folders; returns why some are not on the server, or nothing if all are.

        on_done: called with the folder of each run that is.
        resume: append to runs that are there already, as W&B's client does by itself; else they are left alone.
        """
        self.there = set()
        self.is_refused, self.is_away = False, not self._server.answers()
        if self.is_away:
            return self._server.trouble
        left = dict.fromkeys(folders)
        for log in self._logs.iterdir():
            log.unlink()
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                [*self._command, *map(str, left)],
                env=self._environment | ({} if resume else {"WANDB_RESUME": "never"}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            stopped = self._watch(self._process, left, on_done)
            self.stop()
            output.seek(0)
            said = output.read().decode(errors="replace").splitlines()
        self._take(left, on_done)
        self.there = set(re.findall(r"Run \(([^)]+)\) already exists", "\n".join(said)))
        if not left:
            return ""
        troubles = list(self._logged())
        refusals = [REFUSALS[trouble["status"]] for trouble in troubles if trouble.get("status") in REFUSALS]
        self.is_refused, self.is_away = bool(refusals), bool(self._server.trouble)
        errors = [line.partition("ERROR ")[2] or line.partition("Error: ")[2] for line in said]
        errors = [error for error in errors if error and not error.startswith("Find detailed error logs")]
        logged = [f"{trouble.get('msg')} {trouble.get('error', '')}" for trouble in troubles]
        broken = re.findall(r"HTTP (?:status )?(5\d\d)", "\n".join(logged))
        errors = (
            refusals
            or [stopped] * bool(stopped)
            or [f"the server answers with HTTP {status}" for status in broken]
            or errors
            or logged
        )
        return ", ".join([*dict.fromkeys(errors)][:2]) or f"`wandb sync` ended with status {self._process.returncode}"

    def ask(self, command: Iterable[str]) -> Any:
        """What a program says of the server, as JSON in its last line; None if it does not know."""
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                [*command],
                env={**self._environment, "WANDB_SILENT": "true"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
            self._watch(self._process, {}, lambda folder: None)
            self.stop()
            output.seek(0)
            try:
                return json.loads(output.read().splitlines()[-1])
            except (ValueError, IndexError):
                return None

    def _watch(
        self, process: "subprocess.Popen[bytes]", left: dict[Path, None], on_done: Callable[[Path], None]
    ) -> str:
        """Wait until it has ended, or should; returns why it should."""
        since = time.monotonic()
        while process.poll() is None:
            time.sleep(0.05)
            if self._take(left, on_done):
                since = time.monotonic()
            if self._server.is_silent():
                self._server.trouble = self._server.trouble or NO_ANSWER
                return self._server.trouble
            if time.monotonic() - since > self._stall_s:
                return f"no run finished within {self._stall_s:g} s"
        return ""

    def _take(self, left: dict[Path, None], on_done: Callable[[Path], None]) -> bool:
        """Strike out the runs that are on the server; returns whether there were any."""
        synced = [folder for folder in left if any(folder.glob("run-*.wandb.synced"))]
        # By this file W&B says that it has tried everything, also where the server refused some of it.
        failed = {Path(str(entry.get("sync_path"))).parent.name for entry in self._logged()} if synced else set()
        done = [folder for folder in synced if folder.name not in failed]
        for folder in done:
            on_done(folder)
            del left[folder]
        return bool(done)

    def _logged(self) -> Iterable[dict[str, Any]]:
        """The errors in its log, each with the file it is about. Errors that a retry mended are none."""
        for log in self._logs.glob("debug-sync*"):
            for line in log.read_text(errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the last one of a process that was killed
                    continue
                if isinstance(entry, dict) and re.match("ERROR|FATAL", str(entry.get("level"))):
                    yield entry

    def stop(self) -> None:
        """End it; its own service ends when it sees that."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def end_with_parent(parent: int, how: int) -> None:
    """Have this process ended by a signal when its parent ends, however that ends; where Linux is not, do nothing.

    parent: its process id; one that has ended already ends this one at once. To Linux, the end of the thread that
    started this process is its parent's.
    """
    if sys.platform == "linux":
        import ctypes
        import os

        set_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
        ctypes.CDLL(None).prctl(set_death_signal, how)
        if os.getppid() != parent:
            os.kill(os.getpid(), how)
