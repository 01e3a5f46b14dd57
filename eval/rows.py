"""Held-out rows of tokens as a model is run over them: in its own tokens, in batches, counted."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tad.command import UserError
from tad.experiment.layout import Layout
from tad.records import read_json

if TYPE_CHECKING:
    from torch import Tensor


class RowsError(UserError, ValueError):
    """Rows that do not fit the model or are too few; one line with the cure."""


def check_tokenizer(model: str, folder: str | Path) -> None:
    """Raise RowsError where the text of ``folder`` is not in the model's tokens.

    Another tokenizer's ids mean other tokens: every number would be wrong, and none would look it.
    The model's tokenizer.json must be the one that packed. Or, for a copy of a hub or one that was
    saved anew: all ids of the tokenizer that packed, which lies beside the data (``Layout``), must
    stand for the same strings.
    """
    from tad.data.vocabulary import same_ids
    from tad.models.loading import load_tokenizer

    folder = Path(folder)
    packed = read_json(folder / "manifest.json")["tokenizer"]
    own = _sha256(Path(model))
    if own == packed["sha256"]:
        return
    if own is None and Path(model).is_dir():
        raise RowsError(
            f"{model}: no tokenizer.json here; give a model's folder with its tokenizer"
        )
    packer = Layout(folder / "../../..").tokenizer(packed["name"])
    if _sha256(packer) == packed["sha256"] and same_ids(
        load_tokenizer(str(packer)), load_tokenizer(str(model))
    ):
        return
    raise RowsError(
        f"{folder}: packed by the tokenizer {packed['name']}, which is not that of {model}: its "
        "ids would mean other tokens; pack the text with the model's own"
    )


def _sha256(folder: Path) -> str | None:
    path = folder / "tokenizer.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def pieces(sequences: int, tokens: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Parts of (sequences, tokens) of at most ``limit`` positions; whole sequences if they fit."""
    rows, columns = max(1, limit // tokens), min(tokens, limit)
    for first in range(0, sequences, rows):
        for start in range(0, tokens, columns):
            yield slice(first, first + rows), slice(start, start + columns)


def positions_at_once(vocabulary: int, device: str) -> int:
    """How many positions have logits at a time: 4 MiB of them on a CPU, 256 MiB on a GPU.

    On a CPU, so that what is computed of them finds them in its cache.
    """
    return max(1, (2**20 if device == "cpu" else 2**26) // vocabulary)


def batches(
    rows: Any, size: int, count: int, label: str
) -> Iterator[tuple[range, dict[str, Tensor]]]:
    """The first ``count`` rows, ``size`` at a time: their numbers, and what ``collate`` makes."""
    from tqdm import tqdm

    from tad.data.instruct import collate

    with tqdm(total=count, desc=label, unit="seq", disable=not sys.stderr.isatty()) as bar:
        for start in range(0, count, size):
            numbers = range(start, min(start + size, count))
            yield numbers, collate([rows[number] for number in numbers])
            bar.update(len(numbers))
