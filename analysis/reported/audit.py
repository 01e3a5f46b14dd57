"""The audit of the paper's printed numbers: what follows from them, and what does not.

    tad audit            # writes results/reported/AUDIT.md
    tad audit --print    # to the terminal

Each table of findings is computed from ``results/reported`` alone; ``render`` puts them into the
prose of ``audit.template.md`` there, the same bytes each time.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import product
from math import log10
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.reported import values
from analysis.reported.text_claims import statements
from analysis.reported.values import (
    MISS,
    OK,
    SLACK,
    TASKS,
    WITH_TASKS,
    flops,
    label,
    pairs,
    quantities,
    quantity,
    recalculated,
    table,
)
from analysis.results import pair_name, paper_suite
from analysis.writing.render import page
from tad.command import command_line, exit_code
from tad.experiment.config import Suite
from tad.methods import BASELINE, ROWS
from tad.records import write_text

GRIDS = (
    ("OBQA", "obqa", 500, (1, 4, 6)),
    ("SAT", "sat", 32, (7, 8)),
    ("MATH", "math", 500, (7, 8)),
)
"""Benchmarks small enough for one run's accuracies to show their steps: name, column, items."""

WEEK_HOURS = 168
BF16_PEAK = 989e12
"""Dense bf16 FLOP/s of one H100 SXM, as its maker states it."""


def averages() -> pd.DataFrame:
    """``recalculated`` for all tables that print task accuracies."""
    return pd.concat([recalculated(number) for number in WITH_TASKS], ignore_index=True)


def rel_formulas() -> pd.DataFrame:
    """How many of the printed Rel values each reading of the formula explains.

    Columns: formula, exact (within 0.05), rounded (within that and what rounding the tasks can
    move it by), of.
    """
    rows = averages()
    rows = rows[rows["rel_verdict"].isin([OK, SLACK, MISS])]
    readings = (
        ("100 * mean of log10(acc / acc_vanilla)", "rel_calc", 1.0),
        ("100 * mean of ln(acc / acc_vanilla)", "rel_ln", 1 / log10(np.e)),
        ("100 * log10(Avg / Avg_vanilla)", "rel_of_avg", 1.0),
    )
    counts = []
    for name, column, factor in readings:
        gap = (rows["rel"] - rows[column]).abs()
        within = gap <= 0.05 + factor * rows["rel_slack"]
        counts.append((name, int((gap <= 0.05).sum()), int(within.sum()), len(rows)))
    return pd.DataFrame(counts, columns=["formula", "exact", "rounded", "of"])


def off_grid() -> pd.DataFrame:
    """Printed accuracies that no single run on so many items can give.

    Columns: metric, items, table, off (number), of, rows (the labels and values).
    """
    found = []
    for metric, column, items, numbers in GRIDS:
        for number in numbers:
            printed = table(number)
            step = 100 / items
            nearest = (printed[column] / step).round() * step
            off = printed[(nearest - printed[column]).abs() > 0.05 + 1e-9]
            rows = "; ".join(f"{label(row)} {row[column]:g}" for _, row in off.iterrows())
            found.append((metric, items, number, len(off), len(printed), rows))
    return pd.DataFrame(found, columns=["metric", "items", "table", "off", "of", "rows"])


def matched_steps() -> pd.DataFrame:
    """Gain of ``CLM (Mat.)`` over ``CLM`` in Table 4: one row a pair, one column a task."""
    printed = table(4).set_index(["pair", "method"])[list(TASKS)]
    gains = printed.xs("clm_matched", level="method") - printed.xs("clm", level="method")
    return gains.reindex(printed.index.unique("pair")).round(1)


def implied_fits() -> pd.DataFrame:
    """What E + B / D^beta must be behind each row of Table 5, whose three cells determine it.

    Columns: pair, method, beta with ``beta_low`` and ``beta_high`` (cells rounded to 0.005; inf for
    no upper limit), E, and ``at_2b``, the loss the law then gives at the largest budget trained.
    """
    rows = []
    for (pair, method), group in table(5).groupby(["pair", "method"], sort=False):
        cells = group.sort_values("tokens")["val_loss_predicted"].to_numpy()
        beta, E = _from_three(cells)
        corners = [_from_three(cells + 0.005 * np.array(s))[0] for s in product((-1, 1), repeat=3)]
        B = (cells[0] - E) * 1e10**beta
        high = max(corners)
        rows.append((pair, method, beta, max(min(corners), 0.0) + 0.0, high, E, E + B / 2e9**beta))
    columns = ["pair", "method", "beta", "beta_low", "beta_high", "E", "at_2b"]
    return pd.DataFrame(rows, columns=columns)


def _from_three(cells: np.ndarray) -> tuple[float, float]:
    """beta and E from losses at D, 10 D and 100 D. Infinite beta where the last two agree."""
    first, second = cells[0] - cells[1], cells[1] - cells[2]
    if second <= 1e-12:
        return float("inf"), float(cells[2])
    ratio = second / first
    return -log10(ratio), float(cells[1] - second / (1 - ratio)) if ratio < 1 else float("-inf")


