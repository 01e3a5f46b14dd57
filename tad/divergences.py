"""Reference divergences between a teacher's and a student's next-token distributions.

Plain torch, written to be read next to the paper; `tad.fused.loss` computes the same values without
ever holding the logits. Section 2, Equations 1-3 and 6, and Appendix C are the sources.

Shapes: B sequences, N tokens, V vocabulary, K modes. Logits are (B, N, V), masks (B, N).
Every divergence returns one value a token, (B, N), in nats: float64 if an input is float64, else
float32 whatever the inputs are. Reduction is the caller's. The teacher is a constant: no gradient
reaches it.

Conventions shared by all of them:
- `mask` marks the valid positions. The others return 0 and give no gradient, even if their logits
  are NaN: only valid rows enter the arithmetic.
- `temperature` T divides both logits, and the result is multiplied by T^2 so that gradients keep
  their size (Hinton et al. 2015). Top-K set and tail mass are those of the softened teacher.
- A logit of -inf is a token that a model cannot emit. Where teacher and student agree on it, the
  column counts for nothing. Where only one of them has it, the value is the true one: finite,
  or +inf where the divergence is infinite. It is never NaN, and neither is the gradient.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tad.command import UserError


class LossError(UserError, ValueError):
    """Inputs or options that a loss cannot use; the message names them and what is allowed."""


IGNORE = -100
"""Label of a position that has no next token to learn (the transformers convention)."""

TAIL_MASS_FLOOR = 1e-36
"""Smallest mean tail mass that beta(X) divides by; see `tail_weight`."""


def forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """KL(teacher || student) of each token, in nats: the vanilla KD loss (Section 2, Eq. 1).

    Takes (B, N, V) logits and returns (B, N). Raises LossError for shapes that do not agree and
    for a temperature that is not positive.
    """
    student, teacher, restore = _logs(student_logits, teacher_logits, temperature, mask)
    return restore(_kl(teacher, student))


def reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """KL(student || teacher) of each token, in nats (the RKL rows of Tables 4 and 5).

    Takes (B, N, V) logits and returns (B, N). Where the student can emit a token that the teacher
    cannot, the value is +inf and the gradient is that of the remaining columns. Raises LossError
    as `forward_kl` does.
    """
    student, teacher, restore = _logs(student_logits, teacher_logits, temperature, mask)
    return restore(_reverse(student, teacher))


def tail_aware(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    k: int = 10,
    beta: float = 2.0,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Tail-aware divergence of each token, in nats (Eq. 3): D1 + beta(X) * alpha_K * D2.

    Takes (B, N, V) logits, a number of modes `k` in [1, V - 1] and `beta` > 0; returns (B, N).
    `segment_ids` (B, N), if given, names the document of each token of packed rows, and beta(X)
    is then taken over documents instead of rows (see `tail_weight`). With beta(X) = 1 this is
    `forward_kl` (Eq. 2). Raises LossError for shapes that do not agree, `k` or `beta` or
    `temperature` out of range.
    """
    if student_logits.dim() != 3:
        shape = tuple(student_logits.shape)
        raise LossError(f"student_logits is {shape}: tail_aware needs (sequence, token, vocab)")
    student, teacher, restore = _valid_rows(student_logits, teacher_logits, temperature, mask)
    split = split_kl(student / temperature, teacher / temperature, top_k_set(teacher, k))
    alpha = split.log_tail_teacher.exp()
    weight = tail_weight(restore(alpha), beta, mask=mask, segment_ids=segment_ids)
    weight = weight.flatten() if mask is None else weight[mask.bool()]
    return restore(_with_tail(split, weight) * temperature**2)


