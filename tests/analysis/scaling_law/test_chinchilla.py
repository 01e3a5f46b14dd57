"""The law of N and D against the published refit."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from analysis.scaling_law.chinchilla import Problem, dropping_the_largest, fit_chinchilla
from analysis.scaling_law.robust import FitError

from .curve import SHARED, needs_data


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    return pd.read_csv(SHARED / "chinchilla_points.csv")


@pytest.fixture(scope="module")
def known() -> dict:
    return json.loads((SHARED / "known_fits.json").read_text())


@needs_data
def test_chinchilla_meets_the_known_fit_and_its_standard_errors(points, known):
    kept = points[points["in_240"] == 1]
    fit = fit_chinchilla(kept["n_params"], kept["d_tokens"], kept["loss"], bootstrap=600, seed=1)
    want = known["this_refit"]
    assert fit.objective <= 0.00101830
    assert pytest.approx(want["E"], abs=0.002) == fit.E
    assert fit.alpha == pytest.approx(want["alpha"], abs=0.001)
    assert fit.beta == pytest.approx(want["beta"], abs=0.001)
    assert pytest.approx(want["A"], rel=0.02) == fit.A
    assert pytest.approx(want["B"], rel=0.03) == fit.B
    assert fit.agreement > 0.5
    assert fit.standard_errors == pytest.approx(want["bootstrap"]["se"], rel=0.15)
    value, low, high = fit.predict(70e9, 1.4e12)
    assert low < value < high and high - low < 0.1


@needs_data
def test_chinchilla_on_all_points_shows_what_the_selection_does(points, known):
    fit = fit_chinchilla(points["n_params"], points["d_tokens"], points["loss"], bootstrap=2)
    want = known["this_refit"]["all_245"]
    assert fit.objective == pytest.approx(want["objective"], rel=1e-4)
    assert fit.beta == pytest.approx(want["beta"], abs=0.001)
    assert pytest.approx(want["E"], abs=0.002) == fit.E


@needs_data
def test_chinchilla_shows_how_much_the_choice_of_runs_decides(points):
    found = dropping_the_largest(points["n_params"], points["d_tokens"], points["loss"])
    assert [count for count, _ in found] == [0, 1, 3, 5, 10]
    betas, floors = zip(*((fit.beta, fit.E) for _, fit in found), strict=True)
    assert betas == pytest.approx([0.453, 0.412, 0.383, 0.367, 0.358], abs=0.001)
    assert floors == pytest.approx([1.891, 1.855, 1.832, 1.817, 1.807], abs=0.001)


@needs_data
def test_objective_values_of_published_parameters(points, known):
    kept = points[points["in_240"] == 1]
    logs = np.log(kept[["n_params", "d_tokens"]].to_numpy().T)
    problem = Problem(logs, np.log(kept["loss"].to_numpy()))

    def objective(fit):
        theta = np.array([*np.log([fit["E"], fit["A"], fit["B"]]), fit["alpha"], fit["beta"]])
        return problem.scaled(theta)[0] * problem.delta**2

    wanted = known["this_refit"]["objective_at"]
    rounded = objective(known["hoffmann_2022"]["body_rounded"])
    assert rounded == pytest.approx(wanted["hoffmann_rounded"], rel=1e-3)
    assert objective(known["this_refit"]) == pytest.approx(0.00101827402, rel=1e-4)


def test_gradient_agrees_with_finite_differences():
    generator = np.random.default_rng(0)
    problem = Problem(generator.normal(size=(2, 30)), generator.normal(1, 0.1, 30), delta=0.05)
    theta = np.array([0.5, -0.2, 0.1, 0.3, 0.4])
    numeric = optimize.approx_fprime(theta, lambda t: problem.scaled(t)[0], 1e-7)
    np.testing.assert_allclose(problem.scaled(theta)[1], numeric, rtol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "tokens", "reason"),
    [
        (np.ones(5), np.ones(5), "at least 10"),
        (np.full(12, 1e8), np.geomspace(1e8, 1e9, 12), "parameters: fewer than 3"),
        (
            np.geomspace(1e8, 1e9, 12),
            np.r_[np.nan, np.geomspace(1e8, 1e9, 11)],
            "tokens: value nan",
        ),
    ],
)
def test_chinchilla_refuses(parameters, tokens, reason):
    with pytest.raises(FitError, match=reason):
        fit_chinchilla(parameters, tokens, np.linspace(4, 3, len(parameters)))