def throughput() -> pd.DataFrame:
    """What "one week" means: FLOP/s a GPU if the printed FLOPs were spent in the printed time.

    Columns: pair, gpus, tflops (teraFLOP/s a GPU), share (of the dense bf16 peak), hours (GPU hours
    that the same FLOPs take at 40% of the peak).
    """
    budgets, rows = quantities("tokens"), []
    for _, row in flops().query("method == @BASELINE").iterrows():
        pair = row["pair"]
        tokens = budgets.get(pair, quantity("tokens_table4"))
        total = row["petaflops"] * 1e15 * tokens / 1e6
        gpus = paper_suite().pairs[pair].printed_gpus
        rate = total / (gpus * WEEK_HOURS * 3600)
        rows.append((pair, gpus, rate / 1e12, rate / BF16_PEAK, total / (0.4 * BF16_PEAK) / 3600))
    return pd.DataFrame(rows, columns=["pair", "gpus", "tflops", "share", "hours"])


def gpu_hours() -> pd.DataFrame:
    """The cost account of Appendix A.1: quantity, calculated, printed, and whether they agree."""
    q, hours, wall = quantity, quantities("hours"), quantities("wall")
    llemma = q("rho1_gpus") * q("rho1_7b_hours") * q("llemma_tokens") / q("rho1_7b_tokens")
    theirs, (small, large) = q("llemma_h100_hours"), hours
    rows = [
        ("Rho-1 1B, GPU hours", q("rho1_gpus") * q("rho1_1b_hours"), q("rho1_gpu_hours")),
        ("Llemma-7B on H100, GPU hours", llemma, theirs),
        ("A100 against H100, slower by", q("llemma_a100_hours") / theirs, 3.0),
        (f"TAD {pair_name(large)}, GPU hours", 2 * wall[large], hours[large]),
        (f"Rho-1 over TAD {pair_name(small)}", q("rho1_gpu_hours") / hours[small], 2.5),
        (f"Llemma-7B over TAD {pair_name(large)}", theirs / hours[large],
         quantities("cost_ratio")[large]),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["quantity", "calculated", "printed"])
    frame["agrees"] = (frame["calculated"] / frame["printed"] - 1).abs() < 0.03
    return frame


def lost_cells() -> pd.DataFrame:
    """Cells of the tables that the copy at hand lost: table, row, cells."""
    rows = [
        (number, label(row), row["lost"].replace(";", ", "))
        for number in WITH_TASKS
        for _, row in table(number).iterrows()
        if isinstance(row["lost"], str)
    ]
    return pd.DataFrame(rows, columns=["table", "row", "cells"])


def render() -> str:
    """The text of AUDIT.md: the prose of its template around tables of the findings."""
    template = (values.FOLDER / "audit.template.md").read_text(encoding="utf-8")
    makers = (_matched, _rel, _rows, _grid, _claims, _flops, _costs, _scaling, _heads, _lost)
    found: dict[str, object] = {}
    for maker in makers:
        found |= maker()
    return _wrapped(template.format(**found).strip("\n")) + "\n"


