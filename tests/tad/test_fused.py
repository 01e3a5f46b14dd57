"""The fused losses against the reference ones in float64: values, gradients, every option."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from tad import divergences
from tad.fused import METHODS, Head, distillation_loss


def problem(seed, *, b=2, n=5, v=23, hs=6, ht=4, bias=False, dtype=torch.float64, ties=False):
    """Hidden states, heads, labels and mask; ``ties`` makes many teacher logits equal."""
    g = torch.Generator().manual_seed(seed)
    student_hidden = torch.randn(b, n, hs, generator=g, dtype=torch.float64).to(dtype)
    teacher_hidden = torch.randn(b, n, ht, generator=g, dtype=torch.float64).to(dtype)
    student_weight = torch.randn(v, hs, generator=g, dtype=torch.float64).to(dtype)
    teacher_weight = torch.randn(v, ht, generator=g, dtype=torch.float64).to(dtype)
    if ties:
        teacher_hidden, teacher_weight = teacher_hidden.round(), teacher_weight.round()
    student_bias = torch.randn(v, generator=g, dtype=torch.float64).to(dtype) if bias else None
    labels = torch.randint(0, v, (b, n), generator=g)
    labels[torch.rand(b, n, generator=g) < 0.2] = -100
    mask = torch.rand(b, n, generator=g) < 0.8
    for tensor in (student_hidden, student_weight, student_bias):
        if tensor is not None:
            tensor.requires_grad_()
    return (
        student_hidden,
        Head(student_weight, student_bias),
        teacher_hidden,
        Head(teacher_weight),
        labels,
        mask,
    )


def logits(hidden, head, size=None):
    weight, bias = head.weight[:size], None if head.bias is None else head.bias[:size]
    values = torch.nn.functional.linear(hidden, weight, bias) * head.scale
    return head.softcap * torch.tanh(values / head.softcap) if head.softcap else values


def reference(args, *, method, k, beta, temperature=1.0, vocab_size=None, segment_ids=None):
    """clm + divergence, each a mean over its own positions, from whole float64 logits."""
    student_hidden, student_head, teacher_hidden, teacher_head, labels, mask = args
    mask = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    student = logits(student_hidden, student_head, vocab_size)
    labelled = mask & (labels != -100)
    clm = divergences.causal_lm(student, labels, mask=mask).sum() / labelled.sum().clamp(min=1)
    if method == "clm":
        return clm
    teacher = logits(teacher_hidden, teacher_head, vocab_size)
    options = {"temperature": temperature, "mask": mask}
    counted = mask
    if method == "vanilla_kd":
        values = divergences.forward_kl(student, teacher, **options)
    elif method == "rkl":
        values = divergences.reverse_kl(student, teacher, **options)
    elif method == "dkd":
        values = divergences.decoupled(student, teacher, labels, beta=beta, **options)
        counted = labelled
    else:
        options["segment_ids"] = segment_ids
        values = divergences.tail_aware(student, teacher, k=k, beta=beta, **options)
    return clm + values.sum() / counted.sum().clamp(min=1)


def leaves(args):
    head = args[1]
    return [x for x in (args[0], head.weight, head.bias) if x is not None and x.requires_grad]


def both(args, rtol, **options):
    """Assert equal values and gradients of the fused and the reference loss."""
    shared = {k: v for k, v in options.items() if k not in ("chunk_tokens", "memory_budget_mb")}
    expected = reference(args, **shared)
    wanted = torch.autograd.grad(expected, leaves(args), allow_unused=True)
    terms = distillation_loss(*args, **options)
    found = torch.autograd.grad(terms.total, leaves(args), allow_unused=True)
    torch.testing.assert_close(terms.total, expected, rtol=rtol, atol=rtol)
    for ours, theirs in zip(found, wanted, strict=True):
        scale = theirs.abs().max().item() + 1e-30
        assert (ours - theirs).abs().max().item() <= rtol * max(scale, 1.0)
    return terms


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    method=st.sampled_from(METHODS),
    b=st.integers(1, 3),
    n=st.integers(1, 7),
    v=st.integers(3, 150),
    chunk=st.sampled_from([None, 1, 3, 5, 64]),
    bias=st.booleans(),
    ties=st.booleans(),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    data=st.data(),
)
def test_equals_the_reference(seed, method, b, n, v, chunk, bias, ties, temperature, data):
    k = data.draw(st.integers(1, v - 1))
    args = problem(seed, b=b, n=n, v=v, bias=bias, ties=ties)
    options = {"k": k, "beta": 2.0, "temperature": temperature, "chunk_tokens": chunk}
    both(args, 1e-9, method=method, **options)


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_within_1e_5(method):
    exact = problem(3, v=211)
    args = [
        x.detach().float().requires_grad_(x.requires_grad)
        if torch.is_tensor(x) and x.is_floating_point()
        else x
        for x in exact
    ]
    weights = [h.weight.detach().float() for h in (exact[1], exact[3])]
    args[1], args[3] = Head(weights[0].requires_grad_()), Head(weights[1])
    terms = distillation_loss(*args, method=method, k=10, beta=2.0)
    expected = reference(exact, method=method, k=10, beta=2.0)
    assert terms.total.item() == pytest.approx(expected.item(), rel=1e-5)
    found = torch.autograd.grad(terms.total, leaves(args))
    for ours, theirs in zip(found, torch.autograd.grad(expected, leaves(exact)), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("method", METHODS)
def test_gradcheck(method):
    args = problem(5, b=2, n=3, v=9, bias=True)

    def total(hidden, weight, bias):
        head = Head(weight, bias)
        terms = distillation_loss(hidden, head, *args[2:], method=method, k=3, beta=2.0)
        return terms.total

    assert torch.autograd.gradcheck(total, leaves(args), fast_mode=False)


@pytest.mark.parametrize("method", METHODS)
def test_soft_capping_and_scale_on_either_side(method):
    args = list(problem(7))
    args[1] = Head(args[1].weight, softcap=2.0, scale=0.7)
    args[3] = Head(args[3].weight, softcap=3.0, scale=1.3)
    both(args, 1e-9, method=method, k=4, beta=2.0)


@pytest.mark.parametrize("method", METHODS[1:])
def test_common_prefix_of_two_vocabularies(method):
    args = list(problem(9, v=20))
    larger = problem(10, v=28)[3]
    args[3] = larger
    both(args, 1e-9, method=method, k=4, beta=2.0, vocab_size=20)
    with pytest.raises(ValueError, match="20"):
        distillation_loss(*args, method=method, k=4, beta=2.0)


def test_documents_of_a_packed_row():
    args = problem(11, n=6)
    ids = torch.tensor([[0, 0, 1, 1, 1, 2], [3, 3, 3, 4, 4, 4]])
    both(args, 1e-9, method="tad", k=4, beta=2.0, segment_ids=ids, chunk_tokens=2)


def test_frozen_head_gets_no_gradient_and_hidden_the_same():
    args = list(problem(13))
    free = torch.autograd.grad(distillation_loss(*args, method="tad", k=4).total, args[0])[0]
    args[1] = Head(args[1].weight.detach())
    terms = distillation_loss(*args, method="tad", k=4)
    terms.total.backward()
    assert args[1].weight.grad is None
    torch.testing.assert_close(args[0].grad, free)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_valid_is_zero_with_zero_gradients(method):
    args = list(problem(15))
    args[5] = torch.zeros_like(args[5])
    terms = distillation_loss(*args, method=method, k=4)
    terms.total.backward()
    assert terms.total.item() == 0
    assert not args[0].grad.any()
    assert not args[1].weight.grad.any()


@pytest.mark.parametrize("method", METHODS)
def test_masked_positions_may_be_nan(method):
    args = list(problem(17))
    clean = distillation_loss(*args, method=method, k=4).total
    clean.backward()
    dirty = list(problem(17))
    with torch.no_grad():
        dirty[0][~dirty[5]] = math.nan
        dirty[2][~dirty[5]] = math.nan
    total = distillation_loss(*dirty, method=method, k=4).total
    total.backward()
    torch.testing.assert_close(total, clean)
    torch.testing.assert_close(dirty[1].weight.grad, args[1].weight.grad)
    assert not dirty[0].grad[~dirty[5]].any()


@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_add_up_to_the_global_batch(method):
    args = problem(19, b=4)
    items = {
        "clm_items": (args[5] & (args[4] != -100)).sum(),
        "divergence_items": (args[5] & (args[4] != -100) if method == "dkd" else args[5]).sum(),
    }
    whole = torch.autograd.grad(distillation_loss(*args, method=method, k=4).total, leaves(args))
    parts = [torch.zeros_like(x) for x in leaves(args)]
    for rows in (slice(0, 1), slice(1, 4)):
        hidden, head, teacher, teacher_head, labels, mask = args
        total = distillation_loss(
            hidden[rows],
            head,
            teacher[rows],
            teacher_head,
            labels[rows],
            mask[rows],
            method=method,
            k=4,
            **items,
        ).total
        for part, gradient in zip(parts, torch.autograd.grad(total, leaves(args)), strict=True):
            part += gradient
    for part, gradient in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, gradient, rtol=1e-9, atol=1e-12)


def test_activation_checkpointing_and_double_use_in_one_graph():
    args = problem(21)

    def total(hidden):
        return distillation_loss(hidden, *args[1:], method="tad", k=4).total

    plain = torch.autograd.grad(total(args[0]) + 2 * total(args[0]), leaves(args))
    again = checkpoint(total, args[0], use_reentrant=False) * 3
    for ours, theirs in zip(torch.autograd.grad(again, leaves(args)), plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_inputs_that_are_not_contiguous():
    args = list(problem(23))
    args[0] = args[0].detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    args[2] = args[2].transpose(0, 1).contiguous().transpose(0, 1)
    both(args, 1e-9, method="tad", k=4, beta=2.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_no_worse_than_the_reference_on_half_logits(method, dtype):
    args = problem(25, v=300, dtype=dtype)
    exact = [x.double() if torch.is_tensor(x) and x.is_floating_point() else x for x in args]
    exact[1], exact[3] = Head(args[1].weight.double()), Head(args[3].weight.double())
    truth = reference(exact, method=method, k=10, beta=2.0).item()
    naive = reference(args, method=method, k=10, beta=2.0).item()
    ours = distillation_loss(*args, method=method, k=10, beta=2.0).total.item()
    assert abs(ours - truth) <= abs(naive - truth) + 1e-6 * abs(truth)


@pytest.mark.parametrize("method", METHODS[1:])
def test_banned_tokens_of_both_sides_count_for_nothing(method):
    args = list(problem(27, v=20, bias=True))
    args[4][args[4] >= 15] = 3
    banned = torch.zeros(20, dtype=torch.float64)
    banned[15:] = -math.inf
    bias = args[1].bias.detach()
    student = Head(args[1].weight, (bias + banned).requires_grad_())
    cut = [*args]
    cut[1] = Head(args[1].weight[:15], bias[:15].clone().requires_grad_())
    cut[3] = Head(args[3].weight[:15])
    args[1], args[3] = student, Head(args[3].weight, banned)
    terms = distillation_loss(*args, method=method, k=4)
    expected = reference(cut, method=method, k=4, beta=2.0)
    torch.testing.assert_close(terms.total, expected)
    gradient = torch.autograd.grad(terms.total, args[0])[0]
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, args[0])[0])


def test_equal_models_have_no_divergence_in_bfloat16():
    args = list(problem(29, v=5000, hs=16, ht=16, dtype=torch.bfloat16))
    args[2], args[3] = args[0].detach(), Head(args[1].weight.detach())
    for method in ("vanilla_kd", "rkl", "tad"):
        assert distillation_loss(*args, method=method, k=10).divergence.abs().item() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "kld"}, "kld"),
        ({"k": 0}, "k is 0"),
        ({"k": 23}, "k is 23"),
        ({"beta": 0.0}, "beta"),
        ({"temperature": 0.0}, "temperature"),
        ({"chunk_tokens": 0}, "chunk_tokens"),
    ],
)
def test_impossible_options_are_named(change, message):
    options = {"method": "tad", "k": 4, **change}
    with pytest.raises(ValueError, match=message):
        distillation_loss(*problem(31), **options)
