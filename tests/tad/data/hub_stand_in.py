"""A stand-in of the hub's HTTP interface on the loopback, for one data set, whose wires break.

It answers what ``datasets`` and ``huggingface_hub`` ask to list and to read a repository: the
repository's state, its tree, information on paths, and files, whole or in ranges.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

ID = "somebody/text"
REPOSITORY = Path(__file__).parents[3]


@dataclass
class Hub:
    """What is served, and what happened.

    ``cut`` says of a file what becomes of each answer with content, in order: "" for nothing, or in
    the middle of it the connection is closed ("close"), reset ("reset"), or the process
    ``victim`` killed ("kill"). Files in ``damaged`` arrive with a byte changed. ``sent`` counts the
    bytes of each file.
    """

    files: dict[str, bytes]
    cut: dict[str, list[str]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    victim: int | None = None
    commit: str = "c" * 40
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def environment(self, folder: Path) -> dict[str, str]:
        """That of a command in ``folder`` that takes this for the hub."""
        return {
            **{k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"},
            "PYTHONPATH": str(REPOSITORY), "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": self.url, "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip

    def info(self, path: str) -> dict[str, object]:
        content = self.files[path]
        sha = hashlib.sha256(content).hexdigest()
        about = {"type": "file", "path": path, "oid": sha[:40], "size": len(content)}
        if path.endswith(".parquet"):
            about["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 134}
        return about

    def tree(self, folder: str, recursive: bool) -> list[dict[str, object]]:
        inside = [path for path in self.files if path.startswith(folder)]
        files = [path for path in inside if recursive or "/" not in path[len(folder) :]]
        deeper = {path[len(folder) :].split("/")[0] for path in inside if path not in files}
        folders = [{"type": "directory", "path": folder + name, "oid": "0" * 40} for name in deeper]
        return [*folders, *map(self.info, files)]


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", cut: str = "", **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", headers.pop("length", str(len(body))))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True
                if cut == "kill":
                    self.wfile.flush()
                    os.kill(hub.victim, signal.SIGKILL)
                if cut == "reset":
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        def json(self, value: object) -> None:
            self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            hub.asked.append((self.command, path))
            if path.startswith(api := f"/api/datasets/{ID}"):
                self.ask_api(path[len(api) :].strip("/").split("/"), parse_qs(parts.query))
            elif path.startswith(files := f"/datasets/{ID}/resolve/"):
                self.ask_file(path[len(files) :].partition("/")[2])
            else:
                self.answer(404, X_Error_Code="RepoNotFound")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            hub.asked.append(("POST", self.path))
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            kind = self.headers.get("Content-Type", "")
            paths = json.loads(body)["paths"] if "json" in kind else parse_qs(body)["paths"]
            self.json([hub.info(path) for path in paths if path in hub.files])

        def ask_api(self, rest: list[str], query: dict[str, list[str]]) -> None:
            if rest[0] == "tree":
                folder = "".join(f"{name}/" for name in rest[2:])
                self.json(hub.tree(folder, query.get("recursive", ["false"])[0].lower() == "true"))
            else:
                siblings = [{"rfilename": path} for path in hub.files]
                self.json({"id": ID, "sha": hub.commit, "siblings": siblings, "tags": []})

        def ask_file(self, path: str) -> None:
            about = {"X_Repo_Commit": hub.commit, "Accept_Ranges": "bytes"}
            if path not in hub.files:
                self.answer(404, X_Error_Code="EntryNotFound", **about)
                return
            content = hub.files[path]
            if path in hub.damaged:
                content = content[:-1] + bytes([content[-1] ^ 1])
            about["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            asked = self.headers.get("Range")
            status = 206 if asked else 200
            if asked:
                first, last = asked.removeprefix("bytes=").split("-")
                start, end = int(first), int(last or len(content) - 1)
                about["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
                content = content[start : end + 1]
            waiting = hub.cut.get(path, [])
            cut = waiting.pop(0) if waiting and self.command == "GET" else ""
            if self.command == "GET":
                hub.sent[path] = hub.sent.get(path, 0) + len(content) // (2 if cut else 1)
            self.answer(status, content, cut, **about)

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def shutdown_request(self, request: socket.socket) -> None:
        self.close_request(request)  # without the orderly end that a reset connection lacks


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub while it answers at ``hub.url``."""
    server = Server(("127.0.0.1", 0), handler(hub))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
