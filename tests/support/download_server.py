"""A server of this machine that stands in for where a data set is downloaded from."""

import contextlib
import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from experiments.images.tasks.downloads import DownloadError


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands between a download and this machine's server."""
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def failed_download(load: Callable[[Path], object], cache: Path) -> str:
    """The one line with which a data set could not be fetched; nothing is left of the attempt."""
    with pytest.raises(DownloadError) as error:
        load(cache)
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []
    assert socket.getdefaulttimeout() is None
    return str(error.value)


Request = http.server.BaseHTTPRequestHandler


@contextlib.contextmanager
def serve_with(answer: Callable[[Request], None]) -> Iterator[tuple[str, list[str]]]:
    """A server's address, which ends in a slash, and the names asked for so far. answer: to one request."""
    asked: list[str] = []

    class Answer(Request):
        def do_GET(self) -> None:
            asked.append(self.path.removeprefix("/"))
            with contextlib.suppress(ConnectionError):
                answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def serve(status: int, body: bytes | Mapping[str, bytes], length: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server as serve_with makes it, with the same status for all.

    body: the answer to every request, or the answers by name. length: what is promised, instead of the answer's own.
    """

    def send(request: Request) -> None:
        answer = body if isinstance(body, bytes) else body[request.path.removeprefix("/")]
        request.send_response(status)
        request.send_header("Content-Length", str(len(answer) if length is None else length))
        request.end_headers()
        request.wfile.write(answer)

    with serve_with(send) as served:
        yield served