def tail_weighted(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    k: int = 10,
    beta: float = 2.0,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """D1 + beta * alpha_K * D2 of each token, in nats: `tail_aware` without normalisation.

    The two-term loss that Section 2 writes down before Eq. 3, of which it says that beta is
    difficult to set and "the loss does not converge"; with beta = 1 it is `forward_kl`. No token
    depends on another. Takes (B, N, V) logits and returns (B, N). Raises LossError as `tail_aware`.
    """
    _check_beta(beta)
    student, teacher, restore = _valid_rows(student_logits, teacher_logits, temperature, mask)
    split = split_kl(student / temperature, teacher / temperature, top_k_set(teacher, k))
    return restore(_with_tail(split, beta) * temperature**2)


def decoupled(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Decoupled knowledge distillation of each token (Zhao et al. 2022, "DKD"), in nats.

    `alpha` * TCKD + `beta` * NCKD: the divergence of the pair {label, any other token}, and of the
    distributions over the other tokens. Takes (B, N, V) logits and `labels` (B, N), the token that
    each position predicts (-100: the position is left out and returns 0); returns (B, N). The
    defaults are those of the DKD paper. Unlike `tail_aware` it depends on the labels and its
    second term is not scaled by the teacher's mass there. Raises LossError as `forward_kl` does,
    and for labels outside the vocabulary.
    """
    mask = _labelled(labels, student_logits, mask)
    student, teacher, restore = _valid_rows(student_logits, teacher_logits, temperature, mask)
    ids = labels[mask].unsqueeze(-1)
    split = split_kl(student / temperature, teacher / temperature, ids)
    return restore((alpha * split.d1 + beta * split.d2) * temperature**2)


# --- Other divergences of the field: P is the teacher's distribution, Q the student's -------------


def generalised_js(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Generalised Jensen-Shannon divergence of each token (Agarwal et al. 2024, "GKD"), in nats.

    beta * KL(P || M) + (1 - beta) * KL(Q || M) with M = beta * P + (1 - beta) * Q and `beta` in
    (0, 1), as that paper writes it; 0.5 is the Jensen-Shannon divergence. Divided by beta it tends
    to `forward_kl` as beta -> 0, divided by 1 - beta to `reverse_kl` as beta -> 1. It is never more
    than log 2, also where one model alone has a token. Takes (B, N, V) logits and returns (B, N).
    Raises LossError as `forward_kl`, and for beta out of range.
    """
    _check_share("beta", beta)
    student, teacher, restore = _logs(student_logits, teacher_logits, temperature, mask)
    mixed = _mixture(teacher, student, beta)
    return restore(beta * _kl(teacher, mixed) + (1 - beta) * _kl(student, mixed))


def skewed_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    alpha: float = 0.1,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Skewed KL of each token, KL(P || alpha * P + (1 - alpha) * Q), in nats.

    Ko et al. (2024, "DistiLLM"), who use `alpha` = 0.1; alpha -> 0 is `forward_kl`. It is
    never more than -log(alpha). Takes (B, N, V) logits and returns (B, N). Raises LossError as
    `forward_kl`, and for alpha outside (0, 1).
    """
    _check_share("alpha", alpha)
    student, teacher, restore = _logs(student_logits, teacher_logits, temperature, mask)
    return restore(_kl(teacher, _mixture(teacher, student, alpha)))


def skewed_reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    alpha: float = 0.1,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Skewed reverse KL of each token, KL(Q || (1 - alpha) * P + alpha * Q), in nats.

    Of the paper of `skewed_kl`, with its `alpha`; alpha -> 0 is `reverse_kl`. It is never more than
    -log(alpha). Takes (B, N, V) logits and returns (B, N). Raises LossError as `skewed_kl`.
    """
    _check_share("alpha", alpha)
    student, teacher, restore = _logs(student_logits, teacher_logits, temperature, mask)
    return restore(_kl(student, _mixture(student, teacher, alpha)))


def adaptive_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mu: float = 0.5,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Adaptive KL of each token (Wu et al. 2025), in nats.

    h * KL(P || Q) + (1 - h) * KL(Q || P), where the head is the fewest likeliest tokens of the
    teacher that hold a mass of `mu`, in (0, 1), and h the share that the head has in the sum of
    |P - Q|, a weight without gradient (1/2 where P = Q). So it lies between `forward_kl` and
    `reverse_kl`. Takes (B, N, V) logits and returns (B, N). Raises LossError as `forward_kl`, and
    for mu out of range.
    """
    _check_share("mu", mu)
    student, teacher, restore = _logs(student_logits, teacher_logits, temperature, mask)
    with torch.no_grad():
        ranked, ids = teacher.exp().sort(dim=-1, descending=True, stable=True)
        gaps = (ranked - student.exp().gather(-1, ids)).abs_()
        below = ranked.cumsum(-1).sub_(ranked) < mu  # the mass of those before it
        head, whole = (gaps * below).sum(-1), gaps.sum(-1)
        share = torch.where(whole > 0, head / whole, 0.5)
    # A weight of 0 beside an infinite divergence is 0, not NaN.
    forward = torch.where(share > 0, share * _kl(teacher, student), 0.0)
    return restore(forward + torch.where(share < 1, (1 - share) * _reverse(student, teacher), 0.0))


def jeffreys(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Symmetric KL of each token, (KL(P || Q) + KL(Q || P)) / 2, in nats.

    Half the divergence of Jeffreys (1946), so that near P = Q it is as large as either of them.
    Takes (B, N, V) logits and returns (B, N). Raises LossError as `forward_kl`.
    """
    student, teacher, restore = _logs(student_logits, teacher_logits, temperature, mask)
    return restore((_kl(teacher, student) + _reverse(student, teacher)) / 2)


# --- The other terms of the loss -----------------------------------------------------------------


def causal_lm(student_logits: Tensor, labels: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Cross entropy of each token, in nats, at temperature 1 (L_CLM of Eq. 1 and 4).

    Takes (B, N, V) logits and `labels` (B, N), already shifted: the token that the position
    predicts. Positions labelled -100 or masked out return 0. Returns (B, N). Raises LossError for
    shapes that do not agree and labels outside the vocabulary.
    """
    mask = _labelled(labels, student_logits, mask)
    logits, _, restore = _valid_rows(student_logits, student_logits, 1.0, mask)
    return restore(F.cross_entropy(logits, labels[mask], reduction="none"))


def hidden_cosine(
    student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor | None = None
) -> Tensor:
    """1 - cosine of the hidden states of each token, in [0, 2] (Section 3.2.2, as DistilBERT).

    Takes (B, N, H) states of equal width and returns (B, N); the teacher is a constant. Raises
    ValueError if the widths differ.
    """
    student, teacher, restore = _valid_rows(student_hidden, teacher_hidden, 1.0, mask, "hidden")
    return restore(1.0 - F.cosine_similarity(student, teacher, dim=-1))


class SplitKL(NamedTuple):
    """The parts of Eq. 2, each of shape (...), in nats: KL = d1 + exp(log_tail_teacher) * d2.

    `d1` is the KL over the chosen ids and one bucket for all other tokens; `d2` the KL over those
    others, both sides renormalised there (0 if the teacher has no mass there); `log_tail_teacher`
    is log alpha_K, the log of the teacher's mass there, and `log_tail_student` the student's.
    """

    d1: Tensor
    d2: Tensor
    log_tail_teacher: Tensor
    log_tail_student: Tensor


def split_kl(student_logits: Tensor, teacher_logits: Tensor, ids: Tensor) -> SplitKL:
    """Split KL(teacher || student) at a set of ids (Eq. 2; Appendix B has the proof).

    Takes logits (..., V), already at the wanted temperature, and distinct `ids` (..., K).
    """
    student, student_rest, student_tail = _partition(student_logits, ids)
    teacher, teacher_rest, teacher_tail = _partition(teacher_logits.detach(), ids)
    d1 = _kl(
        torch.cat([teacher, teacher_tail.unsqueeze(-1)], -1),
        torch.cat([student, student_tail.unsqueeze(-1)], -1),
    )
    d2 = _kl(_normalised(teacher_rest, teacher_tail), _normalised(student_rest, student_tail))
    d2 = d2.masked_fill(teacher_tail.isneginf(), 0.0)
    return SplitKL(d1, d2, teacher_tail, student_tail)


def top_k_set(logits: Tensor, k: int) -> Tensor:
    """Ids of the `k` largest logits of each row, (..., V) -> (..., k), by decreasing logit.

    Of equal logits the lowest ids win, on every device, so that all code paths choose the same
    set. Raises LossError unless 1 <= k < V.
    """
    size = logits.shape[-1]
    if not 1 <= k < size:
        raise LossError(f"k is {k}: choose 1 <= k <= {size - 1} for a vocabulary of {size}")
    values, ids = logits.topk(k, -1)
    # torch.topk may take any of several entries equal to the k-th: only those rows are re-sorted.
    last = values[..., -1:]
    tied = (logits == last).sum(-1) > (values == last).sum(-1)
    if tied.any():
        ids[tied] = logits[tied].sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return ids


def log_tail_mass(logits: Tensor, ids: Tensor) -> Tensor:
    """Log of the probability outside `ids`: log alpha_K, (..., V) and (..., K) -> (...).

    By a log-sum-exp over the other tokens and never as log(1 - sum), which has no correct digit
    left once alpha_K is near the rounding of the sum. -inf if no other token can be emitted.
    """
    return _partition(logits, ids)[2]


def tail_weight(
    alpha: Tensor,
    beta: float,
    *,
    mask: Tensor | None = None,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """beta(X) = beta / mean of alpha_K over the valid tokens of the sequence (below Eq. 3).

    Takes alpha_K (B, N) and returns the weight of each token, (B, N), constant within a sequence.
    With `segment_ids` (B, N) a sequence is a document of a packed row: the tokens of one row with
    the same id.

    Limit: when a whole sequence is certain, alpha_K -> 0, beta(X) grows without bound but
    beta(X) * alpha_K stays between 0 and beta * N, so the loss stays sane down to a mean of
    TAIL_MASS_FLOOR. Below it the mean counts as that floor, which caps beta(X) at a finite float32
    and lets the tail term go to 0 with alpha_K. A sequence without valid tokens has weight 0.
    Raises LossError unless beta is positive and finite and the shapes agree.
    """
    _check_beta(beta)
    valid = torch.ones_like(alpha) if mask is None else mask.to(alpha.dtype)
    alpha = alpha if mask is None else alpha.masked_fill(~mask.bool(), 0.0)
    if segment_ids is None:
        count, total = valid.sum(-1, keepdim=True), alpha.sum(-1, keepdim=True)
        return _weight(total, count, beta).expand_as(alpha)
    if segment_ids.shape != alpha.shape:
        shape, expected = tuple(segment_ids.shape), tuple(alpha.shape)
        raise LossError(f"segment_ids has shape {shape}: give one document id a token, {expected}")
    rows = []
    for row_alpha, row_valid, row_ids in zip(alpha, valid, segment_ids, strict=True):
        index = row_ids.unique(return_inverse=True)[1]
        member = F.one_hot(index).to(alpha.dtype)  # (N, documents): sums in a fixed order
        broken = ~row_alpha.isfinite()  # 0 times NaN would spoil every document of the row
        total = row_alpha.masked_fill(broken, 0.0) @ member
        total = total.masked_fill(member[broken].any(0), math.nan)
        rows.append(_weight(total, row_valid @ member, beta)[index])
    return torch.stack(rows)


def _with_tail(split: SplitKL, weight: Tensor | float) -> Tensor:
    """D1 + weight * alpha_K * D2."""
    alpha = split.log_tail_teacher.exp()
    # alpha = 0 with an infinite D2 is a tail that the teacher does not have: 0, not NaN.
    return split.d1 + torch.where(alpha > 0, weight * alpha * split.d2, 0.0)


def _check_beta(beta: float) -> None:
    if not 0 < beta < math.inf:
        raise LossError(f"beta is {beta}: choose a positive finite weight (the paper uses 2)")


def _weight(total: Tensor, count: Tensor, beta: float) -> Tensor:
    mean = (total / count.clamp(min=1)).clamp(min=TAIL_MASS_FLOOR)
    return torch.where(count > 0, beta / mean, 0.0)


def _kl(p_log: Tensor, q_log: Tensor) -> Tensor:
    """Sum over the last axis of p log(p / q) - p + q, the KL of two distributions.

    The last two terms cancel in exact arithmetic. With them no term is negative, and an error in
    the normalisation of p or q cancels to first order, which float32 needs when p is close to q.
    """
    p = p_log.exp()
    ratio = torch.where(p > 0, p_log - q_log, 0.0)
    return (p * ratio - p + q_log.exp()).sum(-1)


def _reverse(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student || teacher) of log-probabilities, infinite where only the student has a token."""
    # An infinite log ratio would turn into inf - inf in the backward of log_softmax, so those
    # columns are left out of the graph and their infinity is added to the value.
    banned = teacher.isneginf() & (student.detach().exp() > 0)
    value = _kl(student, torch.where(banned, student.detach(), teacher))
    return value + torch.where(banned.any(-1), math.inf, 0.0)


def _mixture(first: Tensor, second: Tensor, share: float) -> Tensor:
    """log(share * first + (1 - share) * second) of two distributions in logs."""
    # Where neither has the token, the backward of logaddexp would be NaN.
    neither = first.isneginf() & second.isneginf()
    first, second = first.masked_fill(neither, 0.0), second.masked_fill(neither, 0.0)
    mixed = torch.logaddexp(first + math.log(share), second + math.log1p(-share))
    return mixed.masked_fill(neither, -math.inf)


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise LossError(f"{name} is {value}: choose a number between 0 and 1")


def _partition(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities at `ids` (..., K), of the rest (..., V; -inf at ids), and of its mass."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logp = F.log_softmax(logits, -1, dtype=dtype)
    rest = logp.scatter(-1, ids, -math.inf)
    # The backward of logsumexp is NaN on rows that are -inf throughout.
    empty = rest.isneginf().all(-1)
    mass = torch.logsumexp(rest.masked_fill(empty.unsqueeze(-1), 0.0), -1)
    return logp.gather(-1, ids), rest, mass.masked_fill(empty, -math.inf)


def _normalised(rest: Tensor, mass: Tensor) -> Tensor:
    return rest - mass.masked_fill(mass.isneginf(), 0.0).unsqueeze(-1)


def _valid_rows(
    student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None, what: str = "logits"
):
    """Valid rows (R, V) of both in the working dtype, and the way back to the mask's shape."""
    if not 0 < temperature < math.inf:
        raise LossError(f"temperature is {temperature}: choose a positive finite number")
    if student.shape != teacher.shape:
        raise LossError(
            f"student_{what} {tuple(student.shape)} and teacher_{what} {tuple(teacher.shape)} "
            "differ: align the tokens, and slice both to their common prefix of the last axis"
        )
    _check_tokens("mask", mask, student)
    if mask is None:
        mask = torch.ones(student.shape[:-1], dtype=torch.bool, device=student.device)
    mask = mask.bool()
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)

    def restore(values: Tensor) -> Tensor:
        empty = torch.zeros(mask.shape, dtype=dtype, device=values.device)
        return empty.masked_scatter(mask, values)

    return student[mask].to(dtype), teacher.detach()[mask].to(dtype), restore


def _logs(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None):
    """As `_valid_rows`, but log-probabilities at the temperature; the way back takes its square."""
    student, teacher, restore = _valid_rows(student, teacher, temperature, mask)
    student, teacher = (F.log_softmax(x / temperature, -1) for x in (student, teacher))
    return student, teacher, lambda values: restore(values * temperature**2)


def _labelled(labels: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
    """Positions that are valid and have a label, after checking the labels."""
    _check_tokens("labels", labels, logits)
    _check_tokens("mask", mask, logits)
    labelled = labels != IGNORE
    outside = labelled & ((labels < 0) | (labels >= logits.shape[-1]))
    if outside.any():
        raise LossError(
            f"label {int(labels[outside][0])} is outside the vocabulary of {logits.shape[-1]}: "
            f"use {IGNORE} for positions to leave out"
        )
    return labelled if mask is None else labelled & mask.bool()


def _check_tokens(name: str, values: Tensor | None, logits: Tensor) -> None:
    if values is not None and values.shape != logits.shape[:-1]:
        expected = tuple(logits.shape[:-1])
        raise LossError(
            f"{name} has shape {tuple(values.shape)}: give one entry a token, {expected}"
        )
