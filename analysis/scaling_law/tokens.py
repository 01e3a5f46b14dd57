"""Scaling-law fits with honest intervals: L(D) = E + B / D^beta for one student (Table 5).

``fit_tokens`` fits one loss curve over training tokens. E here is the irreducible loss *plus* what
this student's size costs, so it compares neither with Chinchilla's 1.8 nor across tokenizers.
Points must lie on one curve: checkpoints of a constant learning rate, or the ends of separate
annealed runs. Checkpoints of a run whose rate decays are on neither, and no check can tell.

The estimate minimises the sum of Huber(1e-3) over log residuals; intervals are profile-likelihood
intervals that allow for autocorrelated residuals, and for differences between runs where there are
three or more (analysis.scaling_law.intervals).
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from analysis.scaling_law.intervals import (
    Profile,
    Shift,
    block_weights,
    jackknife,
    lag_one_correlation,
    profile,
    scan,
    window_shifts,
    windows,
)
from analysis.scaling_law.robust import (
    BETA_RANGE,
    DELTA,
    UNKNOWNS,
    FitError,
    checked,
    fit_curves,
    noise_scale,
    robust_weights,
)

MIN_POINTS = 4
CAUTION_FACTOR = 10
UNSUPPORTED_FACTOR = 100
STARTS = 5


class ExtrapolationWarning(UserWarning):
    """A predicted loss that the data do not support; its interval is all that can be said."""


@dataclass(frozen=True)
class Fit:
    """L(D) = E + B / D^beta fitted to one curve; losses in nats a token, D in tokens.

    ``identified`` is False where the data do not determine E and beta: a prediction is then no
    more than its interval. ``warnings`` are lines of the form ``code: what was found``. The
    intervals are at 95%; B0 = B / D0^beta is the loss above E at D0, the geometric mean of the
    tokens, and unlike B it means something by itself.
    """

    E: float
    B: float
    beta: float
    identified: bool
    warnings: list[str]
    E_interval: tuple[float, float]
    beta_interval: tuple[float, float]
    B0: float
    D0: float
    objective: float
    agreement: float
    residual_rms: float
    lag_one: float
    tokens: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    runs: np.ndarray = field(repr=False)
    profiles: tuple[Profile, ...] = field(repr=False)
    deleted: np.ndarray = field(repr=False)
    """E, B0, beta (R, 3) without each of the R runs in turn; (0, 3) with fewer than 3 runs."""

    def value(self, tokens: object) -> np.ndarray:
        """The fitted loss at ``tokens`` (any shape), without interval: for residuals and plots."""
        return self.E + self.B0 * (np.asarray(tokens, dtype=float) / self.D0) ** -self.beta

    def band(self, tokens: object) -> tuple[np.ndarray, np.ndarray]:
        """The 95% interval of the loss at ``tokens`` (m,): low and high, (m,) each.

        Where parts of the data disagree (warning ``window``) it covers the answers of all parts.
        """
        tokens = np.asarray(tokens, dtype=float)
        x, value = np.log(tokens / self.D0), self.value(tokens)
        ends = np.array([[part.at(at) for at in x] for part in self.profiles])
        low, high = ends[..., 0].min(axis=0), ends[..., 1].max(axis=0)
        if len(self.deleted):
            ratio = np.exp(jackknife(np.log(_losses(self.deleted, x))))
            low, high = np.minimum(low, value / ratio), np.maximum(high, value * ratio)
        return np.minimum(low, value), np.maximum(high, value)

    def predict(self, tokens: object) -> tuple:
        """The loss at ``tokens`` and its 95% interval: (value, low, high).

        Floats for a number, arrays for a vector. Raises FitError for tokens that are not finite
        and positive. Issues ExtrapolationWarning for more than 100 times the largest budget seen,
        and wherever the law is not identified.
        """
        given = checked("tokens", np.atleast_1d(tokens))
        for caution in self.cautions(given):
            if not caution.startswith("caution"):
                python_warnings.warn(caution, ExtrapolationWarning, stacklevel=2)
        low, high = self.band(given)
        if np.ndim(tokens) == 0:
            return float(self.value(given)[0]), float(low[0]), float(high[0])
        return self.value(given), low, high

    def cautions(self, tokens: object) -> list[str]:
        """What a reader of a prediction at ``tokens`` must know: lines ``code: text``, or none."""
        factor = float(np.max(tokens)) / self.tokens.max()
        found = []
        if factor > UNSUPPORTED_FACTOR:
            found.append(
                f"extrapolation-unsupported: x{factor:.0f} beyond the largest budget "
                f"({self.tokens.max():.3g} tokens); no data speak for the law that far out"
            )
        elif factor > CAUTION_FACTOR:
            found.append(f"caution: x{factor:.0f} beyond the largest budget")
        if not self.identified:
            found.append("not-identified: E and beta are not determined by these points")
        return found


def fit_tokens(
    tokens: object, loss: object, *, runs: Sequence | None = None, delta: float = DELTA
) -> Fit:
    """Fit L(D) = E + B / D^beta to n points of one student's loss curve.

    ``tokens`` (counts) and ``loss`` (nats a token) are vectors of n values in any order. ``runs``
    labels the run (seed) that each point is from: with three or more, intervals cover what differs
    between runs, and points of different runs count as independent. Without it all points are
    taken for checkpoints of one run.

    Raises FitError for values that are not finite and positive, fewer than 4 points or 4 distinct
    token counts (three unknowns would fit them whatever they are), and a loss that does not fall.
    """
    tokens = checked("tokens", tokens)
    loss = checked("loss", loss, length=len(tokens))
    labels = _run_numbers(runs, len(tokens))
    _refuse(tokens, loss)
    order = np.lexsort((loss, tokens, labels))
    tokens, loss, labels = tokens[order], loss[order], labels[order]
    D0 = float(np.exp(np.log(tokens).mean()))
    x = np.log(tokens / D0)

    parameters, objective, agreement = _estimate(x, loss, delta)
    E, B0, beta = map(float, parameters)
    residuals = np.log(E + B0 * np.exp(-beta * x)) - np.log(loss)
    deleted = _without_each_run(x, loss, labels, delta)
    # Differences between runs already hold whatever the checkpoints of a run have in common.
    lag_one = 0.0 if len(deleted) else lag_one_correlation(residuals, labels)
    weights = robust_weights(residuals)
    by_tokens = np.argsort(tokens, kind="stable")
    points = np.stack([x, loss, weights])[:, by_tokens]
    shifts = {name: shift for name, shift in window_shifts(*points).items() if shift.p < 0.01}
    profiles = [profile(*points, lag_one, beta)] + [
        profile(*points[:, windows(len(x))[name]], lag_one, shift.beta)
        for name, shift in shifts.items()
    ]
    E_interval = _joint([part.linear(1.0, 0.0) for part in profiles], E, deleted[:, 0])
    beta_interval = _joint([part.beta for part in profiles], beta, deleted[:, 2])
    reasons = _not_identified(profiles[0], E_interval, beta_interval)
    return Fit(
        E=E,
        B=B0 * D0**beta,
        beta=beta,
        identified=not reasons,
        warnings=[f"not-identified: {reason}" for reason in reasons]
        + _point_warnings(tokens, labels)
        + _rising(tokens, loss)
        + _quality_warnings(beta_interval, residuals, lag_one, agreement)
        + _window_warnings(beta, shifts),
        E_interval=E_interval,
        beta_interval=beta_interval,
        B0=B0,
        D0=D0,
        objective=objective,
        agreement=agreement,
        residual_rms=float(np.sqrt(np.mean(residuals**2))),
        lag_one=lag_one,
        tokens=tokens,
        loss=loss,
        runs=labels,
        profiles=tuple(profiles),
        deleted=deleted,
    )


def extrapolate(fit: Fit, targets: Sequence[float]) -> pd.DataFrame:
    """Predictions as a table, one row a target (token counts): the cells of Table 5.

    Columns: tokens, factor (beyond the largest budget), loss, low, high (95%), E_share (how much
    of the loss is E) and remark (the codes of ``Fit.cautions``, or empty).
    """
    targets = np.asarray(targets, dtype=float)
    loss = fit.value(targets)
    low, high = fit.band(targets)
    remarks = [[line.partition(":")[0] for line in fit.cautions(target)] for target in targets]
    return pd.DataFrame(
        {
            "tokens": targets,
            "factor": targets / fit.tokens.max(),
            "loss": loss,
            "low": low,
            "high": high,
            "E_share": fit.E / loss,
            "remark": ["; ".join(remark) for remark in remarks],
        }
    )


def difference(
    first: Fit, second: Fit, tokens: object, *, resamples: int = 1000, seed: int = 0
) -> tuple:
    """Loss of ``first`` minus loss of ``second`` at ``tokens``, with its paired 95% interval.

    Both fits are repeated on the same resampled points, or without the same run where there are
    three or more, so whatever both share (checkpoints, data order, evaluation tokens) cancels.
    Returns (value, low, high), floats for a number and arrays for a vector; the two methods are not
    distinguishable where the interval holds 0. Raises FitError unless both have the same token
    counts and runs.
    """
    same = np.array_equal(first.tokens, second.tokens) and np.array_equal(first.runs, second.runs)
    if not same:
        raise FitError("a paired difference needs fits to the same token counts and runs")
    given = checked("tokens", np.atleast_1d(tokens))
    value = first.value(given) - second.value(given)
    x = np.log(given / first.D0)
    if len(first.deleted):
        ours, theirs = _losses(first.deleted, x), _losses(second.deleted, x)
        half = jackknife(ours - theirs)
        low, high = value - half, value + half
    else:
        n = len(first.tokens)
        block = 1 if max(first.lag_one, second.lag_one) <= 0.5 else int(np.ceil(np.sqrt(n)))
        weights = block_weights(first.tokens, block, resamples, np.random.default_rng(seed))
        ours, theirs = (_resampled_losses(fit, weights, x) for fit in (first, second))
        low, high = np.quantile(ours - theirs, [0.025, 0.975], axis=0)
        # Resampling n points for three unknowns understates the noise: stretched to a t interval.
        stretch = np.sqrt(n / (n - UNKNOWNS)) * stats.t.ppf(0.975, n - UNKNOWNS) / 1.96
        low = value + stretch * np.minimum(low - value, 0.0)
        high = value + stretch * np.maximum(high - value, 0.0)
    if np.ndim(tokens) == 0:
        return float(value[0]), float(low[0]), float(high[0])
    return value, low, high


def _losses(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Losses (R, m) at x (m,) of curves with E, B0, beta (R, 3)."""
    E, B0, beta = parameters.T[..., None]
    return E + B0 * np.exp(-beta * x)


