"""Paired tests of two few-shot results, A - B, item by item: of accuracy and of margins.

tad paired A/fewshot.items.jsonl.gz B/fewshot.items.jsonl.gz
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis.results import TASKS
from tad.command import UserError, command_line, exit_code

HASH = 3
"""Letters of an item's hash that published results keep, so that nothing may hang on the others."""


class ItemsError(UserError, ValueError):
    """Items that are missing, something else, or not those of the other result."""


def read_items(path: str | Path) -> pd.DataFrame:
    """The items of ``eval.fewshot.evaluate`` (.items.jsonl.gz): task, item, doc_hash, correct, ...

    Raises ItemsError for a file that is missing or something else.
    """
    try:
        text = gzip.decompress(Path(path).read_bytes()).decode()
        frame = pd.DataFrame([json.loads(line) for line in text.split("\n") if line])
        return frame.astype({"correct": int})
    except FileNotFoundError:
        raise ItemsError(f"{path}: no such file; make it with eval.fewshot.evaluate") from None
    except (OSError, ValueError, KeyError, EOFError, zlib.error) as error:
        raise ItemsError(f"{path}: not items of eval.fewshot.evaluate ({error})") from None


def paired_items(a: pd.DataFrame, b: pd.DataFrame, value: str = "correct") -> pd.DataFrame:
    """Both methods' results item by item: task, item, a, b.

    ``value`` is "correct" (0 or 1) or "margin" (nats a character). Raises ItemsError unless both
    have the same items, with the same content, and that value.
    """
    if not {value} <= {*a.columns} & {*b.columns}:
        raise ItemsError(f"a result has no {value} of its items; evaluate that model again")
    keys = ["task", "item", "doc_hash"]
    merged = a.merge(b, on=keys, suffixes=("_a", "_b"), how="outer", indicator=True)
    odd = merged[merged["_merge"] != "both"]
    if len(odd) or merged.duplicated(["task", "item"]).any():
        first = (odd if len(odd) else merged).iloc[0]
        raise ItemsError(
            f"not the same items: {len(odd)} are in one result only, first {first['task']} "
            f"{first['item']}; results of other data, suites or limits do not pair"
        )
    pairs = merged.rename(columns={f"{value}_a": "a", f"{value}_b": "b"})
    kind = type(a[value].iloc[0].item())
    return pairs[["task", "item", "a", "b"]].astype({"a": kind, "b": kind})


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


@dataclass(frozen=True)
class PairedMargin:
    """Mean margin of A less that of B on the same items, in nats a character.

    ``interval`` is the 95% t interval over items and ``p_value`` that of the paired t test.
    """

    task: str
    n: int
    difference: float
    interval: tuple[float, float]
    p_value: float


def paired_margins(pairs: pd.DataFrame, *, level: float = 0.95) -> list[PairedMargin]:
    """As ``paired_tests``, of ``paired_items(a, b, "margin")``; the average's interval is normal.

    This too is the error of the items, not of the seed.
    """
    gaps = (pairs["a"] - pairs["b"]).groupby(pairs["task"], sort=False)
    found = gaps.agg(mean="mean", se="sem", n="size")
    found["df"] = found["n"] - 1
    average = {
        "mean": found["mean"].mean(),
        "se": np.sqrt((found["se"] ** 2).sum()) / len(found),
        "n": found["n"].sum(),
        "df": np.inf,
    }
    found.loc["Avg"] = average
    half = found["se"] * stats.t.ppf((1 + level) / 2, found["df"])
    with np.errstate(divide="ignore", invalid="ignore"):  # equal results: 0 / 0
        p_values = 2 * stats.t.sf(np.abs(found["mean"] / found["se"]), found["df"])
    return [
        PairedMargin(task, int(n), float(mean), (float(mean - h), float(mean + h)), float(p))
        for task, n, mean, h, p in zip(
            found.index, found["n"], found["mean"], half, np.nan_to_num(p_values, nan=1.0),
            strict=True,
        )
    ]  # fmt: skip


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value of McNemar's test: items that only one of two methods has right."""
    discordant = only_a + only_b
    return float(stats.binomtest(only_a, discordant).pvalue) if discordant else 1.0


def _quantiles(values: Iterable[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def main(arguments: Sequence[str] | None = None) -> int:
    """Paired tests of two results, printed as a table; 0, or 2 for bad input."""
    parser = command_line("paired", __doc__)
    parser.add_argument("items", nargs=2, metavar="ITEMS", help="fewshot.items.jsonl.gz of a model")
    parser.add_argument("--draws", type=int, default=10_000, help="of the bootstrap over items")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def job() -> None:
        if options.draws < 1:
            raise ItemsError(f"--draws {options.draws}: must be at least 1")
        frames = [read_items(path) for path in options.items]
        pairs = paired_items(*frames)
        header = f"{'task':<14}{'items':>6}{'only A':>8}{'only B':>8}{'A - B':>8}"
        print(header + f"{'95% interval':>20}{'p':>8}")
        for test in paired_tests(pairs, draws=options.draws, seed=options.seed):
            low, high = test.interval
            print(
                f"{TASKS.get(test.task, test.task):<14}{test.n:>6}{test.only_a:>8}{test.only_b:>8}"
                f"{test.difference:>8.1f}  [{low:7.1f}, {high:7.1f}]{test.p_value:8.3f}"
            )
        if not all("margin" in frame for frame in frames):
            return  # results of before
        print(f"\n{'margin':<14}{'items':>6}{'A - B':>24}{'95% interval':>20}{'p':>8}")
        for found in paired_margins(paired_items(*frames, "margin")):
            low, high = found.interval
            print(
                f"{TASKS.get(found.task, found.task):<14}{found.n:>6}{found.difference:>24.4f}"
                f"  [{low:7.4f}, {high:7.4f}]{found.p_value:8.3f}"
            )

    return exit_code("paired", job)
