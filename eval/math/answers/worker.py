"""Symbolic comparison in a process of its own: ``python -m eval.math.answers.worker``.

The process imports sympy once, then forks a child that answers requests; a child that overruns
its time or memory, or crashes, is killed and replaced in milliseconds. One JSON line in
({"op", "gold", "answer"}), one out ({"equal", "event"}).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

from eval.math.answers.symbolic import OPERATIONS

CPU_SECONDS = 1.5
"""Work allowed to one comparison. CPU time, so that a busy machine does not change verdicts."""

KILL_SECONDS = 2.5
"""CPU time after which a child is killed: the timer cannot interrupt one long big-number step."""

STUCK_SECONDS = 60.0
"""Last resort against a child that neither works nor answers; in seconds of the clock."""

LOOK_SECONDS = 0.05

MEMORY_BYTES = 1 << 30
REQUESTS_A_CHILD = 2_000
"""sympy's caches grow; a fresh child starts from the imports alone."""


class OutOfTime(BaseException):
    """Raised by the CPU timer. No Exception, so that sympy's handlers do not swallow it."""


def answer_request(request: dict[str, str]) -> dict[str, Any]:
    """Carry out one request within CPU_SECONDS; anything that goes wrong means "not equal"."""

    def out_of_time(*_: Any) -> None:
        raise OutOfTime

    began = time.process_time()
    reply: dict[str, Any] = {"equal": False, "event": None}
    signal.signal(signal.SIGPROF, out_of_time)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        reply["equal"] = bool(OPERATIONS[request["op"]](request["gold"], request["answer"]))
    except OutOfTime:
        reply["event"] = "timeout"
    except MemoryError:
        reply["event"] = "memory"
    except ImportError as error:
        reply |= {"event": "error", "message": str(error)}
    except Exception:
        pass  # no LaTeX, too big, or beyond sympy: not equal
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return reply | {"seconds": time.process_time() - began}


def _serve_child(requests: int, replies: int) -> None:
    """The forked child's loop. Its limits are its own: the parent must stay able to fork."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.setrecursionlimit(3_000)
    for line in os.fdopen(requests, "rb"):
        os.write(replies, json.dumps(answer_request(json.loads(line))).encode() + b"\n")
    os._exit(0)


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used; the clock where the system does not tell (no /proc)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Child:
    """A forked worker and its two pipes."""

    def __init__(self) -> None:
        request_end, self.requests = os.pipe()
        self.replies, reply_end = os.pipe()
        self.served = 0
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.requests)
            os.close(self.replies)
            _serve_child(request_end, reply_end)
        os.close(request_end)
        os.close(reply_end)

    def ask(self, line: bytes) -> bytes | None:
        """Send a request; its reply line, or None if the child died or ran out of time."""
        self.served += 1
        try:
            os.write(self.requests, line)
        except BrokenPipeError:
            return None
        reply = b""
        began, worked = time.monotonic(), cpu_seconds(self.pid)
        while not reply.endswith(b"\n"):
            ready, _, _ = select.select([self.replies], [], [], LOOK_SECONDS)
            if ready:
                chunk = os.read(self.replies, 65536)
                if not chunk:
                    return None
                reply += chunk
            elif (
                cpu_seconds(self.pid) - worked > KILL_SECONDS
                or time.monotonic() - began > STUCK_SECONDS
            ):
                return None
        return reply

    def close(self) -> None:
        os.close(self.requests)
        os.close(self.replies)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


TIMED_OUT = (
    json.dumps({"equal": False, "event": "timeout", "seconds": KILL_SECONDS}).encode() + b"\n"
)


def main() -> None:
    """Serve requests from standard input until it ends."""
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # parsers print; the pipe is for replies only
    import latex2sympy2_extended  # noqa: F401  (imported once, shared with every child)
    import math_verify.grader  # noqa: F401
    import sympy.parsing.latex  # noqa: F401

    for equal in OPERATIONS.values():
        with contextlib.suppress(ImportError):  # the first request reports it, with its message
            equal("\\frac{1}{2}x", "0.5x")
    os.write(out, b'{"ready": true}\n')
    child = None
    for line in sys.stdin.buffer:
        child = child or Child()
        reply = child.ask(line)
        if reply is None or child.served >= REQUESTS_A_CHILD:
            child.close()
            child = None
        os.write(out, reply or TIMED_OUT)
    if child is not None:
        child.close()


if __name__ == "__main__":
    main()
