"""Loss and gradient of the logits of one chunk of positions, in place.

Shapes: T positions, V vocabulary, K anchors; logits are (V, T). "Rest" are the tokens that are no
anchors. Anchors are the teacher's K modes (TAD), the label (DKD), or none (KL, CLM). With q the
softmax over the rest, a its mass (alpha) and c the weight of CLM, the loss of a position is
g1 * D1 + g2 * D2 + c * CLM (Eq. 2 and 3: g1 = 1, g2 = beta(X) a_t; beta a_t where beta is not
normalised) and its gradient

    rest:     q_s (g1 (a_s - a_t) + g2 + c a_s) - g2 q_t      (Eq. 6, rearranged)
    anchors:  g1 (p_s - p_t) + c p_s                          and -c more at the label

which is one affine pass over two exponentials: TAD costs what KL costs. Both exponentials are
taken relative to the largest logit of the rest, so a tail mass of 1e-30 keeps all its digits.
Numbers of one position are float64: they are few, and their differences are the loss.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from tad.divergences import IGNORE, tail_weight, top_k_set
from tad.fused.products import BANNED, GROUP, Side, logits_buffer, vocabulary_blocks

BY_RANK = ("tail_aware", "tail_weighted")
"""Closed forms whose anchors are the teacher's K modes."""

REACH = 35.0
"""How far logits may lie above the shift, and the shift from 0: exp of both fits float32."""


class Softmax:
    """The distribution of one model over a chunk, split in anchors and rest."""

    def __init__(self, side: Side, index: Tensor, buffer: Tensor, p):
        self.side = side
        self.z = logits_buffer(len(side.weight), len(index), buffer)
        self.states = side.project(index, self.z)
        self.maxima = side.finish(self.z, compiled=p.compiled)
        self.anchors = self.z.new_empty(0, len(index))
        self.reach = REACH * min(p.temperature, 1.0)
        self.shift = self._largest()

    def take_out(self, ids: Tensor) -> None:
        """Move the logits of the anchors `ids` (K, T) out of the rest."""
        self.anchors = self.z.gather(0, ids)
        self.z.scatter_(0, ids, BANNED)
        groups = ids // GROUP
        untouched = self.maxima.scatter(0, groups, -math.inf).amax(0)
        # The exponentials only need a shift near the largest logit of the rest. Looking up the
        # other members of the anchors' groups is worth its time only if they could overflow.
        if (self.maxima.amax(0) - untouched).max() < self.reach:
            self.shift = untouched
        else:
            members = self.z.gather(0, _members(groups, len(self.z)))
            self.maxima.scatter_(0, groups, members.view(-1, GROUP, len(ids[0])).amax(1))
            self.shift = self._largest()

    def best(self, k: int) -> Tensor:
        """Ids (k, T) of the k largest logits, of equal ones the lowest, as `top_k_set`.

        The k best groups by (maximum, lowest group) hold the k best tokens by (logit, lowest id):
        a token outside has k groups before it, each with a token before it.
        """
        if k * GROUP >= len(self.z):
            return top_k_set(self.z.t().contiguous(), k).t().contiguous()
        groups = top_k_set(self.maxima.t().contiguous(), k).sort(-1).values.t().contiguous()
        members = _members(groups, len(self.z))
        candidates = self.z.gather(0, members)
        # The last group may be short: its missing members must not be found twice.
        candidates[_surplus(groups, len(self.z))] = -math.inf
        return members.gather(0, top_k_set(candidates.t().contiguous(), k).t()).contiguous()

    def offset(self) -> Tensor | None:
        """What to subtract before the exponential; nothing if all logits are moderate."""
        if self.z.is_cuda or not self.shift.abs().max() < self.reach:
            return self.shift
        self.shift = torch.zeros_like(self.shift)
        return None

    def _largest(self) -> Tensor:
        """(T,) largest logit of the rest; above BANNED, so that an empty rest sums to 0."""
        return self.maxima.amax(0).clamp(min=BANNED / 10)

    def settle(self, rest_sum: Tensor, temperature: float) -> None:
        """Derive the masses from the sum over the rest of exp((z - shift) / temperature)."""
        self.rest_sum = rest_sum
        self.log_rest = rest_sum.log() + self.shift.double() / temperature
        anchors = self.anchors.double() / temperature
        self.log_total = torch.logaddexp(self.log_rest, _log_sum_exp(anchors))
        self.log_anchors = anchors - self.log_total
        self.log_mass = self.log_rest - self.log_total
        self.mass = self.log_mass.exp()


