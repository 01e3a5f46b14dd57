"""The reference divergences against the paper's equations and independent numpy arithmetic."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tad.divergences import (
    TAIL_MASS_FLOOR,
    adaptive_kl,
    causal_lm,
    decoupled,
    forward_kl,
    generalised_js,
    hidden_cosine,
    jeffreys,
    log_tail_mass,
    reverse_kl,
    skewed_kl,
    skewed_reverse_kl,
    split_kl,
    tail_aware,
    tail_weight,
    tail_weighted,
    top_k_set,
)

KINDS = ("random", "ties", "one_hot", "far", "equal", "flat")
examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def logits_of(kind: str, seed: int, b: int, n: int, v: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A student and a teacher, (b, n, v) float64, of an easy or a hostile kind."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, b, n, v, generator=generator, dtype=torch.float64)
    if kind == "ties":
        student, teacher = student.round(), (2 * teacher).round()
    elif kind == "one_hot":
        teacher[..., 0] += 60.0  # alpha_K of about 1e-26
    elif kind == "far":
        student, teacher = 40 * student, 40 * teacher
    elif kind == "equal":
        student = teacher.clone()
    elif kind == "flat":
        teacher = torch.zeros_like(teacher)
    return student, teacher


@st.composite
def cases(draw):
    v = draw(st.integers(2, 12))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 5)), v
    seed, kind = draw(st.integers(0, 10_000)), draw(st.sampled_from(KINDS))
    student, teacher = logits_of(kind, seed, *shape)
    return student, teacher, draw(st.integers(1, v - 1))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numpy_tail_aware(student: np.ndarray, teacher: np.ndarray, k: int, beta: float) -> np.ndarray:
    """Eq. 3 term by term, token by token, with no array operation shared with the package."""
    out = np.zeros(student.shape[:2])
    for b in range(student.shape[0]):
        terms = []
        for t in range(student.shape[1]):
            ps, pt = softmax(student[b, t]), softmax(teacher[b, t])
            order = sorted(range(len(pt)), key=lambda i: (-teacher[b, t][i], i))
            head, rest = order[:k], order[k:]
            at, as_ = math.fsum(pt[rest]), math.fsum(ps[rest])
            d1 = math.fsum(pt[i] * math.log(pt[i] / ps[i]) for i in head)
            d1 += at * math.log(at / as_)
            d2 = math.fsum(pt[i] / at * math.log(pt[i] / at / (ps[i] / as_)) for i in rest)
            terms.append((d1, at, d2))
        weight = beta / np.mean([at for _, at, _ in terms])
        out[b] = [d1 + weight * at * d2 for d1, at, d2 in terms]
    return out


@examples
@given(cases(), st.sampled_from([0.5, 1.0, 2.0, 10.0]))
def test_tail_aware_is_equation_3(case, beta):
    student, teacher, k = case
    expected = numpy_tail_aware(student.numpy(), teacher.numpy(), k, beta)
    actual = tail_aware(student, teacher, k=k, beta=beta).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@examples
@given(cases())
def test_equation_2_kl_is_d1_plus_alpha_d2(case):
    student, teacher, k = case
    split = split_kl(student, teacher, top_k_set(teacher, k))
    whole = split.d1 + split.log_tail_teacher.exp() * split.d2
    torch.testing.assert_close(whole, forward_kl(student, teacher), rtol=1e-10, atol=1e-12)
    # The same with beta(X) = 1, which takes beta = the mean tail mass of a one-token sequence.
    for b in range(student.shape[0]):
        one_s, one_t = student[b : b + 1, :1], teacher[b : b + 1, :1]
        beta = float(split.log_tail_teacher[b, 0].exp())
        unit = tail_aware(one_s, one_t, k=k, beta=beta)
        torch.testing.assert_close(unit, forward_kl(one_s, one_t), rtol=1e-9, atol=1e-12)


@examples
@given(cases(), st.sampled_from([0.5, 2.0]))
def test_gradient_is_equation_6(case, beta):
    student, teacher, k = case
    student.requires_grad_()
    tail_aware(student, teacher, k=k, beta=beta).sum().backward()
    ps, pt = student.detach().softmax(-1), teacher.softmax(-1)
    ids = top_k_set(teacher, k)
    rest = torch.ones_like(ps, dtype=torch.bool).scatter(-1, ids, False)
    at = (pt * rest).sum(-1, keepdim=True)
    as_ = (ps * rest).sum(-1, keepdim=True)
    weight = beta / at.mean(1, keepdim=True).clamp(min=TAIL_MASS_FLOOR)
    expected = ps - pt + rest * (weight - 1) * (ps * at / as_ - pt)
    torch.testing.assert_close(student.grad, expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_kl_reverse_kl_and_dkd(kind):
    student, teacher = logits_of(kind, 3, 2, 3, 9)
    labels = torch.randint(9, (2, 3), generator=torch.Generator().manual_seed(1))
    ps, pt = student.softmax(-1), teacher.softmax(-1)

    def gradient(loss):
        leaf = student.clone().requires_grad_()
        loss(leaf).sum().backward()
        return leaf.grad

    torch.testing.assert_close(gradient(lambda s: forward_kl(s, teacher)), ps - pt)
    ratio = student.log_softmax(-1) - teacher.log_softmax(-1)
    expected = ps * (ratio - (ps * ratio).sum(-1, keepdim=True))
    torch.testing.assert_close(gradient(lambda s: reverse_kl(s, teacher)), expected)
    # DKD at alpha = 1, beta = 1 - p_label of the teacher is KL; checked through its two terms.
    at_label = F.one_hot(labels, 9).double()
    rest = 1 - at_label
    qs = ps * rest / (ps * rest).sum(-1, keepdim=True)
    qt = pt * rest / (pt * rest).sum(-1, keepdim=True)
    non_target = gradient(lambda s: decoupled(s, teacher, labels, alpha=0.0, beta=1.0))
    torch.testing.assert_close(non_target, qs - qt, rtol=1e-7, atol=1e-9)
    target = gradient(lambda s: decoupled(s, teacher, labels, alpha=1.0, beta=0.0))
    tail_t = (pt * rest).sum(-1, keepdim=True)
    torch.testing.assert_close(target, ps - pt - tail_t * (qs - qt), rtol=1e-7, atol=1e-9)


@examples
@given(cases(), st.floats(-30, 30), st.integers(0, 1000))
def test_invariant_to_vocabulary_order_and_to_a_constant(case, constant, seed):
    student, teacher, k = case
    teacher = teacher + torch.linspace(0, 1e-3, teacher.shape[-1])  # no ties: any order is equal
    order = torch.randperm(teacher.shape[-1], generator=torch.Generator().manual_seed(seed))
    for loss in (forward_kl, reverse_kl, lambda s, t: tail_aware(s, t, k=k)):
        value = loss(student, teacher)
        moved = loss(student[..., order] + constant, teacher[..., order] - constant)
        torch.testing.assert_close(moved, value, rtol=1e-8, atol=1e-9)
        assert (value >= -1e-12).all()


def test_dkd_depends_on_the_label_and_tail_aware_does_not_take_one():
    student, teacher = logits_of("random", 0, 1, 2, 8)
    one = decoupled(student, teacher, torch.tensor([[1, 2]]))
    other = decoupled(student, teacher, torch.tensor([[1, 3]]))
    assert one[0, 0] == other[0, 0] and one[0, 1] != other[0, 1]


def test_closed_form_of_three_tokens():
    teacher = torch.tensor([[[0.5, 0.3, 0.2]]], dtype=torch.float64).log()
    student = torch.tensor([[[0.25, 0.25, 0.5]]], dtype=torch.float64).log()
    kl = 0.5 * math.log(2) + 0.3 * math.log(1.2) + 0.2 * math.log(0.4)
    d1 = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    d2 = 0.6 * math.log(0.6 * 3) + 0.4 * math.log(0.4 * 1.5)
    assert forward_kl(student, teacher).item() == pytest.approx(kl, rel=1e-12)
    # One token in the sequence: beta(X) * alpha_K = beta whatever alpha_K is.
    value = tail_aware(student, teacher, k=1, beta=2.0).item()
    assert value == pytest.approx(d1 + 2.0 * d2, rel=1e-12)
    # K = V - 1: one token is left, so D2 = 0 and only the head term remains, which is KL.
    assert tail_aware(student, teacher, k=2).item() == pytest.approx(kl, rel=1e-12)
    rkl = 0.25 * math.log(0.5) + 0.25 * math.log(0.25 / 0.3) + 0.5 * math.log(2.5)
    assert reverse_kl(student, teacher).item() == pytest.approx(rkl, rel=1e-12)
    label = torch.tensor([[2]])
    target = 0.2 * math.log(0.4) + 0.8 * math.log(1.6)
    others = 0.625 * math.log(0.625 / 0.5) + 0.375 * math.log(0.375 / 0.5)
    dkd = decoupled(student, teacher, label, alpha=3.0, beta=5.0).item()
    assert dkd == pytest.approx(3 * target + 5 * others, rel=1e-12)
    assert causal_lm(student, label).item() == pytest.approx(math.log(2), rel=1e-12)


def test_temperature_divides_logits_and_multiplies_by_its_square():
    student, teacher = logits_of("random", 5, 2, 3, 10)
    labels = torch.zeros(2, 3, dtype=torch.long)
    for t in (0.05, 4.0):
        for loss in (
            forward_kl,
            reverse_kl,
            tail_aware,
            lambda s, u, **kw: decoupled(s, u, labels, **kw),
            generalised_js,
            skewed_kl,
            skewed_reverse_kl,
            adaptive_kl,
            jeffreys,
            tail_weighted,
        ):
            options = {"k": 3} if loss in (tail_aware, tail_weighted) else {}
            expected = t * t * loss(student / t, teacher / t, **options)
            actual = loss(student, teacher, temperature=t, **options)
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


ALL = {
    "forward_kl": lambda s, t, m: forward_kl(s, t, mask=m),
    "reverse_kl": lambda s, t, m: reverse_kl(s, t, mask=m),
    "tail_aware": lambda s, t, m: tail_aware(s, t, k=3, mask=m),
    "decoupled": lambda s, t, m: decoupled(s, t, torch.full(s.shape[:2], 2), mask=m),
    "tail_weighted": lambda s, t, m: tail_weighted(s, t, k=3, mask=m),
    "generalised_js": lambda s, t, m: generalised_js(s, t, mask=m),
    "skewed_kl": lambda s, t, m: skewed_kl(s, t, mask=m),
    "skewed_reverse_kl": lambda s, t, m: skewed_reverse_kl(s, t, mask=m),
    "adaptive_kl": lambda s, t, m: adaptive_kl(s, t, mask=m),
    "jeffreys": lambda s, t, m: jeffreys(s, t, mask=m),
    "causal_lm": lambda s, t, m: causal_lm(s, torch.full(s.shape[:2], 2), mask=m),
    "hidden_cosine": hidden_cosine,
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_masked_positions_are_zero_and_touch_nothing(name, poison):
    loss = ALL[name]
    student, teacher = logits_of("random", 7, 2, 4, 9)
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0]])
    clean = student.clone().requires_grad_()
    expected = loss(clean, teacher, mask)
    expected.sum().backward()
    hidden = (mask == 0).unsqueeze(-1)
    dirty = student.masked_fill(hidden, poison).requires_grad_()
    actual = loss(dirty, teacher.masked_fill(hidden, poison), mask)
    actual.sum().backward()
    assert torch.equal(actual, expected) and torch.equal(dirty.grad, clean.grad)
    assert (actual[mask == 0] == 0).all() and (dirty.grad[mask == 0] == 0).all()
    # The valid row is what a shorter batch without the invalid tokens would give.
    alone = loss(student[:1, [0, 2, 3]], teacher[:1, [0, 2, 3]], None)
    torch.testing.assert_close(actual[0, mask[0] == 1], alone[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [n for n in ALL if n != "hidden_cosine"])
def test_all_masked_is_zero_with_a_graph(name):
    student, teacher = logits_of("random", 7, 2, 4, 9)
    student.requires_grad_()
    value = ALL[name](student, teacher, torch.zeros(2, 4))
    value.sum().backward()
    assert (value == 0).all() and (student.grad == 0).all()


@pytest.mark.parametrize("name", [n for n in ALL if n != "hidden_cosine"])
def test_columns_banned_in_both_models_count_for_nothing(name):
    student, teacher = logits_of("random", 11, 2, 3, 12)
    cut = student[..., :8].clone().requires_grad_()
    expected = ALL[name](cut, teacher[..., :8], None)
    expected.sum().backward()
    student[..., 8:], teacher[..., 8:] = -math.inf, -math.inf
    student.requires_grad_()
    actual = ALL[name](student, teacher, None)
    actual.sum().backward()
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(student.grad[..., :8], cut.grad, rtol=1e-10, atol=1e-13)
    assert (student.grad[..., 8:] == 0).all()


@pytest.mark.parametrize("columns", [slice(8, 12), slice(0, 11)])
@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("name", [n for n in ALL if n != "hidden_cosine"])
def test_columns_banned_in_one_model_give_the_true_value_and_no_nan(name, side, columns):
    student, teacher = logits_of("random", 11, 2, 3, 12)
    (teacher if side == "teacher" else student)[..., columns] = -math.inf
    student.requires_grad_()
    value = ALL[name](student, teacher, None)
    value.sum().backward()
    assert not student.grad.isnan().any() and not student.grad.isinf().any()
    diverges = {
        "forward_kl": side == "student",
        "tail_aware": side == "student",
        "reverse_kl": side == "teacher",
        "decoupled": side == "student",
        "tail_weighted": side == "student",
        "generalised_js": False,
        "skewed_kl": False,
        "skewed_reverse_kl": False,
        "adaptive_kl": True,
        "jeffreys": True,
        "causal_lm": side == "student" and columns.start == 0,
    }[name]
    assert value.isposinf().all() if diverges else value.isfinite().all()
    if name == "forward_kl":
        expected = student.detach().softmax(-1) - teacher.softmax(-1)
        torch.testing.assert_close(student.grad, expected)
    if name == "reverse_kl" and side == "teacher":
        ps, kept = student.detach().softmax(-1), teacher.isfinite()
        ratio = torch.where(kept, ps.log() - teacher.log_softmax(-1), 0.0)
        expected = ps * (ratio - (ps * ratio).sum(-1, keepdim=True))
        torch.testing.assert_close(student.grad, expected)


def test_more_modes_than_the_teacher_can_emit():
    student, teacher = logits_of("random", 2, 1, 2, 10)
    teacher[..., 3:] = -math.inf
    value = tail_aware(student, teacher, k=6)
    torch.testing.assert_close(value, forward_kl(student, teacher))


def test_one_hot_teacher_leaves_the_head_term():
    student, teacher = logits_of("random", 2, 1, 3, 10)
    teacher[..., :4], teacher[..., 5:] = -math.inf, -math.inf
    student.requires_grad_()
    value = tail_aware(student, teacher, k=1, beta=2.0)
    value.sum().backward()
    torch.testing.assert_close(value, -student.log_softmax(-1)[..., 4])
    expected = student.detach().softmax(-1) - teacher.softmax(-1)
    torch.testing.assert_close(student.grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tail_mass_of_1e_30_keeps_its_digits(dtype):
    generator = torch.Generator().manual_seed(4)
    tail_t, tail_s = torch.rand(2, 1, 2, 50, generator=generator, dtype=torch.float64)
    tail_t = tail_t / tail_t.sum(-1, keepdim=True) * 1e-30
    tail_s = tail_s / tail_s.sum(-1, keepdim=True) * 1e-3
    teacher = torch.cat([torch.ones(1, 2, 1), tail_t], -1).log().to(dtype)
    student = torch.cat([torch.full((1, 2, 1), 0.999), tail_s], -1).log().to(dtype).requires_grad_()
    mass = log_tail_mass(teacher, top_k_set(teacher, 1))
    torch.testing.assert_close(
        mass.double(), torch.full((1, 2), 1e-30).double().log(), rtol=1e-6, atol=0
    )
    value = tail_aware(student, teacher, k=1, beta=2.0)
    value.sum().backward()
    # beta(X) * alpha_K = beta: a tail of 1e-30 weighs as much as any other.
    q_t, q_s = tail_t / 1e-30, tail_s / 1e-3
    d2 = (q_t * (q_t / q_s).log()).sum(-1)
    expected = -math.log(0.999) + 2.0 * d2
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    # Eq. 6 on the tail: p_s + beta * (q_s - q_t), the other terms being of size 1e-30.
    torch.testing.assert_close(
        student.grad[..., 1:].double(), tail_s + 2.0 * (q_s - q_t), rtol=1e-4, atol=1e-6
    )


def test_tail_weight_is_capped_where_the_whole_sequence_is_certain():
    weight = tail_weight(torch.tensor([[0.0, 0.0], [0.5, 0.25]]), 2.0)
    assert weight[0].tolist() == pytest.approx([2.0 / TAIL_MASS_FLOOR] * 2, rel=1e-6)
    assert weight.isfinite().all()
    assert weight[1].tolist() == pytest.approx([2.0 / 0.375] * 2)


def test_tail_weight_is_per_document_only_where_asked():
    alpha = torch.tensor([[0.1, 0.3, 0.5, 0.9], [0.2, 0.2, 0.4, 0.4]])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    rows = tail_weight(alpha, 2.0, mask=mask)
    assert rows[0].tolist() == pytest.approx([2 / 0.3] * 4)
    documents = torch.tensor([[5, 5, -1, -1], [5, 7, 5, 7]])
    packed = tail_weight(alpha, 2.0, mask=mask, segment_ids=documents)
    assert packed[0].tolist() == pytest.approx([2 / 0.2, 2 / 0.2, 2 / 0.5, 2 / 0.5])
    assert packed[1].tolist() == pytest.approx([2 / 0.3] * 4)


def test_packed_documents_equal_separate_rows():
    student, teacher = logits_of("random", 9, 2, 3, 10)
    apart = tail_aware(student, teacher, k=3)
    packed_s, packed_t = student.reshape(1, 6, 10), teacher.reshape(1, 6, 10)
    segments = torch.tensor([[0, 0, 0, 1, 1, 1]])
    packed = tail_aware(packed_s, packed_t, k=3, segment_ids=segments)
    torch.testing.assert_close(packed.reshape(2, 3), apart)
    assert not torch.allclose(tail_aware(packed_s, packed_t, k=3).reshape(2, 3), apart)


@examples
@given(cases())
def test_of_tied_logits_the_lowest_ids_are_the_modes(case):
    _, teacher, k = case
    chosen = top_k_set(teacher.round(), k).sort(-1).values
    rows = teacher.round().reshape(-1, teacher.shape[-1]).numpy()
    expected = [sorted(np.argsort(-row, kind="stable")[:k]) for row in rows]
    assert chosen.reshape(-1, k).tolist() == [list(map(int, row)) for row in expected]


def test_bf16_inputs_are_computed_in_float32():
    generator = torch.Generator().manual_seed(0)
    teacher = (2 * torch.randn(1, 4, 5000, generator=generator)).bfloat16()
    student = (teacher.float() + 0.05 * torch.randn(1, 4, 5000, generator=generator)).bfloat16()
    for loss in (forward_kl, reverse_kl, tail_aware, generalised_js, skewed_kl, adaptive_kl):
        value = loss(student, teacher)
        assert value.dtype == torch.float32
        exact = loss(student.double(), teacher.double())
        assert exact.dtype == torch.float64
        torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=1e-7)
        assert loss(teacher, teacher).abs().max() < 1e-6
        leaf = student.clone().requires_grad_()
        loss(leaf, teacher).sum().backward()
        assert leaf.grad.dtype == torch.bfloat16 and leaf.grad.isfinite().all()


def test_huge_logits_and_low_temperature_have_finite_gradients():
    student, teacher = (1e4 * x for x in logits_of("random", 1, 1, 3, 20))
    for loss in (forward_kl, reverse_kl, tail_aware, generalised_js, skewed_reverse_kl, jeffreys):
        leaf = student.float().requires_grad_()
        value = loss(leaf, teacher.float(), temperature=0.05)
        value.sum().backward()
        assert value.isfinite().all() and leaf.grad.isfinite().all()


def test_teacher_receives_no_gradient():
    student, teacher = logits_of("random", 1, 1, 3, 9)
    student.requires_grad_(), teacher.requires_grad_()
    for name, loss in ALL.items():
        loss(student, teacher, None).sum().backward()
        assert teacher.grad is None, name


def test_causal_lm_is_cross_entropy_over_the_labelled_positions():
    student, _ = logits_of("random", 1, 2, 3, 9)
    labels = torch.tensor([[0, -100, 8], [-100, -100, 4]])
    value = causal_lm(student, labels)
    expected = F.cross_entropy(student.reshape(-1, 9), labels.reshape(-1), reduction="sum")
    assert value.sum().item() == pytest.approx(expected.item(), rel=1e-12)
    assert (value[labels == -100] == 0).all()


def test_hidden_cosine_of_parallel_orthogonal_and_opposite_states():
    student = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [2.0, 2.0]]])
    teacher = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]])
    assert hidden_cosine(student, teacher)[0].tolist() == pytest.approx([0.0, 1.0, 2.0], abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: tail_aware(s, t, k=0), "k is 0: choose 1 <= k <= 8"),
        (lambda s, t: tail_aware(s, t, k=9), "k is 9: choose 1 <= k <= 8"),
        (lambda s, t: tail_aware(s, t, k=2, beta=0.0), "beta is 0.0"),
        (lambda s, t: tail_aware(s[0], t[0], k=2), r"needs \(sequence, token, vocab\)"),
        (lambda s, t: forward_kl(s, t, temperature=0.0), "temperature is 0.0"),
        (lambda s, t: forward_kl(s, t[..., :7]), r"\(2, 3, 9\).*\(2, 3, 7\).*common prefix"),
        (lambda s, t: forward_kl(s, t, mask=torch.ones(2, 2)), r"mask has shape \(2, 2\)"),
        (lambda s, t: causal_lm(s, torch.full((2, 3), 9)), "label 9 is outside the vocabulary"),
        (lambda s, t: causal_lm(s, torch.full((2, 3), -1)), "label -1 is outside"),
        (lambda s, t: decoupled(s, t, torch.ones(2, 2)), r"labels has shape \(2, 2\)"),
    ],
)
def test_errors_name_the_value_and_the_cure(call, message):
    student, teacher = logits_of("random", 1, 2, 3, 9)
    with pytest.raises(ValueError, match=message):
        call(student, teacher)
