"""The fused loss against the reference divergences: values and all gradients, every option."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tad import divergences
from tad.fused import Head, distillation_loss
from tad.fused import products as _fused_products
from tad.methods import Method, MethodError

from .case import METHODS, Case, assert_equal_to_reference

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@st.composite
def cases(draw, dtype):
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    method = pick(*METHODS)
    case = Case(
        draw(st.integers(0, 10_000)),
        batch=draw(st.integers(1, 4)),
        tokens=draw(st.integers(1, 9)),
        vocab=pick(5, 63, 64, 65, 200, 515),
        widths=(draw(st.integers(1, 9)), draw(st.integers(1, 9))),
        dtype=dtype,
        kind=pick("random", "random", "ties", "peaked", "equal"),
        bias=draw(st.booleans()),
        softcaps=(pick(None, 3.0), pick(None, 5.0)),
        scales=(pick(1.0, 0.5), pick(1.0, 2.0)),
        documents=draw(st.booleans()) and method == "tad",
    )
    options = {
        "k": draw(st.integers(1, 4)),
        "beta": pick(0.5, 2.0),
        "temperature": pick(1.0, 1.0, 2.5),
        "target": pick(1.0, 0.3),
    }
    if draw(st.booleans()) and not (case.labels >= 60).any():
        options["vocab"] = 61 if case.heads[0].weight.shape[0] > 61 else None
    return case, method, draw(st.integers(1, 40)), options


@examples
@given(cases(torch.float64))
def test_equals_the_reference_in_float64(drawn):
    case, method, chunk, options = drawn
    assert_equal_to_reference(case, method, 1e-10, chunk, **options)


@examples
@given(cases(torch.float32))
def test_equals_the_float64_reference_in_float32(drawn):
    case, method, chunk, options = drawn
    exact = case.double()
    clm, clm_count, div, div_count = exact.reference(method, **options)
    total = clm / max(clm_count, 1) + div / max(div_count, 1)
    expected = torch.autograd.grad(total, exact.leaves)
    terms = case.fused(method, chunk_tokens=chunk, **options)
    actual = torch.autograd.grad(terms.total, case.leaves)
    # Relative to what the sums are made of: a loss of 0 is a difference of terms of size 1, and a
    # gradient that cancels over tokens one of terms of the size of a single token's.
    scale = 1.0 + max(x.abs().max() for x in (exact.logits(0), exact.logits(1))).item()
    assert abs(terms.total - total) <= 1e-6 * scale + 1e-5 * abs(total)
    for got, want in zip(actual, expected, strict=True):
        assert (got - want).abs().max() <= 1e-5 * want.abs().max() + 1e-7 * scale**2


@examples
@given(cases(torch.float64))
def test_a_function_of_logits_equals_the_reference(drawn):
    case, method, chunk, options = drawn
    chunk = 9 if method == "tad" else chunk  # the longest sequence, as this one needs it whole
    if method != "clm":
        assert_equal_to_reference(case, method, 1e-10, chunk, function=True, **options)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_several_passes_over_the_vocabulary_the_last_one_short(method, bias, monkeypatch):
    monkeypatch.setattr(_fused_products, "BLOCK_ELEMENTS", 128 * 16)
    case = Case(7, batch=2, tokens=20, vocab=515, bias=bias)
    assert_equal_to_reference(case, method, 1e-10, 16)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradcheck(method, temperature, softcap):
    case = Case(
        1, batch=2, tokens=2, vocab=9, widths=(2, 3), bias=True, softcaps=(softcap, softcap)
    )

    def loss(hidden, weight, bias):
        terms = distillation_loss(
            hidden,
            Head(weight, bias, softcap, 0.7),
            case.hidden[1],
            case.heads[1],
            case.labels,
            case.mask,
            method=method,
            **({"k": 3} if method == "tad" else {}),
            temperature=temperature,
            chunk_tokens=2,
        )
        return terms.total, terms.clm_sum, terms.divergence_sum

    assert torch.autograd.gradcheck(loss, case.leaves)


@pytest.mark.parametrize("units", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_errs_less_than_the_reference(method, dtype, units, monkeypatch):
    monkeypatch.setattr("tad.fused.loss.has_matrix_units", lambda: units)
    case = Case(3, batch=2, tokens=12, vocab=700, widths=(32, 32), dtype=dtype, scales=(0.3, 0.3))
    exact = case.double()

    def losses(of: Case):
        clm, clm_count, div, div_count = of.reference(method)
        total = clm / clm_count + div / max(div_count, 1)
        return [total, *torch.autograd.grad(total, of.leaves)]

    terms = case.fused(method, chunk_tokens=5)
    ours = [terms.total, *torch.autograd.grad(terms.total, case.leaves)]
    for got, plain, truth in zip(ours, losses(case), losses(exact), strict=True):
        error, allowed = ((x.double() - truth).norm() for x in (got, plain))
        assert error <= allowed
    assert [x.dtype for x in ours] == [torch.float32, dtype, dtype]


def test_matrix_units_leave_float32_inputs_and_settings_alone(monkeypatch):
    precision, seen = torch.backends.mkldnn.matmul, set()
    product = _fused_products._product

    def watched(*arguments):
        seen.add(precision.fp32_precision)
        product(*arguments)

    monkeypatch.setattr(_fused_products, "_product", watched)
    monkeypatch.setattr("tad.fused.loss.has_matrix_units", lambda: True)
    before = precision.fp32_precision
    Case(4, dtype=torch.float32).fused("tad")
    assert seen == {before}
    Case(4, dtype=torch.bfloat16).fused("tad")
    assert seen == {before, "bf16"} and precision.fp32_precision == before


def test_many_small_chunks_do_not_swamp_a_half_precision_gradient():
    case = Case(5, batch=1, tokens=600, vocab=70, widths=(4, 4), dtype=torch.bfloat16)
    exact = case.double()
    clm, clm_count, div, div_count = exact.reference("vanilla_kd")
    expected = torch.autograd.grad(clm / clm_count + div / div_count, exact.leaves)
    actual = torch.autograd.grad(case.fused("vanilla_kd", chunk_tokens=1).total, case.leaves)
    for got, want in zip(actual, expected, strict=True):
        assert (got.double() - want).norm() <= 4e-3 * want.norm()


@pytest.mark.parametrize("units", [False, True])
def test_a_half_precision_head_converted_in_several_pieces(units, monkeypatch):
    monkeypatch.setattr("tad.fused.loss.has_matrix_units", lambda: units)
    case = Case(8, batch=1, tokens=20, vocab=2500, widths=(4, 4), dtype=torch.bfloat16)
    whole, pieces = (case.fused("tad", chunk_tokens=20, memory_budget_mb=mb) for mb in (256, 0.01))
    assert pieces.total.item() == pytest.approx(whole.total.item(), rel=1e-5)
    grads = [torch.autograd.grad(terms.total, case.leaves) for terms in (whole, pieces)]
    for one, several in zip(*grads, strict=True):
        assert (one.double() - several.double()).norm() <= 4e-3 * one.double().norm()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("where", ["both", "teacher", "student", "most of student"])
@pytest.mark.parametrize("method", METHODS)
def test_banned_tokens(method, where, temperature):
    case = Case(2, vocab=140, bias=True)
    columns = slice(0, 139) if where == "most of student" else slice(100, 140)
    sides = {"both": (0, 1), "teacher": (1,)}.get(where, (0,))
    with torch.no_grad():
        for side in sides:
            case.heads[side].bias[columns] = -math.inf
    if where != "most of student":
        case.labels = torch.where(case.labels == -100, -100, case.labels % 100)
    clm, clm_count, div, div_count = case.reference(method, temperature=temperature)
    expected = torch.autograd.grad(clm / clm_count + div / max(div_count, 1), case.leaves)
    terms = case.fused(method, temperature=temperature, chunk_tokens=4)
    actual = torch.autograd.grad(terms.total, case.leaves)
    torch.testing.assert_close(terms.clm_sum, clm)
    torch.testing.assert_close(terms.divergence_sum, div)
    infinite = {"teacher": "rkl", "both": None}.get(where, "all")
    assert terms.divergence_sum.isinf() == (infinite == "all" and method not in ("clm", "rkl")) or (
        infinite == method
    )
    for got, want in zip(actual, expected, strict=True):
        assert got.isfinite().all()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_columns_banned_in_both_equal_the_cut_vocabulary():
    case = Case(2, vocab=140, bias=True)
    case.labels = torch.where(case.labels == -100, -100, case.labels % 100)
    cut = case.fused("tad", vocab=100)
    with torch.no_grad():
        case.heads[0].bias[100:] = case.heads[1].bias[100:] = -math.inf
    torch.testing.assert_close(case.fused("tad").total, cut.total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_hidden_states_of_masked_positions_are_never_read(method):
    case = Case(4)
    expected = case.fused(method)
    gradients = torch.autograd.grad(expected.total, case.leaves)
    with torch.no_grad():
        for hidden in case.hidden:
            hidden[~case.mask] = math.nan
    actual = case.fused(method)
    assert torch.equal(actual.total, expected.total)
    for got, want in zip(torch.autograd.grad(actual.total, case.leaves), gradients, strict=True):
        assert torch.equal(got, want)
    hidden_gradient = gradients[0]
    assert (hidden_gradient[~case.mask] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_valid_position_is_zero_with_a_graph(method):
    case = Case(4)
    case.mask = torch.zeros_like(case.mask)
    terms = case.fused(method)
    assert terms.total == 0 and terms.clm_count == 0 and terms.divergence_count == 0
    for gradient in torch.autograd.grad(terms.total, case.leaves):
        assert (gradient == 0).all()
    # Valid positions without a label: a divergence, but no CLM.
    case.mask, case.labels = ~case.mask, torch.full_like(case.labels, -100)
    terms = case.fused(method)
    assert terms.clm == 0
    assert (terms.divergence > 0) == (method in ("vanilla_kd", "rkl", "tad"))
    terms.total.backward()


def test_a_mask_that_empties_one_sequence():
    case = Case(4, batch=3)
    case.mask[1] = False
    assert_equal_to_reference(case, "tad", 1e-10, 100)
    without = Case(4, batch=3)
    without.mask[1] = False
    keep = torch.tensor([0, 2])
    without.hidden = [x[keep] for x in without.hidden]
    without.labels, without.mask = without.labels[keep], without.mask[keep]
    torch.testing.assert_close(without.fused("tad").total, case.fused("tad").total)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("chunk", [4, 40])
def test_tail_aware_without_normalisation(softcap, temperature, chunk):
    case = Case(5, tokens=9, bias=True, softcaps=(softcap, softcap))
    student, teacher = case.logits(0), case.logits(1)
    options = {"k": 3, "beta": 5.0, "temperature": temperature}
    expected = divergences.tail_weighted(student, teacher, mask=case.mask, **options)
    terms = distillation_loss(
        *(case.hidden[0], case.heads[0], case.hidden[1], case.heads[1], case.labels, case.mask),
        method="tad_nonorm",
        chunk_tokens=chunk,
        **options,
    )
    torch.testing.assert_close(terms.divergence_sum, expected.sum(), rtol=1e-10, atol=1e-12)
    found = torch.autograd.grad(terms.divergence_sum, case.leaves)
    for got, want in zip(found, torch.autograd.grad(expected.sum(), case.leaves), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["gjsd", "skl", "srkl", "akl", "jeffreys"])
def test_the_fields_divergences_run_in_chunks(name):
    case = Case(5, tokens=9)
    function = Method(name).divergence()
    at_2 = [logits / 2 for logits in (case.logits(0), case.logits(1))]
    expected = 4 * function(*at_2, mask=case.mask).sum()
    terms = distillation_loss(
        *(case.hidden[0], case.heads[0], case.hidden[1], case.heads[1], case.labels, case.mask),
        method=name,
        temperature=2.0,
        chunk_tokens=5,
    )
    torch.testing.assert_close(terms.divergence_sum, expected, rtol=1e-10, atol=1e-12)
    found = torch.autograd.grad(terms.divergence_sum, case.leaves)
    for got, want in zip(found, torch.autograd.grad(expected, case.leaves), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_the_weights_of_a_method_are_in_the_total():
    case = Case(5)

    def loss(method, **options):
        terms = distillation_loss(
            *(case.hidden[0], case.heads[0], case.hidden[1], case.heads[1]),
            *(case.labels, case.mask),
            method=method,
            **options,
        )
        return terms, torch.autograd.grad(terms.total, case.leaves)

    terms, gradients = loss("vanilla_kd-w5-c2", divergence_weight=0.1)
    plain, _ = loss("vanilla_kd")
    torch.testing.assert_close(terms.total, 2 * plain.clm + 0.5 * plain.divergence)
    assert terms.clm == plain.clm and terms.divergence == plain.divergence
    for other in (
        loss("vanilla_kd", clm_weight=2.0, divergence_weight=0.5),
        loss("vanilla_kd", w=5.0, c=2.0, divergence_weight=0.1),
    ):
        assert other[0].total == terms.total
        assert all(torch.equal(a, b) for a, b in zip(gradients, other[1], strict=True))
    alone, _ = loss("kd_only")
    assert alone.total == plain.divergence and alone.clm == plain.clm
    with pytest.raises(
        MethodError, match="a loss has no learning rate or budget; write vanilla_kd"
    ):
        loss("vanilla_kd-x2")
