"""Peak memory of a training job on each GPU, by what holds it, from the shapes of its models.

B sequences pass at once, N tokens each; H width, V vocabulary. Weights that train are float32 with
float32 gradients and two Adam moments; on a GPU (``HALF``) products run under bfloat16 autocast, so
that a copy of every matrix of the layers exists beside it, and the teacher is bfloat16.

Not counted: norms and biases (a thousandth), what the CUDA context and fragmentation take
(``tad.plan.fit`` leaves room for both).
"""

from __future__ import annotations

from dataclasses import dataclass

from tad.experiment.families import Family
from tad.experiment.flops import account_of_shape
from tad.experiment.schema import Shape
from tad.plan.activations import FLOAT, passing, saved, turning

GROUP, FASTEST_TOKENS, ALIGN, BLOCK_ELEMENTS = 64, 384, 16, 1 << 18
"""Of ``tad.fused`` (a test compares them), which needs torch."""

CANDIDATE = 32
"""Bytes of one in the search for the K largest logits, among the members of K groups."""


@dataclass(frozen=True)
class Built:
    """A model by its family and shape, whose ``vocab_size`` is set."""

    family: Family
    shape: Shape

    @property
    def layers(self) -> int:
        """Weights of all maps within layers."""
        return account_of_shape(self.family, self.shape).linear // 2

    @property
    def matrix(self) -> int:
        """Weights of one vocabulary matrix."""
        return self.shape.vocab_size * self.shape.hidden_size

    @property
    def weights(self) -> int:
        """All of them."""
        return self.layers + self.matrix * (1 if self.shape.tied else 2)


@dataclass(frozen=True)
class Precision:
    """Bytes of a number: in products, in the teacher, in the student's converted copies."""

    compute: int
    teacher: int
    copy: int


FULL = Precision(compute=4, teacher=4, copy=0)
"""On a CPU."""

