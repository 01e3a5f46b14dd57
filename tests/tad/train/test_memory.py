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


@pytest.mark.parametrize("method", [Method.of("tad", k=5, beta=2.0), Method("rkl")], ids=str)
def test_layers_computed_again_change_no_bit_and_hold_less(tmp_path, tiny_llama, method):
    """The loss takes the states from within a forward whose layers run twice."""
    found = []
    for again in (False, True):
        model = tiny_llama(seed=0, layers=6)
        if again:
            model.activation_checkpointing_enable({"use_reentrant": False})
        made = trainer(model, tmp_path, method, teacher=tiny_llama(seed=1), rows=Rows(64),
                       micro=32, steps=2, hidden_cosine=True)  # fmt: skip
        memory = StepMemory()
        made.add_callback(memory)
        made.train()
        losses = [x["loss"] for x in made.state.log_history if "loss" in x]
        held_out = made.evaluate()["eval_loss"]
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        found.append((memory.peak, losses, held_out, weights))
    (kept, *plain), (less, *computed) = found
    assert plain[:2] == computed[:2] and torch.equal(plain[2], computed[2])
    assert less < 0.7 * kept, (less, kept)