def _wrapped(text: str) -> str:
    """Paragraphs and list items filled to 100 columns; tables and headings as they are."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith("- "):
            items = [" ".join(item.split()) for item in block[2:].split("\n- ")]
            lines = [
                textwrap.fill(item, 100, initial_indent="- ", subsequent_indent="  ")
                for item in items
            ]
            blocks.append("\n".join(lines))
        elif block.startswith(("|", "#")):
            blocks.append(block)
        else:
            blocks.append(textwrap.fill(" ".join(block.split()), 100, break_on_hyphens=False))
    return "\n\n".join(blocks)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _matched() -> dict[str, object]:
    gains = matched_steps()
    rows = [
        [pair_name(pair), *(f"{gain:.1f}" for gain in row)] for pair, *row in gains.itertuples()
    ]
    names = (task.upper().replace("_", "-") for task in TASKS)
    body = _markdown(["gain over CLM", *names], rows)
    return {"matched": body, "spread": (gains.max() - gains.min()).max()}


def _rel() -> dict[str, object]:
    rows = [[f"`{r.formula}`", f"{r.exact} of {r.of}", f"{r.rounded} of {r.of}"]
            for r in rel_formulas().itertuples()]  # fmt: skip
    return {"formulas": _markdown(["formula", "agree to 0.05", "agree within rounding"], rows)}


def _rows() -> dict[str, object]:
    rows = averages()
    lines: dict[str, list[list[str]]] = {MISS: [], SLACK: [], OK: [], "": []}
    for row in rows.fillna({"rel_verdict": ""}).itertuples():
        for name, sign in (("avg", ""), ("rel", "+")):
            shown = [f"{getattr(row, name):{sign}.1f}", f"{getattr(row, f'{name}_calc'):{sign}.2f}"]
            cells = [str(row.table), row.row, name.capitalize(), *shown]
            lines[getattr(row, f"{name}_verdict")].append(cells)
    header = ["table", "row", "cell", "printed", "from the tasks"]
    matched = rows[(rows["table"] == 4) & (rows["method"] == "clm_matched")].iloc[0]
    return {
        "off": _markdown(header, lines[MISS]),
        "rounding": _markdown(header, lines[SLACK]),
        "complete": rows["avg_calc"].notna().sum(),
        "rel_of_avg": matched.rel_of_avg,
    }


def _grid() -> dict[str, object]:
    found = off_grid()
    rows = [
        [r.metric, str(r.items), f"{100 / r.items:.4g}", str(r.table), f"{r.off} of {r.of}", r.rows]
        for r in found.itertuples()
    ]
    total = found[found["metric"] == "MATH"][["off", "of"]].sum()
    return {
        "grid": _markdown(["metric", "items", "step", "table", "off", "which"], rows),
        "on_grid": total["of"] - total["off"],
        "of_grid": total["of"],
        "sat": 100 / 32 / 8,
    }


def _claims() -> dict[str, object]:
    rows = [[s.where, s.claim, s.verdict, s.finding] for s in statements()]
    return {"claims": _markdown(["where", "claim", "verdict", "from the printed cells"], rows)}


def _flops() -> dict[str, object]:
    wide = flops().pivot(index="pair", columns="method", values="petaflops")
    rows = []
    for pair in flops()["pair"].unique():
        base, other = wide.loc[pair, [BASELINE, "miniplm"]]
        over = other / base - 1
        low, high = (other - 0.05) / (base + 0.05) - 1, (other + 0.05) / (base - 0.05) - 1
        shown = [f"{base:.1f}", f"{other:.1f}", f"+{over:.0%}", f"+{low:.1%} to +{high:.1%}"]
        rows.append([pair_name(pair), *shown])
    large, small = (wide.loc[pair] for pair in pairs(3))
    return {
        "flops": _markdown(["pair", "Vanilla KD", "MiniPLM", "overhead", "by rounding"], rows),
        "tad": large["tad"] - large[BASELINE],
        "operations": 0.1e15 / 1e6 / table(9)["vocab"].iloc[0],
        "students": large[BASELINE] - small[BASELINE],
        "written": large["seq_kd"] - small["seq_kd"],
    }


def _costs() -> dict[str, object]:
    hours = [
        [r.quantity, f"{r.calculated:,.4g}", f"{r.printed:,.4g}", "yes" if r.agrees else "no"]
        for r in gpu_hours().itertuples()
    ]
    spent = throughput()
    weeks = [
        [pair_name(r.pair), str(r.gpus), f"{r.tflops:.0f}", f"{r.share:.1%}", f"{r.hours:.0f}"]
        for r in spent.itertuples()
    ]
    header = ["pair", "GPUs", "TFLOP/s a GPU", "of bf16 peak", "GPU hours at 40%"]
    return {
        "hours": _markdown(["quantity", "calculated", "printed", "agrees"], hours),
        "weeks": _markdown(header, weeks),
        "least": spent["hours"].min(),
        "most": spent["hours"].max(),
    }


def _scaling() -> dict[str, object]:
    rows = []
    for r in implied_fits().itertuples():
        high = "no limit" if np.isinf(r.beta_high) else f"{r.beta_high:.2f}"
        spread = f"{r.beta_low:.2f} to {high}"
        numbers = [f"{r.beta:.2f}", spread, f"{r.E:.3f}", f"{r.at_2b:.2f}"]
        rows.append([pair_name(r.pair), ROWS[r.method].label, *numbers])
    return {"fits": _markdown(["pair", "method", "beta", "by rounding", "E", "loss at 2B"], rows)}


def _heads() -> dict[str, object]:
    heads = table(9)
    odd = heads[heads["n_h"] * heads["d_h"] != heads["d_s"]]
    return {"exceptions": ", ".join(odd["teacher"]) or "none", "width": heads["d_h"].iloc[-1]}


def _lost() -> dict[str, object]:
    rows = [[str(r.table), r.row, r.cells] for r in lost_cells().itertuples()]
    return {"lost": _markdown(["table", "row", "cells"], rows)}


STYLE = "table {margin: 1em 0}\nth, td {text-align: left; white-space: normal}\n"


def write_page(name: str, suite: Suite, root: Path) -> None:
    """The audit as a page of HTML below a root, for the report."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark").enable("table").render(render())
    body = body.replace("<table>", '<div class="box"><table>').replace("</table>", "</table></div>")
    write_text(root / "tables" / f"{name}.html", page("Audit", body, STYLE))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of ``tad audit``: 0, or 2 for values it cannot read."""
    parser = command_line("audit", __doc__)
    parser.add_argument("--print", action="store_true", help="print it instead of writing it")
    options = parser.parse_args(arguments)

    def job() -> None:
        text = render()
        if options.print:
            print(text, end="")
        else:
            write_text(values.FOLDER / "AUDIT.md", text)
            print(values.FOLDER / "AUDIT.md")

    return exit_code("audit", job)
