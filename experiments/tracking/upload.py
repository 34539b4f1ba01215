"""Bringing runs to W&B's server: whether it answers at all, and `wandb sync`, which is ended when it does not.

W&B's client waits for a silent server for minutes, retries for hours, and calls a run delivered whose history or files
the server refused. So the server is asked for signs of life beside it, and its log is read after it.
"""

import contextlib
import http.client
import ipaddress
import json
import math
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

ASK_EVERY_S, ASK_IN_A_HURRY_S = 5.0, 0.5
"""From one question to the server to the next, while runs are uploaded; and where the patience is shorter than that."""
# What makes an upload fail in seconds rather than hours: W&B's own defaults retry for as long as the server is away.
FEW_RETRIES = {
    "WANDB_HTTP_TIMEOUT": "20",
    "WANDB__GRAPHQL_RETRY_MAX": "1",
    "WANDB__FILE_STREAM_RETRY_MAX": "2",
    "WANDB__FILE_TRANSFER_RETRY_MAX": "2",
    **{f"WANDB__{part}_RETRY_WAIT_MIN_SECONDS": "1" for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")},
    **{f"WANDB__{part}_RETRY_WAIT_MAX_SECONDS": "2" for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")},
}
PLACES = ("TMPDIR", "WANDB_DIR", *(f"WANDB_{kind}_DIR" for kind in ("CACHE", "CONFIG", "DATA")))
"""Variables that say where W&B writes."""
NO_ANSWER = "the server does not answer"
UNREACHED = r"connection refused|no such host|(?:host|network) is unreachable|deadline exceeded|i/o timeout"
"""Why nothing arrived, out of what W&B's client says at length."""
NO_LOG = "W&B's log of the upload is not as expected, so nothing shows that the runs arrived"
REFUSALS = {
    401: "the server does not know this login (HTTP 401): run `python -m wandb login`",
    403: "the server does not let this login write there (HTTP 403): run `python -m wandb login` as somebody who may",
}


class Server:
    """Asks W&B's server from time to time whether it answers.

    The question needs no account and carries no credentials. Whatever comes back in HTTP is an answer, unless it says
    that the server is broken (5xx): what else there is to say about it is `wandb sync`'s to find out. Where urllib may
    not get there as W&B's client does, nothing is asked, and the server counts as answering.

    Args:
        url: base URL, as W&B's settings have it.
        proxies: by scheme, those of W&B's settings; the environment's count besides.
        patience_s: asked again and again: for how long the server may be silent now.
    """

    def __init__(self, url: str, proxies: Mapping[str, str], patience_s: Callable[[], float]) -> None:
        parts = urllib.parse.urlsplit(url.rstrip("/") + "/graphql")
        self._opener = _opener(parts, proxies.get(parts.scheme, ""))
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._patience_s = patience_s
        self._question: Future[str] | None = None
        self._asked, self._silent_since = -math.inf, math.inf  # by time.monotonic()
        self.trouble = ""
        """What came instead of the last answer."""

    def answers(self) -> bool:
        """Ask now, and again until there is an answer or the patience is over."""
        self._question, self._asked, self._silent_since, self.trouble = None, -math.inf, time.monotonic(), ""
        while not (is_silent := self.is_silent()) and self._silent_since < math.inf:
            time.sleep(0.02)
        if is_silent:
            self.trouble = self.trouble or NO_ANSWER
        return not is_silent

    def is_silent(self) -> bool:
        """Whether it has been silent for too long. Asks and hears without waiting, so this wants to be called often."""
        self._listen()
        return time.monotonic() - self._silent_since > self._patience_s()

    def _listen(self) -> None:
        now, patience_s = time.monotonic(), self._patience_s()
        if self._opener is None:
            self._silent_since = math.inf
        elif self._question is None:
            if now >= self._asked + (ASK_EVERY_S if patience_s > ASK_EVERY_S else ASK_IN_A_HURRY_S):
                self._question, self._asked = _asked(self._opener, self._url, patience_s), now
                self._silent_since = min(self._silent_since, now)
        elif self._question.done():
            self.trouble = self._question.result()
            if not self.trouble:
                self._silent_since = math.inf
            self._question = None


def _opener(url: urllib.parse.SplitResult, proxy: str) -> urllib.request.OpenerDirector | None:
    """The way to a server, the same as that of W&B's client, which is Go's; None where urllib has none or another one.

    proxy: as W&B's settings have it, before those of the environment.
    """
    environment, is_exempt = urllib.request.getproxies(), bool(urllib.request.proxy_bypass(url.netloc))
    is_this_machine = url.hostname == "localhost"
    with contextlib.suppress(ValueError):
        is_this_machine = is_this_machine or ipaddress.ip_address(url.hostname or "").is_loopback
    if proxy and is_exempt:  # those of W&B's settings know no exemptions, but urllib does
        return None
    if not proxy and not is_exempt and not is_this_machine:
        proxy = environment.get(url.scheme, "")
        if proxy and re.search("[*/]", environment.get("no", "")):  # patterns and networks, which urllib does not know
            return None
    if proxy and not re.match(r"http://|[^:/]+(:\d+)?/?$", proxy):
        return None
    return urllib.request.build_opener(urllib.request.ProxyHandler({url.scheme: proxy} if proxy else {}), _Stay())


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: that is an answer as well."""

    def redirect_request(self, *_: object) -> None: ...


def _asked(opener: urllib.request.OpenerDirector, url: str, patience_s: float) -> "Future[str]":
    """What comes instead of an answer, or "": asked in a thread, as looking up a name may take for ever.

    It may wait for patience_s: where an upload fills the line, even an answer takes seconds.
    """
    trouble: Future[str] = Future()
    threading.Thread(target=lambda: trouble.set_result(_ask(opener, url, patience_s)), daemon=True).start()
    return trouble


def _ask(opener: urllib.request.OpenerDirector, url: str, patience_s: float) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": "stn-bench"}
    try:
        request = urllib.request.Request(url, b'{"query": "{ __typename }"}', headers)
        with opener.open(request, timeout=patience_s):
            return ""
    except urllib.error.HTTPError as answer:
        return f"the server answers with HTTP {answer.code}" if answer.code >= 500 else ""
    except TimeoutError:
        return NO_ANSWER
    except (http.client.InvalidURL, ValueError):
        return ""  # urllib cannot ask this server; W&B's client may
    except (OSError, http.client.HTTPException) as fault:
        reason = getattr(fault, "reason", fault)  # of a URLError
        # A server is there: whether to trust it, and what a proxy that refuses wants, W&B's client sees to.
        if not isinstance(reason, ssl.SSLError) and not re.match("Tunnel connection failed: 4", str(reason)):
            words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            return f"{NO_ANSWER} ({words[:1].lower()}{words[1:]})"
        return ""


class Upload:
    """`wandb sync`, as one process that can be stopped at any time.

    is_refused: the server turned this account away when it was last tried. is_away: it did not answer, so that the same
    may succeed later. there: ids of runs that were left alone, since the server has something of them.

    Args:
        command: what starts it, up to the folders of the runs.
        account: environment that says where and as whom to upload.
        scratch: folder for what W&B writes besides: its log carries the user's name, so it must not be in the ledger.
        server: where to.
        stall_s: for how long no run need be finished while the server answers, besides the time to send it.
    """

    def __init__(
        self, command: Iterable[str], account: Mapping[str, str], scratch: Path, server: Server, stall_s: float
    ) -> None:
        self._server, self._stall_s = server, stall_s
        self._logs = scratch / "wandb" / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._environment = {**account, **FEW_RETRIES, **dict.fromkeys(PLACES, str(scratch))}
        self._command = [*command]
        if entity := account.get("WANDB_ENTITY"):  # it does not read this one itself
            self._command += ["--entity", entity]
        self._process: subprocess.Popen[bytes] | None = None
        self.is_refused, self.is_away = False, False
        self.there: set[str] = set()

    def run(
        self, folders: Iterable[Path], on_done: Callable[[Path], None], *, slow_s: float = 0.0, resume: bool = False
    ) -> str:
        """Upload the runs in W&B's folders; returns why some are not on the server, or nothing if all are.

        on_done: called with the folder of each run that is.
        slow_s: how long it may take to send one of them.
        resume: append to runs that are there already, as W&B's client does by itself; else they are left alone.
        """
        self.there = set()
        self.is_refused, self.is_away = False, not self._server.answers()
        left = dict.fromkeys(folders)
        if self.is_away or not left:
            return self._server.trouble if self.is_away else ""
        for log in self._logs.iterdir():
            log.unlink()
        with tempfile.TemporaryFile() as output:
            command = [*self._command, *map(str, left)]
            environment = self._environment | ({} if resume else {"WANDB_RESUME": "never"})
            process = self._start(command, environment, stdout=output, stderr=output)
            stopped = self._watch(process, left, on_done, self._stall_s + slow_s)
            output.seek(0)
            printed = output.read().decode("utf-8", errors="replace").splitlines()
        self._take(left, on_done)
        self.there = set(re.findall(r"Run \(([^)]+)\) already exists", "\n".join(printed)))
        if not left:
            return ""
        entries = list(self._logged())
        troubles = [entry for entry in entries if not _is_harmless(entry)]
        refusals = [REFUSALS[trouble["status"]] for trouble in troubles if trouble.get("status") in REFUSALS]
        self.is_refused = bool(refusals)
        self.is_away = not refusals and (bool(self._server.trouble) or not self._server.answers())
        errors = [line.partition("ERROR ")[2] or line.partition("Error: ")[2] for line in printed]
        errors = [error for error in errors if error and not error.startswith("Find detailed error logs")]
        logged = [f"{trouble.get('msg')} {trouble.get('error', '')}" for trouble in troubles]
        broken = re.findall(r"HTTP (?:status )?(5\d\d)", "\n".join(logged))
        unreached = re.findall(UNREACHED, "\n".join([*errors, *logged]))
        errors = (
            refusals
            or [stopped] * bool(stopped)
            or [f"the server answers with HTTP {status}" for status in broken]
            or [f"{NO_ANSWER} ({cause})" for cause in unreached]
            or errors
            or logged
            or [NO_LOG] * (not entries)
        )
        return ", ".join([*dict.fromkeys(errors)][:2]) or f"`wandb sync` ended with status {process.returncode}"

    def ask(self, command: Iterable[str]) -> Any:
        """What a program says of the server, as JSON in its last line; None if it does not know."""
        with tempfile.TemporaryFile() as output:
            environment = self._environment | {"WANDB_SILENT": "true"}
            process = self._start([*command], environment, stdout=output, stderr=subprocess.DEVNULL)
            self._watch(process, {}, lambda folder: None, self._stall_s)
            output.seek(0)
            try:
                return json.loads(output.read().splitlines()[-1])
            except (ValueError, IndexError):
                return None

    def _start(self, command: list[str], environment: dict[str, str], **streams: Any) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **streams)
        return self._process

    def _watch(
        self,
        process: "subprocess.Popen[bytes]",
        left: dict[Path, None],
        on_done: Callable[[Path], None],
        stall_s: float,
    ) -> str:
        """Wait until it has ended, or has to be; ends it, and returns why."""
        since = time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(0.05)
                if self._take(left, on_done):
                    since = time.monotonic()
                if self._server.is_silent():
                    self._server.trouble = self._server.trouble or NO_ANSWER
                    return self._server.trouble
                if time.monotonic() - since > stall_s:
                    return f"no run finished within {stall_s:.0f} s"
            return ""
        finally:
            self.stop()

    def _take(self, left: dict[Path, None], on_done: Callable[[Path], None]) -> bool:
        """Strike out the runs that are on the server; returns whether there were any."""
        synced = [folder for folder in left if any(folder.glob("run-*.wandb.synced"))]
        # By this file W&B says that it has tried everything, also where the server refused some of it. So its log
        # must tell of the run, and nothing but what went well: a log that says nothing proves nothing.
        harmless: dict[str, bool] = {}
        for entry in self._logged() if synced else ():
            name = Path(str(entry.get("sync_path"))).parent.name
            harmless[name] = harmless.get(name, True) and _is_harmless(entry)
        done = [folder for folder in synced if harmless.get(folder.name, False)]
        for folder in done:
            on_done(folder)
            del left[folder]
        return bool(done)

    def _logged(self) -> Iterable[dict[str, Any]]:
        """What its log tells, each entry with its level and the file it is about."""
        for log in self._logs.glob("debug-sync*"):
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the last one of a process that was killed
                    continue
                if isinstance(entry, dict):
                    yield entry

    def stop(self) -> None:
        """End it; its own service ends when it sees that."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def _is_harmless(entry: Mapping[str, Any]) -> bool:
    """Whether nothing went wrong for good: errors that a retry mended are warnings."""
    return re.match("DEBUG|INFO|WARN", str(entry.get("level"))) is not None
