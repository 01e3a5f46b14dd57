"""What models and pairs are called where people read, so that tiny ones pass for no original.

A model that a scale pre-trains itself shares the architecture with the original and nothing else:
``X architecture, 1.7M``. One that is loaded keeps its name, as does a pair whose teacher is.
Sizes are the matrices of the configured shape, without norms and biases.
"""

from __future__ import annotations

from dataclasses import replace

from analysis.results import row_name
from analysis.writing.render import Table
from tad.experiment.config import Suite
from tad.experiment.flops import Account, model_account, pair_account


def model_title(suite: Suite, model: str) -> str:
    """A model of the configuration: its id, or what it is where its weights are made here."""
    if not made_here(suite, model):
        return model
    seed = suite.models[model].seed
    original, again = model, ""
    if seed is not None:
        original, again = model.removesuffix(f"_seed{seed}"), f", seed {seed}"
    return f"{original} architecture, {_size(model_account(suite, model))}{again}"


def pair_title(suite: Suite, pair: str) -> str:
    """Teacher and student of a pair; the pair's id where the teacher is the original, and before
    them where the pair is not in the paper."""
    entry = suite.pairs[pair]
    if not made_here(suite, entry.teacher):
        return pair
    student = _size(pair_account(suite, pair).student)
    if entry.student.model:
        student = model_title(suite, entry.student.model)
    both = f"{model_title(suite, entry.teacher)} → {student}"
    return both if entry.printed else f"{pair}: {both}"


def titles(suite: Suite) -> dict[str, str]:
    """Titles of all pairs and checkpoints of a scale by what tables call them (``row_name``)."""
    found = {pair: pair_title(suite, pair) for pair in suite.select.pairs}
    for model, entry in suite.models.items():
        for point, source in entry.checkpoints.items():
            if source.tokens is not None:
                seen = f"{short(source.tokens)} tokens"
                found[row_name(f"{model}/{point}")] = f"{model_title(suite, model)}, at {seen}"
    return found


def titled(suite: Suite, table: Table) -> Table:
    """A table with titles in place of ids in its columns of words."""
    names = titles(suite)
    rows = [
        [names.get(cell, cell) if at < table.left else cell for at, cell in enumerate(row)]
        for row in table.rows
    ]
    return replace(table, rows=rows)


def short(count: float) -> str:
    """2e9 as 2B, with up to three digits."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"


def made_here(suite: Suite, model: str) -> bool:
    """Whether the last checkpoint, the one that teaches, is pre-trained by the scale itself."""
    return list(suite.models[model].checkpoints.values())[-1].tokens is not None


def _size(account: Account) -> str:
    """Parameters in two digits; a product with a matrix is two FLOPs an entry."""
    return short(float(f"{(account.linear + account.output + account.stored) / 2:.2g}"))
