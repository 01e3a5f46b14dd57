"""What is read and stored: tokens against what the data hold, downloads, consents, disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tad.experiment.config import Suite
from tad.experiment.flops import model_shape, pair_shapes
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.plan.facts import hub_entry
from tad.plan.jobs import Job
from tad.plan.memory import Built

STORED = 4
"""Bytes of a weight of a finished student."""

CHECKPOINT = 12
"""Bytes a weight of a checkpoint: it and two Adam moments; two are kept, and one is written."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A corpus: ``configured`` tokens to train on and ``needed`` by the largest job, against what
    it ``holds`` in all (None: not known), of which ``held_out`` never train. ``short_jobs`` name
    those that alone want more."""

    corpus: str
    source: str
    configured: int
    needed: int
    held_out: int
    holds: int | None
    short_jobs: tuple[str, ...] = ()

    @property
    def short(self) -> int:
        """Tokens that are asked for and not there."""
        if self.holds is None:
            return 0
        return max(0, max(self.configured, self.needed) + self.held_out - self.holds)


@dataclass(frozen=True, kw_only=True)
class Download:
    """Something of the hub. ``gated``: a consent is asked for on its page; None: not known."""

    kind: str
    name: str
    gigabytes: float | None
    licence: str | None
    gated: bool | None


def tokens(suite: Suite, jobs: Iterable[Job]) -> list[Tokens]:
    """Each corpus that jobs read. Raises ConfigError."""
    drawn: dict[str, dict[str, int]] = {}
    for job in jobs:
        if job.kind == "pack":
            drawn.setdefault(job.place.split("/")[1], {})
        if job.kind in ("distill", "select", "generate") and job.run:
            corpus = suite.stages[job.run.stage].corpus
            if corpus in suite.corpora:
                drawn.setdefault(corpus, {})[job.place] = _drawn(suite, job.kind, job.run)
    return [_tokens(suite, corpus, each) for corpus, each in drawn.items()]


def _drawn(suite: Suite, kind: str, run: RunId) -> int:
    spec = run_spec(suite, run)
    if kind == "select":
        return spec.selection.sequences * spec.optimisation.context
    return spec.optimisation.tokens


def _tokens(suite: Suite, name: str, drawn: dict[str, int]) -> Tokens:
    corpus = suite.corpora[name]
    holds = corpus.holds
    trains = None if holds is None else int(holds * (1 - corpus.validation_fraction))
    short = [place for place, count in drawn.items() if trains is not None and count > trains]
    return Tokens(
        corpus=name,
        source=corpus.id or corpus.path or corpus.source,
        configured=corpus.train_tokens,
        needed=max(drawn.values(), default=0),
        held_out=corpus.validation_tokens,
        holds=holds,
        short_jobs=tuple(short),
    )


def downloads(suite: Suite, jobs: Iterable[Job]) -> list[Download]:
    """Everything of the hub that jobs load, without repeats; not the benchmarks, below 1 GB."""
    found: dict[tuple[str, str], int | None] = {}
    for job in jobs:
        for kind, name, weights in _loaded(suite, job):
            found.setdefault((kind, name), weights)
    return [_download(kind, name, weights) for (kind, name), weights in found.items()]


def _download(kind: str, name: str, weights: int | None) -> Download:
    entry = hub_entry(f"{kind}s" if kind != "tokenizer" else "models", name)
    size = None if weights is None else 2 * weights / 1e9
    if entry and entry.gigabytes and kind != "tokenizer":
        size = entry.gigabytes
    return Download(
        kind=kind,
        name=name,
        gigabytes=size,
        licence=entry.licence if entry else None,
        gated=entry.gated if entry else None,
    )


def _loaded(suite: Suite, job: Job) -> list[tuple[str, str, int | None]]:
    """(kind, id, weights) of what a job takes from the hub."""
    if job.kind == "tokenizer":
        hub = suite.tokenizers[job.place.split("/")[1]].hub
        return [("tokenizer", hub, 0)] if hub else []
    if job.kind == "pack":
        parts = suite.corpora[job.place.split("/")[1]]
        names = [parts, *(suite.corpora[other] for other in parts.also)]
        return [("dataset", each.id, None) for each in names if each.source == "hub"]
    if job.kind == "instructions":
        sources = suite.instructions[job.place.split("/")[1]].sources
        return [("dataset", each.hub, None) for each in sources if each.hub]
    if job.run is None:
        return _measured(suite, job)
    spec, hubs = run_spec(suite, job.run), _hub_models(suite)
    sources = [spec.teacher, spec.start, spec.selection.reference if spec.selection else None]
    if job.kind in ("fewshot", "math"):
        sources = []
    return [("model", each, hubs[each]) for each in sources if each in hubs]


def _measured(suite: Suite, job: Job) -> list[tuple[str, str, int | None]]:
    kind, name, *rest = job.place.split("/")
    if kind == "references":
        hub = suite.references[name].hub
        return [("model", hub, None)] if hub else []
    point = suite.models[name].checkpoints[rest[0]]
    return [("model", point.hub, _hub_models(suite)[point.hub])] if point.hub else []


def _hub_models(suite: Suite) -> dict[str, int]:
    """Weights of the models of the suite by their ids of the hub."""
    return {
        point.hub: Built(*model_shape(suite, name)).weights
        for name, model in suite.models.items()
        for point in model.checkpoints.values()
        if point.hub
    }


def disk(suite: Suite, jobs: Mapping[Job, int], gpus: int) -> dict[str, float]:
    """Gigabytes on disk by what they are, when all is done.

    ``jobs`` with the GPUs that each takes; of ``gpus`` in all, so that many trainings keep
    checkpoints at once, counted for the largest. Raises ConfigError.
    """
    loaded = sum(each.gigabytes or 0.0 for each in downloads(suite, jobs))
    trained = []
    for job, count in jobs.items():
        if job.kind == "distill":
            trained.append((Built(*pair_shapes(suite, job.run.pair)[1]).weights, count))
        elif job.kind == "pretrain":
            trained.append((Built(*model_shape(suite, job.place.split("/")[1])).weights, count))
    at_once, left = 0, gpus
    for weights, count in sorted(trained, reverse=True):
        if count <= left:
            at_once, left = at_once + weights, left - count
    found = {"downloads": loaded, "tokens": 0.0, "written text": 0.0, "states": 0.0}
    for job in jobs:
        if job.kind == "pack":
            corpus, tokenizer = job.place.split("/")[1:]
            each = suite.corpora[corpus]
            wanted = each.train_tokens + each.validation_tokens
            found["tokens"] += wanted * token_bytes(suite, tokenizer) / 1e9
        elif job.kind == "generate":
            spec = run_spec(suite, job.run)
            item = token_bytes(suite, spec.tokenizer.rpartition("/")[2])
            found["written text"] += spec.optimisation.tokens * item / 1e9
        elif job.kind == "states":
            spec, (teacher, _) = run_spec(suite, job.run), pair_shapes(suite, job.run.pair)
            found["states"] += 4 * spec.optimisation.tokens * teacher[1].hidden_size / 1e9
    found["models"] = STORED * sum(weights for weights, _ in trained) / 1e9
    found["checkpoints"] = 3 * CHECKPOINT * at_once / 1e9
    return {name: size for name, size in found.items() if size}


def token_bytes(suite: Suite, tokenizer: str) -> int:
    """Bytes of a token id in a packed corpus (``tad.data.packing``); of an unknown vocabulary 4."""
    rows = suite.tokenizers[tokenizer].vocab_size or 0
    of_models = [m.shape.vocab_size or 0 for m in suite.models.values() if m.tokenizer == tokenizer]
    return 2 if 0 < max([rows, *of_models]) <= 1 << 16 else 4
