"""The few-shot tables (1, 2, 4 and 6) as data frames, and paired tests of two methods.

    tad paired A/fewshot.items.jsonl.gz B/fewshot.items.jsonl.gz

Pure functions: scores in, frames and the set of bold cells out. Accuracies, averages and F-ECE are
in percent, as the paper prints them.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tad.command import UserError, command_line, exit_code

TASKS = {
    "hellaswag": "HS",
    "winogrande": "WG",
    "openbookqa": "OBQA",
    "arc_easy": "ARC-E",
    "arc_challenge": "ARC-C",
    "piqa": "PIQA",
    "siqa": "SIQA",
    "storycloze": "Story",
}
"""Task to column, in the paper's order."""

F_ECE = "F-ECE"
BASELINE = "vanilla_kd"
DECIMALS = {F_ECE: 2}
"""Decimals that the paper prints; 1 in all other columns."""

BOLD_WITHIN = {F_ECE: 0.0}
"""How near the best a value is marked too: 0.4 by Table 1's caption. That is in points of accuracy
and would mark nearly all of F-ECE, so there only the best itself is marked."""

Row = tuple[str, str]
"""A pair and a method id, or a checkpoint (``tinyllama-1.1b/1t``) in the method's place."""


class TableError(UserError, ValueError):
    """Scores that make no table: missing, double, unknown or not finite; the message names them."""


@dataclass(frozen=True)
class FewshotTable:
    """Means over seeds with 95% t intervals, rows (pair, method) in the order asked for.

    ``low`` and ``high`` have the shape of ``mean`` and are NaN where there is one seed. ``bold``
    holds (row, column) of the cells to mark, ``notes`` what has to stand under the table.
    """

    mean: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    seeds: pd.Series
    bold: frozenset[tuple[Row, str]]
    notes: tuple[str, ...]


# --- Scores --------------------------------------------------------------------------------------


