"""L(D) = E + B / D^beta fitted to the ends of separate runs, with profile intervals.

Every point is the held-out loss at the end of a run that was trained for that budget, never a point
along a longer run: a start-up transient, or a rate that has yet to fall, is not what a run of that
budget reaches (Hoffmann et al. 2022, arXiv 2203.15556, Section 3). E is the irreducible loss *plus*
what this student's size costs, so it compares neither with theirs nor across tokenizers.

The estimate minimises Huber's function of log residuals, as their Approach 3 does, but with a
threshold of 1%, not 0.1%: within it two seeds of one budget are averaged, where theirs takes any
curve between the two for equally good. For a fixed exponent the law is linear in E and B, so E,
beta and the loss at any D have their profile-likelihood intervals in closed form along one scan of
beta (variable projection), with t quantiles. Where seeds agree better with each other than with the
law (a lack of fit), more seeds do not make it truer: then budgets, not runs, are the points that
the intervals rest on.

Shapes: n points, G values of beta. x = log(D / D0), u = exp(-beta x), L = E + B0 u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, stats

from tad.command import UserError

DELTA = 0.01
"""Huber threshold on log residuals."""

BETA_RANGE = (0.02, 3.0)
UNKNOWNS = 3
MIN_BUDGETS = UNKNOWNS + 1
GRID_POINTS = 81
NOISE_FLOOR = 1e-6
"""Relative error that every recorded loss is taken to have: keeps exact data from no interval."""


class FitError(UserError, ValueError):
    """Points that no law should be fitted to; the message is one line that says why."""


@dataclass(frozen=True)
class Scan:
    """Weighted least squares for each beta (G,): E, B0 >= 0 and the squared error ``cost`` (G,).

    ``moments`` are the sums of w, w u and w u^2 (G,) that the errors of E and B0 follow from, with
    w the weight over the squared loss: errors are relative.
    """

    beta: np.ndarray
    E: np.ndarray
    B0: np.ndarray
    cost: np.ndarray
    moments: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(cls, x: np.ndarray, loss: np.ndarray, weights: np.ndarray, beta: np.ndarray) -> Scan:
        """The scan over ``beta`` (G,) of n points (n,)."""
        u = np.exp(-beta[:, None] * x)
        w = weights / loss**2
        one, first, second = np.full(len(beta), w.sum()), u @ w, (u * u) @ w
        y, uy = (w * loss).sum(), u @ (w * loss)
        determinant = one * second - first**2
        E = (second * y - first * uy) / determinant
        B0 = (one * uy - first * y) / determinant
        # Amounts are not negative: where one would be, it is 0 and the other is fitted alone.
        E, B0 = np.where(E < 0, 0.0, E), np.where(E < 0, uy / second, B0)
        E, B0 = np.where(B0 < 0, y / one, E), np.maximum(B0, 0.0)
        cost = (E[:, None] + B0[:, None] * u - loss) ** 2 @ w
        return cls(beta, E, B0, cost, (one, first, second))

    def within(self, threshold: float) -> tuple[Scan, np.ndarray]:
        """The part whose cost is at most ``threshold``, and how far below it is (G,)."""
        inside = self.cost <= threshold
        parts = (self.beta[inside], self.E[inside], self.B0[inside], self.cost[inside])
        part = Scan(*parts, tuple(values[inside] for values in self.moments))
        return part, threshold - part.cost


@dataclass(frozen=True)
class Fit:
    """A fitted law; losses in nats a token, D in tokens, intervals at 95%.

    ``tokens`` and ``loss`` (n,) are the points, ``misfit`` whether the runs of a budget agree
    better with each other than with the law (F test, 5%). ``scan`` is the confidence set over beta
    and ``slack`` its distance to the threshold, from which every interval follows.
    """

    E: float
    B0: float
    beta: float
    D0: float
    misfit: bool
    tokens: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    scan: Scan = field(repr=False)
    slack: np.ndarray = field(repr=False)

    @property
    def B(self) -> float:
        """B of the law; B0 = B / D0^beta is the loss above E at D0, the points' geometric mean."""
        return self.B0 * self.D0**self.beta

    def value(self, tokens: object) -> np.ndarray:
        """The fitted loss at ``tokens`` (any shape)."""
        return self.E + self.B0 * (np.asarray(tokens, dtype=float) / self.D0) ** -self.beta

    def interval(self, tokens: float, runs: int = 0) -> tuple[float, float]:
        """The 95% interval of the loss at ``tokens``: of the law or, with ``runs``, of the mean
        that so many new runs end at, which their own noise widens."""
        u = np.exp(-self.scan.beta * np.log(tokens / self.D0))
        low, high = self._linear(1.0, u, runs)
        value = float(self.value(tokens))
        return min(low, value), max(high, value)

    @property
    def E_interval(self) -> tuple[float, float]:
        """Interval of the irreducible loss; from 0 where no irreducible loss fits as well."""
        return self._linear(1.0, np.zeros_like(self.scan.beta), 0)

    @property
    def beta_interval(self) -> tuple[float, float]:
        """Interval of the exponent, within BETA_RANGE."""
        return float(self.scan.beta.min()), float(self.scan.beta.max())

    @property
    def unidentified(self) -> str:
        """Why the points do not determine E and beta, or ''. A bound reached is no answer."""
        low, high = self.beta_interval
        if self._linear(0.0, np.ones_like(self.scan.beta), 0)[0] <= 0:
            return "a constant loss fits the points as well"
        if self.E_interval[0] <= 0:
            return "an irreducible loss of 0 fits the points as well"
        if low <= BETA_RANGE[0] or high >= BETA_RANGE[1]:
            return f"the exponent could be anything from {low:.2g} to {high:.2g}"
        return ""

    def refusal(self, tokens: float, runs: int = 1) -> str:
        """Why no prediction of ``runs`` new runs at ``tokens`` should be made, or ''.

        A target further off (in log tokens) than the points reach; an interval wider than the fall
        that the last budgets over the same ratio brought, which any curve that flattens out stays
        within.
        """
        first, last = self.tokens.min(), self.tokens.max()
        ratio = tokens / last
        if ratio > last / first:
            reach = f"×{last / first:.3g}"
            return f"further beyond the largest budget than the budgets span ({reach})"
        low, high = self.interval(tokens, runs)
        fall = float(self.value(last / ratio) - self.value(last))
        if ratio > 1 and high - low > fall:
            why = ", for the law does not fit the budgets" if self.misfit else ""
            return (
                f"the interval is {high - low:.2g} wide, more than the {fall:.2g} nats that the "
                f"last ×{ratio:.3g} of tokens brought{why}"
            )
        return ""

    def _linear(self, of_e: float, of_b0: np.ndarray, runs: int) -> tuple[float, float]:
        """Interval of ``of_e * E + of_b0 * B0`` over the confidence set."""
        one, first, second = self.scan.moments
        middle = of_e * self.scan.E + of_b0 * self.scan.B0
        variance = second * of_e**2 - 2 * first * of_e * of_b0 + one * of_b0**2
        variance = variance / (one * second - first**2)
        if runs:
            variance = variance + middle**2 / runs
        half = np.sqrt(self.slack * variance)
        return float(max((middle - half).min(), 0.0)), float((middle + half).max())


