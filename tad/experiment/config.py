"""The configuration: what the paper ran (experiments.yaml) at one scale (smoke, mini, paper).

``load_suite("config/smoke.yaml")`` merges what a scale is made of, checks it as a whole and answers
every question the DAG and the command lines ask: which runs there are, and what each one is. Light
to import (pydantic and PyYAML), because the Snakefile does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_origin

from pydantic import BaseModel, Field, ValidationError

from tad.command import PROJECT
from tad.experiment.layers import Layers, allowed, named, overridden, read_layers
from tad.experiment.run_id import STAGES, RunId
from tad.experiment.schema import (
    Baselines,
    Corpus,
    CustomMethod,
    Evaluation,
    Instructions,
    Item,
    Model,
    Pair,
    Positive,
    Pretraining,
    Reference,
    Seed,
    Select,
    Shape,
    Stage,
    Strict,
    Tokenizer,
    Training,
)
from tad.experiment.yaml_file import ConfigError
from tad.methods import ROWS, Method, MethodError, register


class Suite(Strict):
    """Both files, merged and checked. Raises ConfigError through ``load_suite``."""

    scale: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    max_epochs: Positive = 1.0
    warm_jobs: bool = False
    network: bool = False
    """Whether jobs may ask the hub; without it they take what is on this machine."""
    teacher_states_gb: Annotated[float, Field(ge=0)] = 0.0
    rehearses: str | None = None
    select: Select
    corpora: dict[str, Corpus]
    instructions: dict[str, Instructions] = {}
    tokenizers: dict[str, Tokenizer]
    pretraining: Pretraining | None = None
    models: dict[str, Model]
    references: dict[str, Reference] = {}
    pairs: dict[str, Pair]
    stages: dict[Stage, Training]
    baselines: Baselines
    items: dict[str, Item]
    methods: dict[str, CustomMethod] = {}
    evaluation: Evaluation = Evaluation()

    @property
    def is_paper(self) -> bool:
        """Whether it runs the paper's own models, or rehearses that (``tad rehearse``)."""
        return (self.rehearses or self.scale) == "paper"

    def runs(self, item: str | None = None) -> list[RunId]:
        """The runs this scale trains, for one item or for all selected ones, without repeats.

        In the order of the stages, of the pairs in experiments.yaml, and of tad.methods.
        """
        names = self.select.items if item is None else [item]
        found = set()
        for name in names:
            entry = self.items[name]
            for pair in entry.pairs:
                for method in entry.methods:
                    if pair not in self.select.pairs or method not in self.select.methods:
                        continue
                    parsed = Method.parse(method)
                    # Without the cosine term where it never was is the method itself.
                    if self.pairs[pair].hidden_cosine or parsed.row.cosine:
                        seeds = self.seeds_of(name)
                        found |= {RunId(entry.stage, pair, parsed, seed) for seed in seeds}
        pairs, methods = list(self.pairs), list(ROWS)
        return sorted(
            found,
            key=lambda run: (
                STAGES.index(run.stage),
                pairs.index(run.pair),
                methods.index(run.method.name),
                run.method,
                run.seed,
            ),
        )

    def seeds_of(self, item: str) -> list[int]:
        """The seeds of an item's runs."""
        return self.items[item].seeds or self.seeds

    def teacher(self, pair: str, seed: int) -> str:
        """The model that the runs of a pair and seed learn from."""
        others = self.pairs[pair].teachers_of_seeds.items()
        return next((m for m, seeds in others if seed in seeds), self.pairs[pair].teacher)

    def student_shape(self, pair: str) -> Shape | None:
        """The sizes of a student that is made from its teacher; None of one that is loaded."""
        student = self.pairs[pair].student
        if student.layers_of_teacher is None:
            return student.shape
        whole = self.models[self.pairs[pair].teacher].shape
        return whole.model_copy(update={"layers": student.layers_of_teacher})

    def teachers(self, item: str) -> list[str]:
        """The teachers of an item's selected pairs and its seeds, in the item's order."""
        pairs = [pair for pair in self.items[item].pairs if pair in self.select.pairs]
        seeds = self.seeds_of(item)
        return list(dict.fromkeys(self.teacher(pair, seed) for pair in pairs for seed in seeds))

    def checkpoints(self, item: str) -> list[tuple[str, str]]:
        """The (model, checkpoint) rows of an item whose model starts a selected pair."""
        pairs = [self.pairs[pair] for pair in self.items[item].pairs if pair in self.select.pairs]
        students = {pair.student.model for pair in pairs}
        rows = [tuple(name.split("/")) for name in self.items[item].checkpoints]
        return [(model, point) for model, point in rows if model in students]

    def references_of(self, item: str) -> list[tuple[str, str]]:
        """The (pair, reference) rows of an item: selected models of others below selected pairs."""
        return [
            (pair, name)
            for pair, names in self.items[item].references.items()
            for name in names
            if pair in self.select.pairs and name in self.select.references
        ]

    def check_run(self, run: RunId) -> None:
        """Raise ConfigError where a run id names a pair or stage that this suite does not have."""
        if run.pair not in self.pairs:
            raise ConfigError(f"run {run}: pair {run.pair!r} {allowed(run.pair, self.pairs)}")
        if run.stage not in self.pairs[run.pair].tokens and run.stage != "supervised":
            stages = list(self.pairs[run.pair].tokens)
            raise ConfigError(f"run {run}: {run.pair} has no stage {allowed(run.stage, stages)}")


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Read a scale file with all that it is made of (``tad.experiment.layers``).

    ``overrides`` (``KEY=VALUE``) are laid over it. A file is named as its scale is, so that no two
    write to one folder; ``scale`` may be left out. Raises ConfigError, one line, for a file that is
    missing or no YAML mapping, an unknown key, a wrong type or range, and a name (pair, method,
    model, corpus, ...) that nothing defines.
    """
    path = Path(path)
    layers = overridden(read_layers(path), overrides, _known_fields)
    scale = layers.values.setdefault("scale", path.stem)
    if scale != path.stem:
        raise ConfigError(
            f"{path}: scale: {scale!r}: must be the file's name, {path.stem}; a copy of another "
            "scale's file would overwrite its work"
        )
    try:
        suite = Suite.model_validate(named(layers.values, scale))
    except ValidationError as error:
        raise ConfigError(_one_line(error, layers)) from None
    try:
        for name, method in suite.methods.items():
            register(name, **dict(method))
    except MethodError as error:
        raise ConfigError(f"{path}: {error}") from None
    _check_names(suite, path)
    _check_own_items(suite, layers)
    return suite


def open_scale(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """``load_suite`` for what writes to work/SCALE. Raises ConfigError also for a file elsewhere
    that bears the name of a scale in config/, whose work it would overwrite."""
    path, built_in = Path(path), PROJECT / "config" / Path(path).name
    if path.is_file() and built_in.is_file() and not path.samefile(built_in):
        raise ConfigError(f"{path}: {path.stem} is a scale of config/: give the file another name")
    return load_suite(path, overrides)


def scale_options(
    parser: argparse.ArgumentParser, *, default: str | None = None, required: bool = True
) -> None:
    """The options ``config`` and ``overrides`` of a command that reads a scale."""
    text = f"scale file ({default})" if default else "scale file, such as config/smoke.yaml"
    given = {"default": default} if default else {"required": required}
    parser.add_argument("--config", help=text, **given)
    parser.add_argument(
        "-o",
        "--override",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value of the configuration: -o stages.scratch.learning_rate=1e-3",
    )


def _one_line(error: ValidationError, layers: Layers) -> str:
    """The first fault of a validation as ``file: key: value: reason``."""
    # A name that is not known explains a value that is missing, so it is told first.
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    keys = [str(part) for part in fault["loc"]]
    source, key = layers.source(fault["loc"]), ".".join(keys)
    if fault["type"] == "extra_forbidden":
        owner = _field_names(fault["loc"])
        return f"{source}: {key}: unknown key {allowed(keys[-1], owner)}"
    if fault["type"] == "missing":
        return f"{layers.source(())}: {key}: missing"
    reason = fault["msg"].removeprefix("Value error, ")
    given = "" if isinstance(fault["input"], dict) else f"{fault['input']!r}: "
    return f"{source}: {key}: {given}{reason}"


def _known_fields(keys: Sequence[str]) -> list[str] | None:
    """The fields that may stand below a key; None where any may (of plain values)."""
    kind: Any = Suite
    for part in keys:
        if _is_model(kind):
            kind = kind.model_fields[part].annotation if part in kind.model_fields else None
        elif get_origin(kind) is dict:
            kind = kind.__args__[1]
        kind = kind if get_origin(kind) is dict else _inner_model(kind)
    if _is_model(kind):
        return list(kind.model_fields)
    return [] if get_origin(kind) is not dict or _is_model(_inner_model(kind)) else None


def _field_names(loc: tuple) -> list[str]:
    """The keys allowed where an unknown one was found, by walking the models along its path."""
    kind: Any = Suite
    for part in loc[:-1]:
        if _is_model(kind):
            kind = kind.model_fields[part].annotation
            if get_origin(kind) is dict:  # the next part is a name in it
                continue
        kind = _inner_model(kind)
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inner_model(annotation: Any) -> Any:
    """The model inside dict[str, M], M | None, Annotated[...]; the annotation itself if none."""
    if _is_model(annotation):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if _is_model(found):
            return found
    return annotation


def _check_names(suite: Suite, path: Path) -> None:
    """Every name one entry uses must be defined by another. Raises ConfigError."""

    def known(where: str, name: str, names: Any) -> None:
        if name not in names:
            raise ConfigError(f"{path}: {where}: {name!r} is not defined {allowed(name, names)}")

    for name in suite.select.items:
        known("select.items", name, suite.items)
    for name in suite.select.pairs:
        known("select.pairs", name, suite.pairs)
    for name in suite.select.references:
        known("select.references", name, suite.references)
    every_method = {method for item in suite.items.values() for method in item.methods}
    for where, methods in [("select.methods", suite.select.methods)] + [
        (f"items.{name}.methods", item.methods) for name, item in suite.items.items()
    ]:
        for method in methods:
            try:
                Method.parse(method)
            except MethodError as error:
                raise ConfigError(f"{path}: {where}: {error}") from None
    for method in suite.select.methods:
        known("select.methods", method, sorted(every_method))
    for name, item in suite.items.items():
        for pair in item.pairs:
            known(f"items.{name}.pairs", pair, suite.pairs)
            if item.stage != "supervised":
                known(f"pairs.{pair}.tokens", item.stage, suite.pairs[pair].tokens)
        for checkpoint in item.checkpoints:
            model, _, point = checkpoint.partition("/")
            known(f"items.{name}.checkpoints", model, suite.models)
            known(f"items.{name}.checkpoints", point, suite.models[model].checkpoints)
        for pair, references in item.references.items():
            known(f"items.{name}.references", pair, item.pairs)
            for reference in references:
                known(f"items.{name}.references.{pair}", reference, suite.references)
    for stage, model in suite.baselines.miniplm.reference.items():
        known(f"baselines.miniplm.reference.{stage}", model, suite.models)
    for name, pair in suite.pairs.items():
        known(f"pairs.{name}.teacher", pair.teacher, suite.models)
        layers = suite.models[pair.teacher].shape.layers
        if (pair.student.layers_of_teacher or 0) > layers:
            raise ConfigError(
                f"{path}: pairs.{name}.student.layers_of_teacher: "
                f"{pair.student.layers_of_teacher}: {pair.teacher} has {layers}"
            )
        _check_teachers(suite, path, name, known)
        if pair.student.model is not None:
            known(f"pairs.{name}.student.model", pair.student.model, suite.models)
            for stage, point in pair.student.start.items():
                points = suite.models[pair.student.model].checkpoints
                known(f"pairs.{name}.student.start.{stage}", point, points)
    _check_selected(suite, path, known)


def _check_own_items(suite: Suite, layers: Layers) -> None:
    """What a scale itself lists for an item that it selects, it selects too. Raises ConfigError."""
    for name in suite.select.items:
        for kind, selected in (("methods", suite.select.methods), ("pairs", suite.select.pairs)):
            source = layers.source(("items", name, kind))
            if source.endswith("experiments.yaml"):
                continue
            for entry in getattr(suite.items[name], kind):
                if entry not in selected:
                    where = f"{source}: items.{name}.{kind}: {entry!r}"
                    raise ConfigError(f"{where} is not in select.{kind}, so it would not run")


def _check_teachers(suite: Suite, path: Path, name: str, known: Any) -> None:
    """A pair's other teachers are of one make with the first, and a seed has one.

    FLOPs, data and the shape of the student follow from the first. Raises ConfigError.
    """
    pair, key = suite.pairs[name], f"pairs.{name}.teachers_of_seeds"
    there = sorted({seed for item in suite.items for seed in suite.seeds_of(item)})
    first, taken = suite.models[pair.teacher], set()
    for model, seeds in pair.teachers_of_seeds.items():
        known(key, model, suite.models)
        other = suite.models[model]
        for field in ("family", "tokenizer", "shape"):
            if getattr(other, field) != getattr(first, field):
                raise ConfigError(
                    f"{path}: {key}: {model} has another {field} than {pair.teacher}; teachers of "
                    "one pair differ in their weights alone"
                )
        for seed in seeds:
            known(f"{key}.{model}", seed, there)
            if seed in taken:
                raise ConfigError(f"{path}: {key}.{model}: seed {seed} has two teachers")
            taken.add(seed)


def _check_selected(suite: Suite, path: Path, known: Any) -> None:
    """The corpora, tokenizers and budgets that the selected runs need. Raises ConfigError."""
    stages = {suite.items[name].stage for name in suite.select.items}
    for stage in stages:
        supervised = suite.stages[stage].epochs is not None
        data = suite.instructions if supervised else suite.corpora
        known(f"stages.{stage}.corpus", suite.stages[stage].corpus, data)
        if suite.stages[stage].packed and not supervised:
            raise ConfigError(
                f"{path}: stages.{stage}.packed: true: packs examples of instruction data, and "
                "rows of a corpus are full; leave it out"
            )
    for name, corpus in suite.corpora.items():
        for other in corpus.also:
            known(f"corpora.{name}.also", other, suite.corpora)
    fractions = {corpus.validation_fraction for corpus in suite.corpora.values()}
    if len(fractions) > 1:
        raise ConfigError(
            f"{path}: corpora: validation_fraction: {sorted(fractions)}: must be the same in all, "
            "or a document that one corpus holds out may train in another"
        )
    if suite.evaluation.fewshot and suite.evaluation.fewshot.corpus:
        known("evaluation.fewshot.corpus", suite.evaluation.fewshot.corpus, suite.corpora)
    for name, tokenizer in suite.tokenizers.items():
        for corpus in tokenizer.corpora:
            known(f"tokenizers.{name}.corpora", corpus, suite.corpora)
    for model in suite.models:
        _check_budgets(suite, path, model)
    for run in suite.runs():
        pair = suite.pairs[run.pair]
        models = [suite.teacher(run.pair, run.seed)] + (
            [pair.student.model] if pair.student.model else []
        )
        for model in models:
            known(f"models.{model}.tokenizer", suite.models[model].tokenizer, suite.tokenizers)
        stage = suite.stages[run.stage]
        if stage.epochs is None:
            _check_budget(
                suite,
                path,
                f"pairs.{run.pair}.tokens.{run.stage}",
                pair.tokens[run.stage],
                stage.corpus,
            )


def _check_budgets(suite: Suite, path: Path, model: str) -> None:
    points = {n: c.tokens for n, c in suite.models[model].checkpoints.items() if c.tokens}
    if points and suite.pretraining is None:
        raise ConfigError(f"{path}: pretraining: missing, and models.{model} is pre-trained here")
    if list(points.values()) != sorted(set(points.values())):
        raise ConfigError(
            f"{path}: models.{model}.checkpoints: {points}: tokens must grow from one checkpoint "
            "to the next (they count from the start of pre-training)"
        )
    for name, tokens in points.items():
        corpus = suite.models[model].corpus or suite.pretraining.corpus
        known = f"models.{model}.corpus: {corpus!r} is not defined"
        if corpus not in suite.corpora:
            raise ConfigError(f"{path}: {known} {allowed(corpus, suite.corpora)}")
        _check_budget(suite, path, f"models.{model}.checkpoints.{name}.tokens", tokens, corpus)


def _check_budget(suite: Suite, path: Path, key: str, tokens: int, corpus: str) -> None:
    limit = int(suite.corpora[corpus].train_tokens * suite.max_epochs)
    if tokens > limit:
        raise ConfigError(
            f"{path}: {key}: {tokens}: more than max_epochs={suite.max_epochs:g} passes over "
            f"corpora.{corpus}.tokens={suite.corpora[corpus].train_tokens} (allowed: up to {limit})"
        )
