"""The loss of many models, L(N, D) = E + A / N^alpha + B / D^beta: Approach 3 of Hoffmann et al.

Hoffmann et al. (2022, arXiv 2203.15556), with the corrections of Besiroglu et al. (2024, arXiv
2404.10102): sum, not mean; tight tolerances; intervals by refitting resampled runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize

from analysis.scaling_law.robust import DELTA, FitError, checked, descend, huber

EXPONENTS = (0.15, 0.3, 0.45, 0.6, 0.9)
"""alpha and beta of the starting points; E, A and B follow from each pair by linear regression."""

BOUNDS = [(-np.inf, np.inf)] * 3 + [(1e-3, 3.0)] * 2
MIN_RUNS = 10
FEW_AGREE = 0.05
CHUNK = 50
"""Resamples fitted at once: few enough for the arrays to stay in the processor's cache."""


@dataclass(frozen=True)
class ChinchillaFit:
    """A fitted law. ``objective`` is the sum of Huber's function over the ``n`` runs.

    ``resampled`` (R, 5) holds E, A, B, alpha, beta refitted to R bootstrap samples of the runs;
    ``agreement`` is the share of starting points that reached the best objective within 0.1%.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    objective: float
    n: int
    agreement: float
    resampled: np.ndarray = field(repr=False)
    warnings: list[str]

    @property
    def standard_errors(self) -> dict[str, float]:
        """Bootstrap standard errors, and of a = beta / (alpha + beta), C^a being the best N."""
        names = ("E", "A", "B", "alpha", "beta")
        errors = dict(zip(names, self.resampled.std(axis=0, ddof=1), strict=True))
        alpha, beta = self.resampled[:, 3], self.resampled[:, 4]
        errors["a"] = (beta / (alpha + beta)).std(ddof=1)
        return {name: float(error) for name, error in errors.items()}

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap interval of one parameter (``E``, ``A``, ``B``, ``alpha``, ...)."""
        column = self.resampled[:, ("E", "A", "B", "alpha", "beta").index(name)]
        tail = (1 - level) / 2
        low, high = np.quantile(column, [tail, 1 - tail])
        return float(low), float(high)

    def predict(self, parameters: float, tokens: float) -> tuple[float, float, float]:
        """Loss of a model of so many parameters after so many tokens: value, 95% low, high."""
        value = self.E + self.A * parameters**-self.alpha + self.B * tokens**-self.beta
        E, A, B, alpha, beta = self.resampled.T
        samples = E + A * parameters**-alpha + B * tokens**-beta
        low, high = np.quantile(samples, [0.025, 0.975])
        return float(value), float(min(low, value)), float(max(high, value))


def fit_chinchilla(
    parameters: object,
    tokens: object,
    loss: object,
    *,
    delta: float = DELTA,
    bootstrap: int = 1000,
    seed: int = 0,
) -> ChinchillaFit:
    """Fit E + A / N^alpha + B / D^beta to the final losses of n runs.

    ``parameters`` (N), ``tokens`` (D, as counts) and ``loss`` (nats a token) are vectors of n
    values. ``bootstrap`` resamples of whole runs, drawn with ``seed``, give the intervals. Raises
    FitError for values that are not finite and positive, for fewer than 10 runs, or for fewer than
    3 distinct values of N or D, from which five unknowns cannot be had.
    """
    sizes = checked("parameters", parameters)
    tokens = checked("tokens", tokens, length=len(sizes))
    loss = checked("loss", loss, length=len(sizes))
    if len(sizes) < MIN_RUNS:
        raise FitError(f"{len(sizes)} runs: the five unknowns of L(N, D) need at least {MIN_RUNS}")
    for name, values in (("parameters", sizes), ("tokens", tokens)):
        if len(np.unique(values)) < 3:
            raise FitError(f"{name}: fewer than 3 distinct values, so its exponent is unknown")
    if bootstrap < 2:
        raise FitError(f"bootstrap is {bootstrap}: intervals need at least 2 resamples")
    logs = np.log(np.stack([sizes, tokens]))
    centre = logs.mean(axis=1)
    problem = Problem(logs - centre[:, None], np.log(loss), delta)
    theta, objective, agreement = _best_of(problem, _starts(problem.z, loss))
    resampled = _resample(problem, theta, bootstrap, seed)
    E, A, B, alpha, beta = _natural(theta, centre)
    fit = ChinchillaFit(
        E, A, B, alpha, beta, objective, len(loss), agreement,
        np.array([_natural(row, centre) for row in resampled]), [],
    )  # fmt: skip
    fit.warnings.extend(_warnings(fit))
    return fit


def dropping_the_largest(
    parameters: object,
    tokens: object,
    loss: object,
    *,
    counts: Sequence[int] = (0, 1, 3, 5, 10),
) -> list[tuple[int, ChinchillaFit]]:
    """The fit without the ``counts`` runs of largest loss: how much the choice of runs decides.

    A few short runs of large models move beta by several standard errors (Besiroglu et al. drop 5
    of 245), so no fit should be shown without this. Raises FitError as ``fit_chinchilla`` does.
    """
    loss = checked("loss", loss)
    order = np.argsort(-loss, kind="stable")
    sizes, tokens = (np.asarray(values, dtype=float)[order] for values in (parameters, tokens))
    return [
        (count, fit_chinchilla(sizes[count:], tokens[count:], loss[order][count:], bootstrap=2))
        for count in counts
        if len(loss) - count >= MIN_RUNS
    ]


