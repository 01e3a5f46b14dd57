"""The few-shot tasks as lm-eval's own, over the hub's data, local files or analogues."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.fewshot.tasks import SUITES, FewshotError, TaskSpec
from eval.items import ItemError, read_items

if TYPE_CHECKING:
    import datasets
    from lm_eval.api.task import ConfigurableTask

FEWSHOT_SEED = 1234
"""lm-eval's own default, for drawing few-shot examples."""


def sources_of(
    suite: str,
    tasks: Sequence[TaskSpec],
    *,
    local: Mapping[str, str | Path],
    analogues: str | Path | None,
) -> dict[str, Path | None]:
    """Folder of each task's JSONL files; None is the hub.

    ``local`` points single tasks to folders, ``analogues`` is what ``tad eval analogues`` wrote.
    Raises FewshotError for a task that is not in the suite, a missing folder, and analogues where
    the suite has none or the reverse: an analogue must never pass for the real task.
    """
    names = [task.name for task in tasks]
    for name in local:
        if name not in names:
            raise FewshotError(f"--local: task {name!r} is unknown (allowed: {', '.join(names)})")
    if SUITES[suite] != (analogues is not None):
        need = "needs --analogues" if SUITES[suite] else "has real tasks and takes no --analogues"
        raise FewshotError(f"suite {suite} {need}")
    if SUITES[suite] and local:
        raise FewshotError(f"suite {suite} has analogues only and takes no --local")
    if analogues is None:
        own = {task.name: task.data for task in tasks if task.data} | dict(local)
        return {name: Path(own[name]) if name in own else None for name in names}
    if not (Path(analogues) / "manifest.json").is_file():
        raise FewshotError(
            f"{analogues}: no analogues here (manifest.json is missing); make them with "
            "tad eval analogues"
        )
    return {t.name: Path(t.data) if t.data else Path(analogues) / t.name for t in tasks}


def build_task(
    spec: TaskSpec, folder: Path | None, shots: int, limit: int | None
) -> ConfigurableTask:
    """lm-eval's task with its requests, over the JSONL files of ``folder``, else the hub.

    Nothing but the data source differs from the packaged task. Raises ItemError and FewshotError
    for data that is missing or does not fit.
    """
    if folder is None:
        return _built(spec, None, shots, limit)
    rows = {spec.scored: read_items(folder / f"{spec.scored}.jsonl", spec.fields)[:limit]}
    if shots:
        rows[spec.examples] = read_items(folder / f"{spec.examples}.jsonl", spec.fields)
        if len(rows[spec.examples]) < shots:
            raise ItemError(
                f"{folder}/{spec.examples}.jsonl: {len(rows[spec.examples])} items, fewer than "
                f"{shots} shots"
            )
    try:
        task = _built(spec, rows, shots, limit)
        _check_options(task)
    except FewshotError:
        raise
    except Exception as error:  # whatever lm-eval's own code raises for an item
        raise ItemError(f"{folder}/{_culprit(spec, rows, error)}") from None
    return task


def _built(
    spec: TaskSpec, rows: dict[str, list[dict[str, Any]]] | None, shots: int, limit: int | None
) -> ConfigurableTask:
    import lm_eval.tasks

    _compile_templates_once()
    packaged = Path(lm_eval.tasks.__file__).parent / (spec.folder or spec.lm_eval)
    # Scanning all packaged tasks takes longer than a small suite; one folder is enough.
    manager = lm_eval.tasks.TaskManager(include_path=str(packaged), include_defaults=False)
    member: dict[str, Any] = {"task": spec.lm_eval}
    if rows is not None:
        member["custom_dataset"] = _in_memory(spec, rows)
    try:
        # An inline group is the public way to override fields of a registered task.
        loaded = manager.load([{"group": "tad", "task": [member]}])
    except (ConnectionError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FewshotError(
            f"{spec.name}: the hub's dataset cannot be had ({reason}); point the task to local "
            f"files: --local {spec.name}=FOLDER with {spec.scored}.jsonl and {spec.examples}.jsonl"
        ) from None
    task = loaded["tasks"][spec.lm_eval]
    _check_version(spec, task)
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    task.build_all_requests(limit=limit)
    return task


@functools.cache
def _compile_templates_once() -> None:
    """Keep compiled prompt templates: lm-eval compiles them anew for every item and field, which
    is a third of the time of a tiny model's suite."""
    from lm_eval.utils import env

    env.from_string = functools.lru_cache(maxsize=256)(env.from_string)


def _check_version(spec: TaskSpec, task: ConfigurableTask) -> None:
    """That the task's file says of it what lm-eval's own definition does."""
    scored = task.config.test_split or task.config.validation_split
    metrics = [entry["metric"] for entry in task.config.metric_list]
    best = "acc_norm" if "acc_norm" in metrics else "acc"
    if (scored, best, task.OUTPUT_TYPE) != (spec.scored, spec.metric, "multiple_choice"):
        raise FewshotError(
            f"{spec.name}.yaml has split {spec.scored} and metric {spec.metric}, "
            f"lm-eval has {scored} and {best}; the installed lm-eval is another version"
        )


def _in_memory(
    spec: TaskSpec, rows: dict[str, list[dict[str, Any]]]
) -> Callable[..., datasets.DatasetDict]:
    """What lm-eval calls for the data. Held in memory: no cache, no loader, no network."""

    def dataset(**_: Any) -> datasets.DatasetDict:
        import datasets

        made = {name: datasets.Dataset.from_list(items) for name, items in rows.items()}
        # lm-eval prepares its sampler of examples even for none; it then never draws from it.
        for split in ("train", "validation", "test"):
            made.setdefault(split, made[spec.scored])
        return datasets.DatasetDict(made)

    return dataset


def _check_options(task: ConfigurableTask) -> None:
    """Raise ValueError for an item whose options or right answer cannot be scored.

    lm-eval itself would end in an assertion or, where the answer is not among the options, count
    the item as wrong.
    """
    if len({instance.doc_id for instance in task.instances}) < len(task.eval_docs):
        raise ValueError("an item has no options")
    for instance in task.instances:
        if not instance.args[1].strip():
            raise ValueError("an option is empty")
        if instance.idx:
            continue  # another option of the same item
        choices = task.doc_to_choice(instance.doc)
        if not all(isinstance(choice, str) and choice.strip() for choice in choices):
            raise ValueError("an option is empty")
        ask = task.doc_to_text if task.multiple_input else task.doc_to_target
        right = ask(instance.doc)
        if isinstance(right, int) and not 0 <= right < len(choices):
            raise ValueError(f"the right answer is number {right + 1} of {len(choices)} options")


def _culprit(spec: TaskSpec, rows: dict[str, list[dict[str, Any]]], error: Exception) -> str:
    """File, place and fault of the first item that makes the task fail, found by halving."""

    def fault(items: list[dict[str, Any]]) -> Exception | None:
        try:
            _check_options(_built(spec, {spec.scored: items}, 0, None))
        except Exception as found:
            return found
        return None

    where = f"{spec.scored}.jsonl"
    for split, items in rows.items():
        if fault(items) is None:
            continue
        first, last = 0, len(items)
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (first, middle) if fault(items[first:middle]) else (middle, last)
        where = f"{split}.jsonl"
        alone = fault(items[first:last])
        if alone is not None:  # else items of different types, each good by itself
            where, error = f"{where}: item {first + 1}", alone
        break
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, LookupError):  # lm-eval looks for the options and the answer among them
        reason = f"an option is empty, or the right answer is none of them ({reason})"
    return f"{where}: {reason}"
