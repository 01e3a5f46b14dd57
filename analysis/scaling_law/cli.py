"""Fits of loss against tokens, L(D) = E + B / D^beta, or of tokens and model size.

    tad scaling-law curve.csv --tokens-column tokens --loss-column loss --predict 1e10 1e12
    tad scaling-law runs.csv --params-column parameters

The table has one row a point; the fit, its 95% intervals and what is wrong with it are printed.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.scaling_law.chinchilla import dropping_the_largest, fit_chinchilla
from analysis.scaling_law.robust import FitError, checked
from analysis.scaling_law.tokens import Fit, extrapolate, fit_tokens, sensitivity
from tad.command import command_line, exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0, or 2 after one line on stderr about what is wrong."""
    parser = command_line("scaling-law", __doc__)
    add = parser.add_argument
    add("csv", type=Path, help="table with one row a point")
    add("--tokens-column", default="tokens", help="training tokens, as counts")
    add("--loss-column", default="loss", help="loss, nats a token")
    add("--run-column", help="run (seed) of each point; without it, one run")
    add("--params-column", help="model parameters: fits the law of N and D")
    add("--where", nargs="+", default=[], metavar="COLUMN=VALUE", help="row filter")
    add("--after", type=float, default=0, metavar="TOKENS", help="leave out the start")
    add("--predict", nargs="+", type=float, default=[], metavar="TOKENS")
    add("--sensitivity", action="store_true", help="repeat on parts of the points")
    add("--bootstrap", type=int, default=1000, help="resamples of the N, D law")
    options = parser.parse_args(arguments)
    return exit_code("scaling-law", lambda: print("\n".join(_fit(options))))


def _fit(options: Namespace) -> list[str]:
    try:
        checked("--predict", options.predict)
        table = read_points(options.csv, options.where)
        if options.after:
            table = table[_column(table, options.tokens_column) > options.after]
        return (_chinchilla if options.params_column else _curve)(table, options)
    except FitError as error:
        raise FitError(f"{options.csv}: {error}") from None


def read_points(path: Path, where: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of a CSV file, those alone where each ``COLUMN=VALUE`` of ``where`` holds.

    Raises FitError for a file that is no table, an unknown column and a filter without rows.
    """
    if not path.is_file():
        raise FitError("no such file")
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise FitError(f"not a CSV table: {' '.join(str(error).split())}") from None
    for condition in where:
        name, _, value = condition.partition("=")
        table = table[_column(table, name).astype(str) == value]
        if table.empty:
            raise FitError(f"no row has {condition}")
    return table


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table:
        raise FitError(f"no column {name!r}; there are {', '.join(map(str, table.columns))}")
    return table[name]


def _curve(table: pd.DataFrame, options: Namespace) -> list[str]:
    runs = _column(table, options.run_column) if options.run_column else None
    fit = fit_tokens(
        _column(table, options.tokens_column),
        _column(table, options.loss_column),
        runs=None if runs is None else list(runs),
    )
    lines = describe(fit)
    if options.predict:
        lines += ["", *_predictions(fit, options.predict)]
    if options.sensitivity:
        repeated = sensitivity(fit, options.predict)
        shown = ["variant", "n", "E", "E_low", "E_high", "beta", "beta_low", "beta_high"]
        shown += [name for name in repeated if name.startswith("loss_at_")]
        lines += ["", repeated[shown].to_string(index=False, float_format="%.4g", na_rep="-")]
    return lines


def describe(fit: Fit) -> list[str]:
    """The fit as lines of text: parameters with 95% intervals, quality, warnings."""
    first, last = fit.tokens.min(), fit.tokens.max()
    runs = fit.runs.max() + 1
    rows = [
        ("E", fit.E, fit.E_interval, "nats/token"),
        ("beta", fit.beta, fit.beta_interval, ""),
    ]
    lines = [
        f"L(D) = E + B / D^beta, {len(fit.tokens)} points of {runs} run(s), "
        f"{first:.3g} to {last:.3g} tokens ({np.log10(last / first):.2f} decades)",
    ]
    for name, value, (low, high), unit in rows:
        shown = (number(at, high - low) for at in (value, low, high))
        lines.append("  {:<10} {:>9}  [{}, {}] {}".format(name, *shown, unit).rstrip())
    lines += [
        f"  {'B0':<10} {fit.B0:>9.4f}  nats/token above E at D0 = {fit.D0:.4g} tokens",
        f"  {'B':<10} {fit.B:>9.5g}  log B = {np.log(fit.B):.5g}",
        f"  identified: {'yes' if fit.identified else 'NO'}",
        f"  residuals: rms {fit.residual_rms:.2%}, neighbours correlate by {fit.lag_one:.2f}; "
        f"Huber sum {fit.objective:.4g}; {fit.agreement:.0%} of starts agree",
    ]
    return lines + [f"  warning: {warning}" for warning in fit.warnings]


def _predictions(fit: Fit, targets: Sequence[float]) -> list[str]:
    head = ("tokens", "beyond", "loss", "95% interval", "E share", "remark")
    lines = ["{:>10} {:>8} {:>9}  {:<20} {:>8}  {}".format(*head)]
    for row in extrapolate(fit, targets).itertuples():
        loss, low, high = (number(v, row.high - row.low) for v in (row.loss, row.low, row.high))
        lines.append(
            f"{row.tokens:>10.3g} {f'x{row.factor:.3g}':>8} {loss:>9}  {f'[{low}, {high}]':<20} "
            f"{row.E_share:>8.1%}  {row.remark}".rstrip()
        )
    return lines


def _chinchilla(table: pd.DataFrame, options: Namespace) -> list[str]:
    if options.predict or options.sensitivity:
        raise FitError("--predict and --sensitivity belong to the law of tokens alone")
    names = (options.params_column, options.tokens_column, options.loss_column)
    columns = [_column(table, name) for name in names]
    fit = fit_chinchilla(*columns, bootstrap=options.bootstrap)
    errors = fit.standard_errors
    lines = [f"L(N, D) = E + A / N^alpha + B / D^beta, {fit.n} runs"]
    for name in ("E", "A", "B", "alpha", "beta"):
        value, (low, high) = getattr(fit, name), fit.interval(name)
        log = f"  log {np.log(value):.5g}" if name in "AB" else ""
        lines.append(
            f"  {name:<6} {value:>10.5g}  se {errors[name]:<8.3g} [{low:.4g}, {high:.4g}]{log}"
        )
    best = fit.beta / (fit.alpha + fit.beta)
    lines += [
        f"  best N ~ C^a, a = {best:.4f}, se {errors['a']:.3g}",
        f"  Huber sum {fit.objective:.6g}; {fit.agreement:.0%} of starts agree",
        *(f"  warning: {warning}" for warning in fit.warnings),
        "",
        "without the runs of largest loss (how much the choice of runs decides)",
    ]
    for count, again in dropping_the_largest(*columns):
        lines.append(f"  {count:>3} left out  E {again.E:.4f}  beta {again.beta:.4f}")
    return lines


def number(value: float, width: float) -> str:
    """``value`` with as many decimals as give two digits of an interval's width; at most 5."""
    decimals = 1 - int(np.floor(np.log10(width))) if width > 0 else 5
    return f"{value:.{min(max(decimals, 0), 5)}f}"