@dataclass(frozen=True)
class Problem:
    """n runs to fit: ``z`` (2, n) centred log N and log D, and ``log_loss`` (n,).

    The unknowns are theta = (log E, log A0, log B0, alpha, beta), where A0 and B0 are the two terms
    at the centre of the data: at N = D = 1 they would be so entangled with the exponents that
    rounding beta to two digits changes the loss by a tenth (log D is about 24).
    """

    z: np.ndarray
    log_loss: np.ndarray
    delta: float = DELTA

    def model(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log predictions (R, n) at theta (R, 5), and their derivatives (R, 5, n)."""
        constant = np.broadcast_to(theta[:, :1, None], (len(theta), 1, self.z.shape[1]))
        logs = np.concatenate([constant, theta[:, 1:3, None] - theta[:, 3:, None] * self.z], axis=1)
        top = logs.max(axis=1, keepdims=True)
        shares = np.exp(logs - top)
        total = shares.sum(axis=1, keepdims=True)
        shares /= total
        derivatives = np.concatenate([shares, -shares[:, 1:] * self.z], axis=1)
        return (top + np.log(total))[:, 0], derivatives

    def scaled(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective and its gradient, both over delta^2.

        The bare sum is about 1e-3 (the mean, 4e-6): so small that the optimiser's stopping tests
        hold long before the minimum. Besiroglu et al. show this to be what went wrong in 2022.
        """
        predicted, derivatives = self.model(theta[None])
        residuals = predicted[0] - self.log_loss
        slope = np.clip(residuals, -self.delta, self.delta) / self.delta**2
        return float(huber(residuals, self.delta).sum()) / self.delta**2, derivatives[0] @ slope

    def descend(self, start: np.ndarray) -> tuple[np.ndarray, float]:
        """The minimum reached from ``start`` (5,), and the sum of Huber's function there."""
        found = optimize.minimize(
            self.scaled,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=BOUNDS,
            options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000, "maxfun": 10000, "maxcor": 20},
        )
        return found.x, float(found.fun) * self.delta**2


def _best_of(problem: Problem, starts: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The best minimum over ``starts`` (S, 5), its objective, and the share within 0.1% of it.

    A low share says that the optimiser, not the data, chose the parameters.
    """
    results = [problem.descend(start) for start in starts]
    objectives = np.array([objective for _, objective in results])
    best = int(objectives.argmin())
    agree = objectives <= 1.001 * objectives[best] + 1e-12
    return results[best][0], float(objectives[best]), float(agree.mean())


def _starts(z: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Starting points (S, 5): for each pair of EXPONENTS the best non-negative E, A, B.

    With the exponents fixed the law is linear (variable projection), so every start is already a
    sensible curve. Of Hoffmann's 4,500 fixed starts most lie far from any.
    """
    starts = []
    for alpha, beta in itertools.product(EXPONENTS, EXPONENTS):
        columns = np.stack([np.ones_like(loss), np.exp(-alpha * z[0]), np.exp(-beta * z[1])], 1)
        amounts, _ = optimize.nnls(columns / loss[:, None], np.ones_like(loss))
        # An amount of 0 has no logarithm; a thousandth of the loss lets the descent decide.
        logs = np.log(np.maximum(amounts, 1e-3 * loss.min()))
        starts.append([*logs, alpha, beta])
    return np.array(starts)


def _resample(problem: Problem, theta: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Parameters (count, 5) refitted to runs drawn with replacement (a draw is a weight)."""
    generator = np.random.default_rng(seed)
    n = len(problem.log_loss)
    low, high = np.array(BOUNDS).T
    rows = []
    for first in range(0, count, CHUNK):
        draws = generator.integers(n, size=(min(CHUNK, count - first), n))
        weights = np.stack([np.bincount(draw, minlength=n) for draw in draws]).astype(float)
        found, _ = descend(
            problem.model, problem.log_loss, weights, theta[None], (low, high), problem.delta
        )
        rows.append(found)
    return np.concatenate(rows)


def _natural(theta: np.ndarray, centre: np.ndarray) -> tuple[float, float, float, float, float]:
    """E, A, B, alpha, beta for N and D as counts, from logs that refer to the data's centre."""
    e, a, b, alpha, beta = theta
    amounts = np.exp([e, a + alpha * centre[0], b + beta * centre[1]])
    return (*map(float, amounts), float(alpha), float(beta))


def _warnings(fit: ChinchillaFit) -> list[str]:
    found = []
    if fit.agreement < FEW_AGREE:
        found.append(f"starts-disagree: only {fit.agreement:.0%} of the starts reach the optimum")
    for name in ("alpha", "beta"):
        value = getattr(fit, name)
        if not 1.01e-3 < value < 2.99:
            found.append(f"not-identified: {name} is on its bound ({value:.3g})")
        low, high = fit.interval(name)
        if high > 2 * low:
            found.append(f"wide-{name}: 95% interval {low:.3g} to {high:.3g}")
    return found
