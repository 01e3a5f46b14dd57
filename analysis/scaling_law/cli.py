"""The law L(D) = E + B / D^exponent of runs of your own, and what it foretells.

    tad scaling-law runs.csv --tokens-column tokens --loss-column loss --predict 1e9 5e9

The table has one row a run, which was trained for that many tokens and measured at its end; several
runs (seeds) may have one budget. Points along a run are none: a run of that budget ends elsewhere.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.scaling_law.fit import Fit, FitError, fit_law
from tad.command import command_line, exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0, or 2 after one line on stderr about what is wrong."""
    parser = command_line("scaling-law", __doc__)
    add = parser.add_argument
    add("csv", type=Path, help="table with one row a run")
    add("--tokens-column", default="tokens", help="training tokens, as counts")
    add("--loss-column", default="loss", help="loss at the end, nats a token")
    add("--predict", nargs="+", type=float, default=[], metavar="TOKENS")
    options = parser.parse_args(arguments)
    return exit_code("scaling-law", lambda: print("\n".join(_lines(options))))


def _lines(options: Namespace) -> Iterator[str]:
    try:
        table = pd.read_csv(options.csv)
        fit = fit_law(table[options.tokens_column], table[options.loss_column])
    except KeyError as missing:
        raise FitError(f"{options.csv}: no column {missing}") from None
    except (OSError, ValueError) as error:
        raise FitError(f"{options.csv}: {' '.join(str(error).split())}") from None
    first, last = fit.tokens.min(), fit.tokens.max()
    yield f"L(D) = E + B / D^exponent: {len(fit.tokens)} runs of {first:.3g} to {last:.3g} tokens"
    rows = (("E", fit.E, fit.E_interval), ("exponent", fit.beta, fit.beta_interval))
    for name, value, (low, high) in rows:
        yield f"{name:<10} {value:.4f} [{low:.4f}, {high:.4f}]"
    yield f"{'B':<10} {fit.B:.5g}"
    if fit.unidentified:
        yield f"not identified: {fit.unidentified}"
    for tokens in options.predict:
        yield f"{tokens:<10.3g} {_foretold(fit, tokens)}"


def _foretold(fit: Fit, tokens: float) -> str:
    reason = fit.refusal(tokens)
    if reason:
        return f"refused: {reason}"
    low, high = fit.interval(tokens, runs=1)
    return f"{fit.value(tokens):.4f} [{low:.4f}, {high:.4f}]"
