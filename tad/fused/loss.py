"""Distillation losses from hidden states, without ever holding a (tokens, vocabulary) tensor.

    terms = distillation_loss(student_hidden, model.lm_head, teacher_hidden, teacher.lm_head,
                              labels, mask, method="tad", k=10, beta=2.0)
    terms.total.backward()

Values and gradients are those of `tad.divergences` (Equations 1-4 and 6). The gradient is worked
out with the value, a chunk of tokens at a time, so a chunk's logits are all that is ever in
memory, and no product is computed twice. `tad.fused.walk` walks, `tad.fused.chunk` has the
arithmetic, `tad.fused.products` the matrix products.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tad.divergences import IGNORE, LossError
from tad.fused.autograd import COPIES
from tad.fused.chunk import BY_RANK
from tad.fused.head import Head
from tad.fused.products import GROUP, Gradients, Side, has_matrix_units
from tad.fused.walk import Problem, chunk_size, walk
from tad.methods import Method, Scope, bind


class LossTerms(NamedTuple):
    """What `distillation_loss` returns: scalars, in nats, all but the counts with a gradient."""

    total: Tensor
    """clm_weight * clm + divergence_weight * divergence, with the weights of the method in them."""
    clm: Tensor
    """clm_sum / clm_items."""
    divergence: Tensor
    """divergence_sum / divergence_items."""
    clm_sum: Tensor
    divergence_sum: Tensor
    clm_count: Tensor
    """Positions that are valid and labelled, int64, of this call."""
    divergence_count: Tensor
    """Positions that count for the divergence, int64, of this call."""


@torch.compiler.disable
def distillation_loss(
    student_hidden: Tensor,
    student_head: nn.Linear | Head,
    teacher_hidden: Tensor | None,
    teacher_head: nn.Linear | Head | None,
    labels: Tensor,
    mask: Tensor | None,
    *,
    method: str | Method | Callable[..., Tensor],
    scope: Scope = "sequence",
    temperature: float = 1.0,
    clm_weight: float = 1.0,
    divergence_weight: float = 1.0,
    clm_items: int | Tensor | None = None,
    divergence_items: int | Tensor | None = None,
    segment_ids: Tensor | None = None,
    vocab_size: int | None = None,
    chunk_tokens: int | None = None,
    memory_budget_mb: float = 256.0,
    compiled: bool | None = None,
    **parameters: float,
) -> LossTerms:
    """CLM plus divergence of a batch (Eq. 1 and 4), from last hidden states and output heads.

    `student_hidden` is (B, N, Hs), `teacher_hidden` (B, N, Ht); `labels` (B, N) holds the token
    that each position predicts (already shifted; -100: no label); `mask` (B, N) tells which
    positions count (None: all). CLM counts the masked positions with a label, the divergence all
    masked positions (those with a label, where it depends on labels). The teacher is a constant.

    `method` is a name or id of `tad.methods` and `parameters` are that row's: `method="tad", k=10,
    beta=2.0`; what is not given has its default. Its weights (`vanilla_kd-w5`, `kd_only`) multiply
    `clm_weight` and `divergence_weight` in `total`. Or it is a function of your own,
    f(student, teacher, mask=, **parameters) of logits (B, N, V) and a mask (B, N), that gives
    (B, N); it may take `labels` too. Its gradient is autograd's, a chunk of logits at a time if
    its `scope` is "token", else whole sequences at a time. `temperature` T divides the logits of
    the divergence, which is multiplied by T^2; CLM is at 1. With `segment_ids` (B, N), a sequence
    is a document of a packed row instead of the row, for beta(X) and the like.

    Sums are divided by the counts of this call, or by `clm_items` and `divergence_items`, the
    counts of the global batch, if given. The gradient is ready before `backward` in the proportion
    of `total`, and for any loss in which the two sums keep it; another proportion is right too but
    computes everything again, so give `clm_weight` and `divergence_weight` here.

    `vocab_size`: heads of different sizes are cut to this common prefix, both renormalised; the
    caller vouches that these ids are the same strings. `memory_budget_mb` (10^6 bytes) bounds all
    memory beyond inputs and gradients, unless `chunk_tokens`, the positions worked on at a time,
    is set. A half-precision head that is trained takes 4 more bytes a weight, for its float32 sum.
    TAD is at its fastest while whole sequences fit a chunk: longer ones take one more product.
    `compiled` runs the element-wise passes under torch.compile; by default on CUDA only.

    Value and gradient are deterministic. A token that the student cannot emit (-inf) and the
    teacher can makes the value +inf, the gradient stays finite, as in `tad.divergences`. Raises
    LossError for shapes, options or labels that do not fit, and for a sequence that does not fit
    the budget of a divergence which needs it whole; MethodError for a wrong method.
    """
    student_head = _head(student_head, "student")
    loss = _resolve(method, scope, parameters)
    clm_weight, divergence_weight = (
        clm_weight * loss.weights[0],
        divergence_weight * loss.weights[1],
    )
    problem, labelled, counted = _problem(
        (student_hidden, student_head, teacher_hidden, teacher_head, labels, mask),
        loss,
        temperature=temperature,
        segment_ids=segment_ids,
        vocab_size=vocab_size,
        chunk_tokens=chunk_tokens,
        budget=memory_budget_mb * 1e6,
        compiled=student_hidden.is_cuda if compiled is None else compiled,
    )
    working = problem.student.working
    clm_count, divergence_count = labelled.sum(), counted.sum()
    if problem.teacher is None:
        divergence_count = torch.zeros_like(clm_count)
    per_clm = _items(clm_items, clm_count, working)
    per_divergence = _items(divergence_items, divergence_count, working)
    clm_sum, divergence_sum = _Fused.apply(
        student_hidden,
        student_head.weight,
        student_head.bias,
        problem,
        (float(clm_weight * per_clm), float(divergence_weight * per_divergence)),
        (int(clm_count), int(divergence_count)),
        torch.is_grad_enabled(),
    )
    clm, divergence = clm_sum * per_clm, divergence_sum * per_divergence
    return LossTerms(
        total=clm_weight * clm + divergence_weight * divergence,
        clm=clm,
        divergence=divergence,
        clm_sum=clm_sum,
        divergence_sum=divergence_sum,
        clm_count=clm_count,
        divergence_count=divergence_count,
    )


@torch.compiler.disable
@torch.no_grad()
def token_losses(
    student_hidden: Tensor,
    student_head: nn.Linear | Head,
    teacher_hidden: Tensor | None,
    teacher_head: nn.Linear | Head | None,
    labels: Tensor,
    mask: Tensor | None,
    *,
    method: str | Method | Callable[..., Tensor],
    scope: Scope = "sequence",
    temperature: float = 1.0,
    segment_ids: Tensor | None = None,
    vocab_size: int | None = None,
    memory_budget_mb: float = 256.0,
    **parameters: float,
) -> tuple[Tensor, Tensor]:
    """CLM and divergence of every position, (B, N) each in nats, without gradient.

    For evaluation, with the arguments, the memory and the errors of `distillation_loss`; 0 where a
    position does not count.
    """
    problem, _, _ = _problem(
        (student_hidden, student_head, teacher_hidden, teacher_head, labels, mask),
        _resolve(method, scope, parameters),
        temperature=temperature,
        segment_ids=segment_ids,
        vocab_size=vocab_size,
        chunk_tokens=None,
        budget=memory_budget_mb * 1e6,
        compiled=student_hidden.is_cuda,
    )
    problem.differentiate = False
    values = torch.zeros(2, labels.numel(), dtype=problem.student.working, device=labels.device)
    walk(problem, 0.0, 0.0, None, values)
    clm, divergence = values.view(2, *labels.shape)
    return clm, divergence


class _Loss(NamedTuple):
    """A method as the walk needs it."""

    kernel: str
    parameters: Mapping[str, float]
    divergence: Callable[..., Tensor] | None
    coupled: bool
    needs_labels: bool
    weights: tuple[float, float] = (1.0, 1.0)  # of CLM and divergence


def _resolve(
    method: str | Method | Callable[..., Tensor], scope: Scope, parameters: Mapping[str, float]
) -> _Loss:
    if callable(method):
        takes_labels = "labels" in inspect.signature(method).parameters
        function = bind(method, parameters)
        return _Loss("autograd", parameters, function, scope == "sequence", takes_labels)
    method = Method.of_loss(method, **parameters)
    kind = method.row
    if kind.divergence is None:
        return _Loss("clm", {}, None, False, True)
    function = None if kind.fused else method.divergence()
    return _Loss(
        kind.fused or "autograd",
        method.parameters,
        function,
        kind.scope == "sequence",
        "labels" in inspect.signature(kind.function()).parameters,
        method.weights,
    )


def _problem(
    given: tuple,
    loss: _Loss,
    *,
    temperature: float,
    segment_ids: Tensor | None,
    vocab_size: int | None,
    chunk_tokens: int | None,
    budget: float,
    compiled: bool,
) -> tuple[Problem, Tensor, Tensor]:
    """The checked problem, the labelled positions (B, N), and those that the divergence counts."""
    student_hidden, student_head, teacher_hidden, teacher_head, labels, mask = given
    _check_options(temperature, chunk_tokens)
    student = _head(student_head, "student")
    teacher = None if loss.kernel == "clm" else _head(teacher_head, "teacher")
    _check_shapes("student", student_hidden, student, labels)
    if teacher is not None:
        _check_shapes("teacher", teacher_hidden, teacher, labels)
    vocab = _common_vocabulary(student, teacher, vocab_size)
    modes = int(loss.parameters["k"]) if loss.kernel in BY_RANK else 0
    if modes >= vocab:
        raise LossError(f"k is {modes}: choose 1 <= k <= {vocab - 1} for a vocabulary of {vocab}")
    for name, values in (("mask", mask), ("segment_ids", segment_ids)):
        if values is not None and values.shape != labels.shape:
            shape, expected = tuple(values.shape), tuple(labels.shape)
            raise LossError(f"{name} has shape {shape}: give one entry a token, {expected}")
    valid = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask.bool()
    labelled = valid & (labels != IGNORE)
    _check_labels(labels, labelled, vocab)
    counted = labelled if loss.needs_labels else valid

    dtypes = [x.dtype for x in (student_hidden, student.weight)]
    if teacher is not None:
        dtypes += [teacher_hidden.dtype, teacher.weight.dtype]
    working = torch.float64 if torch.float64 in dtypes else torch.float32
    sides = [_side(student_hidden, student, vocab, working, budget)]
    if teacher is not None:
        sides.append(_side(teacher_hidden, teacher, vocab, working, budget))
    index, documents, lengths = _order(counted, segment_ids)
    copies = COPIES if loss.kernel == "autograd" else 0
    problem = Problem(
        kernel=loss.kernel,
        parameters=loss.parameters,
        divergence=loss.divergence,
        coupled=loss.coupled,
        student=sides[0],
        teacher=None if teacher is None else sides[1],
        labels=torch.where(labelled, labels, IGNORE).flatten(),
        index=index,
        documents=documents,
        lengths=lengths,
        temperature=temperature,
        chunk_tokens=chunk_tokens or chunk_size(sides, vocab, modes, budget, copies),
        compiled=compiled,
    )
    return problem, labelled, counted


class _Fused(torch.autograd.Function):
    """(hidden, weight, bias) -> sums of CLM and divergence, with the gradient computed ahead."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, problem, scales, counts, grad_enabled):
        ctx.problem, ctx.scales, ctx.counts = problem, scales, counts
        ctx.save_for_backward(hidden, weight, bias)
        ctx.targets = [None if x is None else (x.shape, x.dtype) for x in (hidden, weight, bias)]
        grads = None
        if grad_enabled and any(ctx.needs_input_grad[:3]):
            grads = _empty_gradients(ctx)
        sums = walk(problem, *scales, grads)
        ctx.grads = grads
        return tuple(x.to(problem.student.working) for x in sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_clm, of_divergence):
        wanted = float(of_clm), float(of_divergence)
        scale = _common_factor(wanted, ctx.scales, ctx.counts, ctx.problem.student.working)
        # Hand the stored gradients over instead of sharing them, or autograd would copy them.
        grads, ctx.grads = ctx.grads, None
        if grads is None or scale is None:
            _ = ctx.saved_tensors  # raises if the graph is gone or the tensors were overwritten
            grads, scale = _empty_gradients(ctx), 1.0
            walk(ctx.problem, *wanted, grads)
        results = []
        for gradient, target in zip(grads, ctx.targets, strict=True):
            if gradient is not None:
                shape, dtype = target
                gradient = gradient if scale == 1.0 else gradient.mul_(scale)
                gradient = gradient.view(shape).to(dtype)
            results.append(gradient)
        return *results, None, None, None, None


def _empty_gradients(ctx) -> Gradients:
    """Zeros for the inputs that want a gradient, in a type that can be summed in."""
    device, working = ctx.problem.student.hidden.device, ctx.problem.student.working
    zeros = []
    for needed, target in zip(ctx.needs_input_grad[:3], ctx.targets, strict=True):
        zeros.append(torch.zeros(target[0], dtype=working, device=device) if needed else None)
    if zeros[0] is not None:
        # Written once, so bfloat16 does. float16 has no range for it before the loss is scaled.
        shape, dtype = ctx.targets[0]
        dtype = working if dtype == torch.float16 else dtype
        zeros[0] = zeros[0].new_zeros(shape, dtype=dtype).view(-1, shape[-1])
    return Gradients(*zeros)


def _common_factor(wanted, computed, counts, dtype) -> float | None:
    """f with wanted = f * computed for the sums that have any position; None if there is none."""
    factors = []
    for want, have, count in zip(wanted, computed, counts, strict=True):
        if count and (want or have):
            if not have:
                return None
            factors.append(want / have)
    if not factors:
        return 1.0
    close = math.isclose(factors[0], factors[-1], rel_tol=16 * torch.finfo(dtype).eps)
    return factors[0] if close else None


def _side(hidden: Tensor, head: Head, vocab: int, working: torch.dtype, budget: float) -> Side:
    weight = head.weight.detach()[:vocab]
    kind = hidden.device.type
    operand = working
    if kind == "cuda" and working == torch.float32:
        if torch.is_autocast_enabled(kind):
            operand = torch.get_autocast_dtype(kind)
        elif hidden.dtype == weight.dtype:
            operand = hidden.dtype
    half = hidden.dtype == weight.dtype == torch.bfloat16
    rows = vocab
    if not operand == weight.dtype == working:
        # Below some thousand rows the products are too small to be fast; above, on a CPU, what is
        # converted has left the cache when the product comes for it.
        rows = max(int(budget / 6 / (4 * weight.shape[1])), 1024)
        rows = min(rows, 4096) if kind == "cpu" else rows
    return Side(
        hidden=hidden.detach().reshape(-1, hidden.shape[-1]),
        weight=weight,
        bias=None if head.bias is None else head.bias.detach()[:vocab],
        softcap=head.softcap,
        scale=head.scale,
        working=working,
        operand=operand,
        rows=-(-rows // GROUP) * GROUP,
        units=kind == "cpu" and half and has_matrix_units(),
    )


def _order(counted: Tensor, segment_ids: Tensor | None) -> tuple[Tensor, Tensor, list[int]]:
    """Counted positions sorted by sequence, the sequence of each, and the size of each."""
    documents = torch.arange(len(counted), device=counted.device).unsqueeze(1)
    if segment_ids is not None:
        ids, inverse = segment_ids.unique(return_inverse=True)
        documents = documents * len(ids) + inverse
    documents = documents.expand(counted.shape)[counted]
    index = counted.flatten().nonzero().squeeze(-1)
    documents, order = documents.sort(stable=True)
    return index[order], documents, documents.unique_consecutive(return_counts=True)[1].tolist()


def _items(items: int | Tensor | None, count: Tensor, dtype: torch.dtype) -> Tensor:
    items = count if items is None else torch.as_tensor(items, device=count.device)
    return 1.0 / items.clamp(min=1).to(dtype)


def _head(head: nn.Linear | Head | None, whose: str) -> Head:
    if isinstance(head, nn.Linear):
        head = Head(head.weight, head.bias)
    if not isinstance(head, Head):
        raise LossError(f"{whose}_head is {type(head).__name__}: give an nn.Linear or a Head")
    return replace(head, weight=_gathered(head.weight), bias=_gathered(head.bias))


def _gathered(tensor: Tensor | None) -> Tensor | None:
    """The whole of a tensor that FSDP2 has sharded, once and outside the walk."""
    if tensor is None or type(tensor) in (Tensor, nn.Parameter):
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _common_vocabulary(student: Head, teacher: Head | None, vocab_size: int | None) -> int:
    sizes = [len(head.weight) for head in (student, teacher) if head is not None]
    if vocab_size is None and len(set(sizes)) > 1:
        raise LossError(
            f"student head has {sizes[0]} rows and teacher head {sizes[1]}: pass vocab_size=, the "
            "length of the prefix in which both tokenizers have the same strings"
        )
    if vocab_size is not None and not 2 <= vocab_size <= min(sizes):
        raise LossError(f"vocab_size is {vocab_size}: choose 2 <= vocab_size <= {min(sizes)}")
    return vocab_size or sizes[0]


def _check_options(temperature: float, chunk: int | None) -> None:
    if not 0 < temperature < math.inf:
        raise LossError(f"temperature is {temperature}: choose a positive finite number")
    if chunk is not None and chunk < 1:
        raise LossError(f"chunk_tokens is {chunk}: choose at least 1, or None to have it chosen")


def _check_shapes(whose: str, hidden: Tensor, head: Head, labels: Tensor) -> None:
    if hidden is None or hidden.dim() != 3 or hidden.shape[:2] != labels.shape:
        shape = None if hidden is None else tuple(hidden.shape)
        raise LossError(f"{whose}_hidden is {shape}: labels {tuple(labels.shape)} need (B, N, H)")
    if hidden.shape[-1] != head.weight.shape[1]:
        width, expected = hidden.shape[-1], head.weight.shape[1]
        raise LossError(f"{whose}_hidden is {width} wide: its head needs {expected}")


def _check_labels(labels: Tensor, labelled: Tensor, vocab: int) -> None:
    outside = labelled & ((labels < 0) | (labels >= vocab))
    if outside.any():
        raise LossError(
            f"label {int(labels[outside][0])} is outside the common vocabulary of {vocab}: "
            f"use {IGNORE} for positions to leave out"
        )
