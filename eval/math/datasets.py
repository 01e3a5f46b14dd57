"""All data sets of ``eval.math.sets``, and their items: from a folder of JSON lines or the hub."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from eval.items import ItemError, read_items
from eval.math import sets
from eval.math.sets import AnswerType, Dataset, boxed

__all__ = ["DATASETS", "AnswerType", "Dataset", "boxed", "load_items"]


def discover() -> dict[str, Dataset]:
    """The data set of every module of ``eval.math.sets``."""
    names = [f"{sets.__name__}.{module.name}" for module in pkgutil.iter_modules(sets.__path__)]
    found = [importlib.import_module(name).DATASET for name in names]
    return {entry.name: entry for entry in sorted(found, key=lambda d: (d.place, d.name))}


DATASETS: dict[str, Dataset] = discover()
"""By name, in the tables' column order."""


def load_items(dataset: Dataset, folder: Path | None) -> list[dict[str, Any]]:
    """All items, sorted by ``idx`` (their own, else the position in the file).

    From ``folder``, ``NAME.jsonl`` or the reference harness's ``NAME/test.jsonl``; without a
    folder from the hub. Raises ItemError for a missing file, field, box or hub entry.
    """
    origin: Path | str
    if folder is None:
        rows, origin = _from_hub(dataset), f"{dataset.name} of the hub"
    else:
        names = (*dataset.files, dataset.name)
        origin = find(folder, [f"{n}{end}" for n in names for end in (".jsonl", "/test.jsonl")])
        rows = read_items(origin, dataset.fields)
    items = []
    for number, row in enumerate(rows):
        try:
            if not dataset.keep(row):
                continue
            dataset.ask(row)
        except (ItemError, ValueError, AttributeError, KeyError, TypeError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ItemError(f"{origin}: item {number + 1}: no usable answer: {reason}") from None
        items.append({"idx": number, **row})
    return sorted(items, key=lambda item: int(item["idx"]))


def find(folder: Path, names: list[str]) -> Path:
    """The first of ``names`` that is a file of ``folder``. Raises ItemError if there is none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ItemError(f"{folder}: holds none of {', '.join(dict.fromkeys(names))}")


def _from_hub(dataset: Dataset) -> list[dict[str, Any]]:
    cure = f"give a folder with {dataset.name}.jsonl by --data"
    if dataset.hub is None:
        raise ItemError(f"{dataset.name}: no hub copy of this data set is known; {cure}")
    from datasets import load_dataset

    rename = dict(dataset.hub.rename)
    rows: list[dict[str, Any]] = []
    try:
        for split in dataset.hub.splits:
            loaded = load_dataset(dataset.hub.path, dataset.hub.name, split=split)
            rows += [{rename.get(key, key): value for key, value in row.items()} for row in loaded]
    except (OSError, ValueError) as error:  # ConnectionError, DatasetNotFoundError, ...
        reason = " ".join(str(error).split())[:200]
        raise ItemError(
            f"{dataset.name}: {dataset.hub.path} cannot be had from the hub ({reason}); {cure}"
        ) from None
    return rows
