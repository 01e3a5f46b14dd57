"""The coefficient of methods of ``step`` scope: one divergence at the value of another.

It is the ratio of both divergences summed over all micro-batches and ranks of an optimizer step,
without gradient, so it changes the weight of a method at each step and not its shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tad.fused import token_losses
from tad.methods import Method


class StepScale:
    """The ratio for one step: ``begin`` it with the step's micro-batches, then ask ``of`` each.

    ``sums(batch)`` runs both models on a micro-batch and returns what ``both_sums`` gives;
    ``reduce`` adds over ranks. Where the step is one micro-batch of one rank, the ratio comes out
    of the states that are there anyway, and nothing is run twice.
    """

    def __init__(
        self,
        method: Method,
        sums: Callable[[Any], Tensor],
        reduce: Callable[[Tensor], Tensor],
        ranks: int,
    ) -> None:
        self.method, self.sums, self.reduce, self.ranks = method, sums, reduce, ranks
        self.ratio: Tensor | None = None

    def begin(self, batches: list[Any]) -> None:
        """Sum over a step that has several parts; forget the last step."""
        self.ratio = None
        if len(batches) > 1 or self.ranks > 1:
            self.ratio = self._ratio(self.reduce(sum(self.sums(batch) for batch in batches)))

    def of(self, states: tuple, options: dict[str, Any]) -> Tensor:
        """The ratio at the step at hand, whose states, heads, targets and mask are ``states``."""
        if self.ratio is not None:
            return self.ratio
        return self._ratio(both_sums(self.method, states, options))

    def _ratio(self, sums: Tensor) -> Tensor:
        own, other = sums
        return torch.where(own > 0, other / own, torch.ones_like(own))


def both_sums(method: Method, states: tuple, options: dict[str, Any]) -> Tensor:
    """(2,) the divergence of ``method``, and of the method it is matched to, summed over tokens."""
    taken = ("temperature", "memory_budget_mb", "segment_ids", "vocab_size")
    kept = {key: options[key] for key in taken if key in options}
    both = [token_losses(*states, method=one, **kept)[1] for one in (method, method.matched_to)]
    return torch.stack([value.double().sum() for value in both])
