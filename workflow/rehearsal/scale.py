"""The miniature of a scale, as a scale file that extends it: what is run stays, sizes shrink.

Items, pairs, methods, seeds, suites of tasks and all else that decides which jobs there are come
from the scale itself. Replaced is only what makes it large: every model, tokenizer and data set by
a local folder (under the same key, since what takes an id of the hub takes a folder too), and
shapes, budgets, contexts and numbers of items by small ones. Light to import.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tad.experiment.config import Suite
from tad.experiment.families import Family
from tad.experiment.flops import matched_tokens
from tad.experiment.layers import merge
from tad.experiment.schema import Checkpoint, Loaded, Shape, Tokenizer
from workflow.rehearsal.sizes import (
    RehearsalError,
    positions,
    published,
    small_rows,
    small_shape,
)

NAME = "rehearsal"
BATCH, MICRO_BATCH, CONTEXT = 8, 4, 64
STEPS = 3
"""Of the shortest run of a pair; its other runs have more in proportion."""
EVALUATIONS, HELD_OUT = 2, 8
"""Evaluations during training, and sequences in each."""
PROMPT = 8
VALIDATION_TOKENS, VALIDATION_FRACTION = 2048, 0.05
ITEMS, NEW_TOKENS, EXAMPLES = 4, 16, 8
"""Items a benchmark task, tokens an answer, instructions to train on."""


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A model to make: of ``family`` in the sizes of ``shape``, in the place of ``source``."""

    source: str
    family: Family
    shape: Shape
    positions: int


def source_of(entry: Checkpoint | Loaded | Tokenizer) -> str | None:
    """What an entry loads: a hub id, a path, or nothing."""
    return entry.hub or entry.path


def stand_in_folder(folder: Path, source: str) -> str:
    """Where the stand-in of a hub id or path lies, relative where it can be."""
    path = folder / "hub" / source.strip("/")
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)


def models(suite: Suite) -> Iterator[tuple[tuple[str, ...], StandIn]]:
    """Every model that the suite loads: where its entry stands, and what is made in its place.

    Raises RehearsalError for one of others whose sizes are not known.
    """
    for name, model in suite.models.items():
        for point, checkpoint in model.checkpoints.items():
            source = source_of(checkpoint)
            if source is None:
                raise RehearsalError(
                    f"models.{name}.checkpoints.{point}: is pre-trained at scale {suite.scale}; "
                    "only a scale that loads its models is rehearsed, such as paper"
                )
            keys = ("models", name, "checkpoints", point)
            yield keys, _stand_in(source, model.family, model.shape)
    for name in suite.select.references:
        source = source_of(suite.references[name])
        entry = published()["references"].get(name)
        if entry is None:
            raise RehearsalError(
                f"references.{name}: workflow/rehearsal/published.yaml does not say its sizes; "
                "add them there"
            )
        shape = Shape.model_validate(entry["shape"])
        yield ("references", name), _stand_in(source, entry["family"], shape)


def _stand_in(source: str, family: Family, shape: Shape) -> StandIn:
    rows = small_rows(source, shape.vocab_size) if shape.vocab_size else None
    small = small_shape(family, shape, rows)
    return StandIn(source=source, family=family, shape=small, positions=positions(source))


def miniature(suite: Suite, extends: str, folder: Path) -> dict[str, Any]:
    """What a file says that extends the scale ``extends``, with stand-ins below ``folder``."""
    changes: dict[str, Any] = {
        "scale": NAME,
        "extends": extends,
        "rehearses": suite.rehearses or suite.scale,
        "warm_jobs": True,
        "network": False,
        **_sources(suite, folder),
        "stages": {name: _stage(suite, name) for name in suite.stages},
        "baselines": {
            "seq_kd": {"prompt_tokens": PROMPT},
            "minillm": {"prompt_tokens": PROMPT},
        },
        "evaluation": _evaluation(suite, folder),
    }
    changes["pairs"] = {name: _pair(suite, name) for name in suite.pairs}
    small = Suite.model_validate(merge(suite.model_dump(), without_extends(changes)))
    changes["corpora"] = merge(changes["corpora"], _corpora(suite, small))
    return changes


