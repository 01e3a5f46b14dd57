"""The law of separate budgets: on ends of known truth, and on bad data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from analysis.scaling_law.fit import DELTA, FitError, fit_law

from .points import SHARED, ends, needs_data, truth


def test_exact_ends_are_recovered_whatever_the_unit():
    tokens, loss = ends(noise=0.0)
    fit = fit_law(tokens, loss)
    assert [fit.E, fit.beta] == pytest.approx([3.5, 0.4], abs=1e-5)
    assert fit.value(1e8) == pytest.approx(truth(1e8), abs=1e-6)
    low, high = fit.interval(1e8)
    assert low <= truth(1e8) <= high and high - low < 1e-3
    in_millions = fit_law(tokens / 1e6, loss)
    assert in_millions.value(100) == pytest.approx(fit.value(1e8), abs=1e-8)
    assert pytest.approx(in_millions.B * 1e6**fit.beta, rel=1e-5) == fit.B


def test_the_optimum_is_that_of_a_general_optimiser():
    tokens, loss = ends(noise=0.004, seed=3)
    fit = fit_law(tokens, loss)
    x = np.log(tokens / fit.D0)

    def objective(E, B0, beta):
        size = np.abs(np.log(E + B0 * np.exp(-beta * x)) - np.log(loss))
        return 1e6 * np.where(size < DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum()

    best = min(
        optimize.minimize(
            lambda t: objective(np.exp(t[0]), np.exp(t[1]), t[2]), [1.2, -0.5, beta],
            method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-10, "fatol": 1e-10},
        ).fun
        for beta in (0.2, 0.4, 0.8)
    )  # fmt: skip
    assert objective(fit.E, fit.B0, fit.beta) == pytest.approx(best, rel=1e-4)


def test_intervals_hold_a_larger_budget_as_often_as_they_say():
    """Two seeds of five budgets, as Table 5 has; the truth is the mean of two more runs."""
    held = 0
    for seed in range(60):
        fit = fit_law(*ends(noise=0.003, seed=seed))
        new = truth(8e5) * np.exp(0.003 * np.random.default_rng(1000 + seed).normal(size=2)).mean()
        low, high = fit.interval(8e5, runs=2)
        held += low <= new <= high
        inner = fit.interval(8e5)
        assert low < inner[0] and inner[1] < high, "new runs have noise of their own"
    assert held >= 54


def test_two_seeds_of_a_budget_are_averaged():
    tokens, loss = ends(noise=0.0)
    apart = loss * np.exp(np.tile([-0.002, 0.002], len(loss) // 2))
    assert fit_law(tokens, apart).value(1e5) == pytest.approx(truth(1e5), rel=1e-4)


def test_where_the_law_does_not_fit_more_seeds_do_not_narrow_it():
    tokens, loss = ends(noise=0.0)
    wiggle = np.repeat([0.02, -0.03, 0.0, 0.03, -0.02], 2)
    noise = 0.001 * np.random.default_rng(0).normal(size=10)
    fit, once = (
        fit_law(tokens, loss * np.exp(wiggle + noise)),
        fit_law(tokens[::2], loss[::2] * np.exp(wiggle[::2])),
    )
    assert fit.misfit and not fit_law(*ends(noise=0.003, seed=1)).misfit
    widths = [np.ptp(each.interval(8e5)) for each in (fit, once)]
    assert widths[0] == pytest.approx(widths[1], rel=0.2)
    assert "for the law does not fit the budgets" in fit.refusal(8e5)


def test_a_run_that_went_wrong_hardly_moves_the_law():
    tokens, loss = ends(noise=0.001)
    loss[4] *= 1.2
    assert fit_law(tokens, loss).value(1e5) == pytest.approx(truth(1e5), rel=0.01)


@needs_data
def test_real_ends_foretell_a_larger_budget():
    """Model sizes of Hoffmann et al. with many runs: the largest, x4 beyond the rest or more."""
    points = pd.read_csv(SHARED / "chinchilla_points.csv")
    held, errors = [], []
    for _, group in points[points["in_240"] == 1].groupby("size_group"):
        group = group.sort_values("d_tokens")
        last = group.iloc[-1]
        rest = group[group["d_tokens"] < last["d_tokens"] / 4]
        if len(rest) < 5 or rest["d_tokens"].max() < 5 * rest["d_tokens"].min():
            continue
        fit = fit_law(rest["d_tokens"], rest["loss"])
        low, high = fit.interval(last["d_tokens"], runs=1)
        held.append(low <= last["loss"] <= high)
        errors.append(abs(fit.value(last["d_tokens"]) - last["loss"]))
    assert len(held) >= 6 and np.mean(held) >= 0.8
    assert np.median(errors) < 0.08


def test_what_the_points_do_not_determine_is_said():
    tokens = np.geomspace(2e4, 8e5, 10)
    noise = np.exp(0.003 * np.random.default_rng(0).normal(size=10))
    straight = fit_law(tokens, (4 - 0.2 * np.log(tokens / 2e4)) * noise)
    assert "irreducible loss of 0" in straight.unidentified
    hardly = fit_law(tokens, (3 - 0.001 * np.log(tokens / 2e4)) * noise)
    assert "a constant loss" in hardly.unidentified
    assert fit_law(*ends(noise=0.001)).unidentified == ""


@pytest.mark.parametrize(
    ("tokens", "loss", "reason"),
    [
        ([1e5, 1e5, 2e5, 3e5], [4, 4, 3.5, 3.2], "need 4 budgets or more; there are 3"),
        ([1e5, 2e5, 3e5, 4e5], [3, 3.1, 3.2, 3.3], "does not fall"),
        ([1e5, 2e5, 3e5, 4e5], [3, 3, 3, 3], "does not fall"),
        ([1e5, 2e5, 3e5, 4e5], [4, np.nan, 3.2, 3.3], "loss: nan is not finite"),
        ([0, 2e5, 3e5, 4e5], [4, 3.5, 3.2, 3.3], "tokens: 0 is not finite and positive"),
    ],
)
def test_points_that_make_no_law_are_refused(tokens, loss, reason):
    with pytest.raises(FitError, match=reason):
        fit_law(tokens, loss)
