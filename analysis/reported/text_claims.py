"""Claims of the paper's text, each set against the cells that its tables print.

Not a judgement of the method: ``claims.csv`` says what the text claims and what verdict is given
where the cells do not bear it out; a function of the same id looks at the cells. Claims are judged
by runs of ours in ``analysis.claims``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from analysis.reported import values
from analysis.reported.values import MATH_TASKS, TASKS, flops, label, pairs, recalculated, table
from analysis.results import pair_name
from tad.methods import BASELINE

HOLDS, PARTLY, NOT = "holds", "in part", "does not hold"


class Statement(NamedTuple):
    """Where the claim is made, the claim in our words, the verdict, and the numbers behind it."""

    where: str
    claim: str
    verdict: str
    finding: str


def statements() -> list[Statement]:
    """All claims, in the order of the paper."""
    found = []
    for entry in pd.read_csv(values.FOLDER / "claims.csv", dtype=str).fillna("").itertuples():
        held, text = CHECKS[entry.id](entry.rival)
        verdict = held if isinstance(held, str) else HOLDS if held else entry.otherwise
        found.append(Statement(entry.where, entry.claim, verdict, text))
    return found


# --- Cells ---------------------------------------------------------------------------------------


def _rows(number: int) -> pd.DataFrame:
    """A table with ``mean``, the mean of its eight tasks, and ``less``, that without SAT."""
    printed = table(number)
    tasks = [task for task in (*TASKS, *MATH_TASKS) if task in printed]
    printed["mean"] = printed[tasks].mean(axis=1)
    printed["less"] = printed[[task for task in tasks if task != "sat"]].mean(axis=1)
    return printed


def _cell(rows: pd.DataFrame, pair: str, method: str, column: str = "mean") -> float:
    """The cell of a pair's first row of a method; of several checkpoints, the earliest."""
    found = rows[(rows["pair"] == pair) & (rows["method"] == method)]
    return float(found[column].iloc[0])


def _by_k(rows: pd.DataFrame, pair: str, column: str = "mean") -> pd.Series:
    """A column of a pair's TAD rows, by K."""
    found = rows[(rows["pair"] == pair) & (rows["method"] == "tad")]
    return pd.Series(found[column].to_numpy(), index=found["k"].astype(int).to_numpy())


def _model(rows: pd.DataFrame, start: str, column: str = "mean") -> float:
    """The cell of a model that is no run of the paper, by how its name starts."""
    return float(rows[rows["model"].str.startswith(start)][column].iloc[0])


def _list(by_k: pd.Series, decimals: int = 1) -> str:
    return ", ".join(f"K={k} {value:.{decimals}f}" for k, value in by_k.items())


def _each(number: int, shown: Callable[[str], str]) -> str:
    """What is shown of each pair of a table, with the last word of its name."""
    return "; ".join(f"{_short(pair)} {shown(pair)}" for pair in pairs(number))


def _short(pair: str) -> str:
    return pair_name(pair).split()[-1]


def _task(name: str) -> str:
    return name.upper().replace("_", "-")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


# --- Table 1, 2, 3: the smaller teacher ----------------------------------------------------------

Found = tuple[bool | str, str]
"""Whether the claim holds, or a verdict in words; and the numbers."""


def headline(_: str) -> Found:
    printed = values.quantities("gsm8k")
    found = {pair: _by_k(table(8), pair, "gsm8k") for pair in printed}
    best = all(by_k.idxmax() == 1 for by_k in found.values())
    text = f"the cells of K=1, which is the best K for GSM8K in both: {_yes(best)}"
    return all(found[pair][1] == value for pair, value in printed.items()), text


def best_rel(_: str) -> Found:
    rel = recalculated(1).set_index("row")["rel_calc"]
    rows, found = table(1), []
    for pair in pairs(1):
        own = rows[rows["pair"] == pair]
        ten, other = own[own["k"] == 10].iloc[0], own[own["method"] == "miniplm"].iloc[0]
        ours, theirs = rel[label(ten)], rel[label(other)]
        found.append(f"{_short(pair)} {ours / theirs - 1:+.0%} ({ours:.2f} against {theirs:.2f})")
    return NOT, f"from the tasks {'; '.join(found)}; 120% needs Rel rounded first"


def every_k(_: str) -> Found:
    rows, pair = _rows(1), pairs(1)[0]
    base, tad = _cell(rows, pair, "miniplm"), _by_k(rows, pair)
    gain = _by_k(rows, pair, "arc_e")[10] - _cell(rows, pair, "miniplm", "arc_e")
    text = (
        f"{_list(tad)} against {base:.1f}; ARC-E alone gives {gain:.1f} of the "
        f"{8 * (tad[10] - base):.1f} summed points of K=10"
    )
    return bool((tad > base).all()), text