def without_extends(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes as they are laid over a suite in memory."""
    return {key: value for key, value in changes.items() if key != "extends"}


def _sources(suite: Suite, folder: Path) -> dict[str, Any]:
    """Everything that is loaded, from the stand-ins instead."""

    def loaded(source: str) -> dict[str, Any]:
        return {"hub": stand_in_folder(folder, source), "path": None}

    found: dict[str, Any] = {"models": {}, "references": {}}
    for (section, name, *keys), model in models(suite):
        entry = found[section].setdefault(name, {})
        for key in keys:
            entry = entry.setdefault(key, {})
        entry.update(loaded(model.source))
        if section == "models":
            found[section][name]["shape"] = model.shape.model_dump()
    found["tokenizers"] = {
        name: loaded(source)
        for name, entry in suite.tokenizers.items()
        if (source := source_of(entry))
    }
    found["corpora"] = {
        name: {"id": stand_in_folder(folder, corpus.id)}
        for name, corpus in suite.corpora.items()
        if corpus.source == "hub"
    }
    found["instructions"] = {
        name: {
            # A list is replaced whole, so that the entries are given in full.
            "sources": [
                {**each.model_dump(exclude={"hub", "path"}), "hub": stand_in_folder(folder, source)}
                for each in entry.sources
                if (source := source_of(each))
            ],
            "examples": EXAMPLES,
            "validation_examples": ITEMS,
        }
        for name, entry in suite.instructions.items()
    }
    return found


def _stage(suite: Suite, name: str) -> dict[str, Any]:
    steps = [
        _steps(suite, pair, name) for pair, entry in suite.pairs.items() if name in entry.tokens
    ]
    return {
        "batch_size": BATCH,
        "micro_batch_size": MICRO_BATCH,
        "context": CONTEXT,
        "evaluations": EVALUATIONS,
        "evaluation_sequences": HELD_OUT,
        # Some runs write a checkpoint, and the shortest do not.
        "checkpoint_every_steps": max(2, max(steps, default=STEPS) // 2),
    }


def _steps(suite: Suite, pair: str, stage: str) -> int:
    """Steps of a pair's whole budget, of which the smallest share of a run has STEPS."""
    runs = [run for run in suite.runs() if (run.pair, run.stage) == (pair, stage)]
    shares = [
        run.method.shared["x"]
        * (suite.baselines.minillm.token_share if run.method.row.budget == "share" else 1.0)
        for run in runs
    ]
    return math.ceil(STEPS / min([1.0, *shares]) - 1e-9)


def _pair(suite: Suite, name: str) -> dict[str, Any]:
    """Budgets in the order of the originals, and the student's shape."""
    pair = suite.pairs[name]
    changes: dict[str, Any] = {"micro_batch_size": None}  # that of the small stages
    changes["tokens"] = {
        stage: math.ceil(_steps(suite, name, stage) * tokens / _least(suite, stage))
        * BATCH
        * CONTEXT
        for stage, tokens in pair.tokens.items()
    }
    if pair.student.shape is not None:
        family = suite.models[pair.teacher].family
        shape = small_shape(family, pair.student.shape, None)
        changes["student"] = {"shape": shape.model_dump(exclude_none=True)}
    return changes


def _least(suite: Suite, stage: str) -> int:
    return min(pair.tokens[stage] for pair in suite.pairs.values() if stage in pair.tokens)


def _corpora(suite: Suite, small: Suite) -> dict[str, Any]:
    """Budgets of the corpora: at least what their ratio to the longest run's was, and enough for
    CLM at the FLOPs of TAD, which costs another share in small models."""
    found = {}
    for name, corpus in suite.corpora.items():
        ratios, needed = [], [CONTEXT * BATCH]
        for run in small.runs():
            if (
                small.stages[run.stage].corpus != name
                or run.stage not in small.pairs[run.pair].tokens
            ):
                continue
            tokens = small.pairs[run.pair].tokens[run.stage]
            ratios.append(tokens / suite.pairs[run.pair].tokens[run.stage])
            if run.method.row.budget == "matched":
                needed.append(matched_tokens(small, run.pair, stage=run.stage))
        tokens = max(math.ceil(corpus.tokens * max(ratios, default=0.0)), *needed)
        found[name] = {
            "tokens": tokens,
            "holds": None,
            "validation_tokens": VALIDATION_TOKENS,
            "validation_fraction": VALIDATION_FRACTION,
        }
    return found


def _evaluation(suite: Suite, folder: Path) -> dict[str, Any]:
    """The same suites of tasks over a few invented items."""
    from eval.fewshot.tasks import suite_tasks

    found: dict[str, Any] = {"calibration_positions": VALIDATION_TOKENS // 2}
    if suite.evaluation.fewshot is not None:
        root = Path(stand_in_folder(folder, "fewshot"))
        tasks = suite_tasks(suite.evaluation.fewshot.suite)
        found["fewshot"] = {"local": {task.name: str(root / task.name) for task in tasks}}
    if suite.evaluation.math is not None:
        data = stand_in_folder(folder, "math")
        found["math"] = {"data": data, "limit": ITEMS, "max_new_tokens": NEW_TOKENS}
    return found
