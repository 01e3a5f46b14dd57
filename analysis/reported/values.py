"""The paper's printed values.

``results/reported/tableN.csv`` holds what is printed in Table N, cell for cell, in the paper's row
order; ``flops.csv`` the figures of Section 3.2.2, ``text.csv`` those of the running text and
``claims.csv`` its claims. Pairs and methods have this project's ids. A cell is empty where the
paper prints nothing, or where the copy at hand lost it (the column ``lost`` names those).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import log, log10
from pathlib import Path

import pandas as pd

from analysis.results import PROJECT, pair_name
from tad.command import UserError
from tad.methods import BASELINE, ROWS, Method

FOLDER = PROJECT / "results" / "reported"
TASKS = ("hs", "wg", "obqa", "arc_e", "arc_c", "piqa", "siqa", "story")
MATH_TASKS = ("gsm8k", "math", "svamp", "asdiv", "mawps", "tab", "mqa", "sat")
WITH_TASKS = {1: TASKS, 4: TASKS, 6: TASKS, 7: MATH_TASKS, 8: MATH_TASKS}
"""The tables that print eight task accuracies a row, and which."""

OK, SLACK, MISS = "ok", "within rounding of the tasks", "off"


class ReportedError(UserError, ValueError):
    """A printed value that is asked for and not there."""


def table(number: int) -> pd.DataFrame:
    """Table ``number`` (1 to 9) as printed: one row a printed row, NaN where a cell is empty.

    Raises ReportedError for another number.
    """
    path = FOLDER / f"table{number}.csv"
    if not path.is_file():
        raise ReportedError(f"there is no Table {number}: choose 1 to 9")
    return _read(path).copy()


def pairs(number: int) -> list[str]:
    """The pairs of Table ``number`` in its order; models of others have none."""
    return list(table(number)["pair"].dropna().unique())


@cache
def _read(path: Path) -> pd.DataFrame:
    # Table 6 prints its token counts as text (+2B).
    tokens = str if path.stem == "table6" else float
    return pd.read_csv(path, dtype={"lost": str, "tokens": tokens, "value": str})


def by_row(
    rows: pd.DataFrame, released: Callable[[pd.Series], str] = lambda row: row["method"]
) -> dict[tuple[str, str], pd.Series]:
    """Printed rows by our pair and method id.

    ``released`` names what is no method: a checkpoint, or a model of others, which has the pair "".
    A parameter that is not printed (mostly beta) is its default, which is what those tables run
    with.
    """
    found = {}
    for _, row in rows.iterrows():
        name = row["method"]
        if name in ROWS:
            told = {p: row.get(p) for p in ROWS[name].parameters if pd.notna(row.get(p))}
            found[row["pair"], str(Method.of(name, **told))] = row
        else:
            pair = row["pair"] if isinstance(row["pair"], str) else ""
            found[pair, released(row)] = row
    return found


def flops() -> pd.DataFrame:
    """PetaFLOPs for one million tokens, one row a printed figure (Table 3 and Section 3.2.2).

    Columns: where, pair, method, petaflops.
    """
    frames = []
    for where, name in (("Table 3", "table3.csv"), ("Section 3.2.2", "flops.csv")):
        wide = _read(FOLDER / name)
        long = wide.melt("pair", [m for m in wide if m in ROWS], "method", "petaflops").dropna()
        order = {pair: at for at, pair in enumerate(wide["pair"])}
        long = long.sort_values("pair", key=lambda pairs, o=order: pairs.map(o), kind="stable")
        frames.append(long.assign(where=where))
    columns = ["where", "pair", "method", "petaflops"]
    return pd.concat(frames, ignore_index=True)[columns]


def quantity(name: str) -> float:
    """A number of the running text by its id in ``text.csv``.

    Raises ReportedError for an unknown id and for a value that is no plain number.
    """
    return quantities(name)[""]


def quantities(name: str) -> dict[str, float]:
    """The numbers of an id by the pair that they are said of; "" for none. Raises ReportedError."""
    text = _read(FOLDER / "text.csv")
    rows = text[text["id"] == name]
    if rows.empty:
        raise ReportedError(f"text.csv has no id {name!r}")
    try:
        return {
            pair: float(x) for pair, x in zip(rows["pair"].fillna(""), rows["value"], strict=True)
        }
    except ValueError as error:
        raise ReportedError(f"text.csv: {name}: not a number ({error})") from None


def recalculated(number: int) -> pd.DataFrame:
    """Avg and Rel of each row of Tables 1, 4, 6, 7, 8 from its eight printed tasks.

    Columns: row (its label), avg and rel as printed, ``avg_calc``, ``rel_calc`` (base 10; against
    the pair's vanilla KD row, NaN in tables that print no Rel), ``rel_ln``, ``rel_of_avg`` (100
    log10 of the ratio of averages), ``rel_slack`` (what rounding the tasks can move Rel by), and
    ``avg_verdict``, ``rel_verdict``: OK if the printed value is the calculated one rounded, SLACK
    if some task values that print alike would give it, MISS if none would, else empty.
    """
    printed, tasks = table(number), list(WITH_TASKS[number])
    rows = []
    for _, row in printed.iterrows():
        entry = {"table": number, "row": label(row), "pair": row["pair"], "method": row["method"]}
        entry |= {"avg": row["avg"], "rel": row.get("rel", float("nan"))}
        entry["avg_calc"] = row[tasks].mean(skipna=False)
        entry["avg_verdict"] = _avg_verdict(row[tasks], row["avg"])
        same = printed[(printed["pair"] == row["pair"]) & (printed["method"] == BASELINE)]
        if "rel" in printed and row["method"] != BASELINE:
            entry |= _rel(row[tasks], same.iloc[0][tasks], row["rel"])
        rows.append(entry)
    return pd.DataFrame(rows)


def _avg_verdict(tasks: pd.Series, printed: float) -> str:
    """In whole tenths, so that no verdict hangs on binary rounding."""
    if tasks.isna().any() or pd.isna(printed):
        return ""
    gap = abs(round(10 * printed) * len(tasks) - sum(round(10 * value) for value in tasks))
    # Half a tenth is a row's own rounding; each task's may add as much again.
    return OK if 2 * gap <= len(tasks) else SLACK if gap <= len(tasks) else MISS


def _rel(tasks: pd.Series, base: pd.Series, printed: float) -> dict[str, object]:
    ratios = [ours / theirs for ours, theirs in zip(tasks, base, strict=True)]
    rel = 100 * sum(map(log10, ratios)) / len(ratios)
    # Each task is known to half a tenth; to first order the logarithms move by its share.
    slack = sum(0.05 / a + 0.05 / b for a, b in zip(tasks, base, strict=True))
    slack *= 100 / len(ratios) / log(10)
    return {
        "rel_calc": rel,
        "rel_ln": 100 * sum(map(log, ratios)) / len(ratios),
        "rel_of_avg": 100 * log10(tasks.mean() / base.mean()),
        "rel_slack": slack,
        "rel_verdict": verdict(printed, rel, slack),
    }


def verdict(printed: float, calculated: float, slack: float) -> str:
    """OK, SLACK or MISS for a value printed to one decimal; empty if it is not printed."""
    if pd.isna(printed):
        return ""
    gap = abs(printed - calculated)
    return OK if gap <= 0.05 else SLACK if gap <= 0.05 + slack else MISS


def label(row: pd.Series) -> str:
    """A row of a table in words: ``STUDENT, TAD K=10``."""
    if row["method"] == "external":
        return str(row["model"])
    if row["method"] in ROWS:
        method = ROWS[row["method"]].label
        method += f" K={row['k']:.0f}" if pd.notna(row["k"]) else ""
    else:
        method = "as released"
        method += f" at {row['tokens']}" if isinstance(row.get("tokens"), str) else ""
    return f"{pair_name(row['pair'])}, {method}"
