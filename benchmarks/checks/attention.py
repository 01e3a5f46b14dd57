"""Attention kernels against one another: a tiny model's logits and gradients by each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.checks.losses import wait
from benchmarks.checks.row import NO_GPU, NOT_INSTALLED, Row, installed, judged, relative, tried

CHECK = "attention"
SLACK = 1e-3
"""The kernel that is checked may be twice as far from float32 as the other, and this."""

FLOAT32 = 1e-4
HEAD_DIM = 64


def model(implementation: str, dtype: torch.dtype, device: str) -> LlamaForCausalLM:
    """Two layers, the same weights each time; grouped heads, of a size for flash attention."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=4 * HEAD_DIM,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.05,
        attn_implementation=implementation,
    )
    return LlamaForCausalLM(config).to(device, dtype).train()


def results(
    implementation: str, dtype: torch.dtype, device: str, tokens: int, rounds: int = 3
) -> tuple[Tensor, Tensor, float]:
    """Logits, gradient of the first layer's queries, and the median seconds of both."""
    own = model(implementation, dtype, device)
    ids = torch.randint(512, (2, tokens), generator=torch.Generator().manual_seed(1)).to(device)
    weight = own.model.layers[0].self_attn.q_proj.weight
    times = []
    for _ in range(rounds + 1):  # the first one chooses kernels
        wait(device)
        start = time.perf_counter()
        logits = own(input_ids=ids, use_cache=False).logits
        loss = logits.float().log_softmax(-1)[..., 0].mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        wait(device)
        times.append(time.perf_counter() - start)
    return logits.detach(), gradient, statistics.median(times[1:])


def kernels(device: str, tokens: int | None = None) -> Iterator[Row]:
    """SDPA against eager in float32, flash attention and SDPA in bfloat16 against that."""
    tokens = tokens or (1024 if device == "cuda" else 64)
    exact = Row(check=CHECK, case="SDPA against eager, float32")
    flash = Row(check=CHECK, case="flash attention against SDPA, bfloat16")
    truth: list[Tensor] = []

    def sdpa() -> Row:
        logits, gradient, _ = results("eager", torch.float32, device, tokens)
        truth.extend((logits, gradient))
        found = results("sdpa", torch.float32, device, tokens)
        return _judged(exact, found, truth, (FLOAT32, FLOAT32))

    yield tried(exact, sdpa)
    if device == "cpu":
        yield replace(flash, outcome=NO_GPU)
        return
    if not installed("flash_attn"):
        yield replace(flash, outcome=NOT_INSTALLED)
        return

    def flashes() -> Row:
        beside = results("sdpa", torch.bfloat16, device, tokens)
        most = [2 * relative(got, x) + SLACK for got, x in zip(beside, truth, strict=False)]
        found = results("flash_attention_2", torch.bfloat16, device, tokens)
        case = f"{flash.case} (SDPA: {1e3 * beside[2]:.3g} ms)"
        return _judged(replace(flash, case=case), found, truth, most)

    yield tried(flash, flashes)


def _judged(row: Row, found: tuple[Tensor, Tensor, float], truth, most) -> Row:
    value, gradient = (relative(got, x) for got, x in zip(found[:2], truth, strict=True))
    row = replace(row, value_error=value, gradient_error=gradient, seconds=found[2])
    return judged(row, zip((value, gradient), most, strict=True))
