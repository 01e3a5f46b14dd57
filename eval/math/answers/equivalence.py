"""The caller's end of the symbolic comparison: one reused worker process, safe from any thread.

``compare("strict", gold, answer)`` costs a few milliseconds, never more than the limits of
``worker`` and takes nothing down: a hostile expression is "not equal", with the event
"timeout", "memory" or "crash" to report.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tad.command import UserError

logger = logging.getLogger(__name__)

REPLY_SECONDS = 90.0
"""The worker's own limits are far lower; beyond this it is replaced as a whole."""

START_SECONDS = 600.0
"""Starting takes two seconds of work, but on a crowded machine these may be long in coming."""


class GradingError(UserError):
    """The grader itself does not work (a wrong version of a parser); no verdict can be trusted."""


class Worker:
    """A running ``python -m eval.math.answers.worker``; start-up takes about two seconds."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "eval.math.answers.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, bufsize=0, start_new_session=True,
        )  # fmt: skip
        self._owner = os.getpid()
        if self._read_line(START_SECONDS) is None:
            self.close()
            raise GradingError(
                "the worker of the math grader does not start; "
                f"run `{sys.executable} -m eval.math.answers.worker` to see why"
            )

    def ask(self, request: dict[str, str]) -> dict | None:
        """The reply to one request; None if the process died or did not answer in time."""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            return None
        return self._read_line(REPLY_SECONDS)

    def usable(self) -> bool:
        """Whether it runs and belongs to this process (a forked copy must not share its pipes)."""
        return self._owner == os.getpid() and self._process.poll() is None

    def close(self) -> None:
        """End the process and its child."""
        if self._owner != os.getpid():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read_line(self, seconds: float) -> dict | None:
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                return None
            line += chunk
        return json.loads(line)


_lock = threading.Lock()
_worker: Worker | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether two expressions are equal; what went wrong if something did ("timeout", "memory",
    "crash"); and the CPU seconds it took."""

    equal: bool
    event: str | None
    seconds: float


def compare(mode: str, gold: str, answer: str) -> Outcome:
    """Compare two LaTeX expressions in a mode (strict or compat).

    Raises GradingError if the worker cannot work at all.
    """
    with _lock:
        return _ask(mode, gold, answer)


@lru_cache(maxsize=10_000)
def _ask(mode: str, gold: str, answer: str) -> Outcome:
    global _worker
    if _worker is None or not _worker.usable():
        _worker = Worker()
        atexit.register(_worker.close)
    reply = _worker.ask({"op": mode, "gold": gold, "answer": answer})
    if reply is None:
        _worker.close()
        _worker = None
        reply = {"equal": False, "event": "crash", "seconds": 0.0}
    if reply["event"] == "error":
        raise GradingError(f"math grading is not usable here: {reply['message']}")
    if reply["event"]:
        logger.warning("comparison ended by %s: %.60s ... counts as wrong", reply["event"], answer)
    return Outcome(reply["equal"], reply["event"], reply["seconds"])
