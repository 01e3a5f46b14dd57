"""The math data sets, one module each: what is asked, what counts as the answer, how it runs.

A module here is found by being here: it defines ``DATASET``, with two small functions from an item
as its source stores it to the question and to the gold answer, where its exemplars come from, and
what draws problems in its shape where there is no network.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eval.items import ItemError

Item = Mapping[str, Any]
AnswerType = Literal["number", "number_or_text", "choice", "latex"]
Layout = Literal["question", "problem"]

STOP = ("</s>", "\n\nQuestion:", "\n\nProblem:")
"""Where a generation ends: base models go on to invent the next question."""

RIGHT_CHOICE = "What of the following is the right choice? Explain your answer."


def with_options(rows: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Exemplars of (question, listed options, answer)."""
    return [(f"{asked}\n{RIGHT_CHOICE}\n{listed}", answer) for asked, listed, answer in rows]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a data set lies on the hub; ``rename`` maps its field names to ours."""

    path: str
    splits: tuple[str, ...]
    name: str | None = None
    rename: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Exemplars:
    """A few-shot set: whose it is, its (question, answer) pairs, and the name of its file in the
    reference harness's folder of prompts."""

    source: str
    pairs: Callable[[], list[tuple[str, str]]]
    file: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An item with its data set's fields, the solution a model should write, and its identity.

    ``key`` is what train and test must not share: the question with its names and things, or in a
    harder set its numbers alone, whatever they are of. (A tiny model learns which of an easy set's
    few sums occur, and never gives one that was held out, however well it adds elsewhere.)
    """

    item: dict[str, Any]
    solution: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set. The metric is the share of items whose answer is graded right, in percent.

    ``column`` heads it in the tables, where ``place`` orders it; ``shots`` exemplars come first;
    ``fields`` are the keys an item must have, ``files`` other names that its items go by in a data
    folder; ``keep`` drops items the protocol drops; ``options`` counts an item's (0: its answer is
    open); ``analogue`` draws a problem with numbers up to a bound (none: the set is left out where
    problems are generated).
    """

    name: str
    column: str
    answer: AnswerType
    layout: Layout
    exemplars: Exemplars
    shots: int
    fields: tuple[str, ...]
    question: Callable[[Item], str]
    gold: Callable[[Item], str]
    options: Callable[[Item], int] = lambda item: 0
    place: int = 99
    analogue: Callable[[random.Random, int], Problem] | None = None
    files: tuple[str, ...] = ()
    hub: Hub | None = None
    keep: Callable[[Item], bool] = lambda item: True
    stop: tuple[str, ...] = STOP
    max_new_tokens: int = 1024

    def ask(self, item: Item) -> str:
        """The question as it stands in the prompt; yes-or-no questions say so."""
        question = self.question(item).strip()
        known = self.gold(item).strip().rstrip(".").lower()
        for pair in (("Yes", "No"), ("True", "False")):
            if known in (pair[0].lower(), pair[1].lower()):
                return f"{question} ({pair[0]} or {pair[1]})"
        return question


def last_box(solution: str) -> str:
    """What the last \\boxed{} (or ``\\boxed 7``) of a solution holds. Raises ItemError without."""
    _, found, rest = solution.rpartition("boxed")
    if not found:
        raise ItemError("solution: holds no \\boxed answer")
    return boxed(rest)


def boxed(rest: str) -> str:
    """What stands in the box of a text behind ``\\boxed``: to the brace that closes it."""
    if not rest.startswith("{"):
        return rest.split("$")[0].strip()
    depth = 0
    for index, char in enumerate(rest):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return rest[1:index]
    return rest[1:]
