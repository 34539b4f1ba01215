"""A stand-in for W&B's server, on this machine, that can be told to misbehave."""

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["hole", "slow", "garbage", "hang up", "die", "500", "401", "403"]
"""What the server does instead of answering.

hole: reads the request and says nothing. slow: answers rightly, 20 s late. garbage: bytes that mean nothing, as an
answer that went well. hang up: closes the connection. die: so, and takes no more. A number: that status, and back
comes the request's header, as careless servers do.
"""

SLOW_S = 20.0


class Server:
    """Enough of W&B's protocol, on this machine, to take runs: GraphQL, file_stream and uploads.

    runs: by id, what arrived: the arguments of the run, `config`, `history` by line number, `summary`, `exit_code`,
    `files`, and how often each came: `upserts`, and `sent`, the number of history lines that were sent.
    artifacts: by name, type and content; `versions` has a state by digest, by which W&B tells them apart.
    faulty_since: time.monotonic() of the first request that a fault met.
    num_requests: those of W&B's client. num_questions: those without credentials, whether somebody is there.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.num_requests = self.num_questions = 0
        self.seconds_per_mib = 0.0
        self._fault: Fault | None = None
        self._after, self._paths = 0, ""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self.faulty_since: float | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_POST(self) -> None:
                body = self._read()
                asked = self.path != "/graphql" or self.headers.get("Authorization") is not None
                with server._lock:
                    server.num_requests += asked
                    server.num_questions += not asked
                    fault = server._fault_of(self.path, asked)
                    if fault and server.faulty_since is None:
                        server.faulty_since = time.monotonic()
                if fault in ("hang up", "die"):
                    if fault == "die":
                        threading.Thread(target=server._stop, daemon=True).start()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                elif fault == "hole":
                    server._closing.wait()
                    self.close_connection = True
                elif fault == "garbage":
                    if self.path.startswith("/upload/"):  # which is taken, as its status says
                        server.answer(self.path, body)
                    self._send(200, b"\x00\xff<html>{]" * 10)
                elif fault and fault.isdigit():
                    self._send(int(fault), json.dumps({"errors": [str(self.headers)]}).encode())
                else:
                    if fault == "slow":
                        server._closing.wait(SLOW_S)
                    with server._lock:
                        answer = server.answer(self.path, body)
                    self._send(200, json.dumps(answer).encode())

            do_PUT = do_GET = do_POST

            def _read(self) -> bytes:
                left, parts = int(self.headers.get("Content-Length") or 0), []
                while left > 0 and (part := self.rfile.read(min(left, 1 << 18))):
                    parts.append(part)
                    left -= len(part)
                    time.sleep(server.seconds_per_mib * len(part) / 2**20)
                return b"".join(parts)

            def _send(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None: ...  # W&B hangs up as it likes

        self._serve = Quiet, Handler
        self._start()

    def _start(self) -> None:
        server, handler = self._serve
        self._closing.clear()
        self.http = server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def restart(self) -> None:
        """Come back healthy, at another `url`, with what had arrived."""
        self.close()
        self.misbehave(None)
        self._start()

    def forget(self) -> None:
        """Begin with no run and no artifact."""
        with self._lock:
            self.runs, self.artifacts = {}, {}

    def misbehave(self, fault: Fault | None, *, after: int = 0, paths: str = "") -> None:
        """From the `after`th request of W&B's client on (and for everybody from then), or never with None.

        paths: regular expression; only for requests of such paths.
        """
        with self._lock:
            self._fault, self._after, self._paths = fault, self.num_requests + after, paths
            self.faulty_since = None

    def _fault_of(self, path: str, asked: bool) -> Fault | None:
        begun = self.num_requests > self._after if asked else self.num_requests >= self._after
        return self._fault if begun and re.match(self._paths, path) else None

    def close(self) -> None:
        self._closing.set()
        self._stop()

    def _stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/graphql":
            query = json.loads(body)
            named = re.match(r"\s*(?:query|mutation) (\w+)", query["query"])
            known: Any = getattr(self, query.get("operationName") or (named[1] if named else ""), lambda **_: {})
            return {"data": known(**(query.get("variables") or {}))}
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            run, sent = self.runs[match[1]], json.loads(body)
            for name, chunk in sent.get("files", {}).items():
                lines = [json.loads(line) for line in chunk["content"]]
                if name == "wandb-history.jsonl":
                    run["lines"].update(enumerate(lines, chunk["offset"]))
                    run["sent"] += len(lines)
                elif name == "wandb-summary.json":
                    run["summary"] = lines[-1]
            run["history"] = [line for _, line in sorted(run["lines"].items())]
            run["exit_code"] = sent.get("exitcode", run["exit_code"])
        elif path.startswith("/upload/run/"):
            _, _, _, run_id, name = path.split("/", 4)
            self.runs[run_id]["files"][name] = body
        elif path.startswith("/upload/artifact/"):
            _, _, _, name, file = path.split("/", 4)
            self.artifacts[name]["files"][file] = body
        return {}

    def UpsertBucket(self, **run: Any) -> dict[str, Any]:
        is_new = run["name"] not in self.runs
        empty: dict[str, Any] = {
            "config": {},
            "lines": {},
            "history": [],
            "summary": {},
            "exit_code": None,
            "files": {},
        }
        known = self.runs.setdefault(run["name"], {**empty, "upserts": 0, "sent": 0})
        known["upserts"] += 1
        known["config"] |= {name: part["value"] for name, part in json.loads(run.pop("config") or "{}").items()}
        known.update({name: value for name, value in run.items() if value is not None})
        project = {"id": "p", "name": known["project"], "entity": {"id": "e", "name": run["entity"] or "team"}}
        bucket = {"id": run["name"], "name": run["name"], "displayName": known.get("displayName"), "description": ""}
        bucket |= {"config": "{}", "sweepName": None, "historyLineCount": len(known["lines"]), "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def Viewer(self) -> dict[str, Any]:
        return {"viewer": {"id": "v", "entity": "team", "username": "somebody", "flags": "{}", "teams": {"edges": []}}}

    def Rows(self, project: str, entity: str | None, name: str) -> dict[str, Any]:
        return {"model": {"bucket": self.runs.get(name) and {"historyLineCount": len(self.runs[name]["lines"])}}}

    def RunResumeStatus(self, project: str, entity: str | None, name: str) -> dict[str, Any]:
        known = self.runs.get(name)
        if not known:
            return {"model": None}
        counts = {"logLineCount": 0, "historyLineCount": len(known["lines"]), "eventsLineCount": 0}
        texts = {
            "summaryMetrics": "{}",
            "config": "{}",
            "historyTail": json.dumps([json.dumps(line) for line in known["history"][-1:]]),
            "eventsTail": "[]",
            "wandbConfig": '{"t":1}',
        }
        bucket = {"id": name, "name": name, "displayName": name, "tags": [], **counts, **texts}
        return {"model": {"id": "p", "name": project, "entity": {"id": "e", "name": "team"}, "bucket": bucket}}

    def ServerFeaturesQuery(self) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def CreateRunFiles(self, run: str, files: list[str], **_: Any) -> dict[str, Any]:
        links = [{"name": name, "uploadUrl": f"{self.url}/upload/run/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": links}}

    def CreateArtifact(self, input: dict[str, Any]) -> dict[str, Any]:
        name = input["artifactCollectionName"]
        known: dict[str, Any] = self.artifacts.setdefault(name, {"versions": {}})
        # The same content is the same version.
        state = known["versions"].setdefault(input["digest"], "PENDING")
        if state == "PENDING":
            known |= {
                "type": input["artifactTypeName"],
                "run": input["runName"],
                "files": {},
                "digest": input["digest"],
            }
        artifact = {"id": name, "state": state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def CreateArtifactManifest(self, artifactID: str, name: str, **_: Any) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{self.url}/upload/artifact/{artifactID}/{name}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def CreateArtifactFiles(self, input: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in input["artifactFiles"]:
            artifact = file["artifactID"]
            url = f"{self.url}/upload/artifact/{artifact}/{file['name']}"
            node: dict[str, Any] = {
                "storagePath": "s",
                "uploadUrl": url,
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
            }
            edges.append({"node": {**node, "artifact": {"id": artifact}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def CommitArtifact(self, artifactID: str) -> dict[str, Any]:
        known = self.artifacts[artifactID]
        known["committed"] = True
        known["versions"][known["digest"]] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": "d"}}}
