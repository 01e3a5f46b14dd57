"""Table 5: the loss of Eq. 1 foretold beyond the budgets it was fitted to (Section 3.2.2).

The predictions are those of ``analysis.scaling_law.budgets``: the largest budget is held out, and
stands beside its truth. No number stands without its interval; where there is none, its reason is
in the notes. Rows are the paper's; a pair or method whose budgets a scale does not run says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.names import pair_title, short, titled
from analysis.notes import setting_notes
from analysis.reported import values as reported
from analysis.scaling_law.budgets import FACTORS, ITEM, MIN_DECADES, Curve, Prediction, curves
from analysis.writing.render import Table, blocks
from tad.experiment.config import Suite
from tad.methods import Method

Printed = dict[tuple[str, str], list[float]]


def table5_frame(found: Sequence[Curve]) -> pd.DataFrame:
    """One row a pair, method and prediction.

    Columns: pair, method, factor, tokens, loss, low, high (95%, nats a token), measured (mean over
    seeds) with its seeds, foretold (whether the interval holds it), refusal; of the law of all
    budgets E and beta with intervals, B, and ``unidentified``.
    """
    rows = []
    for curve in found:
        keys = {"pair": curve.pair, "method": curve.method}
        for one in curve.predictions:
            rows.append(
                {
                    **keys,
                    "factor": one.factor,
                    "tokens": one.tokens,
                    "loss": one.value,
                    "low": one.low,
                    "high": one.high,
                    "measured": one.truth,
                    "seeds": len(one.measured),
                    "foretold": one.foretold if one.measured and not one.refusal else None,
                    "refusal": one.refusal,
                    **_law(curve),
                }
            )
    return pd.DataFrame(rows)


def _law(curve: Curve) -> dict[str, object]:
    fit = curve.fit
    if fit is None:
        return {}
    (E_low, E_high), (low, high) = fit.E_interval, fit.beta_interval
    return {
        "E": fit.E,
        "E_low": E_low,
        "E_high": E_high,
        "B": fit.B,
        "beta": fit.beta,
        "beta_low": low,
        "beta_high": high,
        "unidentified": fit.unidentified,
    }


def table5(suite: Suite, found: Sequence[Curve]) -> Table:
    """The table to read; printed values stand beneath ours at paper scale."""
    largest = found[0].held_out.factor
    header = ["Pair", "Method", "budgets", f"×{largest:g} foretold", f"×{largest:g} measured"]
    header += [f"×{factor:g}" for factor in FACTORS if factor > largest] + ["E", "exponent"]
    ours = {(curve.pair, curve.method): curve for curve in found}
    printed, paper = _printed(), suite.is_paper
    rows, keys = [], []
    order = dict.fromkeys([*printed, *ours])
    pairs = list(dict.fromkeys(pair for pair, _ in order))
    for pair, method in sorted(order, key=lambda key: pairs.index(key[0])):
        curve = ours.get((pair, method))
        cells = _cells(curve) if curve else ["not run at this scale"]
        rows.append([pair, Method.parse(method).label, *cells])
        if paper and (pair, method) in printed:
            rows.append(["", "  as printed", *_printed_cells(printed[pair, method], largest)])
        keys += [pair] * (len(rows) - len(keys))
    return Table(
        title=f"{suite.items[ITEM].title} (scale {suite.scale})",
        header=header,
        rows=[[*row, *[""] * (len(header) - len(row))] for row in rows],
        notes=[*_notes(suite, found), *setting_notes(suite, suite.runs(ITEM))],
        left=2,
        blocks=blocks(keys),
    )


def _cells(curve: Curve) -> list[str]:
    """Budgets, the held-out one foretold and measured, those beyond, E and exponent."""
    below = curve.points[curve.points["factor"] < curve.held_out.factor]
    budgets = below["tokens"].unique()
    cells = [
        f"{len(budgets)}: {', '.join(short(tokens) for tokens in budgets)}"
        if len(budgets)
        else "0",
        _foretold(curve.held_out),
        _measured(curve.held_out),
        *(_foretold(one) for one in curve.beyond),
    ]
    fit = curve.fit
    if fit is None or fit.unidentified:
        return [*cells, "not identified", "not identified"]
    law = ((fit.E, fit.E_interval), (fit.beta, fit.beta_interval))
    return [*cells, *(_interval(value, *interval) for value, interval in law)]


def _foretold(one: Prediction) -> str:
    return "refused" if one.refusal else _interval(one.value, one.low, one.high)


def _measured(one: Prediction) -> str:
    """``3.892 (3.889, 3.895): inside``: the mean, every seed, and where it lies."""
    if not one.measured:
        return "–"
    seeds = ", ".join(f"{loss:.3f}" for loss in one.measured.values())
    where = "" if one.refusal else ": inside" if one.foretold else ": outside"
    return f"{one.truth:.3f} ({seeds}){where}"


def _interval(value: float, low: float, high: float) -> str:
    """With as many decimals as give two digits of the interval's width."""
    decimals = int(np.clip(1 - np.floor(np.log10(high - low)), 0, 4)) if high > low else 4
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _printed() -> Printed:
    """The paper's values of each pair and method, by growing budget (FACTORS)."""
    found: Printed = {}
    for _, rows in reported.table(5).groupby("tokens"):
        for key, row in reported.by_row(rows).items():
            found.setdefault(key, []).append(row["val_loss_predicted"])
    return found


def _printed_cells(values: Sequence[float], largest: float) -> list[str]:
    by_factor = dict(zip(FACTORS, (f"{value:.2f}" for value in values), strict=True))
    return ["", by_factor.pop(largest, ""), "", *by_factor.values()]


def _notes(suite: Suite, found: Sequence[Curve]) -> list[str]:
    """What a reader must know before any number, and why numbers are missing."""
    tokens = suite.pairs[found[0].pair].tokens[suite.items[ITEM].stage]
    runs = sorted({run.seed for run in suite.runs(ITEM)})
    notes = [
        "Loss of Eq. 1 at the end of separate runs, CLM + KL(teacher || student) on the whole "
        "validation split, nats a token; it is no cross-entropy, and tokenizers differ between "
        f"pairs. Seeds {', '.join(map(str, runs))}; × is a multiple of the pair's tokens "
        f"({short(tokens)} for {pair_title(suite, found[0].pair)}), by the paper's factors.",
        "Foretold: by L(D) = E + B / D^exponent, fitted to the smaller budgets alone (Huber's "
        "function of log residuals), with the 95% interval of the mean of as many runs as were "
        "measured. Measured: mean (seeds), and whether the interval holds it. E and exponent: of "
        "all budgets.",
        f"Refused: fewer than 4 budgets, under {MIN_DECADES} decades, a target further off than "
        "the budgets reach, an interval wider than the last fall over the same ratio, or a law "
        "that has not foretold the held-out budget or is not identified.",
    ]
    for curve in found:
        reasons: dict[str, list[str]] = {}
        for one in curve.predictions:
            if one.refusal:
                reasons.setdefault(one.refusal, []).append(f"×{one.factor:g}")
        if reasons:
            name = f"{pair_title(suite, curve.pair)}, {Method.parse(curve.method).label}"
            text = "; ".join(f"{' and '.join(at)}: {why}" for why, at in reasons.items())
            notes.append(f"Refused for {name}: {text}.")
    return notes


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table of a root. Raises UserError for records that are missing or broken."""
    found = curves(suite, root)
    table = titled(suite, table5(suite, found))
    table.write(root / "tables", name, table5_frame(found))
