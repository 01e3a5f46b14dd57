"""The fused losses: against the reference in float64, and what they take beside their peers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.checks.row import NO_GPU, NOT_INSTALLED, Row, installed, judged, relative, tried
from benchmarks.losses import FUSED, TITLES, Batch, operation
from tad import divergences
from tad.methods import Method
from tad.train.memory import peak_of

VALUE, COMPILED, COST = "fused loss", "torch.compile", "cost"
METHODS = ("clm", "kl", "rkl", "tad", "dkd")
DTYPES = ("float32", "bfloat16")
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}
"""Largest relative error of value and gradient; or that of the reference in the same type, where
it is larger."""

BUDGET = 256.0
PEERS = ("kl_div", "trl_jsd_0", "trl_gold_0", "liger", "naive_tad")
PACKAGE = {"trl_jsd_0": "trl", "trl_gold_0": "trl", "liger": "liger_kernel"}
ON_GPU_ALONE = ("liger",)
Shape = tuple[int, int, int]
"""Tokens, vocabulary, hidden size."""

SMALL = {"cpu": (64, 1000, 32), "cuda": (512, 8192, 256)}
LARGE = {"cpu": (256, 4000, 64), "cuda": (4096, 151_936, 2048)}
"""Shapes of the comparison with float64, and of the costs, by device."""


@lru_cache(maxsize=1)
def batch_of(shape: Shape, dtype: str, device: str) -> Batch:
    """Kept until another is asked for: a large one takes seconds to draw."""
    return Batch(*shape, getattr(torch, dtype), shape[0] // 4, device)


def fused(batch: Batch, name: str, *, compiled: bool = False) -> list[Tensor]:
    """What the fused loss gives: its value, and its gradients of hidden states and head."""
    run = operation(f"{name}+compile" if compiled else name, batch, BUDGET)
    return [run(), *(leaf.grad for leaf in batch.leaves)]


def reference(batch: Batch, name: str, dtype: torch.dtype | None = None) -> list[Tensor]:
    """The same of `tad.divergences`, in the type of the batch or another."""
    given = (batch.student, batch.student_head, batch.teacher, batch.teacher_head)
    state, head, other, other_head = (x.detach().to(dtype) if dtype else x.detach() for x in given)
    leaves = [state.requires_grad_(), head.requires_grad_()]
    student, teacher = state @ head.t(), other @ other_head.t()
    loss = divergences.causal_lm(student, batch.labels).mean()
    if name != "clm":
        function = Method(FUSED[name]).divergence()
        loss = loss + function(student, teacher, labels=batch.labels).mean()
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def errors(got: list[Tensor], truth: list[Tensor]) -> tuple[float, float]:
    """Of the value, and the larger of the two gradients'."""
    value, *gradients = (relative(x, y) for x, y in zip(got, truth, strict=True))
    return value, max(gradients)


def correctness(device: str, shape: Shape | None = None) -> Iterator[Row]:
    """Value and gradient of each method in each type."""
    for dtype in DTYPES:
        batch = batch_of(shape or SMALL[device], dtype, device)
        for name in METHODS:
            row = Row(check=VALUE, case=f"{name}, {dtype}")

            def check(name=name, dtype=dtype, batch=batch, row=row) -> Row:
                truth = reference(batch, name, torch.float64)
                found = errors(fused(batch, name), truth)
                plain = errors(reference(batch, name), truth)
                most = [max(TOLERANCE[dtype], each) for each in plain]
                row = replace(row, value_error=found[0], gradient_error=found[1])
                return judged(row, zip(found, most, strict=True))

            yield tried(row, check)


def compiled(device: str, shape: Shape | None = None) -> Iterator[Row]:
    """The fused loss under torch.compile against the same without; on a CPU, where compiling takes
    half a minute, in float32."""
    for dtype in DTYPES if device == "cuda" else DTYPES[:1]:
        batch = batch_of(shape or SMALL[device], dtype, device)
        row = Row(check=COMPILED, case=f"tad, {dtype}, on against off")

        def check(batch=batch, dtype=dtype, row=row) -> Row:
            plain = fused(batch, "tad")
            found = errors(fused(batch, "tad", compiled=True), plain)
            row = replace(row, value_error=found[0], gradient_error=found[1])
            return judged(row, [(each, TOLERANCE[dtype]) for each in found])

        yield tried(row, check)


def costs(
    device: str, *, compile: bool, shape: Shape | None = None, rounds: int = 5
) -> Iterator[Row]:
    """Time and memory of forward and backward: of ours, the matrix products alone, and peers."""
    rows = ["floor", *PEERS, *METHODS]
    rows += ["kl_div+compile", "naive_tad+compile", "tad+compile"] if compile else []
    shape = shape or LARGE[device]
    for dtype in DTYPES:
        for name in rows:
            plain, _, with_compile = name.partition("+")
            title = TITLES[plain].replace("*", "") + ", torch.compile" * bool(with_compile)
            row = Row(check=f"{COST}, {dtype}", case=title)
            package = PACKAGE.get(plain)
            if package and not installed(package):
                yield replace(row, outcome=NOT_INSTALLED)
            elif plain in ON_GPU_ALONE and device == "cpu":
                yield replace(row, outcome=NO_GPU)
            else:

                def check(name=name, dtype=dtype, row=row) -> Row:
                    batch = batch_of(shape, dtype, device)
                    return _cost(row, batch, operation(name, batch, BUDGET), device, rounds)

                yield tried(row, check, ours=plain in FUSED)


def _cost(row: Row, batch: Batch, run: Callable[[], object], device: str, rounds: int) -> Row:
    run()  # allocations, compilation and the choice of kernels are not of the loss
    times = []
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - start)
    for leaf in batch.leaves:
        leaf.grad = None
    memory = peak(run, device)
    if "floor" not in row.case:
        memory -= sum(leaf.numel() * leaf.element_size() for leaf in batch.leaves)
    return replace(row, memory=max(memory, 0), seconds=statistics.median(times))


def wait(device: str) -> None:
    """Until the GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak(run: Callable[[], object], device: str) -> int:
    """The most bytes that ``run`` holds at once, beyond what was held before."""
    if device == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        wait(device)
        return torch.cuda.max_memory_allocated() - before
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, profile_memory=True) as profile:
        run()
    return peak_of(profile)
