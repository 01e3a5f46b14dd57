"""FLOPs of every kind of job, as they are executed here (``tad.experiment.flops``)."""

from __future__ import annotations

from dataclasses import dataclass

from tad.experiment.config import Suite
from tad.experiment.families import Family
from tad.experiment.flops import (
    EXECUTED,
    Account,
    Conventions,
    account_of_shape,
    model_account,
    pair_account,
    pair_shapes,
    run_cost,
)
from tad.experiment.run_id import RunId
from tad.experiment.schema import Shape
from tad.experiment.specs import RunSpec, pretrain_spec, run_spec
from tad.plan.activations import layer_of
from tad.plan.facts import benchmarks, hub_entry
from tad.plan.jobs import Job

DECODED_AT_ONCE = 16
"""Sequences that are written at a time by default (``tad.baselines.generation``, math)."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """``flops`` of whole sequences, ``decoded`` those of writing ``batch`` sequences token by
    token. ``tokens`` that a training job trains on."""

    flops: float = 0.0
    decoded: float = 0.0
    batch: int = DECODED_AT_ONCE
    tokens: int = 0

    @property
    def total(self) -> float:
        """All FLOPs."""
        return self.flops + self.decoded


def work(suite: Suite, job: Job, *, checkpointing: bool = False) -> Work:
    """What a job computes; ``checkpointing`` runs the student's layers forward once more.

    Raises FlopsError and ConfigError.
    """
    if job.kind == "distill":
        return _distilled(suite, job.run, checkpointing)
    if job.kind == "pretrain":
        return _pretrained(suite, *job.place.split("/")[1:])
    if job.kind in ("select", "generate", "states"):
        return _prepared(suite, job.kind, job.run)
    if job.kind in ("heldout", "fewshot", "math"):
        return _measured(suite, job)
    return Work()


def _forward(account: Account, context: int) -> float:
    return account.forward(context, EXECUTED)


def _distilled(suite: Suite, run: RunId, checkpointing: bool) -> Work:
    spec, cost = run_spec(suite, run), run_cost(suite, run)
    pair, values = pair_account(suite, run.pair), spec.optimisation
    tokens, ahead = trained_tokens(suite, run, spec), run.method.row.rows
    each = cost.student + (cost.teacher if ahead not in ("selected", "teacher_text") else 0.0)
    if checkpointing:
        each += recomputed(*pair_shapes(suite, run.pair)[1], values.context)
    points = (values.evaluations + 1) * values.evaluation_sequences * values.context
    both = _forward(pair.student, values.context) + _forward(pair.teacher, values.context)
    decoded = cost.generation * tokens if ahead == "own_text" else 0.0
    return Work(
        flops=each * tokens + both * points,
        decoded=decoded,
        batch=values.micro_batch_size,
        tokens=tokens,
    )


def recomputed(
    family: Family, shape: Shape, context: int, conventions: Conventions = EXECUTED
) -> float:
    """FLOPs a token that gradient checkpointing spends again: the forward pass of all layers.

    Where no norm follows the MLP, nothing needs the result of its last map, and torch stops there.
    """
    account = account_of_shape(family, shape)
    spared = 0 if layer_of(family).after else shape.hidden_size * shape.intermediate_size
    return account.forward(context, conventions) - account.output - 2 * shape.layers * spared


def trained_tokens(suite: Suite, run: RunId, spec: RunSpec | None = None) -> int:
    """Tokens that pass in the training of a run; of rows of instructions about as many as they
    have (config/facts/hub.yaml)."""
    values = (spec or run_spec(suite, run)).optimisation
    corpus = suite.stages[run.stage].corpus
    if corpus not in suite.instructions:
        return values.tokens
    entries = [hub_entry("datasets", s.hub) for s in suite.instructions[corpus].sources if s.hub]
    known = [entry.tokens_a_row for entry in entries if entry and entry.tokens_a_row]
    row = sum(known) / len(known) if known else values.context
    return int(values.steps * values.batch_size * min(row, values.context))


def _pretrained(suite: Suite, model: str, point: str) -> Work:
    values = pretrain_spec(suite, model, point).optimisation
    account = model_account(suite, model)
    points = (values.evaluations + 1) * values.evaluation_sequences * values.context
    spent = account.training(values.context, EXECUTED) * values.tokens
    return Work(flops=spent + _forward(account, values.context) * points, tokens=values.tokens)


def _prepared(suite: Suite, kind: str, run: RunId) -> Work:
    spec, pair = run_spec(suite, run), pair_account(suite, run.pair)
    context = spec.optimisation.context
    if kind == "states":
        return Work(flops=_forward(pair.teacher, context) * spec.optimisation.tokens)
    if kind == "select":
        small = model_account(suite, suite.baselines.miniplm.reference[run.stage])
        both = _forward(pair.teacher, context) + _forward(small, context)
        return Work(flops=both * spec.selection.sequences * context)
    prompt = spec.writing.prompt_tokens
    written = pair.teacher.decoding(context, EXECUTED) * (context - prompt)
    read = _forward(pair.teacher, prompt) * prompt
    return Work(flops=read * spec.writing.sequences, decoded=written * spec.writing.sequences)


def _measured(suite: Suite, job: Job) -> Work:
    student = subject(suite, job)
    if student is None:
        return Work()
    sizes, found = benchmarks(), suite.evaluation
    if job.kind == "heldout":
        stage = suite.stages[job.run.stage if job.run else "scratch"]
        each = _forward(student, stage.context)
        if job.run:
            each += _forward(pair_account(suite, job.run.pair).teacher, stage.context)
        return Work(flops=each * held_out_tokens(suite, stage.corpus, stage.context))
    if job.kind == "fewshot":
        tokens = sizes.fewshot_tokens
        if found.fewshot and found.fewshot.suite != "paper":
            tokens = min(tokens, 8 * found.fewshot.items * sizes.fewshot_row)
        return Work(flops=_forward(student, sizes.fewshot_row) * tokens)
    problems = sizes.math_problems
    if found.math and found.math.suite != "paper":
        problems = min(problems, 8 * (found.math.limit or 50))
    length = sizes.math_prompt + sizes.math_answer
    return Work(
        flops=_forward(student, sizes.math_prompt) * sizes.math_prompt * problems,
        decoded=student.decoding(length, EXECUTED) * sizes.math_answer * problems,
        batch=(found.math and found.math.batch_size) or DECODED_AT_ONCE,
    )


def held_out_tokens(suite: Suite, corpus: str, context: int) -> int:
    """Of the validation split of a corpus or of instructions, about."""
    if corpus in suite.instructions:
        return suite.instructions[corpus].validation_examples * context
    return suite.corpora[corpus].validation_tokens


def subject(suite: Suite, job: Job) -> Account | None:
    """The model that a record is of; None for one whose size is not known."""
    if job.run:
        return pair_account(suite, job.run.pair).student
    kind, model, *_ = job.place.split("/")
    if kind == "models":
        return model_account(suite, model)
    found = reference_shape(suite, model)
    return account_of_shape("llama", found) if found else None


def reference_shape(suite: Suite, name: str) -> Shape | None:
    """Roughly the shape of a model of others: of the pair's student that it stands beside.

    Tables 7 and 8 compare models of about one size. None where no item names it.
    """
    for item in suite.items.values():
        for pair, names in item.references.items():
            if name in names:
                return pair_shapes(suite, pair)[1][1]
    return None
