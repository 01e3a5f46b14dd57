"""What the paper says its methods cost, beside our own count.

    python -m analysis.tables.printed_costs                       # to the terminal
    python -m analysis.tables.printed_costs --out results/costs   # costs.csv, costs.md

Rows: the FLOPs of Table 3 and Section 3.2.2, the overheads and totals that the text draws from
them, and the GPU hours of Appendix A and A.1. Ours is ``tad.experiment.flops`` under the convention that fits
the printed figures best (``PAPER``); ``conventions`` shows how well the others fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.reported.audit import BF16_PEAK, WEEK_HOURS, gpu_hours
from analysis.reported.values import METHOD_NAMES, PAIR_NAMES, ReportedError, flops, quantity
from tad.command import PROJECT
from tad.experiment.config import ConfigError, Suite, load_suite
from tad.experiment.flops import (
    PAPER,
    Account,
    Assumptions,
    Conventions,
    FlopsError,
    pair_account,
    petaflops,
)
from tad.records import write_text

USE = 0.4
"""Share of the peak that a well-kept training loop reaches on an H100."""

OPT_125M = Account(
    linear=2 * 12 * (4 * 768**2 + 2 * 768 * 3072),
    output=2 * 50272 * 768,
    stored=0,
    pair=4 * 12 * 768,
    windows=(None,) * 12,
)
"""MiniPLM's reference model in Section 3.2.2, in its published shape; not counted by the paper."""

LARGER = ("phi2_1b", "qwen2.5-3b_1b", "gemma2-9b_2b")
ALTERNATIVES = {
    "output matrix once, no attention, nothing frozen": Conventions(
        attention="none", frozen="never"
    ),
    "all stored matrices, no attention, nothing frozen": Conventions(
        output_matrix="stored", attention="none", frozen="never"
    ),
    "output matrix once, causal attention, nothing frozen": Conventions(
        attention="causal", frozen="never"
    ),
    "output matrix once, full attention, nothing frozen": Conventions(frozen="never"),
    "output matrix once and frozen, full attention (used here)": PAPER,
}


def costs(suite: Suite) -> pd.DataFrame:
    """All rows: where, what, unit, ours, printed, difference (relative; NaN if not comparable).

    ``suite`` must be the paper's scale. Raises FlopsError and ReportedError.
    """
    makers = (_printed_flops, _overheads, _totals, _hours, _appendix)
    rows = [row for maker in makers for row in maker(suite)]
    frame = pd.DataFrame(rows, columns=["where", "what", "unit", "ours", "printed"])
    frame["difference"] = frame["ours"] / frame["printed"] - 1
    return frame


Row = tuple[str, str, str, float, float]


def _printed_flops(suite: Suite) -> Iterator[Row]:
    for row in flops().itertuples():
        method = METHOD_NAMES.get(row.method, "TAD")
        ours = petaflops(suite, row.pair, row.method)
        what = f"{PAIR_NAMES[row.pair]}, {method}"
        yield row.where, what, "petaFLOP for 1M tokens", ours, row.petaflops


def _overheads(suite: Suite) -> Iterator[Row]:
    claimed = dict.fromkeys(LARGER[:2], quantity("miniplm_overhead_phi2_qwen2.5"))
    claimed[LARGER[2]] = quantity("miniplm_overhead_gemma2")
    for pair, percent in claimed.items():
        ours = petaflops(suite, pair, "miniplm") / petaflops(suite, pair, "vanilla_kd") - 1
        what = f"{PAIR_NAMES[pair]}, MiniPLM over Vanilla KD"
        yield "Section 3.2.2", what, "% more", 100 * ours, percent


def _totals(suite: Suite) -> Iterator[Row]:
    """The text gives a lower limit of 1e19 for these, no value."""
    for pair in LARGER:
        total = petaflops(suite, pair, "tad") * 1e15 * 1e3
        what = f"{PAIR_NAMES[pair]}, TAD (text: above 1e19)"
        yield "Section 3.2.2", what, "FLOP for 1B tokens", total, float("nan")


def _hours(suite: Suite) -> Iterator[Row]:
    """GPU hours that our FLOPs need at ``USE`` of the peak, against those the paper states."""
    unit = f"GPU hours at {USE:.0%} of peak"
    for pair, entry in suite.pairs.items():
        if "scratch" in entry.tokens:
            gpus = 2 if pair == "gemma2-9b_2b" else 1
            spent = petaflops(suite, pair, "tad") * 1e9 * entry.tokens["scratch"]
            what = f"{PAIR_NAMES[pair]}, TAD"
            yield "Appendix A", what, unit, spent / _per_hour(), gpus * WEEK_HOURS
    for pair, name in (
        ("phi3-4b_tinyllama", "tad_tinyllama"),
        ("phi3-14b_llama2-7b", "tad_llama2"),
    ):
        spent = petaflops(suite, pair, "tad") * 1e9 * suite.pairs[pair].tokens["math"]
        what = f"{PAIR_NAMES[pair]}, TAD stage 1 (printed: both stages)"
        yield "Appendix A.1", what, unit, spent / _per_hour(), quantity(f"{name}_hours")


