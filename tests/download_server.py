"""A server of this machine that stands in for where a data set is downloaded from."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator, Mapping

import pytest


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands between a download and this machine's server."""
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@contextlib.contextmanager
def serve(status: int, body: bytes | Mapping[str, bytes], length: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server's address, which ends in a slash, and the names asked for so far.

    body: the answer to every request, or the answers by name. length: what is promised, instead of the answer's own.
    """
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path.removeprefix("/"))
            answer = body if isinstance(body, bytes) else body[asked[-1]]
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer) if length is None else length))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer)

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
