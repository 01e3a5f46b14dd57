"""What jobs share that run a teacher over a corpus ahead of training (MiniPLM, Seq-KD).

They work in blocks: each block's file appears whole, so a killed job goes on with the blocks that
are missing.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from tad.command import UserError, plain_logging
from tad.models.loading import load_model
from tad.records import read_json, write_bytes, write_json

BLOCK = 256
"""Sequences a block: what a killed job loses at most. Batches never cross a block."""

SECONDS = "seconds.json"


class OfflineError(UserError, ValueError):
    """A request that the corpus or the model cannot meet; the message names the value."""


def load_frozen(source: str, vocab_size: int) -> PreTrainedModel:
    """``load_model`` to score or sample with, on the GPU where there is one. Raises ModelError."""
    model = load_model(source, training=False, vocab_size=vocab_size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval().requires_grad_(False)


def in_blocks(
    folder: Path,
    name: str,
    count: int,
    prepare: Callable[[], Callable[[int, int], np.ndarray]],
) -> list[Path]:
    """Files of ``compute(first, last)`` for all blocks of ``count`` sequences, in order.

    ``compute = prepare()`` loads what it needs, and is asked for only if a block is missing. Adds
    the time that it takes to ``wall_seconds(folder)``.
    """
    began = time.monotonic()
    starts = range(0, count, BLOCK)
    paths = [folder / f"{name}-{start}.npy" for start in starts]
    missing = [start for start, path in zip(starts, paths, strict=True) if not path.is_file()]
    if not missing:
        return paths
    compute = prepare()
    done = count - sum(min(start + BLOCK, count) - start for start in missing)
    with tqdm(total=count, initial=done, desc=name, unit="seq", disable=None) as bar:
        for start in missing:
            last = min(start + BLOCK, count)
            _save(folder / f"{name}-{start}.npy", compute(start, last))
            ended = time.monotonic()
            write_json(folder / SECONDS, {"seconds": wall_seconds(folder) + ended - began})
            began = ended
            bar.update(last - start)
    return paths


def wall_seconds(folder: Path) -> float:
    """Time that the saved blocks took, loading included, over all interruptions."""
    path = folder / SECONDS
    return read_json(path)["seconds"] if path.is_file() else 0.0


def _save(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_bytes(path, buffer.getvalue())


def positive(**values: int) -> None:
    """Raises OfflineError for a count below 1, naming its option."""
    for name, value in values.items():
        if value < 1:
            raise OfflineError(f"--{name.replace('_', '-')} {value}: must be at least 1")


def run_options(options: argparse.Namespace, kind: Callable[..., Any], run: Callable) -> None:
    """Run a job from its command line: ``kind`` takes the options that say what is made."""
    plain_logging()
    values = vars(options)
    out, batch_size, force = (values.pop(key) for key in ("out", "batch_size", "force"))
    run(kind(**values), out, batch_size=batch_size, force=force)
