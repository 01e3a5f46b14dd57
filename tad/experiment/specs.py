"""What one job does, with every value resolved: the contract between the DAG and the trainers.

A spec is what a record's manifest holds, what Snakemake compares to decide on reruns, and what the
fingerprint of a checkpoint is taken from. Light to import, because the Snakefile does.
"""

from __future__ import annotations

import math

from pydantic import Field

from tad.experiment.config import ConfigError, Suite
from tad.experiment.flops import matched_tokens
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.schema import (
    Checkpoint,
    Pair,
    Pretraining,
    Shape,
    Sharding,
    Strict,
    TeacherDtype,
    Training,
)
from tad.methods import BASELINE, Method


class Optimisation(Strict):
    """The values of one training loop; sizes in sequences of ``context`` tokens."""

    steps: int
    batch_size: int
    micro_batch_size: int
    context: int
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup_fraction: float
    max_grad_norm: float
    memory_budget_mb: float
    compiled: bool | None
    evaluations: int
    evaluation_sequences: int
    checkpoint_every_steps: int
    seed: int
    packed: bool = Field(default=False, exclude_if=lambda value: not value)
    # How a training is fitted to its machine, as the number of GPUs: it moves numbers by rounding
    # at most, and so is no part of what a run is.
    gradient_checkpointing: bool = Field(default=False, exclude=True)
    sharding: Sharding = Field(default="none", exclude=True)

    @property
    def tokens(self) -> int:
        """Tokens that the loop trains on."""
        return self.steps * self.batch_size * self.context


class SelectionSpec(Strict):
    """Difference sampling (MiniPLM): ``delta`` of the first ``sequences`` in training order.

    ``asked`` is how many the pool would be, where the data hold fewer; then ``delta`` is larger, so
    that as much is trained on.
    """

    folder: str
    reference: str
    sequences: int
    delta: float
    asked: int | None = Field(default=None, exclude_if=lambda value: value is None)


class WritingSpec(Strict):
    """Text that a model writes: the teacher, to ``folder`` (Seq-KD), or the student while it
    trains (MiniLLM)."""

    folder: str | None
    sequences: int
    prompt_tokens: int
    temperature: float
    top_p: float


class StatesSpec(Strict):
    """States of the teacher on the first ``sequences`` in training order, in ``folder``."""

    folder: str
    sequences: int


class PrunedSpec(Strict):
    """A student of whole layers of its teacher; ``frozen`` are the parts that do not train."""

    frozen: list[str]


class RunSpec(Strict):
    """One distillation. ``teacher`` and ``start`` are folders or hub ids; a student without
    ``start`` is made from the teacher in ``shape``, of whole layers if ``pruned``. ``selection``
    and ``writing`` say what is trained on instead of the corpus as it comes, ``states`` where the
    teacher's states on it are, None where the run computes its own. ``asked_tokens`` is its budget
    where the data hold less."""

    run: str
    data: str
    tokenizer: str
    teacher: str
    shape: Shape | None
    pruned: PrunedSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    start: str | None
    temperature: float
    hidden_cosine: bool
    # Left out at its default, so that a run without it is what it was before there was a choice.
    teacher_dtype: TeacherDtype = Field(default="auto", exclude_if=lambda value: value == "auto")
    optimisation: Optimisation
    selection: SelectionSpec | None = None
    writing: WritingSpec | None = None
    asked_tokens: int | None = Field(default=None, exclude_if=lambda value: value is None)
    # Where they come from changes no number, so it is no part of what a run is.
    states: StatesSpec | None = Field(default=None, exclude=True)


class PretrainSpec(Strict):
    """One pre-training of a model to one checkpoint.

    ``start`` is the checkpoint before it, if any, and ``skip_tokens`` what that one has seen.
    """

    model: str
    checkpoint: str
    family: str
    shape: Shape
    data: str
    tokenizer: str
    start: str | None
    skip_tokens: int
    optimisation: Optimisation


