"""How a job fits a machine: its GPUs, micro-batch, gradient checkpointing and sharding.

Of what fits, the first of this order: fewest GPUs; the configuration's own way, then without
checkpointing (which computes the forward pass twice) before with it, and without sharding before
FSDP; the micro-batch of the configuration before smaller ones. None of these changes what a run is:
the batch of a step stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tad.experiment.config import Suite
from tad.experiment.flops import model_shape, pair_account, pair_shapes
from tad.experiment.run_id import RunId
from tad.experiment.specs import Optimisation, pretrain_spec, run_spec
from tad.plan.activations import passing
from tad.plan.facts import benchmarks, hub_entry
from tad.plan.jobs import Job
from tad.plan.memory import FULL, HALF, Built, Memory, Precision, Setting, training_memory
from tad.plan.work import DECODED_AT_ONCE, reference_shape

AUTOGRAD_COPIES = 8
"""Copies of the logits where a divergence has no closed form; its budget bounds them anyway."""

LOGITS_AT_ONCE = 2**26
"""Numbers of the logits that evaluations make at a time on a GPU (``eval.rows``)."""

METRIC_COPIES = 12
"""Of such logits that the held-out metrics hold."""

SCORED_AT_ONCE = {"select": 8, "states": 8, "heldout": 16}
"""Sequences that pass at once by default."""


class Machine(Protocol):
    """GPUs of one kind: how many, and bytes of one that a job can fill."""

    @property
    def count(self) -> int: ...

    @property
    def room(self) -> float: ...


@dataclass(frozen=True)
class Fit:
    """A job on a machine; ``micro_batch`` sequences pass at once on each of its GPUs."""

    gpus: int
    micro_batch: int
    checkpointing: bool
    sharding: str
    memory: Memory

    def differs(self, job: Job, suite: Suite) -> dict[str, Any]:
        """What a configuration has to say for this fit, where it says something else."""
        if job.kind != "distill":
            return {}
        pair, now = suite.pairs[job.run.pair], configured(suite, job.run)
        low, high = pair.gpus.min, pair.gpus.max
        wanted = {
            "micro_batch_size": (self.micro_batch, now.micro_batch),
            "gradient_checkpointing": (self.checkpointing, now.checkpointing),
            "sharding": (self.sharding, now.sharding),
        }
        found = {key: new for key, (new, old) in wanted.items() if new != old}
        return found if low <= self.gpus <= high else {"gpus": self.gpus, **found}


def fit(suite: Suite, job: Job, machine: Machine) -> Fit | None:
    """How a job runs on a machine; None where it does not fit."""
    tried = _training(suite, job, machine) if job.kind == "distill" else _single(suite, job)
    return next((each for each in tried if each.memory.peak <= machine.room), None)


def smallest(suite: Suite, job: Job, machine: Machine) -> Fit:
    """What comes nearest to fitting, to tell by how much it does not."""
    tried = _training(suite, job, machine) if job.kind == "distill" else _single(suite, job)
    return min(tried, key=lambda each: each.memory.peak)


def _training(suite: Suite, job: Job, machine: Machine) -> Iterator[Fit]:
    base = configured(suite, job.run)
    values = run_spec(suite, job.run).optimisation
    least = min(suite.pairs[job.run.pair].gpus.min, machine.count)
    own = base.checkpointing, base.sharding
    for gpus in range(least, machine.count + 1):
        if gpus > least and (values.batch_size % gpus or gpus & (gpus - 1)):
            continue
        shardings = ("none", "fsdp") if gpus > 1 else ("none",)
        ways = [(checks, sharding) for checks in (False, True) for sharding in shardings]
        for checkpointing, sharding in sorted(ways, key=lambda way: way != own):
            for micro in halved(min(base.micro_batch, values.batch_size // gpus)):
                if micro > 1 and values.batch_size % (micro * gpus):
                    continue
                way = replace(
                    base,
                    gpus=gpus,
                    sharding=sharding,
                    checkpointing=checkpointing,
                    micro_batch=micro,
                    accumulates=values.batch_size > micro * gpus,
                )
                yield Fit(gpus, micro, checkpointing, sharding, run_memory(suite, job.run, way))


def halved(number: int) -> list[int]:
    """A number, its half, ... down to 1."""
    return [number >> shift for shift in range(number.bit_length()) if number >> shift]


def configured(suite: Suite, run: RunId, *, on_gpu: bool = True) -> Setting:
    """How the configuration has a run train."""
    spec = run_spec(suite, run)
    values = spec.optimisation
    gpus = suite.pairs[run.pair].gpus.min if on_gpu else 1
    row = run.method.row
    return Setting(
        micro_batch=values.micro_batch_size,
        context=values.context,
        budget=values.memory_budget_mb * 1e6,
        accumulates=values.batch_size > values.micro_batch_size * gpus,
        teacher_beside=row.needs_teacher,
        copies=AUTOGRAD_COPIES if row.needs_teacher and row.fused is None else 0,
        modes=int(run.method.parameters.get("k", 0)) if row.fused else 0,
        checkpointing=values.gradient_checkpointing,
        sharding=values.sharding,
        gpus=gpus,
        precision=_precision(spec.teacher_dtype) if on_gpu else FULL,
    )


def _precision(teacher: str) -> Precision:
    return replace(HALF, teacher=4) if teacher == "float32" else HALF


def run_memory(suite: Suite, run: RunId, setting: Setting) -> Memory:
    """Peak memory of the training of a run on each of its GPUs."""
    teacher, student = (Built(*each) for each in pair_shapes(suite, run.pair))
    frozen, trains_head = frozen_weights(suite, run.pair)
    if run.method.row.rows == "own_text":  # its own text passes beside the corpus
        setting = replace(setting, micro_batch=2 * setting.micro_batch)
    return training_memory(
        student, teacher, replace(setting, frozen=frozen, trains_head=trains_head)
    )


def frozen_weights(suite: Suite, pair: str) -> tuple[int, bool]:
    """Weights of a pair's student that take no gradient, and whether its output matrix does: as
    ``tad.models.students`` freezes embeddings."""
    teacher, student = (Built(*each) for each in pair_shapes(suite, pair))
    account = pair_account(suite, pair)
    if account.freezes:
        return student.matrix, False
    same = student.shape.hidden_size == teacher.shape.hidden_size
    if account.made_from_teacher and same and not student.shape.tied:
        return student.matrix, True  # the input embedding; an untied output matrix trains
    return 0, True


def pretrain_memory(suite: Suite, model: str, point: str, precision: Precision = FULL) -> Memory:
    """Peak memory of a pre-training."""
    values = pretrain_spec(suite, model, point).optimisation
    return training_memory(Built(*model_shape(suite, model)), None, _plain(values, precision))


def _plain(values: Optimisation, precision: Precision) -> Setting:
    return Setting(
        micro_batch=values.micro_batch_size,
        context=values.context,
        budget=values.memory_budget_mb * 1e6,
        accumulates=values.batch_size > values.micro_batch_size,
        precision=precision,
    )


# --- Jobs that train nothing ---------------------------------------------------------------------


def _single(suite: Suite, job: Job) -> Iterator[Fit]:
    """On one GPU, with its batch and smaller ones."""
    if job.kind == "pretrain":
        memory = pretrain_memory(suite, *job.place.split("/")[1:], precision=HALF)
        yield Fit(1, pretrain_spec_batch(suite, job), False, "none", memory)
        return
    for batch in halved(_batch(suite, job)):
        yield Fit(1, batch, False, "none", reading_memory(suite, job, batch))


def pretrain_spec_batch(suite: Suite, job: Job) -> int:
    """Sequences that pass at once in a pre-training."""
    return pretrain_spec(suite, *job.place.split("/")[1:]).optimisation.micro_batch_size


def _batch(suite: Suite, job: Job) -> int:
    found = suite.evaluation
    if job.kind == "fewshot":
        return found.fewshot.batch_size if found.fewshot else 32
    if job.kind == "math":
        return (found.math and found.math.batch_size) or DECODED_AT_ONCE
    return SCORED_AT_ONCE.get(job.kind, DECODED_AT_ONCE)


def reading_memory(suite: Suite, job: Job, batch: int, *, half: bool = True) -> Memory:
    """Peak of a job that runs models without gradients: weights, and the rest as evaluation."""
    small, sizes = 2 if half else 4, benchmarks()
    models = _models(suite, job, small)
    weights = sum(bytes_of * model.weights for model, bytes_of in models)
    if not models:
        return Memory(weights=0.0)
    first = models[0][0]
    if job.kind == "fewshot":
        # With flash attention lm-eval makes logits of all positions, and their log-softmax.
        rows = batch * sizes.fewshot_row
        extra = rows * first.shape.vocab_size * (models[0][1] + 4)
        extra += rows * _held(first, sizes.fewshot_row, models[0][1])
        return Memory(weights=weights, evaluation=extra)
    if job.kind in ("math", "generate"):
        context = sizes.math_prompt + sizes.math_answer
        if job.kind == "generate":
            context = run_spec(suite, job.run).optimisation.context
        keys = 2 * first.shape.layers * first.shape.kv_heads * first.shape.head_dim
        cache = batch * context * keys * models[0][1]
        read = batch * context * _held(first, context, models[0][1])
        return Memory(weights=weights, evaluation=cache + read + 4 * batch * first.shape.vocab_size)
    stage = suite.stages[job.run.stage if job.run else "scratch"]
    rows = batch * stage.context
    extra = max(rows * _held(model, stage.context, each) for model, each in models)
    extra += sum(rows * model.shape.hidden_size * each for model, each in models)
    if job.kind != "states":
        extra += METRIC_COPIES * 4 * LOGITS_AT_ONCE * (1 if half else 2**20 / LOGITS_AT_ONCE)
    return Memory(weights=weights, evaluation=extra)


def _held(model: Built, context: int, item: int) -> int:
    return passing(model.family, model.shape, context, item, item)


def _models(suite: Suite, job: Job, small: int) -> list[tuple[Built, int]]:
    """The models that a job loads, the one that writes first, and bytes of their weights; none
    where their size is not known."""
    if job.run is None:
        kind, name, *_ = job.place.split("/")
        if kind == "models":
            return [(Built(*model_shape(suite, name)), small)]
        shape = reference_shape(suite, name)
        if shape is None:
            return []
        known, model = hub_entry("models", suite.references[name].hub or ""), Built("llama", shape)
        wide = known and known.gigabytes and known.gigabytes * 1e9 > 3 * model.weights
        return [(model, 4 if wide else small)]
    teacher, student = (Built(*each) for each in pair_shapes(suite, job.run.pair))
    if job.kind == "select":
        small_model = suite.baselines.miniplm.reference[job.run.stage]
        return [(teacher, small), (Built(*model_shape(suite, small_model)), small)]
    if job.kind in ("generate", "states"):
        return [(teacher, small)]
    # A student is stored, and measured, in float32.
    return [(student, 4), (teacher, small)] if job.kind == "heldout" else [(student, 4)]


def loads(suite: Suite, job: Job) -> float:
    """Bytes of all weights that a job loads."""
    if job.kind == "distill":
        teacher, student = (Built(*each) for each in pair_shapes(suite, job.run.pair))
        return 4.0 * student.weights + 2.0 * teacher.weights
    if job.kind == "pretrain":
        return 4.0 * Built(*model_shape(suite, job.place.split("/")[1])).weights
    return sum(each * model.weights for model, each in _models(suite, job, 2))
