"""What all commands share: help from the module's own text, and faults told in one line."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parents[1]
"""The clone that this package runs from; site-packages where it was installed plainly."""

STOPPED = "stopped; the same command goes on"
"""What a command says to Ctrl-C."""


class UserError(Exception):
    """A fault of the input: a message of one line that names the cure, and exit code 2.

    Whatever else is raised is a fault of ours, and keeps its traceback.
    """


def optional(module: str) -> ModuleType:
    """Import what only the extra ``suite`` brings. Raises UserError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise UserError(f"{error.name} is not installed: pip install 'tad[suite]'") from None


def command_line(name: str, text: str | None) -> argparse.ArgumentParser:
    """A parser for ``tad NAME`` whose ``--help`` opens with the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"tad {name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def exit_code(name: str, job: Callable[[], object]) -> int:
    """Do the job: 0 when done, 2 after a line about a UserError or a file that cannot be written
    or read, 130 when stopped."""
    try:
        job()
    except BrokenPipeError:  # `tad list | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"tad {name}: {STOPPED}", file=sys.stderr)
        return 130
    except Exception as error:
        told = " ".join(str(error).split())
        disk = getattr(error, "errno", None) in FULL or any(mark in told for mark in UNWRITTEN)
        if not (disk or isinstance(error, UserError | OSError)):
            raise
        cure = "; make room or choose another place, and the same command goes on" if disk else ""
        print(f"tad {name}: {told}{cure}", file=sys.stderr)
        return 2
    return 0


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""A disk that is full or takes no files."""

UNWRITTEN = (
    *(f"(os error {number})" for number in FULL),
    "PytorchStreamWriter failed",
    "unexpected pos",
)
"""How safetensors and torch tell of one, by errors that are no OSError."""


def plain_logging() -> None:
    """Messages of a command line: plain lines on standard error, libraries kept quiet."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("transformers", "accelerate", "datasets", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