def run_spec(suite: Suite, run: RunId) -> RunSpec:
    """Resolve a run. Raises ConfigError if the suite does not have it, or cannot train it."""
    suite.check_run(run)
    pair, training = suite.pairs[run.pair], suite.stages[run.stage]
    teacher = suite.teacher(run.pair, run.seed)
    layout = Layout.work(suite.scale)
    student = pair.student
    tokenizer = suite.models[student.model or teacher].tokenizer
    optimisation = _optimisation(
        training, _steps(suite, run), run.seed, rate=run.method.shared["r"], pair=pair
    )
    if run.method.row.rows != "corpus":  # the others are rows of text
        optimisation = optimisation.model_copy(update={"packed": False})
    clipped = clipped_budget(suite, run)
    if optimisation.batch_size % optimisation.micro_batch_size:
        raise ConfigError(
            f"run {run}: pairs.{run.pair}.micro_batch_size={optimisation.micro_batch_size}: "
            f"stages.{run.stage}.batch_size={optimisation.batch_size} is no multiple of it"
        )
    sequences = optimisation.steps * optimisation.batch_size
    return RunSpec(
        run=str(run),
        data=str(layout.tokens(training.corpus, tokenizer)),
        tokenizer=str(layout.tokenizer(tokenizer)),
        teacher=weights(suite, teacher, last_checkpoint(suite, teacher)),
        shape=suite.student_shape(run.pair),
        pruned=PrunedSpec(frozen=student.frozen) if student.layers_of_teacher else None,
        start=_start(suite, run),
        temperature=training.temperature,
        teacher_dtype=training.teacher_dtype,
        hidden_cosine=pair.hidden_cosine and run.method.row.cosine,
        optimisation=optimisation,
        selection=_selection(suite, run, sequences) if run.method.row.rows == "selected" else None,
        writing=_writing(suite, run, sequences),
        asked_tokens=clipped[0] if clipped else None,
        states=_states(suite, run, sequences),
    )


def _states(suite: Suite, run: RunId, sequences: int) -> StatesSpec | None:
    """Where the states of the pair's teacher are, on all rows of the pair's budget.

    None for a method that does not run the teacher on the corpus, for a run that is longer, for
    several GPUs (each would have its own rows), for a ``teacher_dtype`` other than that of the
    states, and for more than ``teacher_states_gb``.
    """
    pair, training = suite.pairs[run.pair], suite.stages[run.stage]
    steps = _steps(suite, RunId(run.stage, run.pair, Method(BASELINE), run.seed))
    stored = steps * training.batch_size
    width = suite.models[pair.teacher].shape.hidden_size
    gigabytes = 4 * stored * training.context * width / 1e9  # of float32
    several = pair.gpus.max > 1 and suite.pretraining is None
    row = run.method.row
    if not (row.needs_teacher and row.rows == "corpus") or sequences > stored or several:
        return None
    if gigabytes > suite.teacher_states_gb or training.teacher_dtype != "auto":
        return None
    folder = Layout.work(suite.scale).states(run.stage, run.pair, run.seed)
    return StatesSpec(folder=str(folder), sequences=stored)


def _selection(suite: Suite, run: RunId, sequences: int) -> SelectionSpec:
    values = suite.baselines.miniplm
    if run.stage not in values.reference:
        known = ", ".join(values.reference)
        raise ConfigError(f"run {run}: baselines.miniplm.reference has {known} only")
    model = values.reference[run.stage]
    asked = math.ceil(sequences / values.delta)
    held = _rows_held(suite, run.stage)
    pool = asked if held is None else min(asked, held)
    return SelectionSpec(
        folder=str(Layout.work(suite.scale).selection(run.stage, run.pair, run.seed)),
        reference=weights(suite, model, last_checkpoint(suite, model)),
        sequences=pool,
        delta=min(1.0, sequences / pool) if pool < asked else values.delta,
        asked=asked if pool < asked else None,
    )