def edge(_: str) -> Found:
    rows, pair = _rows(1), pairs(1)[1]
    base, tad = _cell(rows, pair, "miniplm"), _by_k(rows, pair)
    return bool((tad > base).all()), f"{_list(tad, 2)} against {base:.2f}"


def hard_tasks(_: str) -> Found:
    rows, worse = _rows(1), []
    for pair in pairs(1):
        for task in ("obqa", "arc_c"):
            base, name = _cell(rows, pair, "miniplm", task), f"{_task(task)} {_short(pair)}"
            below = [(k, x) for k, x in _by_k(rows, pair, task).items() if x < base]
            worse += [f"{name} K={k} {x:.1f} < {base:.1f}" for k, x in below]
    return not worse, "exceptions: " + "; ".join(worse) if worse else "in every row"


def easy_tasks(_: str) -> Found:
    rows = _rows(1)
    gaps = {
        f"{_task(task)} {_short(pair)}": _by_k(rows, pair, task)[10]
        - _cell(rows, pair, "miniplm", task)
        for task in ("arc_e", "story")
        for pair in pairs(1)
    }
    text = "TAD K=10 minus MiniPLM: " + "; ".join(f"{at} {gap:+.1f}" for at, gap in gaps.items())
    return all(gap < 0 for gap in gaps.values()), text


def _peaks(number: int, best: tuple[int, ...], decimals: int, column: str) -> Found:
    rows = _rows(number)
    found = {pair: _by_k(rows, pair, column) for pair in pairs(number)}
    text = "; ".join(f"{_short(pair)}: {_list(by_k, decimals)}" for pair, by_k in found.items())
    return all(by_k.idxmax() in best for by_k in found.values()), text


def peak_small(_: str) -> Found:
    return _peaks(1, (10,), 2, "mean")


def beta_fast(_: str) -> Found:
    rows, last = table(2).set_index(["pair", "beta"])["avg"], pairs(2)[-1]
    drops = {pair: rows[pair, 0.5] - rows[pair, 1] for pair in pairs(2)}
    text = "beta 0.5 minus beta 1: " + _each(2, lambda pair: f"{drops[pair]:+.1f}")
    text += f"; {_short(last)} at beta 10: {rows[last, 10]:.1f}, below its {rows[last, 0.5]:.1f}"
    return all(drop <= -0.5 for drop in drops.values()), f"{text} at 0.5"


def _petaflops(pair: str, method: str) -> float:
    rows = flops()
    return float(rows[(rows["pair"] == pair) & (rows["method"] == method)]["petaflops"].iloc[0])


def _overhead(pair: str, slack: float = 0.0) -> float:
    """MiniPLM's FLOPs over vanilla KD's, less 1; ``slack`` is rounding to its advantage."""
    return (_petaflops(pair, "miniplm") + slack) / (_petaflops(pair, BASELINE) - slack) - 1


def overhead_small(_: str) -> Found:
    return PARTLY, _each(3, lambda pair: f"{_overhead(pair):+.0%}") + ": about right"


# --- Tables 4, 5: the larger teachers ------------------------------------------------------------


def overhead_large(_: str) -> Found:
    text, last = _each(4, lambda pair: f"{_overhead(pair):+.0%}"), pairs(4)[-1]
    most = _overhead(last, slack=0.05)
    return PARTLY, f"{text}; rounding lets {_short(last)} reach {most:+.1%} at most"


def cost_scale(_: str) -> Found:
    cost = {pair: 1e18 * _petaflops(pair, BASELINE) for pair in pairs(4)}
    return all(x > 1e19 for x in cost.values()), _each(4, lambda pair: f"{cost[pair]:.2g}")


def miniplm_vanilla(_: str) -> Found:
    rows = _rows(4)
    mean, avg = (
        {pair: [_cell(rows, pair, m, column) for m in ("miniplm", BASELINE)] for pair in pairs(4)}
        for column in ("mean", "avg")
    )
    text = _each(4, lambda pair: "{:.2f} against {:.2f}".format(*mean[pair]))
    for pair, (ours, base) in avg.items():
        if ours > base:
            text += f"; {_short(pair)}'s printed average, {ours:.1f}, says the contrary"
    return all(ours <= base + 0.05 for ours, base in mean.values()), text


def rkl_vanilla(_: str) -> Found:
    rows = _rows(4)
    gaps = {pair: _cell(rows, pair, "rkl") - _cell(rows, pair, BASELINE) for pair in pairs(4)}
    text = "RKL minus Vanilla KD: " + _each(4, lambda pair: f"{gaps[pair]:+.2f}")
    return all(gap > 0 for gap in gaps.values()), text


