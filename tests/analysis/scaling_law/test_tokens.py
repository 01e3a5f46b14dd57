"""Fits of loss against tokens: on curves with known truth, and on bad data."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from analysis.scaling_law.robust import FitError, huber
from analysis.scaling_law.tokens import (
    ExtrapolationWarning,
    difference,
    extrapolate,
    fit_tokens,
    sensitivity,
)

from .curve import BETA, SHARED, B, E, case, codes, curve, fit_case, needs_data, truth

TARGETS = [1e10, 1e11, 1e12]


@needs_data
@pytest.mark.parametrize("name", ["s01", "s02", "s03"])
def test_noise_free_curves_are_recovered(name):
    fit, true = fit_case(name)
    assert fit.identified
    assert pytest.approx(true["E"], abs=1e-3) == fit.E
    assert fit.beta == pytest.approx(true["beta"], abs=1e-3)
    for target, wanted in zip(TARGETS, true[["L_10B", "L_100B", "L_1T"]], strict=True):
        low, high = (end[0] for end in fit.band([target]))
        assert fit.value(target) == pytest.approx(wanted, abs=1e-3)
        assert low <= wanted <= high and high - low < 1e-3


@needs_data
@pytest.mark.parametrize("name", [f"s{number:02d}" for number in range(4, 19)])
def test_noisy_few_and_correlated_points_are_covered(name):
    fit, true = fit_case(name)
    low, high = fit.band(TARGETS)
    wanted = true[["L_10B", "L_100B", "L_1T"]].to_numpy(float)
    assert np.all((low <= wanted) & (wanted <= high))
    assert np.all(np.diff(high - low) > 0), "the further, the wider"
    assert np.all(high - low > 0.003), "never a bare number"


@needs_data
def test_each_kind_of_trouble_is_named():
    assert "few-points" in codes(fit_case("s15")[0])
    assert "few-points" in codes(fit_case("s16")[0])
    assert "autocorrelated" in codes(fit_case("s17")[0])
    assert "outliers" in codes(fit_case("s18")[0])
    assert "window" in codes(fit_case("s19")[0])
    flat = fit_case("s20")[0]
    assert not flat.identified and "not-identified" in codes(flat)
    clean = fit_case("s06")[0]
    assert clean.identified and not clean.warnings


@needs_data
def test_outliers_hardly_move_the_curve():
    fit, true = fit_case("s18")
    assert abs(fit.value(1e12) - true["L_1T"]) < 0.02


@needs_data
def test_without_the_transient_the_truth_is_found():
    rows = case("s19").iloc[10:]
    fit = fit_tokens(rows["tokens"], rows["loss"])
    assert "window" not in codes(fit)
    assert abs(fit.value(1e12) - rows["L_1T"].iloc[0]) < 0.05


@needs_data
def test_real_curves_foretell_their_last_point():
    """Model sizes with many runs: the largest budget, x5 to x8 beyond the rest, is foretold."""
    points = pd.read_csv(SHARED / "chinchilla_points.csv")
    covered, errors = [], []
    for _, group in points[points["in_240"] == 1].groupby("size_group"):
        group = group.sort_values("d_tokens")
        last = group.iloc[-1]
        rest = group[group["d_tokens"] < last["d_tokens"] / 4]
        if len(rest) < 5 or rest["d_tokens"].max() < 5 * rest["d_tokens"].min():
            continue
        fit = fit_tokens(rest["d_tokens"], rest["loss"], runs=range(len(rest)))
        low, high = (end[0] for end in fit.band([last["d_tokens"]]))
        covered.append(low <= last["loss"] <= high)
        errors.append(abs(fit.value(last["d_tokens"]) - last["loss"]))
    assert len(covered) >= 6
    assert np.mean(covered) >= 0.8
    assert np.median(errors) < 0.08


def test_same_optimum_as_a_general_optimiser():
    tokens, loss = curve(15, noise=0.004, seed=3)
    fit = fit_tokens(tokens, loss)
    x = np.log(tokens / fit.D0)

    def objective(theta):
        predicted = np.exp(theta[0]) + np.exp(theta[1]) * np.exp(-theta[2] * x)
        return 1e6 * huber(np.log(predicted) - np.log(loss), 1e-3).sum()

    best = min(
        optimize.minimize(
            objective, [np.log(2), np.log(0.5), beta], method="Nelder-Mead",
            options={"maxiter": 4000, "maxfev": 4000, "xatol": 1e-10, "fatol": 1e-10},
        ).fun
        for beta in (0.2, 0.35, 0.6)
    )  # fmt: skip
    assert 1e6 * fit.objective == pytest.approx(best, rel=1e-6)


def test_unit_and_order_of_points_do_not_matter():
    tokens, loss = curve(20, noise=0.003)
    fit = fit_tokens(tokens, loss)
    order = np.random.default_rng(1).permutation(20)
    in_billions = fit_tokens(tokens[order] / 1e9, loss[order])
    low, high = fit.band(TARGETS)
    other_low, other_high = in_billions.band(np.array(TARGETS) / 1e9)
    np.testing.assert_allclose(in_billions.value(np.array(TARGETS) / 1e9), fit.value(TARGETS), 1e-8)
    np.testing.assert_allclose([other_low, other_high], [low, high], rtol=1e-6)


def test_intervals_cover_as_promised_with_few_points():
    covered = []
    for seed in range(40):
        low, high = fit_tokens(*curve(8, noise=0.003, seed=seed)).band([1e12])
        covered.append(low[0] <= truth(1e12) <= high[0])
    assert sum(covered) >= 35


def test_width_follows_noise_and_number_of_points():
    def width(n, noise):
        bands = [fit_tokens(*curve(n, noise=noise, seed=s)).band([1e11]) for s in range(5)]
        return np.mean([high[0] - low[0] for low, high in bands])

    assert width(20, 0.001) < width(20, 0.003) < width(20, 0.01)
    assert width(80, 0.003) < width(20, 0.003) < width(6, 0.003)


def test_differences_between_runs_widen_the_interval():
    shifts = [-0.01, 0.0, 0.012]
    curves = [curve(10, noise=0.001, seed=s, shift=shift) for s, shift in enumerate(shifts)]
    tokens, loss = np.concatenate(curves, axis=1)
    fit = fit_tokens(tokens, loss, runs=np.repeat(["a", "b", "c"], 10))
    low, high = fit.band([1e10])
    assert len(fit.deleted) == 3
    assert high[0] - low[0] > 0.03
    single = fit_tokens(*curves[1]).band([1e10])
    assert high[0] - low[0] > 2 * (single[1][0] - single[0][0])


TOKENS = np.geomspace(1e8, 1e9, 6)


@pytest.mark.parametrize(
    ("tokens", "loss", "reason"),
    [
        (TOKENS[:3], [4, 3.5, 3.2], "at least 4"),
        (np.full(6, 1e9), np.linspace(4, 3, 6), "1 distinct token counts"),
        (TOKENS, [4, 3.5, np.nan, 3.2, 3.1, 3.0], "loss: value nan at position 2"),
        (TOKENS, [4, 3.5, 3.4, -3.2, 3.1, 3.0], "loss: value -3.2 at position 3"),
        (np.r_[0, TOKENS[1:]], np.linspace(4, 3, 6), "tokens: value 0 at position 0"),
        (np.r_[np.inf, TOKENS[1:]], np.linspace(4, 3, 6), "tokens: value inf"),
        (TOKENS, np.linspace(3, 4, 6), "does not fall"),
        (TOKENS, np.full(6, 3.0), "does not fall"),
        (TOKENS, [4, 3.5, 3.4], "expected 6 values"),
        (TOKENS, ["a"] * 6, "not all values are numbers"),
    ],
)
def test_refusals_name_the_reason(tokens, loss, reason):
    with pytest.raises(FitError, match=reason) as error:
        fit_tokens(tokens, loss)
    assert "\n" not in str(error.value)


def test_runs_of_another_length_are_refused():
    with pytest.raises(FitError, match="runs: expected 6 labels"):
        fit_tokens(TOKENS, np.linspace(4, 3, 6), runs=["a"])


def test_far_extrapolation_warns_and_near_does_not():
    fit = fit_tokens(*curve(20, noise=0.002))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, low, high = fit.predict(1e10)
        assert low < value < high and isinstance(value, float)
        fit.predict([3e9, 1e11])
    with pytest.warns(ExtrapolationWarning, match="x500"):
        fit.predict(1e12)
    table = extrapolate(fit, TARGETS)
    assert list(table["remark"]) == ["", "caution", "extrapolation-unsupported"]
    with pytest.raises(FitError, match="every value must be finite and positive"):
        fit.predict(-1)


def test_a_straight_line_in_log_tokens_is_not_identified():
    tokens = np.geomspace(5e7, 2e9, 20)
    noise = 0.003 * np.random.default_rng(0).standard_normal(20)
    fit = fit_tokens(tokens, (4 - 0.1 * np.log(tokens / 5e7)) * np.exp(noise))
    assert not fit.identified
    with pytest.warns(ExtrapolationWarning, match="not-identified"):
        fit.predict(3e9)


def test_noise_without_a_trend_is_not_identified():
    tokens = np.geomspace(5e7, 2e9, 20)
    noise = np.random.default_rng(4).standard_normal(20)
    noise -= 0.2 * np.linspace(-1, 1, 20) + np.polyval(np.polyfit(np.arange(20), noise, 1), 9.5)
    fit = fit_tokens(tokens, 3 * np.exp(0.01 * noise - 0.002 * np.linspace(-1, 1, 20)))
    assert not fit.identified


def test_a_loss_that_turns_up_at_the_end_is_flagged():
    tokens, loss = curve(20, noise=0.001)
    loss[-6:] += np.linspace(0.02, 0.3, 6)
    assert "rising" in codes(fit_tokens(tokens, loss))


def test_short_range_is_flagged():
    tokens = np.geomspace(1e9, 3e9, 10)
    fit = fit_tokens(tokens, truth(tokens))
    assert "short-range" in codes(fit)


def shared_noise_pair(seed: int = 0):
    generator = np.random.default_rng(seed)
    tokens = np.geomspace(5e7, 2e9, 20)
    common = 0.003 * generator.standard_normal(20)
    both = [
        (base + B * tokens**-BETA) * np.exp(common + 0.0003 * generator.standard_normal(20))
        for base in (E, E - 0.05)
    ]
    return [fit_tokens(tokens, loss) for loss in both]


def test_paired_difference_is_sharper_than_two_intervals():
    baseline, method = shared_noise_pair()
    value, low, high = difference(method, baseline, 1e11, resamples=300)
    assert low < -0.05 < high < 0
    assert high - low < 0.5 * sum(
        np.ptp(np.concatenate(f.band([1e11]))) for f in (baseline, method)
    )
    again = difference(method, baseline, 1e11, resamples=300)
    assert again == (value, low, high), "seeded"
    ends = difference(method, baseline, [1e11, 1e12], resamples=300)
    assert ends[0][0] == pytest.approx(value) and ends[2].shape == (2,)


def test_difference_over_runs_uses_the_same_runs():
    def fits(base):
        rows = [curve(8, noise=0.001, seed=s, shift=0.01 * s) for s in range(3)]
        tokens, loss = np.concatenate(rows, axis=1)
        return fit_tokens(tokens, loss + base, runs=np.repeat(range(3), 8))

    value, low, high = difference(fits(-0.05), fits(0.0), 1e10)
    assert value == pytest.approx(-0.05, abs=0.01)
    assert high - low < 0.1 * np.ptp(np.concatenate(fits(0.0).band([1e10])))


def test_difference_needs_the_same_checkpoints():
    with pytest.raises(FitError, match="same token counts"):
        difference(fit_tokens(*curve(10)), fit_tokens(*curve(12)), 1e10)


def test_sensitivity_lists_every_variant_and_leaves_gaps():
    table = sensitivity(fit_tokens(*curve(6, noise=0.001)), [1e10]).set_index("variant")
    assert len(table) == 8
    assert np.isnan(table.loc["without the first 50%", "beta"])
    assert table.loc["all", "loss_at_1e+10"] == pytest.approx(truth(1e10), abs=0.1)
    assert table.loc["without the first 2", "n"] == 4
