"""Peak memory by the plan against the measured peaks of real steps on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tad.experiment.config import load_suite
from tad.fused import products, walk
from tad.models.architectures import CLASSES, paper_model
from tad.models.students import build_student, parameter_account
from tad.plan import memory as planned
from tad.plan.activations import LAYERS
from tad.plan.facts import PROJECT
from tad.plan.fit import frozen_weights
from tad.plan.memory import FULL, HALF, Setting, training_memory
from tad.train.memory import StepMemory, peak_of

from .models import built, made, trainer

WITHIN = 0.15
BUDGET = 256e6


def step(folder, family, *, half=False, vocabulary=2048, tied=False, freeze=False, **options):
    """(plan, measured) bytes of a step beyond weights and optimizer, and the whole of both."""
    micro, context = options.pop("micro", 3), options.pop("context", 96)
    alone = options.get("method") == "clm"
    student = built(family, vocabulary=vocabulary, tied=tied)
    teacher = None if alone else built(family, wide=True, vocabulary=vocabulary, tied=tied)
    found = StepMemory()
    made_trainer = trainer(student, teacher, folder, micro=micro, context=context, half=half,
                           freeze=freeze, memory=found, **options)  # fmt: skip
    made_trainer.train()
    memory = training_memory(student, teacher, Setting(
        micro_batch=micro, context=context, budget=BUDGET,
        accumulates=options.get("accumulate", 1) > 1,
        modes=10 if options.get("method") == "tad" else 0,
        frozen=student.matrix if freeze else 0, trains_head=not (freeze and tied),
        checkpointing=options.get("checkpointing", False), precision=HALF if half else FULL,
    ))  # fmt: skip
    copies = HALF.copy * student.layers if half else 0  # made anew in each step
    held = sum(p.nbytes for p in made_trainer.model.parameters())
    held += 2 * sum(p.nbytes for p in made_trainer.model.parameters() if p.requires_grad)
    if teacher is not None:
        held += sum(p.nbytes for p in made_trainer.teacher.parameters())
    whole = memory.weights + memory.optimizer + memory.training
    return (memory.training + copies, found.peak), (whole, held + found.peak)


def check(found):
    (plan, measured), (whole, all_held) = found
    assert plan == pytest.approx(measured, rel=WITHIN)
    assert whole == pytest.approx(all_held, rel=WITHIN)


@pytest.mark.parametrize("family", CLASSES)
def test_every_family_holds_what_is_planned(family, tmp_path):
    check(step(tmp_path, family))


@pytest.mark.parametrize("case", [
    {"family": "llama", "method": "clm"},
    {"family": "llama", "method": "tad", "micro": 4, "context": 128},
    {"family": "llama", "half": True, "accumulate": 2},
    {"family": "gemma2", "half": True},
    {"family": "qwen2", "tied": True, "accumulate": 2},
    {"family": "qwen2", "tied": True, "freeze": True, "accumulate": 2},
    {"family": "phi3", "checkpointing": True, "accumulate": 2},
    {"family": "llama", "vocabulary": 512, "micro": 6},
    {"family": "qwen2", "vocabulary": 8192},
    {"family": "gemma2", "vocabulary": 512, "micro": 2, "context": 256},
], ids=lambda case: "-".join(f"{k}={v}" for k, v in case.items()))  # fmt: skip
def test_other_shapes_and_ways_hold_what_is_planned(case, tmp_path):
    case = dict(case)
    check(step(tmp_path, case.pop("family"), **case))


@pytest.mark.parametrize("family, vocabulary, micro, context", [
    ("llama", 2048, 3, 96), ("gemma2", 256, 3, 256), ("phi", 256, 8, 96),
])  # fmt: skip
def test_evaluation_holds_what_is_planned(family, vocabulary, micro, context, tmp_path):
    student = built(family, vocabulary=vocabulary)
    teacher = built(family, wide=True, vocabulary=vocabulary)
    found = trainer(student, teacher, tmp_path, micro=micro, context=context)
    found.evaluate()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    profile = torch.profiler.profile(activities=kinds, profile_memory=True)
    profile.start()
    found.evaluate()
    profile.stop()
    setting = Setting(micro_batch=micro, context=context, budget=BUDGET, precision=FULL)
    memory = training_memory(student, teacher, setting)
    assert memory.evaluation == pytest.approx(peak_of(profile), rel=2 * WITHIN)


@pytest.mark.parametrize("family", CLASSES)
def test_weights_are_those_of_the_model(family):
    for tied in (False, True):
        model = built(family, tied=tied)
        counted = sum(parameter.numel() for parameter in made(model, 16).parameters())
        assert model.weights == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("pair", ["qwen2.5-3b_1b", "phi2_1b", "qwen1.5-1.8b_0.5b"])
def test_what_is_frozen_is_what_students_freeze(pair):
    """On the meta device: a tied matrix, an untied embedding, and a width of its own."""
    suite = load_suite(PROJECT / "config" / "paper.yaml")
    teacher = paper_model(suite.models[suite.pairs[pair].teacher])
    student = build_student(teacher, suite.pairs[pair].student.shape, seed=0)
    frozen, trains_head = frozen_weights(suite, pair)
    assert frozen == parameter_account(student).frozen
    assert trains_head == student.get_output_embeddings().weight.requires_grad


def test_every_family_has_a_row():
    assert set(CLASSES) <= set(LAYERS)


def test_the_constants_are_those_of_the_loss():
    assert planned.GROUP == products.GROUP
    assert planned.ALIGN == products.ALIGN
    assert planned.BLOCK_ELEMENTS == products.BLOCK_ELEMENTS
    assert planned.FASTEST_TOKENS == walk.FASTEST_TOKENS


# --- What cannot be measured here ----------------------------------------------------------------

STUDENT, TEACHER = built("llama"), built("llama", wide=True)
USUAL = Setting(micro_batch=4, context=512, budget=BUDGET)


def test_the_loss_stays_within_its_budget():
    wide = replace(STUDENT, shape=STUDENT.shape.model_copy(update={"vocab_size": 256_000}))
    other = replace(TEACHER, shape=TEACHER.shape.model_copy(update={"vocab_size": 256_000}))
    assert planned.working_memory(wide, other, USUAL) == BUDGET


def test_sharding_leaves_each_gpu_its_part():
    one = training_memory(STUDENT, TEACHER, USUAL)
    many = training_memory(STUDENT, TEACHER, replace(USUAL, gpus=4, sharding="fsdp"))
    assert many.optimizer == one.optimizer / 4
    assert many.gradients == one.gradients / 4
    assert many.activations == one.activations
    copied = training_memory(STUDENT, TEACHER, replace(USUAL, gpus=4))
    assert copied.weights > one.weights, "DDP keeps its buckets besides"


def test_checkpointing_keeps_one_input_a_layer():
    kept = training_memory(STUDENT, TEACHER, replace(USUAL, checkpointing=True))
    usual = training_memory(STUDENT, TEACHER, USUAL)
    assert kept.activations < 0.2 * usual.activations
    assert kept.peak < usual.peak


def test_a_frozen_matrix_takes_neither_gradient_nor_moments():
    frozen = replace(USUAL, frozen=STUDENT.matrix)
    usual, found = (training_memory(STUDENT, TEACHER, each) for each in (USUAL, frozen))
    assert usual.optimizer - found.optimizer == 8 * STUDENT.matrix
    assert usual.gradients - found.gradients == 4 * STUDENT.matrix
