"""What all commands share: help from the module's own text, and faults told in one line."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parents[1]
"""The clone that this package runs from; site-packages where it was installed plainly."""


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
    """Do the job: 0 when done, 2 after a line about a UserError or OSError, 130 when stopped."""
    try:
        job()
    except UserError as error:
        print(f"tad {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `tad list | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the disk is full, a folder stands in the file's place, ...
        print(f"tad {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"tad {name}: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def plain_logging() -> None:
    """Messages of a command line: plain lines on standard error, libraries kept quiet."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("transformers", "accelerate", "datasets", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
