"""What a scale loads from elsewhere and what it makes here: models, tokenizers, data sets.

``wanted(suite)`` walks the selected runs as the DAG would, and keeps for each thing the keys of the
configuration that ask for it, so that a finding can name them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.schema import Checkpoint, Corpus
from tad.experiment.specs import last_checkpoint

Kind = Literal["model", "tokenizer", "dataset"]


@dataclass(frozen=True)
class Source:
    """Something to load: a repository of the hub, or a local ``path``.

    ``keys`` are where the configuration names it, ``instead`` what to write there for a local copy.
    ``subset`` and ``split`` of a data set.
    """

    keys: tuple[str, ...]
    kind: Kind
    instead: str
    hub: str | None = None
    path: str | None = None
    subset: str | None = None
    split: str | None = None

    @property
    def name(self) -> str:
        """The hub id or the path."""
        return self.hub or self.path or ""

    @property
    def about(self) -> str:
        """What a finding calls it: the first key and how many more, then the name."""
        more = f" (and {len(self.keys) - 1} more)" if len(self.keys) > 1 else ""
        return f"{self.keys[0]}{more}: {self.name}"


@dataclass
class Wanted:
    """All that a scale needs, in the order of its runs.

    ``models`` are (model, checkpoint), ``packed`` (corpus, tokenizer); ``references`` of MiniPLM
    have a tokenizer of their own, so that ``tokenizers`` lacks it. ``own_tokenizers`` are the
    sources that the weights of a model come from.
    """

    models: dict[tuple[str, str], None] = field(default_factory=dict)
    references: dict[str, None] = field(default_factory=dict)
    tokenizers: dict[str, None] = field(default_factory=dict)
    packed: dict[tuple[str, str], None] = field(default_factory=dict)
    corpora: dict[str, None] = field(default_factory=dict)
    instructions: dict[str, None] = field(default_factory=dict)
    others: dict[str, None] = field(default_factory=dict)


def wanted(suite: Suite) -> Wanted:
    """What the selected runs and items of a suite need."""
    need = Wanted()
    for item in suite.select.items:
        for teacher in suite.teachers(item):
            _add_model(suite, need, teacher, last_checkpoint(suite, teacher))
            _add_rows(suite, need, suite.stages["scratch"].corpus, suite.models[teacher].tokenizer)
        for model, point in suite.checkpoints(item):
            _add_model(suite, need, model, point)
        need.others |= dict.fromkeys(name for _, name in suite.references_of(item))
    for run in suite.runs():
        _add_run(suite, need, run)
    for name in need.tokenizers:
        for corpus in suite.tokenizers[name].corpora:
            _add_corpus(suite, need, corpus)
    fewshot = suite.evaluation.fewshot
    if fewshot and fewshot.suite != "paper" and fewshot.corpus:
        _add_corpus(suite, need, fewshot.corpus)
    return need


def first_stage(suite: Suite, stage: str) -> str:
    """The stage that a run of ``stage`` begins with: supervised goes on after math."""
    while suite.stages[stage].after:
        stage = suite.stages[stage].after
    return stage


def _add_run(suite: Suite, need: Wanted, run: RunId) -> None:
    pair = suite.pairs[run.pair]
    teacher = suite.teacher(run.pair, run.seed)
    _add_model(suite, need, teacher, last_checkpoint(suite, teacher))
    if pair.student.model:
        point = pair.student.start[first_stage(suite, run.stage)]
        _add_model(suite, need, pair.student.model, point)
    tokenizer = suite.models[pair.student.model or teacher].tokenizer
    for stage in dict.fromkeys((first_stage(suite, run.stage), run.stage)):
        _add_rows(suite, need, suite.stages[stage].corpus, tokenizer)
    reference = suite.baselines.miniplm.reference.get(run.stage)
    if run.method.row.rows == "selected" and reference:
        _add_model(suite, need, reference, last_checkpoint(suite, reference), reference=True)


def _add_model(
    suite: Suite, need: Wanted, model: str, point: str, *, reference: bool = False
) -> None:
    """A checkpoint, and where it is trained here, the one before it and its data."""
    entry = suite.models[model]
    need.models[model, point] = None
    if entry.checkpoints[point].tokens is None:
        if reference:
            need.references[model] = None
        else:
            need.tokenizers[entry.tokenizer] = None
        return
    names = list(entry.checkpoints)
    before = names[max(0, names.index(point) - 1)]
    if before != point:
        _add_model(suite, need, model, before)
    if suite.pretraining:
        _add_rows(suite, need, entry.corpus or suite.pretraining.corpus, entry.tokenizer)


def _add_rows(suite: Suite, need: Wanted, data: str, tokenizer: str) -> None:
    need.tokenizers[tokenizer] = None
    if data in suite.corpora:
        need.packed[data, tokenizer] = None
        _add_corpus(suite, need, data)
    elif data in suite.instructions:
        need.instructions[data] = None


def _add_corpus(suite: Suite, need: Wanted, name: str) -> None:
    need.corpora |= dict.fromkeys((name, *suite.corpora[name].also))


# --- As sources ----------------------------------------------------------------------------------


def sources(suite: Suite, need: Wanted) -> list[Source]:
    """What is loaded, once each. What is made by the runs themselves is not among it."""
    found = []
    for model, point in need.models:
        entry = suite.models[model].checkpoints[point]
        if entry.tokens is None:
            found.append(_of_model(f"models.{model}.checkpoints.{point}", entry))
    for name in need.others:
        entry, key = suite.references[name], f"references.{name}"
        found.append(Source((key,), "model", f"{key}.path", entry.hub, entry.path))
    for name in need.tokenizers:
        entry, key = suite.tokenizers[name], f"tokenizers.{name}"
        if entry.vocab_size is None:
            found.append(Source((key,), "tokenizer", f"{key}.path", entry.hub, entry.path))
    found += [
        corpus_source(name, suite.corpora[name])
        for name in need.corpora
        if suite.corpora[name].source != "installed-docs"
    ]
    for name in need.instructions:
        found += instruction_sources(suite, name)
    return _once([source for source in found if not _made_here(suite, source)])


def _of_model(key: str, point: Checkpoint) -> Source:
    return Source((key,), "model", f"{key}.path", point.hub, point.path)


def corpus_source(name: str, corpus: Corpus) -> Source:
    """A corpus that is read from files or the hub, whose id may be a local folder."""
    key, local = f"corpora.{name}", corpus.source == "local" or Path(corpus.id or "").is_dir()
    place = {"path": corpus.path or corpus.id} if local else {"hub": corpus.id}
    last = "path" if corpus.source == "local" else "id"
    return Source(
        (key,), "dataset", f"{key}.{last}", **place, subset=corpus.subset, split=corpus.split
    )


def instruction_sources(suite: Suite, name: str) -> list[Source]:
    """The sources of instruction data, in their order."""
    key = f"instructions.{name}.sources"
    return [
        Source((key,), "dataset", key, entry.hub, entry.path, split=entry.split)
        for entry in suite.instructions[name].sources
    ]


def _made_here(suite: Suite, source: Source) -> bool:
    """Whether a path lies below the work folder: generated problems."""
    root = Layout.work(suite.scale).root
    return source.path is not None and Path(source.path).is_relative_to(root)


def _once(found: list[Source]) -> list[Source]:
    """One of each, with the keys of all that name it; a model's tokenizer is part of the model."""
    merged: dict[tuple[bool, str], Source] = {}
    for source in found:
        place = (source.kind == "dataset", source.name)
        if place in merged:
            first = merged[place]
            keys = tuple(dict.fromkeys((*first.keys, *source.keys)))
            merged[place] = replace(first, keys=keys)
        else:
            merged[place] = source
    return list(merged.values())
