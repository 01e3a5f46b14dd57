"""Claims of the paper's text, each set against the cells that its tables print.

Not a judgement of the method: a claim is checked against the paper's own numbers here, and against
runs of ours in ``analysis.claims.judge``.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from analysis.reported.values import MATH_TASKS, TASKS, flops, quantity, recalculated, table

HOLDS, PARTLY, NOT = "holds", "in part", "does not hold"


class Claim(NamedTuple):
    """Where the claim is made, the claim in our words, the verdict, and the numbers behind it."""

    where: str
    claim: str
    verdict: str
    finding: str


def claims() -> list[Claim]:
    """All claims, in the order of the paper."""
    makers = (
        _headline, _best_rel, _every_k, _edge_at_half, _hard_tasks, _easy_tasks, _k_peak_qwen,
        _beta_fast, _overhead_qwen, _overhead_large, _cost_scale, _miniplm_vanilla, _rkl_vanilla,
        _extrapolated, _calibration, _k_peak, _k_peak_math, _continued, _math_gains, _llama32,
        _miniplm_math, _rho, _llemma,
    )  # fmt: skip
    return [maker() for maker in makers]


BIG, SMALL = "qwen1.5-1.8b_1.2b", "qwen1.5-1.8b_0.5b"
QWEN = {"1.2B": BIG, "0.5B": SMALL}
LARGER = {"Phi2": "phi2_1b", "Qwen2.5": "qwen2.5-3b_1b", "Gemma2": "gemma2-9b_2b"}
TINY, LLAMA = "phi3-4b_tinyllama", "phi3-14b_llama2-7b"


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


def _list(values: pd.Series, decimals: int = 1) -> str:
    return ", ".join(f"K={k} {value:.{decimals}f}" for k, value in values.items())


def _name(task: str) -> str:
    return task.upper().replace("_", "-")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _best_rel() -> Claim:
    rel = recalculated(1).set_index("row")["rel_calc"]
    found = []
    for size in QWEN:
        ours, theirs = rel[f"Qwen1.5 {size}, TAD K=10"], rel[f"Qwen1.5 {size}, MiniPLM"]
        found.append(f"{size} {ours / theirs - 1:+.0%} ({ours:.2f} against {theirs:.2f})")
    text = f"from the tasks {'; '.join(found)}; 120% needs Rel rounded first"
    return Claim("Table 1", "Rel of TAD K=10 is 50% to 120% above MiniPLM's", NOT, text)


def _every_k() -> Claim:
    rows = _rows(1)
    base, tad = _cell(rows, BIG, "miniplm"), _by_k(rows, BIG)
    gain = _by_k(rows, BIG, "arc_e")[10] - _cell(rows, BIG, "miniplm", "arc_e")
    text = (
        f"{_list(tad)} against {base:.1f}; ARC-E alone gives {gain:.1f} of the "
        f"{8 * (tad[10] - base):.1f} summed points of K=10"
    )
    verdict = HOLDS if (tad > base).all() else NOT
    return Claim("3.2.1", "1.2B: TAD's average is above MiniPLM's for every K", verdict, text)


def _edge_at_half() -> Claim:
    rows = _rows(1)
    base, tad = _cell(rows, SMALL, "miniplm"), _by_k(rows, SMALL)
    verdict = HOLDS if (tad > base).all() else PARTLY
    text = f"{_list(tad, 2)} against {base:.2f}"
    return Claim("3.2.1", "0.5B: TAD keeps an edge over MiniPLM", verdict, text)


def _hard_tasks() -> Claim:
    rows, worse = _rows(1), []
    for size, pair in QWEN.items():
        for task in ("obqa", "arc_c"):
            base = _cell(rows, pair, "miniplm", task)
            below = _by_k(rows, pair, task)[lambda values, base=base: values < base]
            worse += [f"{_name(task)} {size} K={k} {v:.1f} < {base:.1f}" for k, v in below.items()]
    text = "exceptions: " + "; ".join(worse) if worse else "in every row"
    verdict = PARTLY if worse else HOLDS
    return Claim("3.2.1", "TAD is better than MiniPLM on ARC-C and OBQA", verdict, text)


def _easy_tasks() -> Claim:
    rows, gaps = _rows(1), {}
    for task in ("arc_e", "story"):
        for size, pair in QWEN.items():
            gap = _by_k(rows, pair, task)[10] - _cell(rows, pair, "miniplm", task)
            gaps[f"{_name(task)} {size}"] = gap
    text = "TAD K=10 minus MiniPLM: " + "; ".join(f"{at} {gap:+.1f}" for at, gap in gaps.items())
    verdict = HOLDS if all(gap < 0 for gap in gaps.values()) else NOT
    return Claim("3.2.1", "MiniPLM is slightly better on ARC-E and Story", verdict, text)


def _k_peak_qwen() -> Claim:
    found = {size: _by_k(_rows(1), pair) for size, pair in QWEN.items()}
    verdict = HOLDS if all(values.idxmax() == 10 for values in found.values()) else PARTLY
    text = "; ".join(f"{size}: {_list(values, 2)}" for size, values in found.items())
    return Claim("3.2.1", "results improve up to K=10", verdict, text)


def _beta_fast() -> Claim:
    rows = table(2).set_index(["pair", "beta"])["avg"]
    drops = {size: rows[pair, 0.5] - rows[pair, 1] for size, pair in QWEN.items()}
    text = "beta 0.5 minus beta 1: " + "; ".join(f"{s} {d:+.1f}" for s, d in drops.items())
    text += f"; 0.5B at beta 10: {rows[SMALL, 10]:.1f}, below its {rows[SMALL, 0.5]:.1f} at 0.5"
    verdict = HOLDS if all(drop <= -0.5 for drop in drops.values()) else PARTLY
    return Claim("3.2.1", "below beta = 1 results may degrade fast", verdict, text)


def _petaflops(pair: str, method: str) -> float:
    rows = flops()
    return float(rows[(rows["pair"] == pair) & (rows["method"] == method)]["petaflops"].iloc[0])


def _overhead(pair: str, slack: float = 0.0) -> float:
    """MiniPLM's FLOPs over vanilla KD's, less 1; ``slack`` is rounding to its advantage."""
    return (_petaflops(pair, "miniplm") + slack) / (_petaflops(pair, "vanilla_kd") - slack) - 1


def _overhead_qwen() -> Claim:
    text = "; ".join(f"{size} {_overhead(pair):+.0%}" for size, pair in QWEN.items())
    return Claim("3.2.1", "MiniPLM needs 33% to 50% more FLOPs", PARTLY, f"{text}: about right")


def _overhead_large() -> Claim:
    text = "; ".join(f"{name} {_overhead(pair):+.0%}" for name, pair in LARGER.items())
    most = _overhead(LARGER["Gemma2"], slack=0.05)
    text += f"; rounding lets Gemma2 reach {most:+.1%} at most"
    claim = "MiniPLM needs 50% more (Phi2, Qwen2.5), 67% more (Gemma2)"
    return Claim("3.2.2", claim, PARTLY, text)


def _cost_scale() -> Claim:
    cost = {name: 1e18 * _petaflops(pair, "vanilla_kd") for name, pair in LARGER.items()}
    text = "; ".join(f"{name} {flop:.2g}" for name, flop in cost.items())
    verdict = HOLDS if all(flop > 1e19 for flop in cost.values()) else NOT
    return Claim("3.2.2", "more than 1e19 FLOPs a billion tokens", verdict, text)


def _miniplm_vanilla() -> Claim:
    rows, found, below = _rows(4), [], []
    for name, pair in LARGER.items():
        ours, base = _cell(rows, pair, "miniplm"), _cell(rows, pair, "vanilla_kd")
        found.append(f"{name} {ours:.2f} against {base:.2f}")
        below.append(ours <= base + 0.05)
    printed = _cell(rows, LARGER["Gemma2"], "miniplm", "avg")
    text = f"{'; '.join(found)}; Gemma2's printed average, {printed:.1f}, says the contrary"
    verdict = HOLDS if all(below) else PARTLY
    return Claim("3.2.2", "MiniPLM does not beat Vanilla KD", verdict, text)


def _rkl_vanilla() -> Claim:
    rows = _rows(4)
    gaps = {
        name: _cell(rows, pair, "rkl") - _cell(rows, pair, "vanilla_kd")
        for name, pair in LARGER.items()
    }
    text = "RKL minus Vanilla KD: " + "; ".join(f"{name} {gap:+.2f}" for name, gap in gaps.items())
    verdict = HOLDS if all(gap > 0 for gap in gaps.values()) else PARTLY
    return Claim("3.2.2", "RKL is slightly better than Vanilla KD", verdict, text)


def _extrapolated() -> Claim:
    rows = table(5).pivot(index=["pair", "tokens"], columns="method", values="val_loss_predicted")
    gaps = rows["tad"] - rows[["vanilla_kd", "rkl"]].min(axis=1)
    shown = "; ".join(f"{name} {gaps[pair, 1e12]:+.2f}" for name, pair in LARGER.items())
    verdict = HOLDS if (gaps < 0).all() else NOT
    text = f"TAD minus the next at 1T: {shown}; x500 beyond the data, see section 8"
    return Claim("3.2.2", "TAD has the lowest projected loss", verdict, text)


def _calibration() -> Claim:
    rows = table(4)
    tests = {"rises with K": [], "below Vanilla KD": [], "RKL worst": []}
    for pair in LARGER.values():
        tad, all_of = _by_k(rows, pair, "f_ece"), rows[rows["pair"] == pair]["f_ece"]
        tests["rises with K"].append(tad.is_monotonic_increasing)
        tests["below Vanilla KD"].append(tad.max() <= _cell(rows, pair, "vanilla_kd", "f_ece"))
        tests["RKL worst"].append(all_of.max() == _cell(rows, pair, "rkl", "f_ece"))
    held = {name: all(results) for name, results in tests.items()}
    verdict = HOLDS if all(held.values()) else PARTLY
    text = "; ".join(f"{name}: {_yes(flag)}" for name, flag in held.items())
    claim = "F-ECE rises with K, is lower than Vanilla KD's, and RKL's is the worst"
    return Claim("3.2.3", claim, verdict, f"{text} (all printed cells)")


def _k_peak() -> Claim:
    found = {name: _by_k(_rows(4), pair) for name, pair in LARGER.items()}
    verdict = HOLDS if all(values.idxmax() in (5, 10) for values in found.values()) else PARTLY
    text = "; ".join(f"{name}: {_list(values, 2)}" for name, values in found.items())
    return Claim("3.2.4", "best at K = 5 or 10 (larger teachers)", verdict, text)


def _k_peak_math() -> Claim:
    found = {
        name: _by_k(table(8), pair, "avg")
        for name, pair in (("TinyLlama", TINY), ("Llama2", LLAMA))
    }
    verdict = HOLDS if all(values.idxmax() in (5, 10) for values in found.values()) else PARTLY
    text = "; ".join(f"{name}: {_list(values)}" for name, values in found.items())
    return Claim("3.2.4", "best at K = 5 or 10 (Table 8)", verdict, text)


def _continued() -> Claim:
    rows = _rows(6)
    later = rows[rows["tokens"] == "2T"]["mean"].iloc[0]
    tad, vanilla = _by_k(rows, TINY), _cell(rows, TINY, "vanilla_kd")
    verdict = HOLDS if (tad > later).all() else PARTLY
    text = f"{_list(tad)} against {later:.1f}; Vanilla KD does so too ({vanilla:.1f})"
    return Claim("3.3", "distilled students beat the 2T checkpoint", verdict, text)


def _math_gains() -> Claim:
    rows = _rows(7)
    times = {
        task: _by_k(rows, TINY, task)[5] / _cell(rows, TINY, "base", task)
        for task in ("mawps", "math", "asdiv", "gsm8k")
    }
    text = "K=5: " + ", ".join(f"{_name(task)} x{ratio:.2f}" for task, ratio in times.items())
    return Claim("3.3.1", "MAWPS, MATH, ASDiv double; GSM8K x3.5", HOLDS, text)


def _llama32() -> Claim:
    rows, found = _rows(7), {}
    for column in ("mean", "less"):
        tad, vanilla = _by_k(rows, TINY, column), _cell(rows, TINY, "vanilla_kd", column)
        found[column] = tad, vanilla, _model(rows, "Llama3.2", column)
    shown = {
        column: f"{_list(tad)}, Vanilla KD {vanilla:.1f} against {other:.1f}"
        for column, (tad, vanilla, other) in found.items()
    }
    tad, vanilla, other = found["mean"]
    verdict = "holds through SAT alone" if (tad > other).all() and vanilla < other else NOT
    text = f"{shown['mean']}; without SAT (Llama3.2: 2 of 32): {shown['less']}"
    claim = "TAD beats Llama3.2-1B on mathematics, Vanilla KD does not"
    return Claim("3.3.1", claim, verdict, text)


def _miniplm_math() -> Claim:
    rows = _rows(7)
    ours, clm = _cell(rows, TINY, "miniplm"), _cell(rows, TINY, "clm")
    verdict = HOLDS if ours < clm else NOT
    claim = "MiniPLM is worse than plain pre-training on mathematics"
    return Claim("3.3.1", claim, verdict, f"{ours:.1f} against {clm:.1f}")


def _rho() -> Claim:
    rows = _rows(8)
    best, best_less = (_by_k(rows, TINY, column).max() for column in ("avg", "less"))
    rho, rho_less, sat = (_model(rows, "Rho-1", column) for column in ("avg", "less", "sat"))
    text = (
        f"best TAD {best:.1f} against {rho:.1f}; Rho-1's SAT is printed as {sat:.1f} (its authors "
        f"report 28.1); without SAT {best_less:.1f} against {rho_less:.1f}"
    )
    return Claim("3.4", "TinyLlama is comparable to Rho-1", HOLDS, text)


def _llemma() -> Claim:
    rows = table(8)
    tad, vanilla = _by_k(rows, LLAMA, "avg"), _cell(rows, LLAMA, "vanilla_kd", "avg")
    other = _model(rows, "Llemma", "avg")
    verdict = HOLDS if (tad > other).all() else NOT
    text = f"{_list(tad)} against {other:.1f}; so does Vanilla KD ({vanilla:.1f})"
    return Claim("3.4", "distilled Llama2-7B beats Llemma-7B", verdict, text)


def _headline() -> Claim:
    found = {pair: _by_k(table(8), pair, "gsm8k") for pair in (TINY, LLAMA)}
    printed = [quantity("gsm8k_tinyllama"), quantity("gsm8k_llama2")]
    verdict = HOLDS if [values[1] for values in found.values()] == printed else NOT
    best = all(values.idxmax() == 1 for values in found.values())
    text = f"the cells of K=1, which is the best K for GSM8K in both: {_yes(best)}"
    return Claim("Section 1", "GSM8K of 36.8 (TinyLlama) and 56.0 (Llama2-7B)", verdict, text)
