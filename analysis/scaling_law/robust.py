"""Robust fits to log losses, for many weightings of the points at once.

The objective is the sum (not the mean) of Huber's function of log residuals at 1e-3, as in
Approach 3 of Hoffmann et al. (2022); with noise of some tenths of a percent that is in effect
least absolute deviations, so a few bad points hardly move the curve.

Shapes: R fits of P parameters to n points; x = log(D / D0).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tad.command import UserError

DELTA = 1e-3
"""Huber threshold on log residuals (Hoffmann et al. 2022)."""

BETA_RANGE = (0.02, 1.5)
UNKNOWNS = 3
ITERATIONS = 80
OUTLIER_SCALES = 2.5
"""Residuals beyond so many robust standard deviations are weighted down in proportion."""


class FitError(UserError, ValueError):
    """Data that no fit should be made of; the message is one line that says why."""


def checked(name: str, values: object, *, length: int | None = None) -> np.ndarray:
    """``values`` as a float64 vector. Raises FitError unless 1-D, finite and positive."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise FitError(f"{name}: not all values are numbers") from None
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = "a vector" if length is None else f"{length} values"
        raise FitError(f"{name}: expected {expected}, found shape {array.shape}")
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any():
        where = int(bad.argmax())
        raise FitError(
            f"{name}: value {array[where]:g} at position {where}; "
            "every value must be finite and positive"
        )
    return array


def huber(residuals: np.ndarray, delta: float) -> np.ndarray:
    """r^2 / 2 up to ``delta``, then delta * (|r| - delta / 2); elementwise."""
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


Model = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Parameters (R, P) to log predictions (R, n) and their derivatives (R, P, n)."""


def descend(
    model: Model,
    log_loss: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    delta: float = DELTA,
) -> tuple[np.ndarray, np.ndarray]:
    """The least Huber sum for each row of ``weights`` (R, n), from ``starts`` (R or 1, P).

    Returns parameters (R, P) within ``bounds`` (low and high, (P,) each) and the sums (R,).
    Reweighted Levenberg-Marquardt steps, all fits at once: reaches the optimum of a general
    optimiser to many digits (tested) in a fraction of the time, which makes refits by the thousand
    cheap.
    """
    count, size = len(weights), starts.shape[-1]
    best = np.clip(np.broadcast_to(starts, (count, size)), *bounds)
    trial, damping, objective = best, np.full(count, 1e-3), np.full(count, np.inf)
    gradient, hessian = np.zeros((count, size)), np.zeros((count, size, size))
    for _ in range(ITERATIONS):
        predicted, jacobian = model(trial)
        residuals = predicted - log_loss
        cost = (weights * huber(residuals, delta)).sum(axis=1)
        better = cost < objective
        best = np.where(better[:, None], trial, best)
        objective = np.where(better, cost, objective)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-9, 1e6)
        weighted = jacobian * (weights * delta / np.maximum(np.abs(residuals), delta))[:, None]
        gradient[better] = (weighted @ residuals[..., None])[better, :, 0]
        hessian[better] = (weighted @ jacobian.transpose(0, 2, 1))[better]
        ridge = np.einsum("rii->ri", hessian) * damping[:, None] + 1e-300
        step = np.linalg.solve(hessian + ridge[:, :, None] * np.eye(size), gradient[..., None])
        trial = np.clip(best - step[..., 0], *bounds)
    return best, objective


def fit_curves(
    x: np.ndarray, loss: np.ndarray, weights: np.ndarray, starts: np.ndarray, delta: float
) -> tuple[np.ndarray, np.ndarray]:
    """E, B0, beta (R, 3) of L = E + B0 exp(-beta x), and the Huber sums (R,).

    One fit for each row of ``weights`` (R, n), from ``starts`` (R or 1, 3), within
    0 < E < min(loss), B0 > 0 and BETA_RANGE.
    """

    def model(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        E, B0, beta = parameters.T[..., None]
        u = np.exp(-beta * x)
        predicted = E + B0 * u
        derivatives = np.stack([np.ones_like(u), u, -B0 * x * u], axis=1)
        return np.log(predicted), derivatives / predicted[:, None]

    floor = 1e-6 * loss.min()
    low = np.array([floor, floor, BETA_RANGE[0]])
    high = np.array([loss.min(), np.inf, BETA_RANGE[1]])
    return descend(model, np.log(loss), weights, starts, (low, high), delta)


def noise_scale(residuals: np.ndarray) -> float:
    """Robust standard deviation of log residuals (n,); at least 1e-9, for noise-free data.

    The median size without the three smallest: a robust fit of three unknowns passes through about
    three points exactly, which says nothing of the noise.
    """
    sizes = np.sort(np.abs(residuals))[UNKNOWNS:]
    return max(float(np.median(sizes)) / 0.6745, 1e-9)


def robust_weights(residuals: np.ndarray) -> np.ndarray:
    """Weights (n,) in (0, 1] that limit what an outlier counts for in a sum of squares."""
    limit = OUTLIER_SCALES * noise_scale(residuals)
    return limit / np.maximum(np.abs(residuals), limit)