def _rows_held(suite: Suite, stage: str) -> int | None:
    """Rows of ``context`` tokens to train on in the corpus of a stage, where its ``tokens`` are
    more than it ``holds``; None elsewhere."""
    training = suite.stages[stage]
    corpus = suite.corpora.get(training.corpus)
    if corpus is None or corpus.train_tokens == corpus.tokens:
        return None
    return (corpus.train_tokens - 1) // training.context


def _writing(suite: Suite, run: RunId, sequences: int) -> WritingSpec | None:
    """What is written for Seq-KD and MiniLLM; None for other methods."""
    settings = {"teacher_text": suite.baselines.seq_kd, "own_text": suite.baselines.minillm}
    values = settings.get(run.method.row.rows)
    if values is None:
        return None
    folder = None
    if run.method.row.rows == "teacher_text":
        folder = str(Layout.work(suite.scale).generated(run.stage, run.pair, run.seed))
    return WritingSpec(
        folder=folder,
        sequences=sequences,
        prompt_tokens=values.prompt_tokens,
        temperature=values.temperature,
        top_p=values.top_p,
    )


def _start(suite: Suite, run: RunId) -> str | None:
    """What a student starts from: a checkpoint, the run of the stage before, or None (shape)."""
    after = suite.stages[run.stage].after
    student = suite.pairs[run.pair].student
    if after is None:
        return weights(suite, student.model, student.start[run.stage]) if student.model else None
    method = Method(run.method.row.starts_as) if run.method.row.starts_as else run.method
    return str(Layout.work(suite.scale).run(RunId(after, run.pair, method, run.seed)))


def _steps(suite: Suite, run: RunId) -> int:
    """Steps of a run: whole ones that fit its token budget, or all of its epochs."""
    training = suite.stages[run.stage]
    if training.epochs is None:
        return token_budget(suite, run) // (training.batch_size * training.context)
    if training.corpus not in suite.instructions:
        raise ConfigError(f"run {run}: instructions.{training.corpus} is not in this scale's file")
    examples = suite.instructions[training.corpus].examples
    return round(run.method.shared["x"] * training.epochs * examples) // training.batch_size


def token_budget(suite: Suite, run: RunId) -> int:
    """Tokens that a run may train on, times the ``x`` of its method: its pair's, for
    ``clm_matched`` what TAD's FLOPs buy and the data hold, for ``minillm`` its share.

    Raises ConfigError where that is more text than there is.
    """
    clipped = clipped_budget(suite, run)
    return _asked_tokens(suite, run) if clipped is None else clipped[1]


def clipped_budget(suite: Suite, run: RunId) -> tuple[int, int] | None:
    """(tokens for the FLOPs of TAD, tokens that the data hold) where the latter are fewer, by
    ``holds`` of the corpus; None for other runs. Raises FlopsError."""
    rows = _rows_held(suite, run.stage)
    if run.method.row.budget != "matched" or rows is None:
        return None
    asked = round(matched_tokens(suite, run.pair, stage=run.stage) * run.method.shared["x"])
    held = int(rows * suite.stages[run.stage].context * suite.max_epochs)
    return (asked, held) if held < asked else None


def _asked_tokens(suite: Suite, run: RunId) -> int:
    budget, times = run.method.row.budget, run.method.shared["x"]
    tokens = suite.pairs[run.pair].tokens[run.stage]
    if budget == "share":
        tokens = int(tokens * suite.baselines.minillm.token_share)
    elif budget == "matched":
        tokens = matched_tokens(suite, run.pair, stage=run.stage)
    if budget != "matched" and times <= 1:  # load_suite has checked the pairs' own
        return round(tokens * times)
    tokens = round(tokens * times)
    corpus = suite.stages[run.stage].corpus
    limit = int(suite.corpora[corpus].train_tokens * suite.max_epochs)
    if tokens > limit:
        why = "have the FLOPs of TAD" if budget == "matched" else "are its budget"
        raise ConfigError(
            f"run {run}: {tokens} tokens {why}, but max_epochs={suite.max_epochs:g} passes over "
            f"corpora.{corpus}.tokens hold {limit}: raise either"
        )
    return tokens


