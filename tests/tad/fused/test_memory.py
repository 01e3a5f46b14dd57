"""A divergence without a closed form: its memory follows the chunk, and stays in the budget."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tad import divergences
from tad.fused import Head, distillation_loss

VOCABULARY, WIDTH = 32_000, 4
SCOPES = {
    "forward_kl": "token",
    "reverse_kl": "token",
    "tail_aware": "sequence",
    "generalised_js": "token",
    "adaptive_kl": "token",
}


class LiveBytes(TorchDispatchMode):
    """The most bytes that the tensors made inside held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.known:
                self.known[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.freed, key)
        return result

    def freed(self, key: int) -> None:
        self.now -= self.known.pop(key)


def peak(name: str, sequences: int, **options) -> float:
    """Megabytes beyond inputs and gradients; sequences of 8 tokens."""
    g = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(sequences, 8, WIDTH, generator=g) for _ in range(2))
    heads = [torch.randn(VOCABULARY, WIDTH, generator=g) for _ in range(2)]
    leaves = [student.requires_grad_(), heads[0].requires_grad_()]
    labels = torch.randint(VOCABULARY, student.shape[:2], generator=g)
    with LiveBytes() as live:
        distillation_loss(
            *(student, Head(heads[0]), teacher, Head(heads[1]), labels, None),
            method=getattr(divergences, name),
            scope=SCOPES[name],
            **options,
        ).total.backward()
    return (live.peak - sum(x.nbytes for x in leaves)) / 1e6


@pytest.mark.parametrize("name", SCOPES)
def test_memory_grows_with_the_chunk_and_not_with_the_batch(name):
    small, large = peak(name, 4, chunk_tokens=16), peak(name, 20, chunk_tokens=16)
    assert large < 1.02 * small
    assert 1.6 * small < peak(name, 20, chunk_tokens=32) < 2.1 * small


@pytest.mark.parametrize("name", SCOPES)
@pytest.mark.parametrize("budget", [32.0, 128.0])
def test_memory_stays_in_the_budget_and_uses_it(name, budget):
    assert 0.35 * budget < peak(name, 20, memory_budget_mb=budget) < 0.9 * budget