def score_rows(
    fewshot: Mapping[str, Any],
    *,
    pair: str,
    method: str,
    seed: int,
    calibration: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Rows of the frame that ``fewshot_table`` takes, from the records of one run.

    ``fewshot`` and ``calibration`` are the JSON of ``eval.fewshot.evaluate`` and ``eval.calibration.measure``.
    """
    keys = {"pair": pair, "method": method, "seed": seed}
    rows = [
        {**keys, "task": task, "value": 100 * record["accuracy"]}
        for task, record in fewshot["tasks"].items()
    ]
    if calibration is not None:
        rows.append({**keys, "task": "f_ece", "value": 100 * calibration["full_ece"]})
    return rows


def rows_in_order(
    pairs: Sequence[str], methods: Sequence[str], checkpoints: Sequence[str] = ()
) -> list[Row]:
    """Rows as the paper has them: by pair, then method; of checkpoints, the first above, the rest
    below the methods (Table 6)."""
    order = [*checkpoints[:1], *methods, *checkpoints[1:]]
    return [(pair, method) for pair in pairs for method in order]


def fewshot_table(
    scores: pd.DataFrame, rows: Sequence[Row], *, rel: bool = True, baseline: str = BASELINE
) -> FewshotTable:
    """The table of ``rows`` from scores with the columns pair, method, seed, task, value.

    Tasks are those of TASKS, each once for every pair, method and seed; ``f_ece`` adds the column
    F-ECE. Avg is the mean over tasks. Rel is ``100 * mean over tasks of log10(value / baseline)``,
    against the baseline of the same pair and seed: the logarithm that the paper's printed values
    fit. Both are taken within a seed, then averaged. Raises TableError.
    """
    _check(scores)
    wide = scores.pivot(index=["pair", "method", "seed"], columns="task", values="value")
    tasks = [task for task in TASKS if task in wide.columns]
    per_seed = wide[tasks].rename(columns=TASKS)
    per_seed["Avg"] = wide[tasks].mean(axis=1)
    notes = []
    if rel:
        per_seed["Rel"] = _relative(wide[tasks], rows, baseline)
        if (wide[tasks] <= 0).any(axis=None):
            notes.append("Rel is left out where an accuracy is 0: it has no logarithm.")
    if "f_ece" in wide.columns:
        per_seed[F_ECE] = wide["f_ece"]
    missing = [row for row in rows if row not in per_seed.index.droplevel("seed")]
    if missing:
        raise TableError(f"no scores of {missing[0][1]} for {missing[0][0]}")
    grouped = per_seed.groupby(level=["pair", "method"])
    index = pd.MultiIndex.from_tuples(rows, names=["pair", "method"])
    mean, count = (frame.reindex(index) for frame in (grouped.mean(), grouped.count()))
    half = _half_width(grouped.std(ddof=1).reindex(index), count)
    seeds = grouped.size().reindex(index)
    bold = best_cells(mean)
    return FewshotTable(mean, mean - half, mean + half, seeds, bold, tuple(notes))


def _check(scores: pd.DataFrame) -> None:
    keys = ["pair", "method", "seed", "task"]
    unknown = set(scores["task"]) - {*TASKS, "f_ece"}
    if unknown:
        raise TableError(f"unknown tasks {sorted(unknown)} (allowed: {', '.join(TASKS)}, f_ece)")
    double = scores[scores.duplicated(keys)]
    if len(double):
        raise TableError(f"two scores for {_name(double.iloc[0])}")
    bad = scores[~np.isfinite(scores["value"].astype(float))]
    if len(bad):
        raise TableError(f"the score of {_name(bad.iloc[0])} is {bad.iloc[0]['value']}")
    tasks = set(scores["task"]) - {"f_ece"}
    for key, group in scores.groupby(keys[:3]):
        lost = tasks - set(group["task"])
        if lost:
            raise TableError(f"{'/'.join(map(str, key))} has no score of {sorted(lost)[0]}")


def _name(row: pd.Series) -> str:
    return f"{row['pair']}/{row['method']}/seed{row['seed']} {row['task']}"


def _relative(wide: pd.DataFrame, rows: Sequence[Row], baseline: str) -> pd.Series:
    """Rel of every pair, method and seed; NaN for the baseline itself and where a value is 0."""
    wanted = set(rows)
    values = {}
    for pair, method, seed in wide.index:
        if (pair, method) not in wanted:
            continue
        if (pair, baseline, seed) not in wide.index:
            raise TableError(f"Rel of {pair}/{method}/seed{seed} needs {baseline} of that seed")
        ours, theirs = wide.loc[(pair, method, seed)], wide.loc[(pair, baseline, seed)]
        usable = method != baseline and (ours > 0).all() and (theirs > 0).all()
        values[pair, method, seed] = (
            100 * float(np.log10(ours / theirs).mean()) if usable else math.nan
        )
    return pd.Series(values).reindex(wide.index)


def _half_width(deviation: pd.DataFrame, count: pd.DataFrame) -> pd.DataFrame:
    """Half of the 95% t interval of a mean over seeds; NaN for one seed."""
    quantile = stats.t.ppf(0.975, np.maximum(count - 1, 1))
    return (deviation * quantile / np.sqrt(count)).where(count > 1)


def best_cells(mean: pd.DataFrame) -> frozenset[tuple[Row, str]]:
    """The cells to mark: in each pair and column, the best and what is within 0.4 of it.

    Judged on values as printed, as a reader would. Lower is better in F-ECE alone (BOLD_WITHIN).
    """
    bold = set()
    for column in mean.columns:
        printed = mean[column].round(DECIMALS.get(column, 1))
        if column == F_ECE:
            printed = -printed
        within = BOLD_WITHIN.get(column, 0.4) + 1e-9
        for _, block in printed.groupby(level="pair", sort=False):
            near = block[block >= block.max() - within]
            bold |= {(row, column) for row in near.index}
    return frozenset(bold)


def beta_table(table: FewshotTable, betas: Mapping[str, float]) -> dict[str, pd.DataFrame]:
    """Table 2: Avg and Rel of each pair (rows) against beta (columns).

    ``betas`` maps method ids of ``table`` to their beta. Returns mean, low and high, each with the
    index (pair, "Avg" or "Rel").
    """
    frames = {}
    ordered = sorted(betas, key=lambda method: betas[method])
    for name in ("mean", "low", "high"):
        frame = getattr(table, name)[["Avg", "Rel"]]
        frame = frame[frame.index.get_level_values("method").isin(ordered)]
        # .loc keeps the order of pairs and sorts the columns by beta.
        turned = frame.stack(future_stack=True).unstack("method")[ordered]
        pairs = list(dict.fromkeys(table.mean.index.get_level_values("pair")))
        index = pd.MultiIndex.from_product([pairs, ["Avg", "Rel"]], names=["pair", None])
        turned = turned.reindex(index)
        turned.columns = pd.Index([betas[method] for method in ordered], name="beta")
        frames[name] = turned
    return frames


# --- Two methods on the same items ---------------------------------------------------------------


def read_items(path: str | Path) -> pd.DataFrame:
    """The items of ``eval.fewshot.evaluate`` (.items.jsonl.gz): task, item, doc_hash, correct, ...

    Raises TableError for a file that is missing or something else.
    """
    try:
        text = gzip.decompress(Path(path).read_bytes()).decode()
        frame = pd.DataFrame([json.loads(line) for line in text.split("\n") if line])
        return frame.astype({"correct": int})
    except FileNotFoundError:
        raise TableError(f"{path}: no such file; make it with eval.fewshot.evaluate") from None
    except (OSError, ValueError, KeyError) as error:
        raise TableError(f"{path}: not items of eval.fewshot.evaluate ({error})") from None


def paired_items(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Both methods' results item by item: task, item, a, b (0 or 1).

    Raises TableError unless both have the same items, with the same content.
    """
    keys = ["task", "item", "doc_hash"]
    merged = a.merge(b, on=keys, suffixes=("_a", "_b"), how="outer", indicator=True)
    odd = merged[merged["_merge"] != "both"]
    if len(odd) or merged.duplicated(["task", "item"]).any():
        first = (odd if len(odd) else merged).iloc[0]
        raise TableError(
            f"not the same items: {len(odd)} are in one result only, first {first['task']} "
            f"{first['item']}; results of other data, suites or limits do not pair"
        )
    pairs = merged.rename(columns={"correct_a": "a", "correct_b": "b"})
    return pairs[["task", "item", "a", "b"]].astype({"a": int, "b": int})


@dataclass(frozen=True)
class PairedTest:
    """Accuracy of A less that of B on the same items, in points of percent.

    ``only_a`` items only A has right, ``only_b`` only B. ``interval`` is a bootstrap over items,
    ``p_value`` two-sided: McNemar's exact test for a task, of the bootstrap for the average.
    """

    task: str
    n: int
    only_a: int
    only_b: int
    difference: float
    interval: tuple[float, float]
    p_value: float


def paired_tests(
    pairs: pd.DataFrame, *, draws: int = 10_000, seed: int = 0, level: float = 0.95
) -> list[PairedTest]:
    """A test for each task and, last, for their unweighted average ("Avg", the tables' column).

    Items are resampled within their task. This is the error of the items, not of the seed: two
    runs of one method differ too.
    """
    rng = np.random.default_rng(seed)
    tests, drawn = [], []
    for task in dict.fromkeys(pairs["task"]):
        items = pairs[pairs["task"] == task]
        n = len(items)
        only_a = int(((items["a"] == 1) & (items["b"] == 0)).sum())
        only_b = int(((items["a"] == 0) & (items["b"] == 1)).sum())
        odds = np.array([only_a, only_b, n - only_a - only_b]) / n
        counts = rng.multinomial(n, odds, size=draws)  # resampling n items, by what became of them
        differences = 100 * (counts[:, 0] - counts[:, 1]) / n
        drawn.append(differences)
        p_value = mcnemar(only_a, only_b)
        difference = 100 * (only_a - only_b) / n
        interval = _quantiles(differences, level)
        tests.append(PairedTest(task, n, only_a, only_b, difference, interval, p_value))
    average = np.mean(drawn, axis=0)
    beyond = min((average <= 0).sum(), (average >= 0).sum())
    tests.append(
        PairedTest(
            "Avg",
            sum(test.n for test in tests),
            sum(test.only_a for test in tests),
            sum(test.only_b for test in tests),
            float(np.mean([test.difference for test in tests])),
            _quantiles(average, level),
            min(1.0, float(2 * (beyond + 1) / (draws + 1))),
        )
    )
    return tests


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value of McNemar's test: items that only one of two methods has right."""
    discordant = only_a + only_b
    return float(stats.binomtest(only_a, discordant).pvalue) if discordant else 1.0


def _quantiles(values: Iterable[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# --- Command line --------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Paired tests of two results, printed as a table; 0, or 2 for bad input."""
    parser = command_line("paired", "Paired tests of two few-shot results, A - B.")
    parser.add_argument("items", nargs=2, metavar="ITEMS", help="fewshot.items.jsonl.gz of a model")
    parser.add_argument("--draws", type=int, default=10_000, help="of the bootstrap over items")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def job() -> None:
        pairs = paired_items(*map(read_items, options.items))
        header = f"{'task':<14}{'items':>6}{'only A':>8}{'only B':>8}{'A - B':>8}"
        print(header + f"{'95% interval':>20}{'p':>8}")
        for test in paired_tests(pairs, draws=options.draws, seed=options.seed):
            low, high = test.interval
            print(
                f"{TASKS.get(test.task, test.task):<14}{test.n:>6}{test.only_a:>8}{test.only_b:>8}"
                f"{test.difference:>8.1f}  [{low:7.1f}, {high:7.1f}]{test.p_value:8.3f}"
            )

    return exit_code("paired", job)
