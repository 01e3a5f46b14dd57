"""The primary claims, as config/claims.yaml states them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from analysis.claims.compare import compare
from analysis.claims.listed import HIGHER, LOWER, PRIMARY, Claim
from analysis.claims.metrics import BY_NAME
from analysis.results import PROJECT, row_name
from tad.experiment.config import Suite
from tad.experiment.schema import Positive, Strict
from tad.experiment.yaml_file import ConfigError, read_yaml
from tad.methods import Method
from workflow.items import DESIGN

SIGNS = {"lower": LOWER, "higher": HIGHER}


class Entry(Strict):
    """One claim: ``ours`` is lower or higher than ``theirs`` by ``metric``, over ``pairs``.

    ``margin``, in the metric's unit, is the smallest difference that counts.
    """

    metric: Literal[tuple(BY_NAME)]
    ours: str
    theirs: str
    pairs: Annotated[list[str], Field(min_length=1)]
    direction: Literal["lower", "higher"]
    margin: Positive


class Design(Strict):
    """The file: the ``item`` whose runs decide, and the claims by id."""

    item: str
    claims: dict[str, Entry]


def load_design(path: Path = PROJECT / DESIGN) -> Design:
    """Read the file. Raises ConfigError for an unknown key, metric or method, in one line."""
    try:
        design = Design.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']} (found {first['input']!r})") from None
    for name, entry in design.claims.items():
        for method in (entry.ours, entry.theirs):
            try:
                Method.parse(method)
            except ValueError as error:
                raise ConfigError(f"{path}: claims.{name}: {error}") from None
    return design


def design_hash(path: Path = PROJECT / DESIGN) -> str:
    """SHA-256 (hex) of the file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def primary_claims(design: Design, suite: Suite) -> tuple[Claim, ...]:
    """Its claims, ready to be judged. Raises ConfigError for an item or pair that nothing defines.

    What is defined, and what the scale does not run, are two things: that is an outcome.
    """
    if design.item not in suite.items:
        raise ConfigError(f"{DESIGN}: item: {design.item!r} is not in experiments.yaml")
    for name, entry in design.claims.items():
        for pair in entry.pairs:
            if pair not in suite.pairs:
                known = ", ".join(suite.pairs)
                raise ConfigError(f"{DESIGN}: claims.{name}: pair {pair!r} (allowed: {known})")
    return tuple(_claim(design, name, entry) for name, entry in design.claims.items())


def _claim(design: Design, name: str, entry: Entry) -> Claim:
    metric = BY_NAME[entry.metric]
    unit = metric.unit if metric.unit == "%" else f" {metric.unit}"
    statement = (
        f"{row_name(entry.ours)} has a {entry.direction} {metric.name} than "
        f"{row_name(entry.theirs)} ({', '.join(entry.pairs)}; margin {entry.margin:g}{unit})"
    )
    needs = f"{metric.record} of {entry.ours} and {entry.theirs} ({design.item})"
    statistic = compare(
        metric,
        [design.item],
        [entry.ours],
        [entry.theirs],
        SIGNS[entry.direction],
        pairs=entry.pairs,
        counts=entry.margin,
    )
    return Claim(f"primary-{name}", "design", statement, needs, statistic, PRIMARY)