def fit_law(tokens: Sequence[float], loss: Sequence[float]) -> Fit:
    """Fit L(D) = E + B / D^beta to n runs: budgets (tokens) and end losses (nats a token).

    Several runs (seeds) may have one budget. Raises FitError for values that are not finite and
    positive, fewer than 4 budgets (three unknowns would fit them whatever they are), and a loss
    that does not fall.
    """
    tokens, loss = _checked("tokens", tokens), _checked("loss", loss)
    budgets = len(np.unique(tokens))
    if budgets < MIN_BUDGETS:
        raise FitError(f"three unknowns need {MIN_BUDGETS} budgets or more; there are {budgets}")
    slope = np.polyfit(np.log(tokens), loss, 1)[0]
    if slope >= 0 or np.ptp(loss) == 0:
        raise FitError(f"the loss does not fall with tokens (slope {slope:+.2g} nats per e-fold)")
    D0 = float(np.exp(np.log(tokens).mean()))
    x = np.log(tokens / D0)
    E, B0, beta = _estimate(x, loss)
    residuals = np.log(E + B0 * np.exp(-beta * x)) - np.log(loss)
    # What Huber's function counts of a residual beyond its threshold.
    weights = DELTA / np.maximum(np.abs(residuals), DELTA)
    misfit = _misfit(tokens, residuals)
    part = _budget_means(x, loss, weights) if misfit else (x, loss, weights)
    scan, slack = _confidence(*part, beta)
    return Fit(E, B0, beta, D0, misfit, tokens, loss, scan, slack)


