"""FLOPs of jobs against torch's counter on real steps."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tad.experiment.config import load_suite
from tad.experiment.flops import EXECUTED, PAPER, account_of_shape, pair_shapes, run_cost
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.plan.facts import PROJECT
from tad.plan.jobs import Job
from tad.plan.work import recomputed, trained_tokens, work

from .models import built, trainer

CONTEXT, MICRO = 24, 2


@pytest.fixture(scope="module")
def paper():
    return load_suite(PROJECT / "config" / "paper.yaml")


def job(run: str, kind: str = "distill") -> Job:
    return Job(kind, f"runs/{run}", (), RunId.parse(run))


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi", "gemma2", "phi3"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_distillation_is_what_torch_counts(family, checkpointing, tmp_path):
    """Teacher, student and fused loss together; a recomputed forward pass is one more of layers."""
    student, teacher = built(family, vocabulary=256), built(family, wide=True, vocabulary=256)
    found = trainer(student, teacher, tmp_path, micro=MICRO, context=CONTEXT, steps=1,
                    checkpointing=checkpointing)  # fmt: skip
    for model in (found.model, found.teacher):
        model.set_attn_implementation("eager")  # the counter sees plain products
    model = found.model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    batch = found.data_collator([found.train_dataset[i] for i in range(MICRO)])
    # The loss adds products to its gradients in place, which the counter does not know by itself.
    added = {torch.ops.aten.addmm_: lambda _, a, b, **more: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=added) as counter:
        found.compute_loss(
            model, batch, num_items_in_batch=torch.tensor(MICRO * CONTEXT)
        ).backward()
    ours, theirs = (account_of_shape(m.family, m.shape) for m in (student, teacher))
    each = ours.training(CONTEXT, PAPER) + theirs.forward(CONTEXT, PAPER)
    if checkpointing:
        each += recomputed(student.family, student.shape, CONTEXT, PAPER)
    counted = counter.get_total_flops() / (MICRO * CONTEXT)
    assert each == pytest.approx(counted, rel=0.005)  # rotary tables are products too


def test_a_job_is_its_tokens_and_the_points_on_the_way(paper):
    name = "scratch/phi2_1b/tad-k10-b2/seed0"
    run, spec = RunId.parse(name), run_spec(paper, RunId.parse(name))
    values, found = spec.optimisation, work(paper, job(name))
    trained = run_cost(paper, run).total * values.tokens
    points = (values.evaluations + 1) * values.evaluation_sequences * values.context
    assert found.tokens == values.tokens
    assert trained < found.flops < trained * 1.02
    accounts = [account_of_shape(*each) for each in pair_shapes(paper, run.pair)]
    both = sum(account.forward(values.context, EXECUTED) for account in accounts)
    assert found.flops - trained == pytest.approx(points * both)
    again = work(paper, job(name), checkpointing=True)
    assert again.flops > 1.1 * found.flops


def test_what_is_done_ahead_of_a_run_is_a_job_of_its_own(paper):
    """MiniPLM trains as plain CLM; the teacher's pass over the pool is the job select."""
    plain, chosen = (f"scratch/phi2_1b/{method}/seed0" for method in ("clm", "miniplm"))
    assert work(paper, job(chosen)).flops == work(paper, job(plain)).flops
    ahead = work(paper, job(chosen, "select")).flops
    total = run_cost(paper, RunId.parse(chosen)).total * run_spec(
        paper, RunId.parse(chosen)).optimisation.tokens  # fmt: skip
    assert ahead + work(paper, job(plain)).flops == pytest.approx(total, rel=0.02)


def test_what_is_written_token_by_token_is_told_apart(paper):
    run = "scratch/qwen1.5-1.8b_0.5b/seq_kd/seed0"
    written = work(paper, job(run, "generate"))
    assert written.decoded > 5 * written.flops > 0
    assert work(paper, job("scratch/qwen1.5-1.8b_0.5b/minillm/seed0")).decoded > 0


def test_rows_of_instructions_are_shorter_than_the_context(paper):
    run = RunId.parse("supervised/phi3-4b_tinyllama/tad-k10-b2/seed0")
    spec = run_spec(paper, run)
    assert trained_tokens(paper, run) < spec.optimisation.tokens / 2
    assert work(paper, job(str(run))).tokens == trained_tokens(paper, run)