def extrapolated(_: str) -> Found:
    rows = table(5).pivot(index=["pair", "tokens"], columns="method", values="val_loss_predicted")
    gaps = rows["tad"] - rows.drop(columns="tad").min(axis=1)
    shown = _each(5, lambda pair: f"{gaps[pair, 1e12]:+.2f}")
    text = f"TAD minus the next at 1T: {shown}; x500 beyond the data, see section 8"
    return bool((gaps < 0).all()), text


def calibration(_: str) -> Found:
    rows = table(4)
    tests = {"rises with K": [], "below Vanilla KD": [], "RKL worst": []}
    for pair in pairs(4):
        tad, all_of = _by_k(rows, pair, "f_ece"), rows[rows["pair"] == pair]["f_ece"]
        tests["rises with K"].append(tad.is_monotonic_increasing)
        tests["below Vanilla KD"].append(tad.max() <= _cell(rows, pair, BASELINE, "f_ece"))
        tests["RKL worst"].append(all_of.max() == _cell(rows, pair, "rkl", "f_ece"))
    held = {name: all(results) for name, results in tests.items()}
    text = "; ".join(f"{name}: {_yes(flag)}" for name, flag in held.items())
    return all(held.values()), f"{text} (all printed cells)"


def peak_large(_: str) -> Found:
    return _peaks(4, (5, 10), 2, "mean")


# --- Tables 6, 7, 8: from checkpoints ------------------------------------------------------------


def peak_math(_: str) -> Found:
    return _peaks(8, (5, 10), 1, "avg")


def continued(_: str) -> Found:
    rows, [pair] = _rows(6), pairs(6)
    later = rows[rows["method"] == "base"]["mean"].iloc[-1]
    tad, vanilla = _by_k(rows, pair), _cell(rows, pair, BASELINE)
    text = f"{_list(tad)} against {later:.1f}; Vanilla KD does so too ({vanilla:.1f})"
    return bool((tad > later).all()), text


def math_gains(_: str) -> Found:
    rows, [pair] = _rows(7), pairs(7)
    times = {
        task: _by_k(rows, pair, task)[5] / _cell(rows, pair, "base", task)
        for task in ("mawps", "math", "asdiv", "gsm8k")
    }
    return HOLDS, "K=5: " + ", ".join(f"{_task(task)} x{x:.2f}" for task, x in times.items())


def math_rival(rival: str) -> Found:
    rows, [pair], shown = _rows(7), pairs(7), []
    for column in ("mean", "less"):
        tad, vanilla = _by_k(rows, pair, column), _cell(rows, pair, BASELINE, column)
        other = _model(rows, rival, column)
        shown.append(f"{_list(tad)}, Vanilla KD {vanilla:.1f} against {other:.1f}")
        if column == "mean":
            holds = (tad > other).all() and vanilla < other
    text = f"{shown[0]}; without SAT ({rival}: 2 of 32): {shown[1]}"
    return "holds through SAT alone" if holds else NOT, text


def miniplm_math(_: str) -> Found:
    rows, [pair] = _rows(7), pairs(7)
    ours, clm = _cell(rows, pair, "miniplm"), _cell(rows, pair, "clm")
    return ours < clm, f"{ours:.1f} against {clm:.1f}"


def small_rival(rival: str) -> Found:
    rows, pair = _rows(8), pairs(8)[0]
    best, best_less = (_by_k(rows, pair, column).max() for column in ("avg", "less"))
    other, other_less, sat = (_model(rows, rival, column) for column in ("avg", "less", "sat"))
    return HOLDS, (
        f"best TAD {best:.1f} against {other:.1f}; {rival}'s SAT is printed as {sat:.1f} (its "
        f"authors report 28.1); without SAT {best_less:.1f} against {other_less:.1f}"
    )


def large_rival(rival: str) -> Found:
    rows, pair = table(8), pairs(8)[1]
    tad, vanilla = _by_k(rows, pair, "avg"), _cell(rows, pair, BASELINE, "avg")
    other = _model(rows, rival, "avg")
    text = f"{_list(tad)} against {other:.1f}; so does Vanilla KD ({vanilla:.1f})"
    return bool((tad > other).all()), text


CHECKS = {
    check.__name__: check
    for check in (
        headline, best_rel, every_k, edge, hard_tasks, easy_tasks, peak_small, beta_fast,
        overhead_small, overhead_large, cost_scale, miniplm_vanilla, rkl_vanilla, extrapolated,
        calibration, peak_large, peak_math, continued, math_gains, math_rival, miniplm_math,
        small_rival, large_rival,
    )
}  # fmt: skip
"""By id in ``claims.csv``."""
