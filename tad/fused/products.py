"""The matrix products of the fused loss: hidden states to logits, and gradients back.

Shapes: T positions of a chunk, V vocabulary, H width. Logits are kept vocabulary-major, (V, T):
W h^T and G^T W then run at full speed from about 200 positions on, where h W^T needs 1000 or more,
so that chunks and memory can be small.

A head in half precision is converted a block of rows at a time on a CPU, and multiplied as it is,
with float32 results, on CUDA. A CPU with matrix units for bfloat16 multiplies converted bfloat16
factors by them, several times faster; nothing is lost but digits of the gradient of the logits.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 64
"""Vocabulary rows that share one maximum (see `Side.finish`)."""

BLOCK_ELEMENTS = 1 << 18
"""Logits of one element-wise pass: 1 MiB in float32, so that three such blocks stay in cache."""

ALIGN = 16
"""Positions to which a row of logits is padded: the products are a third slower on odd widths."""

BANNED = -1e30
"""Stands in for -inf: its exponential is 0, and its difference to itself is 0 instead of NaN."""


class Gradients(NamedTuple):
    """Sums that the walk adds to, of full size; None where nobody asked."""

    hidden: Tensor | None = None  # (positions, H)
    weight: Tensor | None = None  # (rows of the head, H), in the working dtype
    bias: Tensor | None = None


@dataclass(kw_only=True)
class Side:
    """Hidden states and output head of one model: z = softcap(scale * (W h + bias))."""

    hidden: Tensor  # (positions, H)
    weight: Tensor  # (V, H), cut to the common vocabulary
    bias: Tensor | None  # (V,)
    softcap: float | None
    scale: float
    working: torch.dtype  # of logits and sums: float32, or float64
    operand: torch.dtype  # of the factors of the products
    rows: int  # vocabulary rows converted to it at a time
    units: bool  # whether the products may round their factors to bfloat16
    banned: Tensor | None = field(init=False, default=None)  # ids the model cannot emit

    def __post_init__(self) -> None:
        if self.bias is None:
            return
        bias = self.bias.to(self.working) * self.scale
        if self.softcap is None and bool(bias.isneginf().any()):
            self.banned = bias.isneginf().nonzero().squeeze(-1)
        self.bias = bias.clamp(min=BANNED).unsqueeze(-1)

    def project(self, index: Tensor, out: Tensor) -> Tensor:
        """Write W h of the positions `index` to `out` (V, T); return the h used, (T, H)."""
        states = self.hidden[index].to(self.operand)
        with _matrix_units(self.units):
            for rows, weight in self._blocks():
                _product(weight, states.t(), out[rows])
        return states

    def finish(self, logits: Tensor, *, compiled: bool) -> Tensor:
        """Apply scale, bias and soft-capping in place; return the maximum of each GROUP of rows.

        The maxima, (ceil(V / GROUP), T), serve the softmax and the search for the K best tokens.
        """
        maxima = logits.new_empty(-(-logits.shape[0] // GROUP), logits.shape[1])
        for rows in vocabulary_blocks(logits, whole=compiled):
            block = logits[rows]
            if self.scale != 1.0:  # here, because as a factor of the product it would be rounded
                block.mul_(self.scale)
            if self.bias is not None:
                block.add_(self.bias[rows])
            if self.softcap is not None:
                block.div_(self.softcap).tanh_().mul_(self.softcap)
            whole, first = block.shape[0] // GROUP, rows.start // GROUP
            if whole:
                groups = block[: whole * GROUP].view(whole, GROUP, -1)
                torch.amax(groups, 1, out=maxima[first : first + whole])
            if block.shape[0] > whole * GROUP:
                maxima[first + whole] = block[whole * GROUP :].amax(0)
        return maxima

    def pull_back(self, gradient: Tensor, states: Tensor, index: Tensor, grads: Gradients) -> None:
        """Add the share of one chunk, from the gradient of its logits (V, T), to `grads`."""
        if grads.bias is not None:
            grads.bias[: len(gradient)] += gradient.sum(1) * self.scale
        pulled = None if grads.hidden is None else torch.zeros_like(states, dtype=self.working)
        scaled = states if self.scale == 1.0 else states * self.scale
        with _matrix_units(self.units):
            for rows, weight in self._blocks():
                block = gradient[rows].to(self.operand)
                if pulled is not None:
                    _add_product(block.t(), weight, pulled)
                if grads.weight is not None:
                    _add_product(block, scaled, grads.weight[rows])
        if pulled is not None:
            grads.hidden[index] = (pulled * self.scale).to(grads.hidden.dtype)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        converted = None
        if self.weight.dtype != self.operand:
            converted = torch.empty_like(self.weight[: self.rows], dtype=self.operand)
        for start in range(0, len(self.weight), self.rows):
            rows = slice(start, min(start + self.rows, len(self.weight)))
            weight = self.weight[rows]
            # One buffer for all blocks: new memory for each takes as long as the product.
            yield rows, weight if converted is None else converted[: len(weight)].copy_(weight)


def logits_buffer(vocab: int, tokens: int, buffer: Tensor) -> Tensor:
    """A (V, T) view into a flat buffer, its rows padded to ALIGN."""
    width = aligned(tokens)
    return buffer[: vocab * width].view(vocab, width)[:, :tokens]


def aligned(tokens: int) -> int:
    return -(-tokens // ALIGN) * ALIGN


def vocabulary_blocks(logits: Tensor, *, whole: bool) -> Iterator[slice]:
    """Slices of rows that stay in cache, each a multiple of GROUP; one slice if `whole`."""
    size, width = logits.shape
    step = size if whole else max(BLOCK_ELEMENTS // max(width, 1) // GROUP, 1) * GROUP
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


@functools.cache
def has_matrix_units() -> bool:
    """Whether this CPU has matrix units for bfloat16 (AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


@contextmanager
def _matrix_units(wanted: bool) -> Iterator[None]:
    """Products of float32 factors inside round these to bfloat16, and sum in float32."""
    if not wanted:
        yield
        return
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    else:
        torch.mm(a, b, out_dtype=out.dtype, out=out)


def _add_product(a: Tensor, b: Tensor, total: Tensor) -> None:
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += torch.mm(a, b, out_dtype=total.dtype)