def _resampled_losses(fit: Fit, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Losses (R, m) at x (m,) of the curves refitted with each row of ``weights`` (R, n)."""
    start = np.array([[fit.E, fit.B0, fit.beta]])
    logs = np.log(fit.tokens / fit.D0)
    return _losses(fit_curves(logs, fit.loss, weights, start, DELTA)[0], x)


def sensitivity(fit: Fit, targets: Sequence[float]) -> pd.DataFrame:
    """The fit repeated on parts of its token counts, and with another threshold: a row a variant.

    Columns: ``variant``, ``n``, ``first_tokens``, ``last_tokens``, ``E``, ``beta`` with their
    intervals ``*_low`` and ``*_high``, and for each of ``targets`` (token counts) ``loss_at_T``
    with ``low_at_T`` and ``high_at_T``. Variants with too few points to fit have empty cells.
    ``without the last third`` shows how well the law foretells points that were kept from it.
    """
    counts, place = np.unique(fit.tokens, return_inverse=True)
    n = len(counts)
    variants = {"all": (slice(0, n), DELTA), "Huber threshold 0.01": (slice(0, n), 1e-2)}
    variants |= {name: (part, DELTA) for name, part in windows(n).items()}
    variants["without the last third"] = (slice(0, n - n // 3), DELTA)
    rows = []
    for name, (part, delta) in variants.items():
        # By token count: "the first" goes from every run alike.
        kept = np.flatnonzero(np.isin(place, np.arange(n)[part]))
        row = {"variant": name, "n": len(kept)}
        try:
            again = fit_tokens(
                fit.tokens[kept], fit.loss[kept], runs=list(fit.runs[kept]), delta=delta
            )
        except FitError:
            rows.append(row)
            continue
        row |= {"first_tokens": again.tokens.min(), "last_tokens": again.tokens.max()}
        row |= {"E": again.E, "E_low": again.E_interval[0], "E_high": again.E_interval[1]}
        row |= dict(zip(("beta_low", "beta_high"), again.beta_interval, strict=True))
        row["beta"] = again.beta
        low, high = again.band(np.asarray(targets, dtype=float))
        for at, target in enumerate(targets):
            row[f"loss_at_{target:g}"] = float(again.value(target))
            row[f"low_at_{target:g}"], row[f"high_at_{target:g}"] = low[at], high[at]
        rows.append(row)
    return pd.DataFrame(rows)


def _run_numbers(runs: Sequence | None, n: int) -> np.ndarray:
    """Run labels as numbers (n,). Raises FitError for a wrong length."""
    if runs is None:
        return np.zeros(n, dtype=int)
    labels = [str(run) for run in runs]
    if len(labels) != n:
        raise FitError(f"runs: expected {n} labels, found {len(labels)}")
    return np.unique(labels, return_inverse=True)[1]


def _refuse(tokens: np.ndarray, loss: np.ndarray) -> None:
    distinct = len(np.unique(tokens))
    if distinct < MIN_POINTS:
        what = f"{len(tokens)} points at {distinct} distinct token counts"
        raise FitError(f"{what}: three unknowns need at least {MIN_POINTS}")
    slope = np.polyfit(np.log(tokens), loss, 1)[0]
    if slope >= 0 or np.ptp(loss) == 0:
        raise FitError(
            f"the loss does not fall with tokens (slope {slope:+.2g} nats per e-fold): "
            "E + B / D^beta cannot describe it"
        )


def _estimate(x: np.ndarray, loss: np.ndarray, delta: float) -> tuple[np.ndarray, float, float]:
    """(E, B0, beta) of the least Huber sum, that sum, and the share of starts that reach it.

    The starts are the best 5 of a scan over beta, where E and B0 follow by least squares.
    """
    scanned = scan(x, loss, np.ones_like(loss), np.geomspace(*BETA_RANGE, 41))
    # Every fourth in order of cost: the best ones are neighbours, hardly different starts.
    chosen = np.argsort(scanned.cost, kind="stable")[: 4 * STARTS : 4]
    starts = np.stack([scanned.E, scanned.B0, scanned.beta], axis=1)[chosen]
    found, sums = fit_curves(x, loss, np.ones((STARTS, len(x))), starts, delta)
    best = int(sums.argmin())
    # 1e-12 is far below any rounding of losses: noise-free data reach 1e-20.
    agree = sums <= 1.001 * sums[best] + 1e-12
    return found[best], float(sums[best]), float(agree.mean())


def _without_each_run(
    x: np.ndarray, loss: np.ndarray, labels: np.ndarray, delta: float
) -> np.ndarray:
    """E, B0, beta (R, 3) without each run in turn.

    Empty with fewer than 3 runs, where differences between runs say nothing, or where runs are
    single points, which the profile already takes for independent.
    """
    count = labels.max() + 1
    if count < 3 or count == len(labels):
        return np.empty((0, 3))
    return np.array([_estimate(x[labels != r], loss[labels != r], delta)[0] for r in range(count)])


def _joint(
    intervals: list[tuple[float, float]], value: float, deleted: np.ndarray
) -> tuple[float, float]:
    """The smallest interval that holds ``value``, all of ``intervals`` and the jackknife's."""
    if len(deleted):
        half = float(jackknife(deleted))
        intervals = [*intervals, (max(value - half, 0.0), value + half)]
    return min(value, *(low for low, _ in intervals)), max(value, *(high for _, high in intervals))


def _not_identified(
    part: Profile, E_interval: tuple[float, float], beta_interval: tuple[float, float]
) -> list[str]:
    """Why E and beta are not determined; empty if they are. A bound reached is no answer."""
    low, high = beta_interval
    reasons = []
    if part.flat:
        reasons.append("a constant loss fits the points as well")
    if E_interval[0] <= 0:
        reasons.append("an irreducible loss of 0 fits the points as well")
    if low <= BETA_RANGE[0] or high >= BETA_RANGE[1]:
        reasons.append(f"beta could be anything from {low:.2g} to {high:.2g}")
    return reasons


def _point_warnings(tokens: np.ndarray, labels: np.ndarray) -> list[str]:
    """What is wrong with where the points lie."""
    found = []
    if len(tokens) < 8:
        found.append(f"few-points: {len(tokens)} points for 3 unknowns")
    decades = np.log10(tokens.max() / tokens.min())
    if decades < 1.5:
        found.append(f"short-range: the points span {decades:.2g} decades of tokens; 1.5 wanted")
    late = int((tokens > np.sqrt(tokens.min() * tokens.max())).sum())
    if late < 3:
        found.append(f"few-late-points: {late} points in the upper half of log tokens")
    if labels.max() == 1:
        found.append("few-runs: two runs; their difference is not in the intervals")
    return found


def _window_warnings(beta: float, shifts: dict[str, Shift]) -> list[str]:
    return [
        f"window: beta is {beta:.3g} with all points and {shift.beta:.3g} {name} "
        f"(p = {shift.p:.1g}): a start-up transient, or a law that does not hold"
        for name, shift in shifts.items()
    ]


def _rising(tokens: np.ndarray, loss: np.ndarray) -> list[str]:
    """A warning where the loss clearly rises over the last third of the points."""
    last = np.argsort(tokens, kind="stable")[-max(4, len(tokens) // 3) :]
    if np.ptp(tokens[last]) == 0:
        return []
    trend = stats.linregress(np.log(tokens[last]), loss[last])
    if trend.slope <= 0 or trend.slope < 2.5 * trend.stderr:
        return []
    return [f"rising: the loss rises over the last {len(last)} points, which the law cannot do"]


def _quality_warnings(
    beta_interval: tuple[float, float], residuals: np.ndarray, lag_one: float, agreement: float
) -> list[str]:
    """What is wrong with how the law fits."""
    found = []
    low, high = beta_interval
    if high > 2 * low:
        found.append(f"wide-beta: 95% interval of beta {low:.2g} to {high:.2g}")
    if lag_one > 0.5:
        found.append(
            f"autocorrelated: neighbouring residuals correlate by about {lag_one:.2f}; intervals "
            "are widened for it, but more seeds say more than more checkpoints"
        )
    scale = noise_scale(residuals)
    far = np.abs(residuals) > 5 * scale + 1e-8
    if far.any():
        worst = residuals[np.abs(residuals).argmax()]
        found.append(
            f"outliers: {far.sum()} points beyond 5 robust standard deviations of {scale:.2%}, "
            f"the worst is {-worst:+.2%} off the curve"
        )
    if agreement < 0.5:
        found.append(f"starts-disagree: {agreement:.0%} of the starts reach the optimum")
    return found
