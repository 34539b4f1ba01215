"""A stand-in for W&B's server, on this machine."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Enough of W&B's protocol, on this machine, to take runs: GraphQL, file_stream and uploads.

    runs: by id, what arrived: the arguments of the run, `config`, `history`, `summary`, `exit_code`, `files`.
    artifacts: by name, type and content. status: what every request is answered with, if not 200.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.status = 200
        self.num_requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.num_requests += 1
                answer = server.answer(self.path, body) if server.status == 200 else {}
                content = json.dumps(answer).encode()
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_PUT = do_GET = do_POST

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None: ...  # W&B hangs up as it likes

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/graphql":
            query = json.loads(body)
            return {"data": getattr(self, query["operationName"], lambda **_: {})(**(query.get("variables") or {}))}
        if match := re.fullmatch(r"/files/team/[^/]+/([^/]+)/file_stream", path):
            run, sent = self.runs[match[1]], json.loads(body)
            for name, chunk in sent.get("files", {}).items():
                lines = [json.loads(line) for line in chunk["content"]]
                if name == "wandb-history.jsonl":
                    run["history"][chunk["offset"] :] = lines
                elif name == "wandb-summary.json":
                    run["summary"] = lines[-1]
            run["exit_code"] = sent.get("exitcode", run["exit_code"])
        elif path.startswith("/upload/run/"):
            _, _, _, run_id, name = path.split("/", 4)
            self.runs[run_id]["files"][name] = body
        elif path.startswith("/upload/artifact/"):
            _, _, _, name, file = path.split("/", 4)
            self.artifacts[name]["files"][file] = body
        return {}

    def UpsertBucket(self, **run: Any) -> dict[str, Any]:
        known = self.runs.setdefault(
            run["name"], {"config": {}, "history": [], "summary": {}, "exit_code": None, "files": {}, "upserts": 0}
        )
        known["upserts"] += 1
        known["config"] |= {name: part["value"] for name, part in json.loads(run.pop("config") or "{}").items()}
        known.update({name: value for name, value in run.items() if value is not None})
        project = {"id": "p", "name": known["project"], "entity": {"id": "e", "name": run["entity"] or "team"}}
        bucket = {"id": run["name"], "name": run["name"], "displayName": known.get("displayName"), "description": ""}
        bucket |= {"config": "{}", "sweepName": None, "historyLineCount": 0, "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def ServerFeaturesQuery(self) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def CreateRunFiles(self, run: str, files: list[str], **_: Any) -> dict[str, Any]:
        links = [{"name": name, "uploadUrl": f"{self.url}/upload/run/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": links}}

    def CreateArtifact(self, input: dict[str, Any]) -> dict[str, Any]:
        name = input["artifactCollectionName"]
        self.artifacts[name] = {"type": input["artifactTypeName"], "run": input["runName"], "files": {}}
        artifact = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
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
        self.artifacts[artifactID]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": "d"}}}
