"""What a check finds, as lines; and many checks at once, none of which can hang the others."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tqdm import tqdm

from tad.command import UserError

Level = Literal["ok", "warning", "failure"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "failure")


@dataclass(frozen=True)
class Finding:
    """One line: ``about`` names a key of the configuration or a part of the machine."""

    level: Level
    about: str
    found: str
    cure: str = ""

    def line(self) -> str:
        """The finding as it is printed."""
        told = f"{self.level:<9}{self.about}: {self.found}" + (
            f"; {self.cure}" if self.cure else ""
        )
        return " ".join(told.split("\n"))


@dataclass(frozen=True)
class Seen:
    """What came of looking at one thing.

    ``there``: it can be had whole. ``download``: bytes that the jobs will fetch of it. Of a data
    set: the ``sizes`` of its files in bytes, its ``card`` on the hub, its ``rows`` where counted.
    """

    findings: list[Finding] = field(default_factory=list)
    there: bool = False
    download: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None


@dataclass(frozen=True)
class Task:
    """A check of one thing, to be run beside others."""

    about: str
    look: Callable[[], Seen]


def look_at(tasks: Sequence[Task], seconds: float) -> list[Seen]:
    """Do all tasks at once, a thread each, and return what they saw in their order.

    A task that is not done after ``seconds`` is a failure and is left behind (its thread ends with
    the process). A UserError or OSError in a task is a failure with its text; whatever else it
    raises is a fault of ours, and is raised here. A terminal shows how many are done.
    """
    done: queue.Queue[tuple[int, Seen | BaseException]] = queue.Queue()
    for number, task in enumerate(tasks):
        threading.Thread(target=_into, args=(done, number, task.look), daemon=True).start()
    late = f"not answered within {seconds:g} s"
    seen = [
        Seen([Finding("failure", t.about, late, "try again, or give it more --timeout")])
        for t in tasks
    ]
    end = time.monotonic() + seconds
    with tqdm(
        total=len(tasks), desc="checking", leave=False, disable=not sys.stderr.isatty()
    ) as bar:
        for _ in tasks:
            try:
                number, result = done.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(result, UserError | OSError):
                result = Seen([Finding("failure", tasks[number].about, str(result))])
            if isinstance(result, BaseException):
                raise result
            seen[number] = result
            bar.update()
    return seen


def _into(done: queue.Queue[Any], number: int, look: Callable[[], Seen]) -> None:
    try:
        done.put((number, look()))
    except BaseException as error:  # handed to the thread that waits
        done.put((number, error))


def in_bytes(count: float) -> str:
    """A size in words, 10^9 bytes a GB: 3.1 GB, 120 MB."""
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"


def tokens(count: float) -> str:
    """A number of tokens in words: 5.7B, 160K."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"
