"""Run a module in a fork of a process that has the libraries loaded already.

    python workflow/warm.py tad run scratch/PAIR/METHOD/seed0 --config config/smoke.yaml

does what ``tad run ...`` does. Loading torch, transformers and lm-eval takes longer
than most jobs on tiny models, so at small scales the DAG's jobs share one process that does it
once: the first job starts it, it forks for every job, and it ends with the Snakemake that set
TAD_WARM to its process id. It loads libraries alone, no module of this project, so that a fork
always runs the code as it is on disk. Without TAD_WARM, on other systems than Linux, or where the
process does not come up, the module is run in this process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIBRARIES = (
    "torch",
    "transformers",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "datasets",
    "pandas",
    "scipy.stats",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)
WAIT = 180.0
"""Seconds that a job waits for the process to be ready before it goes on without it."""
LONGEST = 107
"""Bytes of a socket's path."""


def main() -> int:
    """The command line: a module and its arguments, or --serve and a socket."""
    arguments = sys.argv[1:]
    sys.path[0] = str(Path.cwd())  # where `python -m` looks first
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(__doc__)
        return 0 if arguments else 2
    if arguments[0] == "--serve":
        return serve(Path(arguments[1]), int(os.environ["TAD_WARM"]))
    connection = None
    if sys.platform == "linux" and os.environ.get("TAD_WARM"):
        try:
            connection = connect(socket_path())
        except (OSError, ValueError) as error:
            print(
                f"workflow.warm: loads the libraries for this job alone ({error})", file=sys.stderr
            )
    if connection is None:
        return run_here(*arguments)
    return ask(connection, arguments)


def run_here(module: str, *arguments: str) -> int:
    """Run a module in this process as ``python -m`` would; returns its exit code."""
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    return 0


# --- The side of a job ---------------------------------------------------------------------------


def socket_path() -> Path:
    """One socket for a Snakemake, an interpreter, and what the libraries read when they load.

    It lies in the first folder for temporary files whose name is short enough for a socket. Raises
    OSError where there is none that is ours.
    """
    names = ("TAD_WARM", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HOME")
    key = [sys.executable, *(os.environ.get(name, "") for name in names)]
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    places = (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp")
    for place in filter(None, places):
        path = Path(place) / f"tad-warm-{os.getuid()}" / digest
        if len(os.fsencode(path)) <= LONGEST and os.access(place, os.W_OK):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if path.parent.stat().st_uid != os.getuid():  # jobs must not be sent there
                raise OSError(f"{path.parent}: is not ours")
            return path
    raise OSError("no folder for temporary files has a name that is short enough for a socket")


def connect(path: Path) -> socket.socket | None:
    """A connection to the process, which is started if need be; None if it does not come up."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = _try(path)
        if connection is not None:
            return connection
        path.unlink(missing_ok=True)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + WAIT
        while time.monotonic() < end and server.poll() is None:
            connection = _try(path)
            if connection is not None:
                return connection
            time.sleep(0.05)
    return None


def _try(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def ask(connection: socket.socket, arguments: list[str]) -> int:
    """Have a job done with this process's folder, environment and output; returns its exit code.

    The job is killed if this process ends before it.
    """
    order = {"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ)}
    message = json.dumps(order).encode()
    with connection:
        socket.send_fds(connection, [len(message).to_bytes(8, "big")], [1, 2])
        connection.sendall(message)
        answer = connection.recv(4)
    if len(answer) < 4:
        print("workflow.warm: the process that ran this job is gone", file=sys.stderr)
        return 1
    return int.from_bytes(answer, "big", signed=True)


# --- The process with the libraries --------------------------------------------------------------


def serve(path: Path, owner: int) -> int:
    """Load LIBRARIES, then fork for every connection until the process ``owner`` has ended."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # a job that needs it will say so itself
            importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    jobs: dict[int, socket.socket] = {}
    try:
        while jobs or _alive(owner):
            ready, _, _ = select.select([listener, *jobs.values()], [], [], 0.05 if jobs else 1.0)
            if listener in ready:
                connection, _ = listener.accept()
                child = _fork(connection, listener)
                if child:
                    jobs[child] = connection
            for child, connection in jobs.items():
                if connection in ready and _closed(connection):
                    _kill(child)  # who asked for it has ended
            _reap(jobs)
    finally:
        path.unlink(missing_ok=True)
    return 0


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _closed(connection: socket.socket) -> bool:
    """Whether the other side is gone; an order that its child has not read yet is left there."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _reap(jobs: dict[int, socket.socket]) -> None:
    """Tell the exit codes of children that have ended."""
    for child in list(jobs):
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            continue
        code = os.waitstatus_to_exitcode(status)
        with jobs.pop(child) as connection, contextlib.suppress(OSError):
            # A signal's number as the shell reports it.
            connection.sendall((code if code >= 0 else 128 - code).to_bytes(4, "big", signed=True))


def _fork(connection: socket.socket, listener: socket.socket) -> int:
    """Fork for the order of a connection; returns the child's process id. Never returns there."""
    child = os.fork()
    if child:
        with contextlib.suppress(OSError):
            os.setpgid(child, child)  # both sides do, so that it is done whoever is first
        return child
    code = 1
    try:
        os.setpgid(0, 0)  # a group of its own, killed as a whole
        listener.close()
        arguments = _take_over(connection)
        code = run_here(*arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _take_over(connection: socket.socket) -> list[str]:
    """Read an order, and take its output, environment and folder; returns its arguments."""
    head, descriptors, _, _ = socket.recv_fds(connection, 8, 2)
    size, message = int.from_bytes(head, "big"), b""
    while len(message) < size:
        message += connection.recv(size - len(message))
    order = json.loads(message)
    for target, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.path[0] = order["cwd"]  # where `python -m` looks first
    return order["arguments"]


if __name__ == "__main__":
    sys.exit(main())