def pretrain_spec(suite: Suite, model: str, checkpoint: str) -> PretrainSpec:
    """Resolve the pre-training of a model's checkpoint. Raises ConfigError for unknown names and
    for a checkpoint that is not trained here."""
    tokens = checkpoint_of(suite, model, checkpoint).tokens
    entry = suite.models[model]
    if tokens is None or suite.pretraining is None:
        raise ConfigError(f"{model}/{checkpoint}: is loaded, not trained, at scale {suite.scale}")
    names = list(entry.checkpoints)
    before = names[names.index(checkpoint) - 1] if names[0] != checkpoint else None
    skip = (entry.checkpoints[before].tokens or 0) if before else 0
    layout, pretraining = Layout.work(suite.scale), suite.pretraining
    return PretrainSpec(
        model=model,
        checkpoint=checkpoint,
        family=entry.family,
        shape=entry.shape,
        data=str(layout.tokens(entry.corpus or pretraining.corpus, entry.tokenizer)),
        tokenizer=str(layout.tokenizer(entry.tokenizer)),
        start=weights(suite, model, before) if before else None,
        skip_tokens=skip,
        optimisation=_optimisation(
            pretraining,
            (tokens - skip) // (pretraining.batch_size * pretraining.context),
            pretraining.seed if entry.seed is None else entry.seed,
        ),
    )


def weights(suite: Suite, model: str, checkpoint: str) -> str:
    """Where a checkpoint's weights are: a folder below the work root, a given path, or a hub id.

    Raises ConfigError for unknown names.
    """
    source = checkpoint_of(suite, model, checkpoint)
    if source.made:
        return str(Layout.work(suite.scale).model(model, checkpoint))
    return source.path or source.hub


def checkpoint_of(suite: Suite, model: str, checkpoint: str) -> Checkpoint:
    """The entry of a model's checkpoint. Raises ConfigError for unknown names."""
    entry = suite.models.get(model)
    if entry is None or checkpoint not in entry.checkpoints:
        known = [f"{m}/{c}" for m, e in suite.models.items() for c in e.checkpoints]
        raise ConfigError(f"{model}/{checkpoint}: no such checkpoint (allowed: {', '.join(known)})")
    return entry.checkpoints[checkpoint]


def hub_ids(suite: Suite) -> set[str]:
    """The hub ids among what ``weights`` and ``reference_source`` return."""
    points = [point for model in suite.models.values() for point in model.checkpoints.values()]
    loaded = [point for point in points if not point.made]
    return {source.hub for source in (*loaded, *suite.references.values()) if source.hub}


def reference_source(suite: Suite, name: str) -> str:
    """Where a model of others is: a given path, or a hub id. Raises ConfigError if not known."""
    if name not in suite.references:
        known = ", ".join(suite.references)
        raise ConfigError(f"references.{name}: not in experiments.yaml (allowed: {known})")
    return suite.references[name].path or suite.references[name].hub


def last_checkpoint(suite: Suite, model: str) -> str:
    """The checkpoint that teaches: the last one."""
    return list(suite.models[model].checkpoints)[-1]


def _optimisation(
    training: Training | Pretraining,
    steps: int,
    seed: int,
    *,
    rate: float = 1.0,
    pair: Pair | None = None,
) -> Optimisation:
    """At least one step, at ``rate`` times the learning rate, with the pair's own values."""
    values = training.model_dump(include=set(Optimisation.model_fields) - {"seed"})
    values["learning_rate"] *= rate
    values["micro_batch_size"] = training.micro_batch_size or training.batch_size
    if pair is not None:
        own = {"micro_batch_size", "gradient_checkpointing", "sharding"}
        values |= pair.model_dump(include=own, exclude_none=True)
    return Optimisation(**values, steps=max(1, steps), seed=seed)
