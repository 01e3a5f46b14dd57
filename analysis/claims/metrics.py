"""The numbers of a run that claims are about: the record each is in, and how two are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.resampled import Sample, documents, fewshot_items, math_items, sequences
from analysis.results import TASKS
from analysis.telling import average


class NotTestable(Exception):
    """A claim that the records of this scale cannot decide, and why: an outcome, not a fault."""


@dataclass(frozen=True)
class Metric:
    """A number of a run: the file it is in, how to read it, and the scale it is compared on.

    ``read`` takes the content of ``record`` (an object, or a list of lines for .jsonl). With
    ``ratio`` two runs are compared by the logarithm of their ratio, shown in percent; otherwise by
    their difference in ``unit``. ``items`` says that results item by item lie beside the record.
    ``vanishes``: it may rightly be 0, and then has no ratio. ``over`` is of a benchmark: it takes
    the record and the names of the tasks to average over, as ``tasks`` are where they are given;
    only those count on which the teacher does not guess. ``sample`` reads, of the folder of a run,
    what the metric is of each item or document, to resample where there is one seed.
    """

    name: str
    record: str
    read: Callable[[Any], float]
    unit: str
    ratio: bool = False
    items: bool = False
    vanishes: bool = False
    over: Callable[[Any, Sequence[str]], float] | None = None
    tasks: tuple[str, ...] = ()
    sample: Callable[[Path], Sample] | None = None

    def on(self, telling: Sequence[str]) -> Metric | None:
        """This metric on those of its tasks that tell methods apart; None where none does."""
        names = tuple(name for name in telling if not self.tasks or name in self.tasks)
        if not names:
            return None
        return replace(self, read=lambda record: self.over(record, names), tasks=names)


def _last(name: str) -> Callable[[Any], float]:
    return lambda lines: [line[name] for line in lines if name in line][-1]


def _mean(name: str) -> Callable[[Any], float]:
    return lambda record: record["metrics"][name]["mean"]


def _step_memory(manifest: dict[str, Any]) -> float:
    if manifest.get("step_memory_bytes") is None:
        raise NotTestable(
            "the records hold the memory of the process alone, half of which is libraries; runs "
            "of today record what a step allocates"
        )
    return manifest["step_memory_bytes"]


def kl_at(from_end: int) -> Metric:
    """Held-out KL at an evaluation during training; 0 is the last one."""
    ordinal = "last" if from_end == 0 else f"last but {from_end}"
    return Metric(
        f"held-out KL, {ordinal} evaluation",
        "train.jsonl",
        lambda lines: eval_points(lines)[-1 - from_end],
        "%",
        ratio=True,
    )


def eval_points(lines: list[dict[str, Any]]) -> list[float]:
    """Held-out KL at each evaluation of a train.jsonl, in its order."""
    return [line["eval_kl"] for line in lines if "eval_kl" in line]


def _rise(lines: list[dict[str, Any]]) -> float:
    """Held-out CLM + KL at the end of training less that before it."""
    points = [line["eval_loss"] for line in lines if "eval_loss" in line]
    return points[-1] - points[0]


def task_accuracy(task: str) -> Metric:
    """Accuracy in one few-shot task."""
    return Metric(
        f"accuracy in {TASKS.get(task, task)}",
        "fewshot.json",
        lambda record: average(record, [task]),
        "points",
        items=True,
        over=average,
        tasks=(task,),
        sample=fewshot_items,
    )


KL = Metric("held-out KL(T||S)", "heldout.json", _mean("kl"), "%", ratio=True,
            sample=documents("kl"))  # fmt: skip
NLL = Metric("held-out NLL", "heldout.json", _mean("nll"), "nats", sample=documents("nll"))
LOSS = Metric("CLM + KL", "train.jsonl", _last("eval_loss"), "nats/token")
RISE = Metric("CLM + KL, end of training less start", "train.jsonl", _rise, "nats/token")
SPEED = Metric("tokens a second", "train.jsonl", _last("tokens_per_second"), "%", ratio=True)
MEMORY = Metric("memory allocated in a step", "manifest.json", _step_memory, "%", ratio=True)
FEWSHOT = Metric("few-shot Avg", "fewshot.json", lambda record: 100 * record["average"], "points",
                 items=True, over=average, sample=fewshot_items)  # fmt: skip
FULL_ECE = Metric(
    "Full-ECE",
    "calibration.json",
    lambda record: record["full_ece"],
    "%",
    ratio=True,
    vanishes=True,
    sample=sequences,
)
FULL_ECE_POINTS = Metric(
    "Full-ECE",
    "calibration.json",
    lambda record: 100 * record["full_ece"],
    "points",
    sample=sequences,
)
MATH = Metric("math Avg", "math.json", lambda record: record["average"]["compat"], "points",
              over=average, sample=math_items)  # fmt: skip

BY_NAME = {"kl": KL, "nll": NLL, "full_ece": FULL_ECE_POINTS, "fewshot": FEWSHOT}
"""Those that a primary claim may be about, as config/claims.yaml calls them."""
