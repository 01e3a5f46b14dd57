"""The field's other divergences against their formulas in numpy, their limits and gradients."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from tad.divergences import (
    adaptive_kl,
    forward_kl,
    generalised_js,
    jeffreys,
    reverse_kl,
    skewed_kl,
    skewed_reverse_kl,
    tail_weighted,
    top_k_set,
)
from tests.tad.test_divergences import KINDS, logits_of, softmax


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def numpy_js(p, q, beta):
    mixed = beta * p + (1 - beta) * q
    return beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)


def numpy_adaptive(p, q, mu):
    order, mass, head = sorted(range(len(p)), key=lambda i: (-p[i], i)), 0.0, []
    for i in order:
        if mass >= mu:
            break
        head.append(i)
        mass += p[i]
    gaps = np.abs(p - q)
    share = math.fsum(gaps[head]) / math.fsum(gaps) if gaps.any() else 0.5
    return share * kl(p, q) + (1 - share) * kl(q, p)


def numpy_tail(p, q, k, beta):
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))
    rest = order[k:]
    tail = math.fsum(p[rest])
    d2 = kl(p[rest] / tail, q[rest] / math.fsum(q[rest]))
    return kl(p, q) + (beta - 1) * tail * d2


FORMULAS = {
    "jeffreys": (jeffreys, lambda p, q: (kl(p, q) + kl(q, p)) / 2),
    **{
        f"gjsd-{beta}": (partial(generalised_js, beta=beta), partial(numpy_js, beta=beta))
        for beta in (0.1, 0.5, 0.9)
    },
    **{
        f"skl-{a}": (partial(skewed_kl, alpha=a), lambda p, q, a=a: kl(p, a * p + (1 - a) * q))
        for a in (0.1, 0.7)
    },
    **{
        f"srkl-{a}": (
            partial(skewed_reverse_kl, alpha=a),
            lambda p, q, a=a: kl(q, (1 - a) * p + a * q),
        )
        for a in (0.1, 0.7)
    },
    **{
        f"akl-{mu}": (partial(adaptive_kl, mu=mu), partial(numpy_adaptive, mu=mu))
        for mu in (0.2, 0.5, 0.9)
    },
    **{
        f"nonorm-{k}": (partial(tail_weighted, k=k, beta=5.0), partial(numpy_tail, k=k, beta=5.0))
        for k in (1, 4)
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_the_formulas_also_in_float32(name, kind):
    loss, formula = FORMULAS[name]
    student, teacher = (3 * x if kind == "random" else x for x in logits_of(kind, 3, 2, 3, 9))
    rows = [x.reshape(-1, 9).numpy() for x in (student, teacher)]
    expected = [formula(softmax(t), softmax(s)) for s, t in zip(*rows, strict=True)]
    expected = torch.tensor(expected, dtype=torch.float64).view(2, 3)
    torch.testing.assert_close(loss(student, teacher), expected, rtol=1e-9, atol=1e-12)
    single = loss(student.float(), teacher.float()).double()
    torch.testing.assert_close(single, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_small_differences_keep_their_digits_in_float32(name):
    loss, _ = FORMULAS[name]
    generator = torch.Generator().manual_seed(0)
    teacher, noise = torch.randn(2, 1, 4, 2000, generator=generator)
    student = teacher + 1e-2 * noise
    exact = loss(student.double(), teacher.double())
    assert exact.max() < 3e-4
    torch.testing.assert_close(loss(student, teacher).double(), exact, rtol=0.01, atol=0)


# The weights of adaptive KL have no gradient, which the test after this one checks.
@pytest.mark.parametrize("name", [name for name in FORMULAS if "akl" not in name])
def test_gradients_are_those_of_the_values(name):
    loss, _ = FORMULAS[name]
    student, teacher = logits_of("random", 3, 1, 2, 7)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student.requires_grad_())


def test_the_weights_of_adaptive_kl_have_no_gradient():
    student, teacher = logits_of("random", 3, 1, 2, 7)

    def gradient(loss):
        leaf = student.clone().requires_grad_()
        loss(leaf, teacher).sum().backward()
        return leaf.grad

    forward, reverse = forward_kl(student, teacher), reverse_kl(student, teacher)
    share = (adaptive_kl(student, teacher) - reverse) / (forward - reverse)
    assert ((share > 0) & (share < 1)).all()
    share = share.unsqueeze(-1)
    expected = share * gradient(forward_kl) + (1 - share) * gradient(reverse_kl)
    torch.testing.assert_close(gradient(adaptive_kl), expected, rtol=1e-8, atol=1e-10)


def test_limits():
    student, teacher = logits_of("random", 4, 2, 3, 9)
    forward, reverse = forward_kl(student, teacher), reverse_kl(student, teacher)
    close = {"rtol": 1e-4, "atol": 1e-6}
    tiny = 1e-6
    torch.testing.assert_close(skewed_kl(student, teacher, alpha=tiny), forward, **close)
    torch.testing.assert_close(skewed_reverse_kl(student, teacher, alpha=tiny), reverse, **close)
    small = generalised_js(student, teacher, beta=tiny) / tiny
    torch.testing.assert_close(small, forward, **close)
    large = generalised_js(student, teacher, beta=1 - tiny) / tiny
    torch.testing.assert_close(large, reverse, **close)
    swapped = generalised_js(teacher, student, beta=0.3)
    torch.testing.assert_close(generalised_js(student, teacher, beta=0.7), swapped)
    torch.testing.assert_close(jeffreys(student, teacher), jeffreys(teacher, student))
    between = adaptive_kl(student, teacher)
    low, high = torch.minimum(forward, reverse), torch.maximum(forward, reverse)
    assert ((low <= between) & (between <= high)).all()
    torch.testing.assert_close(tail_weighted(student, teacher, k=3, beta=1.0), forward)
    for loss, _ in FORMULAS.values():
        assert loss(teacher, teacher).abs().max() < 1e-12


def test_bounds_hold_where_the_kl_has_none():
    student, teacher = logits_of("far", 4, 2, 3, 9)
    assert forward_kl(student, teacher).max() > 10
    rounding = 1e-12
    assert generalised_js(student, teacher, beta=0.5).max() <= math.log(2) + rounding
    assert skewed_kl(student, teacher, alpha=0.1).max() <= math.log(10) + rounding
    assert skewed_reverse_kl(student, teacher, alpha=0.1).max() <= math.log(10) + rounding


def test_the_head_of_adaptive_kl_is_the_fewest_tokens_that_hold_mu():
    teacher = torch.tensor([[[0.4, 0.1, 0.3, 0.2]]], dtype=torch.float64).log()
    student = torch.tensor([[[0.4, 0.1, 0.2, 0.3]]], dtype=torch.float64).log()
    forward, reverse = forward_kl(student, teacher), reverse_kl(student, teacher)
    # The gaps are in the second and the third token: half in the head of 0.4 and 0.3.
    torch.testing.assert_close(adaptive_kl(student, teacher), (forward + reverse) / 2)
    torch.testing.assert_close(adaptive_kl(student, teacher, mu=0.3), reverse)
    torch.testing.assert_close(adaptive_kl(student, teacher, mu=0.75), forward)


def test_the_mean_of_the_tail_mass_is_all_that_normalisation_adds():
    from tad.divergences import log_tail_mass, tail_aware

    student, teacher = logits_of("random", 6, 1, 4, 9)
    mean = float(log_tail_mass(teacher, top_k_set(teacher, 3)).exp().mean())
    ours = tail_weighted(student, teacher, k=3, beta=2.0 / mean)
    torch.testing.assert_close(ours, tail_aware(student, teacher, k=3, beta=2.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(generalised_js, beta=1.0), "beta is 1.0: choose a number between 0 and 1"),
        (partial(skewed_kl, alpha=0.0), "alpha is 0.0"),
        (partial(skewed_reverse_kl, alpha=-1.0), "alpha is -1.0"),
        (partial(adaptive_kl, mu=2.0), "mu is 2.0"),
        (partial(tail_weighted, beta=0.0), "beta is 0.0: choose a positive finite weight"),
        (partial(jeffreys, temperature=0.0), "temperature is 0.0"),
    ],
)
def test_values_out_of_range_are_refused(call, message):
    student, teacher = logits_of("random", 1, 2, 3, 12)
    with pytest.raises(ValueError, match=message):
        call(student, teacher)
