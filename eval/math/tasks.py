"""What one evaluation is made of: which items, under which prompt, with which limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.math.datasets import DATASETS, Dataset, load_items
from eval.math.problems import GENERATED, items, problems
from eval.math.prompts import Prompt, load_prompt
from eval.options import OptionError


@dataclass(frozen=True, slots=True)
class Settings:
    """What a suite sets; None leaves a choice to the data set.

    ``shots`` exemplars, at most ``max_new_tokens`` an answer, the first ``limit`` items of each
    set, ``batch_size`` prompts at once. ``analogue``: generated problems instead of the real sets.
    """

    shots: int | None
    max_new_tokens: int | None
    limit: int | None
    batch_size: int
    analogue: bool


SUITES: dict[str, Settings] = {
    "paper": Settings(shots=None, max_new_tokens=None, limit=None, batch_size=16, analogue=False),
    # Tiny models have contexts of about 128 tokens and learn the layout in the supervised stage.
    "smoke": Settings(shots=0, max_new_tokens=64, limit=50, batch_size=64, analogue=True),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One item ready to be asked; ``options`` to choose from, 0 where the answer is open."""

    idx: int
    question: str
    gold: str
    options: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A data set as this evaluation runs it."""

    dataset: Dataset
    prompt: Prompt
    cases: tuple[Case, ...]
    max_new_tokens: int

    def chance(self) -> float:
        """Percent right for choosing among the options at random, where an item has any."""
        shares = [1 / case.options for case in self.cases if case.options]
        return 100 * sum(shares) / len(self.cases)

    def commonest(self) -> float:
        """Percent right for always giving the commonest gold answer."""
        golds = Counter(case.gold for case in self.cases)
        return 100 * golds.most_common(1)[0][1] / len(self.cases)


def load_tasks(
    settings: Settings,
    *,
    names: list[str] | None = None,
    data: Path | None = None,
    prompts: Path | None = None,
) -> list[Task]:
    """The tasks of a suite, in the tables' order, from ``data`` (see ``load_items``).

    Without ``data`` an analogue suite generates its items (seed 0), the paper's asks the hub.
    With shots, an analogue takes its exemplars from the train side. Raises OptionError for an
    unknown name, ItemError as the loaders do.
    """
    known = GENERATED if settings.analogue else DATASETS
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise OptionError(f"--datasets {unknown[0]}: must be of {', '.join(known)}")
    chosen = [dataset for name, dataset in known.items() if not names or name in names]
    return [_task(settings, dataset, data, prompts) for dataset in chosen]


def _task(settings: Settings, dataset: Dataset, data: Path | None, prompts: Path | None) -> Task:
    rows: list[dict[str, Any]]
    if settings.analogue and data is None:
        rows = items(dataset.name, "test", settings.limit or 100)
    else:
        rows = load_items(dataset, data)[: settings.limit]
    train = None
    if settings.analogue and prompts is None:
        count = dataset.shots if settings.shots is None else settings.shots
        drawn = problems(dataset.name, "train", count)
        train = [(dataset.ask(problem.item), problem.solution) for problem in drawn]
    prompt = load_prompt(dataset, folder=prompts, train=train, shots=settings.shots)
    cases = tuple(
        Case(int(row["idx"]), dataset.ask(row), dataset.gold(row), dataset.options(row))
        for row in rows
    )
    return Task(dataset, prompt, cases, settings.max_new_tokens or dataset.max_new_tokens)
