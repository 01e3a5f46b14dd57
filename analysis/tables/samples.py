"""What the teacher and its students write: one table a prompt, of the records of ``eval.samples``.

It is to be read, not counted: greedy text of one seed says how a student sounds, not how close to
its teacher it is.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.names import model_title, pair_title
from analysis.results import write_numbers
from analysis.writing.render import page
from tad.experiment.config import Suite
from tad.experiment.specs import last_checkpoint
from tad.records import RecordError, read_json, write_text
from workflow.items import SAMPLES, sampled_runs

TEXT = 'class="word long" style="white-space: pre-wrap; max-width: 52em"'
"""A cell with a text as it is, also on a page whose style sheet is another's."""


@dataclass(frozen=True)
class Writer:
    """Who wrote: the pair, its name in the table, and its record."""

    pair: str
    name: str
    path: Path


def writers(suite: Suite, root: Path) -> list[Writer]:
    """Of each pair its teacher, then its students of the first seed, in the order of the runs."""
    found: list[Writer] = []
    for run in sampled_runs(suite):
        teacher = suite.teacher(run.pair, run.seed)
        if not any(each.pair == run.pair for each in found):
            folder = root / "models" / teacher / last_checkpoint(suite, teacher)
            name = f"Teacher, {model_title(suite, teacher)}"
            found.append(Writer(run.pair, name, folder / SAMPLES))
        label = f"{run.method.label}, seed {run.seed}"
        found.append(Writer(run.pair, label, root / "runs" / str(run) / SAMPLES))
    return found


def samples_frame(suite: Suite, root: Path) -> pd.DataFrame:
    """Columns pair, prompt (its number), beginning, writer, text; the original is a writer too.

    Raises RecordError where records do not have the same prompts.
    """
    rows: list[dict[str, Any]] = []
    first: dict[str, list[str]] = {}
    for writer in writers(suite, root):
        texts = read_json(writer.path)["texts"]
        prompts = [text["prompt"] for text in texts]
        if writer.pair not in first:
            first[writer.pair] = prompts
            rows += _rows(writer.pair, "The text itself", texts, "original")
        if prompts != first[writer.pair]:
            raise RecordError(f"{writer.path}: has other prompts than its teacher; delete both")
        rows += _rows(writer.pair, writer.name, texts, "continuation")
    frame = pd.DataFrame(rows)
    return frame.sort_values(["pair", "prompt"], kind="stable", ignore_index=True)


def _rows(pair: str, writer: str, texts: list[dict[str, str]], key: str) -> list[dict[str, Any]]:
    return [
        {"pair": pair, "prompt": at, "beginning": text["prompt"], "writer": writer,
         "text": text[key]}
        for at, text in enumerate(texts, start=1)
    ]  # fmt: skip


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the texts as a page of HTML, and as CSV. Raises RecordError."""
    frame = samples_frame(suite, root)
    parts = []
    for (pair, number), group in frame.groupby(["pair", "prompt"], sort=False):
        title = html.escape(f"{pair_title(suite, str(pair))}, prompt {number}")
        lines = [("Prompt", group["beginning"].iloc[0])]
        lines += list(zip(group["writer"], group["text"], strict=True))
        cells = "".join(
            f'<tr><td class="word">{html.escape(who)}</td>'
            f"<td {TEXT}>{html.escape(text)}</td></tr>\n"
            for who, text in lines
        )
        parts.append(f'<div class="box"><table><caption>{title}</caption>{cells}</table></div>')
    write_text(root / "tables" / f"{name}.html", page("Continuations", "".join(parts)))
    write_numbers(frame, root / "tables" / f"{name}.csv")
