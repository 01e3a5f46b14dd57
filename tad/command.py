"""What all command lines share: help from the module's own text, and faults told in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable


class UserError(Exception):
    """A fault of the input: a message of one line that names the cure, and exit code 2.

    Whatever else is raised is a fault of ours, and keeps its traceback.
    """


def command_line(module: str, text: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m module`` whose ``--help`` opens with the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def exit_code(module: str, job: Callable[[], object]) -> int:
    """Do the job: 0 when done, 2 after telling a UserError on standard error."""
    try:
        job()
    except UserError as error:
        print(f"{module}: {error}", file=sys.stderr)
        return 2
    return 0
