"""What of a student trains, and what stays as the teacher has it."""

import pytest
import torch

from tad.models.students import build_student
from tests.tad.models.test_students import (
    FAMILIES,
    make_teacher,
    shape_like,
)


def trainable_parameters(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train(model, parameters):
    """Three AdamW steps with weight decay; returns the optimizer."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    tokens = torch.arange(24).view(2, 12)
    for _ in range(3):
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_frozen_embeddings_do_not_move_and_have_no_optimizer_state(family, tied):
    teacher = make_teacher(family, tied=tied)
    student = build_student(teacher, shape_like(teacher, layers=2), seed=0)
    before = {name: value.clone() for name, value in student.named_parameters()}
    frozen = {name for name, value in student.named_parameters() if not value.requires_grad}
    assert frozen == {"model.embed_tokens.weight"}
    assert (student.lm_head.weight is student.model.embed_tokens.weight) == tied
    optimizer = train(student, trainable_parameters(student))
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in frozen), name
        assert (parameter in optimizer.state) == (name not in frozen), name
    embedding = teacher.model.embed_tokens.weight
    assert torch.equal(student.model.embed_tokens.weight, embedding)
    assert torch.equal(student.lm_head.weight, embedding) == tied


@pytest.mark.parametrize("tied", [True, False])
def test_truncated_embeddings_train(tied):
    teacher = make_teacher("qwen2")
    student = build_student(teacher, shape_like(teacher, hidden_size=48, tied=tied), seed=0)
    assert len(trainable_parameters(student)) == len(list(student.parameters()))
    before = student.model.embed_tokens.weight.detach().clone()
    train(student, trainable_parameters(student))
    assert not torch.equal(student.model.embed_tokens.weight, before)
    assert (student.lm_head.weight is student.model.embed_tokens.weight) == tied


def test_a_head_that_the_teacher_never_trained_as_one_is_not_frozen():
    teacher = make_teacher("qwen2", tied=False)
    student = build_student(teacher, shape_like(teacher, tied=True), seed=0)
    assert student.lm_head.weight.requires_grad
    assert torch.equal(student.lm_head.weight, teacher.model.embed_tokens.weight)


def test_untied_student_of_a_tied_teacher_gets_a_head_of_its_own():
    teacher = make_teacher("qwen2", tied=True)
    student = build_student(teacher, shape_like(teacher, tied=False), seed=0)
    assert not student.model.embed_tokens.weight.requires_grad
    assert student.lm_head.weight.requires_grad
    assert torch.equal(student.lm_head.weight, teacher.model.embed_tokens.weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_teacher_is_unchanged_and_shares_no_storage(family):
    teacher = make_teacher(family)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    config = teacher.config.to_dict()
    student = build_student(teacher, shape_like(teacher), seed=0)
    train(student, trainable_parameters(student))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher.config.to_dict() == config
    assert not teacher.training and student.training
    assert all(value.requires_grad and value.grad is None for value in teacher.parameters())
    storages = {value.untyped_storage().data_ptr() for value in teacher.state_dict().values()}
    assert storages.isdisjoint(
        value.untyped_storage().data_ptr() for value in student.state_dict().values()
    )