def _per_hour() -> float:
    return USE * BF16_PEAK * 3600


def _appendix(suite: Suite) -> Iterator[Row]:
    for row in gpu_hours().itertuples():
        unit = "GPU hours" if "GPU hours" in row.quantity else "ratio"
        yield "Appendix A.1", row.quantity, unit, row.calculated, row.printed


def conventions(suite: Suite) -> pd.DataFrame:
    """How far each way of counting is from the ten printed Vanilla KD and MiniPLM figures.

    Columns: convention, rms and worst (percent, the worst by size). The last row counts MiniPLM's
    reference model as well.
    """
    printed = flops().query("method in ('vanilla_kd', 'miniplm')")

    def errors(convention: Conventions, assumptions: Assumptions | None = None) -> np.ndarray:
        ours = [
            pair_account(suite, row.pair)
            .cost(
                row.method,
                context=suite.stages["scratch"].context,
                conventions=convention,
                assumptions=assumptions,
            )
            .total
            for row in printed.itertuples()
        ]
        return 100 * (np.array(ours) * 1e-9 / printed["petaflops"].to_numpy() - 1)

    found = {name: errors(convention) for name, convention in ALTERNATIVES.items()}
    found["the same with MiniPLM's reference model"] = errors(
        PAPER, Assumptions(reference=OPT_125M)
    )
    rows = [
        (name, float(np.sqrt(np.mean(values**2))), float(values[np.abs(values).argmax()]))
        for name, values in found.items()
    ]
    return pd.DataFrame(rows, columns=["convention", "rms", "worst"])


HEADER = ("where", "what", "unit", "ours", "printed", "difference")


def markdown(frame: pd.DataFrame, ways: pd.DataFrame) -> str:
    """Both tables as a Markdown page."""
    lines = ["# Costs: ours and printed", "", "| " + " | ".join(HEADER) + " |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: |")
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in frame.itertuples()]
    lines += ["", "| way of counting | rms error | worst |", "| --- | ---: | ---: |"]
    lines += [f"| {r.convention} | {r.rms:.1f}% | {r.worst:+.1f}% |" for r in ways.itertuples()]
    return "\n".join([*lines, "", NOTE]) + "\n"


NOTE = """\
Seq-KD is counted with cached keys and values; the printed figures would be 12 to 17 teacher passes
a token, and the paper does not say how it counts. MiniLLM is counted with four epochs over each
generated token and as much plain pre-training. TAD's own loss is elementwise and adds less than a
thousandth. The GPU hours printed for Appendix A are the week that it names; for A.1, ours are the
first stage's alone, because the tokens of the second are not stated."""


def _cells(row: object) -> list[str]:
    missing = pd.isna(row.printed)
    printed = "" if missing else f"{row.printed:,.4g}"
    difference = "" if missing else f"{row.difference:+.1%}"
    return [row.where, row.what, row.unit, f"{row.ours:,.4g}", printed, difference]


def text(frame: pd.DataFrame, ways: pd.DataFrame) -> str:
    """Both tables in columns, for a terminal."""
    rows = [list(HEADER), *(_cells(row) for row in frame.itertuples())]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADER))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    lines += ["", "error against the ten printed Vanilla KD and MiniPLM figures"]
    lines += [f"  {r.convention:<58} rms {r.rms:4.1f}%  worst {r.worst:+5.1f}%"
              for r in ways.itertuples()]  # fmt: skip
    return "\n".join([*lines, "", NOTE])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0, or 2 after one line about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.tables.printed_costs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default=PROJECT / "config" / "paper.yaml", help="scale file")
    parser.add_argument("--out", type=Path, help="folder for costs.csv and costs.md")
    options = parser.parse_args(arguments)
    try:
        suite = load_suite(options.config)
        frame, ways = costs(suite), conventions(suite)
    except (ConfigError, FlopsError, ReportedError) as error:
        print(f"analysis.tables.printed_costs: {error}", file=sys.stderr)
        return 2
    if options.out is None:
        print(text(frame, ways))
        return 0
    table = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(options.out / "costs.csv", table)
    write_text(options.out / "costs.md", markdown(frame, ways))
    return 0
