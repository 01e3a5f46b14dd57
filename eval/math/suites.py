"""What one evaluation is made of: which items, under which prompt, with which limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.math import problems as analogues
from eval.math.datasets import DATASETS, Dataset, load_items
from eval.math.prompts import Prompt, load_prompt

SuiteName = Literal["paper", "smoke"]


@dataclass(frozen=True, slots=True)
class Suite:
    """Defaults of a suite; None leaves a choice to the data set's entry.

    ``shots`` exemplars, at most ``max_new_tokens`` an answer, the first ``limit`` items of each
    set, ``batch_size`` prompts at once. ``analogue``: generated problems instead of the real sets.
    """

    shots: int | None
    max_new_tokens: int | None
    limit: int | None
    batch_size: int
    analogue: bool


SUITES: dict[SuiteName, Suite] = {
    "paper": Suite(shots=None, max_new_tokens=None, limit=None, batch_size=16, analogue=False),
    # Tiny models have contexts of about 128 tokens and learn the layout in the supervised stage.
    "smoke": Suite(shots=0, max_new_tokens=64, limit=50, batch_size=64, analogue=True),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One item ready to be asked."""

    idx: int
    question: str
    gold: str


@dataclass(frozen=True, slots=True)
class Task:
    """A data set as this evaluation runs it."""

    dataset: Dataset
    prompt: Prompt
    cases: tuple[Case, ...]
    max_new_tokens: int

    def chance(self) -> float:
        """Percent right for always giving the commonest gold answer."""
        golds = Counter(case.gold for case in self.cases)
        return 100 * golds.most_common(1)[0][1] / len(self.cases)


def load_tasks(
    suite: Suite,
    *,
    names: list[str] | None = None,
    data: Path | None = None,
    prompts: Path | None = None,
) -> list[Task]:
    """The tasks of a suite, in the tables' order, from ``data`` (see ``load_items``).

    Without ``data`` the analogue suite generates its items (seed 0), the paper's asks the hub.
    With shots, an analogue takes its exemplars from ``data/train`` or the train side. Raises
    ValueError for an unknown name, DataError and PromptError as the loaders do.
    """
    unknown = [name for name in names or () if name not in DATASETS]
    if unknown:
        raise ValueError(f"data set {unknown[0]!r}: must be one of {', '.join(DATASETS)}")
    tasks = []
    for name, dataset in DATASETS.items():
        if names and name not in names:
            continue
        items = _items(suite, dataset, data)
        prompt = load_prompt(
            dataset,
            folder=prompts,
            train=_train_pairs(suite, dataset) if suite.analogue and prompts is None else None,
            shots=suite.shots,
        )
        cases = tuple(
            Case(int(item["idx"]), dataset.ask(item), dataset.gold(item))
            for item in items[: suite.limit]
        )
        tasks.append(Task(dataset, prompt, cases, suite.max_new_tokens or dataset.max_new_tokens))
    return tasks


def _items(suite: Suite, dataset: Dataset, data: Path | None) -> list[dict[str, Any]]:
    if suite.analogue and data is None:
        return analogues.items(dataset.name, "test", suite.limit or 100)
    return load_items(dataset, data)


def _train_pairs(suite: Suite, dataset: Dataset) -> list[tuple[str, str]]:
    count = dataset.shots if suite.shots is None else suite.shots
    drawn = analogues.problems(dataset.name, "train", count)
    return [(dataset.ask(problem.item), problem.solution) for problem in drawn]