HALF = Precision(compute=2, teacher=2, copy=2)
"""On a GPU."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a training job runs on each of its GPUs; the fields that the configuration decides.

    ``accumulates`` says that a step is of several micro-batches: gradients are there beside a new
    micro-batch. ``frozen`` counts weights that take no gradient. ``trains_head`` is whether the
    output matrix does. ``teacher_beside`` is whether the teacher runs in training; it always does
    in evaluation if there is one. ``copies`` are those of the logits that a divergence without a
    closed form makes, ``modes`` the K of those that it looks for.
    """

    micro_batch: int
    context: int
    budget: float
    accumulates: bool = True
    frozen: int = 0
    trains_head: bool = True
    teacher_beside: bool = True
    copies: int = 0
    modes: int = 0
    checkpointing: bool = False
    sharding: str = "none"
    gpus: int = 1
    precision: Precision = HALF

    @property
    def tokens(self) -> int:
        """Tokens that pass at once."""
        return self.micro_batch * self.context


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each GPU. ``evaluation`` takes the place of gradients, activations and loss."""

    weights: float
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    loss: float = 0.0
    evaluation: float = 0.0

    @property
    def training(self) -> float:
        """What a step needs beyond weights and optimizer."""
        return self.gradients + self.activations + self.loss

    @property
    def peak(self) -> float:
        """The most that is held at once."""
        return self.weights + self.optimizer + max(self.training, self.evaluation)


def training_memory(student: Built, teacher: Built | None, setting: Setting) -> Memory:
    """The peak of a training job on each of its GPUs."""
    s, p = setting, setting.precision
    shards = s.gpus if s.sharding == "fsdp" else 1
    trains = student.weights - s.frozen
    copies = p.copy * student.layers
    weights = FLOAT * student.weights / shards
    if teacher is not None:
        weights += p.teacher * teacher.weights / shards
    weights += copies if shards == 1 else _gathered(student, teacher, s)
    if s.gpus > 1 and shards == 1:
        weights += FLOAT * trains  # DDP's buckets
    gradients = FLOAT * trains / shards
    step = _step(student, teacher if s.teacher_beside else None, s)
    held = gradients if s.accumulates else 0.0
    # The end of the backward pass has all gradients and no activations.
    head = FLOAT * student.matrix if s.trains_head else 0.0
    end = gradients + (head if s.accumulates or student.shape.tied else 0.0)
    update = gradients if p.copy else gradients + 2 * FLOAT * student.matrix
    last = max(end, update)
    if last > held + sum(step):
        held, step = last, (0.0, 0.0)
    return Memory(
        weights=weights,
        gradients=held,
        optimizer=2 * FLOAT * trains / shards,
        activations=step[0],
        loss=step[1],
        evaluation=_evaluation(student, teacher, s),
    )


def _gathered(student: Built, teacher: Built | None, s: Setting) -> float:
    """FSDP: what is whole at a time. Two layers of both models (one computes, one is on its way),
    with the gradient of one, and the vocabulary matrices."""
    p = s.precision
    layer = student.layers / student.shape.layers
    found = 2 * p.compute * layer + FLOAT * layer
    found += FLOAT * (student.weights - student.layers)
    if teacher is not None:
        found += 2 * p.teacher * teacher.layers / teacher.shape.layers
        found += p.teacher * (teacher.weights - teacher.layers)
    return found


def _step(student: Built, teacher: Built | None, s: Setting) -> tuple[float, float]:
    """Activations, and what the loss adds to them, at the fullest moment of a micro-batch."""
    p, shape = s.precision, student.shape
    layer = saved(student.family, shape, s.context, p.compute) * s.tokens
    ends = 3 * FLOAT * shape.hidden_size * s.tokens  # of the last norm, and the states
    if s.checkpointing:
        kept = FLOAT * shape.hidden_size * s.tokens * shape.layers + ends
    else:
        kept = layer * shape.layers + ends
    head = FLOAT * student.matrix if s.trains_head else 0.0
    pulled = FLOAT * shape.hidden_size * s.tokens
    states, beside = 0.0, 0.0
    if teacher is not None:
        states = p.teacher * teacher.shape.hidden_size * s.tokens
        beside = _passing(teacher, s, residual=p.teacher)
    at_loss = states + head + pulled + working_memory(student, teacher, s)
    turn = turning(student.family, shape, s.context, p.compute) * s.tokens
    if s.checkpointing:
        turn += layer
    backward = head + pulled + turn
    return kept, max(beside, at_loss, backward)


def _passing(model: Built, s: Setting, *, residual: int) -> float:
    return s.tokens * passing(model.family, model.shape, s.context, s.precision.compute, residual)


def working_memory(student: Built, teacher: Built | None, s: Setting) -> float:
    """The buffers of the fused loss (``tad.fused.walk``), at most its budget: logits of a chunk
    with the maxima of their groups and the states that they are of, and the largest of what comes
    beside them: a block of them, the candidates for the modes, a part of a head that is converted.
    """
    models = [student] if teacher is None else [student, teacher]
    vocabulary = min(model.shape.vocab_size for model in models)
    positions = -(-min(s.tokens, FASTEST_TOKENS) // ALIGN) * ALIGN
    each = sum(vocabulary * (1 + 1 / GROUP) + model.shape.hidden_size for model in models)
    each += s.copies * vocabulary
    beside = [min(positions * vocabulary, BLOCK_ELEMENTS)]
    beside.append(CANDIDATE / FLOAT * min(s.modes * GROUP, vocabulary) * positions)
    if s.precision.copy:
        width = models[-1].shape.hidden_size
        beside.append(min(max(s.budget / 6 / FLOAT, 1024 * width), vocabulary * width))
    return min(s.budget, FLOAT * (each * positions + max(beside)))


def _evaluation(student: Built, teacher: Built | None, s: Setting) -> float:
    """Held-out points on the way: both models without gradient, then the loss."""
    states = FLOAT * student.shape.hidden_size * s.tokens
    found = [_passing(student, s, residual=FLOAT)]
    if teacher is not None:
        width = s.precision.teacher * teacher.shape.hidden_size
        found.append(states + _passing(teacher, s, residual=s.precision.teacher))
        states += width * s.tokens
    found.append(states + working_memory(student, teacher, s))
    return max(found)