def _misfit(tokens: np.ndarray, residuals: np.ndarray) -> bool:
    """Lack of fit: whether budgets lie further off the law than their own runs' spread explains."""
    budgets, place, count = np.unique(tokens, return_inverse=True, return_counts=True)
    means = np.bincount(place, residuals) / count
    within, between = len(tokens) - len(budgets), len(budgets) - UNKNOWNS
    if within < 1:
        return False
    noise = max(((residuals - means[place]) ** 2).sum() / within, NOISE_FLOOR**2)
    ratio = (count * means**2).sum() / between / noise
    return bool(stats.f.sf(ratio, between, within) < 0.05)


def _budget_means(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means of the rows that have the same first column, of every column."""
    _, place, count = np.unique(columns[0], return_inverse=True, return_counts=True)
    return tuple(np.bincount(place, column) / count for column in columns)


def _checked(name: str, values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any():
        raise FitError(f"{name}: {array[bad][0]:g} is not finite and positive")
    return array


def _estimate(x: np.ndarray, loss: np.ndarray) -> tuple[float, float, float]:
    """(E, B0, beta) of the least Huber sum, from the best of a scan over beta."""
    scanned = Scan.of(x, loss, np.ones_like(loss), np.geomspace(*BETA_RANGE, GRID_POINTS))
    best = int(scanned.cost.argmin())
    floor = 1e-6 * loss.min()
    start = np.array([scanned.E[best], scanned.B0[best], scanned.beta[best]])
    low, high = np.array([0.0, floor, BETA_RANGE[0]]), np.array([loss.min(), np.inf, BETA_RANGE[1]])

    def residuals(unknowns: np.ndarray) -> np.ndarray:
        E, B0, beta = unknowns
        return np.log(E + B0 * np.exp(-beta * x)) - np.log(loss)

    found = optimize.least_squares(
        residuals, np.clip(start, low + floor, high - floor), bounds=(low, high), loss="huber",
        f_scale=DELTA, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    return tuple(map(float, found.x))


def _confidence(
    x: np.ndarray, loss: np.ndarray, weights: np.ndarray, near: float
) -> tuple[Scan, np.ndarray]:
    """The 95% confidence set of beta, on a grid that is refined to it and holds ``near``."""
    freedom = max(len(x) - UNKNOWNS, 1)
    rise = stats.t.ppf(0.975, freedom) ** 2 / freedom
    grid = np.geomspace(*BETA_RANGE, GRID_POINTS)
    while True:
        scanned = Scan.of(x, loss, weights, np.union1d(grid, [near]))
        least = scanned.cost.min()
        threshold = least + rise * max(least, freedom * NOISE_FLOOR**2)
        inside = np.flatnonzero(scanned.cost <= threshold)
        if len(inside) > GRID_POINTS // 3 or np.ptp(grid) < 1e-9:
            return scanned.within(threshold)
        low = scanned.beta[max(inside[0] - 1, 0)]
        high = scanned.beta[min(inside[-1] + 1, len(scanned.beta) - 1)]
        grid = np.linspace(low, high, GRID_POINTS)
