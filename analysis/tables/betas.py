"""Held-out KL of TAD against beta, beside Vanilla KD: does a larger beta still help?

Table 2 varies beta by accuracy alone. Here is the KL that TAD is to lower, of the same runs and of
those of the controls, with the change against Vanilla KD of the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.names import pair_title, titled
from analysis.notes import setting_notes
from analysis.results import half_width, heldout_frame
from analysis.writing.render import Table, blocks, plus_minus
from tad.experiment.config import Suite
from tad.experiment.run_id import RunId
from tad.methods import BASELINE, Method
from workflow.items import TARGETS

SWEPT = "beta"


def swept_runs(suite: Suite, name: str) -> list[RunId]:
    """Runs of the target's items by the methods that differ in beta alone, and Vanilla KD's."""
    items = [item for item in TARGETS[name].needs if item in suite.select.items]
    runs = list(dict.fromkeys(run for item in items for run in suite.runs(item)))
    families: dict[tuple, set[Method]] = {}
    for method in {run.method for run in runs}:
        if SWEPT in method.row.parameters and not method.control:
            others = {key: value for key, value in method.parameters.items() if key != SWEPT}
            families.setdefault((method.name, *others.items()), set()).add(method)
    swept = max(families.values(), key=len, default=set()) | {Method(BASELINE)}
    return [run for run in runs if run.method in swept]


def betas_frame(root: Path, runs: Iterable[RunId]) -> pd.DataFrame:
    """One row a pair and method: beta, seeds, kl and its half interval (nats a token), and of
    the change against Vanilla KD, in percent and paired over seeds, ``change``, ``low``, ``high``
    and ``verdict``. Raises RecordError."""
    frame = heldout_frame(root, runs)
    wide = frame[frame["metric"] == "kl"].pivot_table(
        index=["pair", "method"], columns="seed", values="mean", sort=False
    )
    rows = []
    for pair, method in wide.index:
        values = wide.loc[(pair, method)].dropna()
        row = {"pair": pair, "method": method, "seeds": len(values), "kl": values.mean()}
        row["half"] = half_width(values.var() / len(values), len(values) - 1)
        if method != BASELINE:
            row[SWEPT] = Method.parse(method)[SWEPT]
            base = wide.loc[(pair, BASELINE)]
            row |= _change(np.log(values / base).dropna())
        rows.append(row)
    order = {pair: at for at, pair in enumerate(dict.fromkeys(row["pair"] for row in rows))}
    rows.sort(key=lambda row: (order[row["pair"]], row.get(SWEPT, 0.0)))
    return pd.DataFrame(rows)


def _change(ratios: pd.Series) -> dict[str, object]:
    """Mean change of logarithms of ratios (one a seed) in percent, with its 95% t interval."""
    mean, n = ratios.mean(), len(ratios)
    half = half_width(ratios.var() / n, n - 1) if n > 1 else np.nan
    low, high = (100 * np.expm1(end) for end in (mean - half, mean + half))
    verdict = "one seed" if n < 2 else "better" if high < 0 else "worse" if low > 0 else "not told"
    return {"change": 100 * np.expm1(mean), "low": low, "high": high, "verdict": verdict}


def betas_table(suite: Suite, frame: pd.DataFrame, notes: Iterable[str] = ()) -> Table:
    """Three rows a pair: KL, its change against Vanilla KD, and the verdict; a column a beta."""
    columns = list(dict.fromkeys(frame.sort_values(SWEPT, na_position="first")["method"]))
    lines = {
        "KL(T||S)": lambda row: plus_minus(row["kl"], row["half"], 4),
        f"change, % of {Method.parse(BASELINE).label}": _percent,
        "verdict": lambda row: row["verdict"] if isinstance(row["verdict"], str) else "",
    }
    rows, keys = [], []
    for pair, own in frame.groupby("pair", sort=False):
        by_method = {row["method"]: row for row in own.to_dict("records")}
        for line, cell in lines.items():
            cells = [cell(by_method[method]) if method in by_method else "–" for method in columns]
            rows.append([pair, line, *cells])
            keys.append(pair)
    labels = [_heading(Method.parse(method)) for method in columns]
    how = (
        "Validation split, nats a token, mean and 95% t interval over seeds; the change is paired "
        "by seed. Better: the whole interval is below 0; worse: above; not told: it holds 0."
    )
    return Table(
        title=f"Held-out KL of TAD against β (scale {suite.scale})",
        header=["Pair", "", *labels],
        rows=rows,
        notes=[how, *_largest(suite, frame), *notes],
        left=2,
        blocks=blocks(keys),
    )


def _percent(row: dict) -> str:
    if pd.isna(row["change"]):
        return ""
    ends = "" if pd.isna(row["low"]) else f" [{row['low']:+.1f}, {row['high']:+.1f}]"
    return f"{row['change']:+.1f}{ends}"


def _heading(method: Method) -> str:
    if str(method) == BASELINE:
        return method.label
    return f"β = {method[SWEPT]:g}"


def _largest(suite: Suite, frame: pd.DataFrame) -> Iterable[str]:
    """In words, the one that Table 2 stops at."""
    largest = frame[frame[SWEPT] == frame[SWEPT].max()]
    words = {
        "better": "is better than Vanilla KD",
        "worse": "is worse than Vanilla KD",
        "not told": "cannot be told from Vanilla KD",
        "one seed": "has one seed, so no verdict",
    }
    for row in largest.to_dict("records"):
        yield f"{pair_title(suite, row['pair'])}: β = {row[SWEPT]:g} {words[row['verdict']]}."


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table of a root. Raises RecordError for a missing record."""
    runs = swept_runs(suite, name)
    frame = betas_frame(root, runs)
    table = betas_table(suite, frame, setting_notes(suite, runs))
    titled(suite, table).write(root / "tables", name, frame)
