"""A stand-in of the hub's HTTP interface on the loopback: what it answers is said by the test.

It speaks what the checks ask: ``/api/models/ID`` and ``/api/datasets/ID`` (files and card), and
``/ID/resolve/main/FILE`` (HEAD, GET), with the status and headers that the hub gives.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """One of the hub's. ``files`` by name; ``mode`` says how it answers:

    ``open``; ``gated401`` and ``gated403`` (lists its files, hands out none); ``plain403`` (the
    same without the hub's header); ``private`` (401 to all); ``slow`` (no answer for as long as the
    test lasts); ``drip`` (a byte now and then); ``cut`` (half an answer); ``login`` (some HTML,
    status 200); ``broken`` (503).
    """

    files: dict[str, bytes] = field(default_factory=dict)
    mode: str = "open"
    sizes: dict[str, int] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)


class StandIn:
    """The server's state: repositories by ``models/ID`` or ``datasets/ID``, and what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()
        self.address = ""

    def model(self, name: str, **keys: Any) -> Repository:
        return self.repositories.setdefault(f"models/{name}", Repository(**keys))

    def dataset(self, name: str, **keys: Any) -> Repository:
        return self.repositories.setdefault(f"datasets/{name}", Repository(**keys))


@contextmanager
def serving() -> Iterator[StandIn]:
    """The stand-in, from a free port of the loopback, in threads of its own."""
    state = StandIn()

    class Handler(_Handler):
        hub = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)", path):
            self._info(f"{found[1]}/{found[2]}", found[2])
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._file(f"{found[1] or 'models/'}{found[2]}", found[3])
        else:
            self._send(404, b"{}")

    def _info(self, place: str, name: str) -> None:
        repository = self.hub.repositories.get(place)
        if repository is None:
            self._send(404, b'{"error": "not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        sizes = {n: len(content) for n, content in repository.files.items()} | repository.sizes
        siblings = [{"rfilename": n, "size": size, "blobId": "0"} for n, size in sizes.items()]
        gated = "manual" if repository.mode in ("gated401", "gated403", "plain403") else False
        answer = {"id": name, "sha": COMMIT, "gated": gated, "siblings": siblings}
        if repository.card:
            answer["cardData"] = repository.card
        body = json.dumps(answer).encode()
        if repository.mode == "private":
            self._send(401, b'{"error": "Repository not found"}')
        elif repository.mode == "slow":
            self.hub.closing.wait(30)
            self.close_connection = True
        elif repository.mode == "drip":
            self._drip(body)
        elif repository.mode == "cut":
            self._send(200, body[: len(body) // 2], length=len(body))
        elif repository.mode == "login":
            self._send(200, b"<html>log in to the network</html>")
        elif repository.mode == "broken":
            self._send(503, b"{}")
        else:
            self._send(200, body)

    def _file(self, place: str, name: str) -> None:
        repository = self.hub.repositories.get(place, Repository())
        code = {"gated401": 401, "gated403": 403, "plain403": 403}.get(repository.mode)
        if code is not None:
            plain = repository.mode == "plain403"
            self._send(code, b"{}", {} if plain else {"X-Error-Code": "GatedRepo"})
        elif name not in repository.files and name not in repository.sizes:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            content = repository.files.get(name, b"")
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(200, content, {"X-Repo-Commit": COMMIT, "ETag": tag})

    def _drip(self, body: bytes) -> None:
        """A byte now and then: no single wait is long, and it never ends."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body:
            if self.hub.closing.is_set():
                break
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.1)
        self.close_connection = True

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """``length`` announces another than is sent: the connection ends before."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = length is not None