class Chunk:
    """Values and gradient of one chunk. Buffers are reused: one chunk lives at a time."""

    def __init__(self, p, index: Tensor, documents: Tensor, work: Tensor):
        self.p, self.index, self.documents, self.work = p, index, documents, work
        self.inverse = 1.0 / p.temperature
        self.labels = p.labels[index]
        self.labelled = self.labels != IGNORE

    def teacher_alone(self) -> tuple[Tensor, Tensor]:
        """The teacher's modes (K, T) and alpha_K (T,), in the memory of both models."""
        p = self.p
        teacher = Softmax(p.teacher, self.index, self.work.view(-1), p)
        ids = teacher.best(p.parameters["k"])
        teacher.take_out(ids)
        total, offset = 0.0, teacher.offset()
        for rows in vocabulary_blocks(teacher.z, whole=p.compiled):
            total = total + _exp(teacher.z[rows], offset, self.inverse).sum(0).double()
        teacher.settle(total, p.temperature)
        return ids, teacher.mass

    def forward(self, known: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """CLM and divergence of each position, (T,) float64.

        `known` are the teacher's modes (K, T) and beta(X) (1,), where an earlier pass found them.
        """
        p = self.p
        self.student = Softmax(p.student, self.index, self.work[0], p)
        self.states = self.student.states
        self.teacher = None
        if p.teacher is not None:
            self.teacher = Softmax(p.teacher, self.index, self.work[1], p)
        self.target = self.student.z.gather(0, self.labels.clamp(min=0).unsqueeze(0))
        self.ids = None
        if p.kernel in (*BY_RANK, "decoupled"):
            self.ids = self._anchors(known)
            self.student.take_out(self.ids)
            self.teacher.take_out(self.ids)
        self._sum()
        target = self.target[0].double()
        clm = (self.log_total - target).masked_fill(target <= BANNED / 10, math.inf)
        clm = clm.masked_fill(~self.labelled, 0.0)
        if self.teacher is None:
            return clm, torch.zeros_like(clm)
        weight = None if known is None else known[1]
        value = self._reverse_value() if p.kernel == "reverse_kl" else self._forward_value(weight)
        return clm, value * p.temperature**2

    def _anchors(self, known: tuple[Tensor, Tensor] | None) -> Tensor:
        if self.p.kernel == "decoupled":
            return self.labels.unsqueeze(0)
        return self.teacher.best(self.p.parameters["k"]) if known is None else known[0]

    def _sum(self) -> None:
        """One pass over both models: exponentials, their sums and the mean log ratio."""
        p, student, teacher = self.p, self.student, self.teacher
        # The logits are needed again for the slope of the soft-capping, and for a CLM softmax
        # whose temperature is not that of the divergence.
        self.keep = p.student.softcap is not None or p.temperature != 1.0
        self.offset = student.offset()
        offset_t = None if teacher is None else teacher.offset()
        totals = torch.zeros(4, len(self.index), dtype=torch.float64, device=self.index.device)
        run = _compiled(_sum_block) if p.compiled else _sum_block
        # Where the teacher cannot emit a token the log ratio of the reverse KL has no value.
        possible = None
        if p.kernel == "reverse_kl" and p.teacher.banned is not None:
            possible = torch.ones_like(student.z[:, :1]).index_fill_(0, p.teacher.banned, 0.0)
        blocks = list(vocabulary_blocks(student.z, whole=p.compiled))
        # New memory for each pass would take as long as the pass.
        scratch = None
        if teacher is not None and not p.compiled:
            scratch = torch.empty_like(teacher.z[blocks[0]])
        for rows in blocks:
            zt = None if teacher is None else teacher.z[rows]
            allowed = None if possible is None else possible[rows]
            models = student.z[rows], self.offset, zt, offset_t
            parts = run(
                *models, self.inverse, self.keep, p.kernel == "reverse_kl", allowed, scratch
            )
            for total, part in zip(totals, parts, strict=True):
                if part is not None:
                    total += part
        at_one, rest_s, rest_t, self.cross = totals
        student.settle(at_one, 1.0)
        self.log_total = student.log_total
        if teacher is not None:
            if p.temperature != 1.0:
                student.settle(rest_s, p.temperature)
            teacher.settle(rest_t, p.temperature)

    def _forward_value(self, weight: Tensor | None) -> Tensor:
        """g1 * D1 + g2 * D2 of each position; keeps g1 and g2 for the gradient."""
        p, student, teacher = self.p, self.student, self.teacher
        share = teacher.log_anchors.exp()
        ratio = teacher.log_anchors - student.log_anchors
        ratio = ratio.masked_fill(student.anchors <= BANNED / 10, math.inf)
        d1 = torch.where(share == 0, 0.0, share * ratio).sum(0)
        bucket = teacher.mass * (teacher.log_mass - student.log_mass)
        d1 = d1 + torch.where(teacher.mass == 0, 0.0, bucket)
        d2 = self.cross / teacher.rest_sum * self.inverse - (teacher.log_rest - student.log_rest)
        d2 = d2.masked_fill(self._impossible(p.student, p.teacher, teacher.z.__getitem__), math.inf)
        d2 = d2.masked_fill(student.rest_sum == 0, math.inf)
        self.g1 = 1.0
        if p.kernel == "tail_aware":
            if weight is None:
                weight = tail_weight(
                    teacher.mass.unsqueeze(0),
                    p.parameters["beta"],
                    segment_ids=self.documents.unsqueeze(0),
                )[0]
            self.g2 = weight * teacher.mass
        elif p.kernel == "tail_weighted":
            self.g2 = p.parameters["beta"] * teacher.mass
        elif p.kernel == "decoupled":
            self.g1 = p.parameters["alpha"]
            self.g2 = torch.full_like(d2, p.parameters["beta"])
        else:
            self.g2 = torch.ones_like(d2)
        self.g2 = self.g2.masked_fill(teacher.rest_sum == 0, 0.0)
        return self.g1 * d1 + torch.where(self.g2 == 0, 0.0, self.g2 * d2)

    def _reverse_value(self) -> Tensor:
        """KL(student || teacher); the buffer of the teacher holds z_s - z_t."""
        p, student, teacher = self.p, self.student, self.teacher
        offset = student.log_rest - teacher.log_rest
        impossible = self._impossible(p.teacher, p.student, self._student_exp)
        if p.teacher.banned is not None:
            # As in `reverse_kl`: where the teacher cannot follow, the log ratio counts as 0.
            # The student's own banned tokens have no mass, so they need no exception.
            neutral = (offset * p.temperature).to(teacher.z.dtype)
            mass = self._student_exp(p.teacher.banned).sum(0).double()
            teacher.z[p.teacher.banned] = neutral
            self.cross += mass * neutral
        self.mean = self.cross / student.rest_sum
        value = self.mean * self.inverse - offset
        return value.masked_fill(impossible, math.inf)

    def _impossible(self, narrow: Side, wide: Side, wide_exp: Callable) -> Tensor:
        """(T,) True where `wide` has mass in the rest that `narrow` cannot give."""
        nowhere = torch.zeros(len(self.index), dtype=torch.bool, device=self.index.device)
        if narrow.banned is None:
            return nowhere
        ids = narrow.banned
        if wide.banned is not None:
            ids = ids[~torch.isin(ids, wide.banned)]
        return (wide_exp(ids) > 0).any(0)

    def _student_exp(self, rows) -> Tensor:
        z = self.student.z[rows]
        return _exp(z, self.offset, self.inverse, keep=True) if self.keep else z

    def gradient(self, clm_scale: float, divergence_scale: float) -> Tensor:
        """Gradient of the logits before scale and bias, (V, T), in the student's buffer."""
        p, student, teacher = self.p, self.student, self.teacher
        z, cap, dtype = student.z, p.student.softcap, student.z.dtype
        clm = clm_scale * self.labelled.double()
        b = divergence_scale * p.temperature
        at_one = clm * (student.shift.double() - self.log_total).exp()  # CLM, of exp(z - shift)
        of_teacher = None
        if teacher is None:
            of_student = torch.zeros_like(at_one)
        elif p.kernel == "reverse_kl":
            of_student = _ratio(torch.ones_like(at_one), student.rest_sum)
            of_teacher = -divergence_scale * self.mean
        else:
            lift = b * (self.g1 * (student.mass - teacher.mass) + self.g2)
            of_student = _ratio(lift, student.rest_sum)
            of_teacher = _ratio(b * self.g2, teacher.rest_sum)
        if p.temperature == 1.0 and p.kernel == "reverse_kl":
            of_teacher, at_one = of_teacher + clm, None
        elif p.temperature == 1.0:
            of_student, at_one = of_student + at_one, None
        run = _compiled(_gradient_block) if p.compiled else _gradient_block
        vectors = [x if x is None else x.to(dtype) for x in (of_student, of_teacher, at_one)]
        for rows in vocabulary_blocks(z, whole=p.compiled):
            zt = None if teacher is None else teacher.z[rows]
            slope = divergence_scale if p.kernel == "reverse_kl" else None
            run(z[rows], self.offset, zt, *vectors, self.inverse, self.keep, cap, slope)
        if self.ids is not None:
            z.scatter_(0, self.ids, self._anchor_gradient(clm, b).to(dtype))
        at_label = clm if cap is None else clm * (1 - (self.target[0].double() / cap) ** 2)
        label = self.labels.clamp(min=0).unsqueeze(0)
        z.scatter_(0, label, z.gather(0, label) - at_label.to(dtype))
        return z

    def _anchor_gradient(self, clm: Tensor, b: float) -> Tensor:
        student, teacher, cap = self.student, self.teacher, self.p.student.softcap
        gradient = b * self.g1 * (student.log_anchors.exp() - teacher.log_anchors.exp())
        gradient = gradient + clm * (student.anchors.double() - self.log_total).exp()
        return gradient if cap is None else gradient * (1 - (student.anchors.double() / cap) ** 2)


def _sum_block(zs, shift_s, zt, shift_t, inverse, keep, reverse, allowed, scratch):
    """Exponentials in place and their sums (T,): student at temperature 1 and T, teacher, cross.

    Cross is the sum of exp_t * (z_t - z_s), or of exp_s * (z_s - z_t) if `reverse`; the teacher's
    block then holds that difference, 0 where not `allowed`, instead of its exponential.
    """
    at_one = _exp(zs, shift_s, 1.0, keep=True).sum(0) if inverse != 1.0 else None
    if zt is None:
        rest_s = _exp(zs, shift_s, inverse, keep=keep).sum(0)
        return (rest_s if at_one is None else at_one), None, None, None
    first, second = (zs, zt) if reverse else (zt, zs)
    room = None if scratch is None else scratch[: len(zs)]
    difference = torch.sub(first, second, out=room)
    exp_t = _exp(zt, shift_t, inverse)
    rest_t = exp_t.sum(0)
    exp_s = _exp(zs, shift_s, inverse, keep=keep)
    rest_s = exp_s.sum(0)
    if reverse:
        if allowed is not None:
            difference.mul_(allowed)
        zt.copy_(difference)
        cross = difference.mul_(exp_s).sum(0)
    else:
        cross = difference.mul_(exp_t).sum(0)
    return (rest_s if at_one is None else at_one), rest_s, rest_t, cross


def _gradient_block(zs, shift, zt, of_student, of_teacher, at_one, inverse, keep, cap, slope):
    """Overwrite the student's block by the gradient; vectors (T,) multiply the exponentials."""
    exp_s = _exp(zs, shift, inverse, keep=True) if keep else zs
    slope_of_cap = None if cap is None else zs.div(cap).square_().neg_().add_(1.0)
    first = None if at_one is None else _exp(zs, shift, 1.0, keep=True)
    if slope is not None:
        # Reverse KL: q_s * (log ratio - its mean).
        exp_s.mul_(of_student).mul_(zt.mul_(slope).add_(of_teacher))
    else:
        exp_s.mul_(of_student)
        if zt is not None:
            exp_s.addcmul_(zt, of_teacher, value=-1.0)
    if first is not None:
        exp_s.addcmul_(first, at_one)
    if slope_of_cap is not None:
        exp_s.mul_(slope_of_cap)
    if exp_s is not zs:
        zs.copy_(exp_s)


def _exp(z: Tensor, shift: Tensor | None, inverse: float, keep: bool = False) -> Tensor:
    """exp((z - shift) * inverse), in place unless `keep`."""
    if shift is not None:
        z = z - shift if keep else z.sub_(shift)
    elif keep:
        z = z.clone()
    return z.exp_() if inverse == 1.0 else z.mul_(inverse).exp_()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, 0.0, a / b)  # written so that a NaN stays one


def _log_sum_exp(x: Tensor) -> Tensor:
    return torch.logsumexp(x, 0) if len(x) else x.new_full(x.shape[1:], -math.inf)


def _members(groups: Tensor, size: int) -> Tensor:
    """Ids of the members of `groups` (G, T), as (G * GROUP, T); the last id stands in beyond V."""
    inside = torch.arange(GROUP, device=groups.device).view(1, GROUP, 1)
    return (groups.unsqueeze(1) * GROUP + inside).clamp(max=size - 1).flatten(0, 1)


def _surplus(groups: Tensor, size: int) -> Tensor:
    inside = torch.arange(GROUP, device=groups.device).view(1, GROUP, 1)
    return (groups.unsqueeze(1) * GROUP + inside >= size).flatten(0, 1)


@functools.cache
def _compiled(function):
    return torch.compile(function, dynamic=True)
