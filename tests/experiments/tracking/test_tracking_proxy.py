"""The question before an upload stops none that W&B's client can make: proxies, exemptions, addresses of all kinds."""

import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.tracking.tracker import Tracker
from experiments.tracking.upload import Server as Asked
from tests.experiments.tracking.test_tracking_upload import make_server
from tests.support.wandb_proxy import Socks
from tests.support.wandb_runs import commit, log_run
from tests.support.wandb_server import Server

DEAD = "127.0.0.1:9"  # where nothing listens
REFUSED = "the server does not answer (connection refused)"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def socks(server: Server) -> Iterator[Socks]:
    socks = Socks(server.http.server_port)
    yield socks
    socks.close()


def answers(url: str, proxies: dict[str, str] | None = None) -> bool:
    return Asked(url, proxies or {}, lambda: 0.5).answers()


def test_runs_are_uploaded_through_a_socks_proxy(
    tmp_path: Path, server: Server, socks: Socks, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path, "k1")
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.test")  # a name that only the proxy knows
    monkeypatch.setenv("HTTP_PROXY", f"socks5h://me:secret@{socks.place}")
    assert log_run(tmp_path, "k1", project="p", group="g", mode="online") is None
    assert {*server.runs} == {"k1"}
    assert {*socks.asked} == {"wandb.test"}
    assert {*socks.logins} == {("me", "secret")}
    assert server.num_questions == 0


@pytest.mark.long
def test_a_socks_proxy_that_is_away_is_said_in_few_words(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path, "k1")
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.test")
    monkeypatch.setenv("HTTP_PROXY", f"socks5://{DEAD}")
    with Tracker(tmp_path, project="p", group="g", mode="online", keys=["k1"]) as tracker:
        assert tracker.close(60) == 1
    assert tracker.problem == "upload failed, runs are kept here until the next sync: " + REFUSED


@pytest.mark.parametrize(
    ("url", "environment", "proxies"),
    [
        ("http://wandb.test", {"HTTP_PROXY": f"socks5://{DEAD}"}, {}),
        ("https://wandb.test", {"HTTPS_PROXY": f"socks5://{DEAD}"}, {}),
        ("https://wandb.test", {"HTTPS_PROXY": f"https://{DEAD}"}, {}),
        ("http://wandb.test", {"HTTP_PROXY": f"http://{DEAD}", "NO_PROXY": "localhost,*.test"}, {}),
        ("http://10.9.9.9", {"HTTP_PROXY": f"http://{DEAD}", "NO_PROXY": "10.0.0.0/8"}, {}),
        ("http://wandb.test", {"NO_PROXY": "wandb.test"}, {"http": f"http://{DEAD}"}),
        ("http://wandb.test", {}, {"http": f"https://{DEAD}"}),
    ],
)
def test_where_only_the_client_knows_the_way_it_is_let_go(
    url: str, environment: dict[str, str], proxies: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    server = Asked(url, proxies, lambda: 0.0)
    assert server.answers()
    assert (server.is_silent(), server.trouble) == (False, "")


def test_a_plain_proxy_is_asked_through(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in for any host; one that is dead is silence."""
    place = server.url.removeprefix("http://")
    for proxy in (place, f"http://{place}", f"http://me:secret@{place}/"):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert answers("http://wandb.test")
        monkeypatch.delenv("HTTP_PROXY")
        assert answers("http://wandb.test", {"http": f"http://{place}"})
    monkeypatch.setenv("HTTP_PROXY", f"http://{DEAD}")
    assert not answers("http://wandb.test")
    assert not answers(server.url, {"http": f"http://{DEAD}"})
    assert answers(server.url)  # the environment's proxy is not for this machine
    assert answers(server.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("NO_PROXY", "wandb.test")
    assert not answers("http://wandb.test:9")


def test_addresses_of_all_kinds(server: Server) -> None:
    host = server.url.removeprefix("http://")
    for url in (
        server.url,
        f"{server.url}/",
        f"{server.url}/in/a/folder/",
        f"http://me:secret@{host}",
        f"http://{host}/ü",
    ):
        assert answers(url), url
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        assert not answers(f"http://[::1]:{taken.getsockname()[1]}")


@pytest.mark.parametrize(("status", "is_there"), [("403 Forbidden", True), ("407 Login", True), ("502 Bad", False)])
def test_a_proxy_that_refuses_is_the_clients_to_see_to(status: str, is_there: bool) -> None:
    fault = urllib.error.URLError(OSError(f"Tunnel connection failed: {status}"))
    assert make_server(0.3, fault)[0].answers() == is_there
