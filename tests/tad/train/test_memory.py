"""What a training step allocates."""

from __future__ import annotations

import pytest
import torch

from tad.methods import Method
from tad.train.memory import StepMemory, peak_of

from .test_trainer import Rows, trainer


def test_the_peak_is_what_is_held_at_once():
    """4 MB, freed; then two of 4 MB at once, the second of which lives on."""
    profile = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    )
    profile.start()
    first = torch.ones(1_000_000)
    del first
    second = torch.ones(1_000_000)
    third = second * 2
    del second
    profile.stop()
    assert peak_of(profile) == pytest.approx(8e6, rel=0.01)
    assert third.sum() == 2e6


def trained(tmp_path, tiny_llama, method, measure, *, micro=8, steps=3):
    model, rows = tiny_llama(seed=0), Rows(micro * steps)
    made = trainer(model, tmp_path, method, teacher=tiny_llama(seed=1), rows=rows, micro=micro,
                   steps=steps)  # fmt: skip
    memory = StepMemory()
    if measure:
        made.add_callback(memory)
    made.train()
    return memory.peak, [parameter.detach() for parameter in model.parameters()]


def test_measuring_changes_no_bit(tmp_path, tiny_llama):
    tad = Method.of("tad", k=5, beta=2.0)
    peak, measured = trained(tmp_path, tiny_llama, tad, True)
    none, plain = trained(tmp_path, tiny_llama, tad, False)
    assert peak > sum(parameter.nbytes for parameter in plain), "gradients are among it"
    assert none is None
    assert all(torch.equal(a, b) for a, b in zip(measured, plain, strict=True))


def test_more_rows_take_more_and_a_run_of_one_step_says_nothing(tmp_path, tiny_llama):
    kd = Method("vanilla_kd")
    small, large = (trained(tmp_path, tiny_llama, kd, True, micro=m)[0] for m in (8, 64))
    assert large > 1.5 * small
    assert trained(tmp_path, tiny_llama, kd, True, steps=1)[0] is None
