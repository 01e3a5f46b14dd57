"""The audit of the paper's printed numbers: tables of findings, and the text of AUDIT.md.

Each function takes nothing and computes from ``results/reported`` alone; ``render`` puts them into
Markdown, the same bytes each time. Claims of the running text are in ``analysis.reported.text_claims``.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from itertools import product
from math import log10
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.reported.text_claims import claims
from analysis.reported.values import (
    FOLDER,
    MISS,
    OK,
    PAIR_NAMES,
    SLACK,
    TASKS,
    WITH_TASKS,
    ReportedError,
    flops,
    label,
    quantity,
    recalculated,
    table,
)
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
    budgets = {"qwen1.5-1.8b_0.5b": quantity("tokens_0.5b")}
    rows = []
    for _, row in flops().query("method == 'vanilla_kd'").iterrows():
        pair = row["pair"]
        tokens = budgets.get(pair, quantity("tokens_table4"))
        total = row["petaflops"] * 1e15 * tokens / 1e6
        gpus = 2 if pair == "gemma2-9b_2b" else 1
        rate = total / (gpus * WEEK_HOURS * 3600)
        rows.append((pair, gpus, rate / 1e12, rate / BF16_PEAK, total / (0.4 * BF16_PEAK) / 3600))
    return pd.DataFrame(rows, columns=["pair", "gpus", "tflops", "share", "hours"])


def gpu_hours() -> pd.DataFrame:
    """The cost account of Appendix A.1: quantity, calculated, printed, and whether they agree."""
    q = quantity
    llemma = q("rho1_gpus") * q("rho1_7b_hours") * q("llemma_tokens") / q("rho1_7b_tokens")
    ours, theirs = q("tad_llama2_hours"), q("llemma_h100_hours")
    rows = [
        ("Rho-1 1B, GPU hours", q("rho1_gpus") * q("rho1_1b_hours"), q("rho1_gpu_hours")),
        ("Llemma-7B on H100, GPU hours", llemma, theirs),
        ("A100 against H100, slower by", q("llemma_a100_hours") / theirs, 3.0),
        ("TAD Llama2-7B, GPU hours", 2 * q("tad_llama2_wall"), ours),
        ("Rho-1 over TAD TinyLlama", q("rho1_gpu_hours") / q("tad_tinyllama_hours"), 2.5),
        ("Llemma-7B over TAD Llama2-7B", theirs / ours, q("cost_ratio_llemma")),
    ]
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
    """The text of AUDIT.md."""
    parts = [_HEAD, _baselines(), _rel(), _rows(), _grid(), _claims(), _flops(), _costs()]
    parts += [_scaling(), _architectures(), _lost()]
    return _wrapped("\n\n".join(part.strip("\n") for part in parts)) + "\n"


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


_HEAD = """\
# Audit of the paper's printed numbers

Made by `tad audit audit` from the CSV files in this folder; edit those or the
code, not this page. Printed values are taken as they are. Accuracies are printed to one decimal,
so a recalculated value can miss by rounding alone: "within rounding" means that some task values
that print the same would give the printed Avg or Rel, "off" that none would.
"""


def _baselines() -> str:
    gains = matched_steps()
    spread = (gains.max() - gains.min()).max()
    body = _markdown(
        ["gain over CLM", *(task.upper().replace("_", "-") for task in TASKS)],
        [[PAIR_NAMES[pair], *(f"{gain:.1f}" for gain in row)] for pair, *row in gains.itertuples()],
    )
    return f"""\
## 1. Baselines that are no runs of this paper, or look like none

The paper quotes Seq-KD and MiniLLM in Table 1 from the MiniPLM paper (arXiv 2410.17215). Comparing
with that paper's own Table 1, by hand, shows that the CLM, Vanilla KD and MiniPLM rows come from it
too: all 80 task cells of the five methods agree. Those runs used the Pile, other budgets and
zero-shot evaluation, so Table 1 holds no Vanilla KD run in TAD's setting, and its Rel compares
across corpora.

"CLM (Mat.)" of Table 4 exceeds "CLM" by nearly the same step for every student: no task's gains
differ by more than {spread:.1f} points between students whose matched budgets differ, while the
sampling error of a single accuracy is 1 to 2 points. These rows are no targets.

{body}"""


def _rel() -> str:
    rows = [[f"`{r.formula}`", f"{r.exact} of {r.of}", f"{r.rounded} of {r.of}"]
            for r in rel_formulas().itertuples()]  # fmt: skip
    body = _markdown(["formula", "agree to 0.05", "agree within rounding"], rows)
    return f"""\
## 2. Which logarithm Rel uses

The paper writes log without a base. Only base 10, averaged over tasks, explains what is printed:

{body}"""


def _rows() -> str:
    rows = averages()
    kinds = {"off": MISS, "rounding": SLACK}
    lines = {kind: [] for kind in kinds}
    for row in rows.itertuples():
        for name in ("avg", "rel"):
            verdict = getattr(row, f"{name}_verdict")
            for kind, wanted in kinds.items():
                if verdict == wanted:
                    sign = "+" if name == "rel" else ""
                    values = [getattr(row, name), getattr(row, f"{name}_calc")]
                    shown = [f"{values[0]:{sign}.1f}", f"{values[1]:{sign}.2f}"]
                    lines[kind].append([str(row.table), row.row, name.capitalize(), *shown])
    off, rounding = (
        _markdown(["table", "row", "cell", "printed", "from the tasks"], lines[kind])
        for kind in kinds
    )
    complete = rows["avg_calc"].notna().sum()
    matched = rows[(rows["table"] == 4) & (rows["method"] == "clm_matched")].iloc[0]
    return f"""\
## 3. Avg and Rel of every row

{complete} rows have eight task values. These printed cells are off:

{off}

The Rel of the first is `100 * log10` of the ratio of the averages ({matched.rel_of_avg:+.2f}), a
formula used nowhere else. Gemma2 MiniPLM's Rel fits its tasks, so it is its Avg that is wrong.
These agree only if the tasks' rounding is allowed for:

{rounding}"""


def _grid() -> str:
    found = off_grid()
    rows = [
        [r.metric, str(r.items), f"{100 / r.items:.4g}", str(r.table), f"{r.off} of {r.of}", r.rows]
        for r in found.itertuples()
    ]
    body = _markdown(["metric", "items", "step", "table", "off", "which"], rows)
    total = found[found["metric"] == "MATH"][["off", "of"]].sum()
    return f"""\
## 4. Accuracies that no single run can give

One run's accuracy is a multiple of 100 / items. Cells further from one than their rounding must be
averages over runs, of which the paper says nothing, or other numbers of items:

{body}

MATH has 5,000 problems; that {total["of"] - total["off"]} of {total["of"]} values are multiples of
0.2 says that a set of 500 was used. One SAT question moves an average of eight tasks by
{100 / 32 / 8:.2f} points."""


def _claims() -> str:
    rows = [[c.where, c.claim, c.verdict, c.finding] for c in claims()]
    body = _markdown(["where", "claim", "verdict", "from the printed cells"], rows)
    return f"""\
## 5. Claims of the text against the tables

{body}"""


def _flops() -> str:
    wide = flops().pivot(index="pair", columns="method", values="petaflops")
    rows = []
    for pair in flops()["pair"].unique():
        row = wide.loc[pair]
        shown = ["" if pd.isna(row[m]) else f"{row[m]:.1f}" for m in ("vanilla_kd", "miniplm")]
        over = row["miniplm"] / row["vanilla_kd"] - 1
        low = (row["miniplm"] - 0.05) / (row["vanilla_kd"] + 0.05) - 1
        high = (row["miniplm"] + 0.05) / (row["vanilla_kd"] - 0.05) - 1
        rows.append([PAIR_NAMES[pair], *shown, f"+{over:.0%}", f"+{low:.1%} to +{high:.1%}"])
    body = _markdown(["pair", "Vanilla KD", "MiniPLM", "overhead", "by rounding"], rows)
    small, large = wide.loc["qwen1.5-1.8b_0.5b"], wide.loc["qwen1.5-1.8b_1.2b"]
    return f"""\
## 6. FLOPs (petaFLOPs for one million tokens)

{body}

- TAD is printed {large["tad"] - large["vanilla_kd"]:.1f} above Vanilla KD in both rows of Table 3.
  Over a vocabulary of 151,936 that is about {0.1e15 / 1e6 / 151936:.0f} operations an entry and
  token, where the loss needs some tens: rounding, or a cost that is not told. No target.
- Seq-KD: the teacher writes the same tokens for both students, so the two figures should differ by
  what training the students differs by, {large["vanilla_kd"] - small["vanilla_kd"]:.1f}; they
  differ by {large["seq_kd"] - small["seq_kd"]:.1f}.
- `python -m analysis.tables.printed_costs` sets our own count beside each of these."""


def _costs() -> str:
    hours = [
        [r.quantity, f"{r.calculated:,.4g}", f"{r.printed:,.4g}", "yes" if r.agrees else "no"]
        for r in gpu_hours().itertuples()
    ]
    weeks = [
        [PAIR_NAMES[r.pair], str(r.gpus), f"{r.tflops:.0f}", f"{r.share:.1%}", f"{r.hours:.0f}"]
        for r in throughput().itertuples()
    ]
    least, most = throughput()["hours"].agg(["min", "max"])
    return f"""\
## 7. Costs of Appendix A.1 and of "one week"

{_markdown(["quantity", "calculated", "printed", "agrees"], hours)}

The sums hold. The text calls A100s "a third slower" where its sum makes them three times slower,
and "Llama-7 B" where Llemma-7B is meant.

Spending the printed FLOPs in one week, the time that is stated, uses little of the hardware
(Gemma2's duration is not restated; a week is assumed):

{_markdown(["pair", "GPUs", "TFLOP/s a GPU", "of bf16 peak", "GPU hours at 40%"], weeks)}

So on a well-used H100 the from-scratch runs need {least:.0f} to {most:.0f} GPU hours."""


def _scaling() -> str:
    rows = []
    for r in implied_fits().itertuples():
        high = "no limit" if np.isinf(r.beta_high) else f"{r.beta_high:.2f}"
        name = {"vanilla_kd": "KL", "rkl": "RKL", "tad": "TAD"}[r.method]
        spread = f"{r.beta_low:.2f} to {high}"
        numbers = [f"{r.beta:.2f}", spread, f"{r.E:.3f}", f"{r.at_2b:.2f}"]
        rows.append([PAIR_NAMES[r.pair], name, *numbers])
    body = _markdown(["pair", "method", "beta", "by rounding", "E", "loss at 2B"], rows)
    return f"""\
## 8. Table 5 read backwards

Three printed values determine E + B / D^beta exactly, and with it the loss at 2B tokens, the end of
what was trained:

{body}

- For Phi2 the law gives TAD and KL the same loss at 2B: what separates them at 1T is extrapolation
  by x500 alone.
- The loss is "Equation (1)": cross-entropy plus KL to the teacher. It is no perplexity, E is not
  the entropy of text, and RKL students are scored on the divergence that KL students were trained
  on."""


def _architectures() -> str:
    heads = table(9)
    odd = heads[heads["n_h"] * heads["d_h"] != heads["d_s"]]
    names = ", ".join(odd["teacher"]) or "none"
    return f"""\
## 9. Table 9 and Appendix C

- Heads times head size is the hidden size in every row (exceptions: {names}).
- Gemma2's head size of {heads["d_h"].iloc[-1]} follows from that, but the teacher's is 256 (its 16
  heads are wider than the hidden size), against "the same dimensions as the teacher's".
- Phi2's vocabulary is printed as 52,000; the model has 51,200 rows, and frozen copied embeddings
  need the same number in the student.
- Key/value heads, tied embeddings and the type of MLP are not printed.
- Equation 13, tail case, ends in a sum of the teacher's top-K probabilities where the derivative
  gives the student's. Equations 14 to 17, and Equation 6, are right."""


def _lost() -> str:
    rows = [[str(r.table), r.row, r.cells] for r in lost_cells().itertuples()]
    body = _markdown(["table", "row", "cells"], rows)
    return f"""\
## 10. Cells not available

The copy of the paper at hand lost these; they are empty in the CSV files. In Table 8, Llama2-7B TAD
K=20 has eight values for nine cells: either TAB or MQA is lost, and the one left stands under TAB.
beta is not stated for Tables 4, 6, 7 and for the second stage of Table 8.

{body}"""


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Audit</title><style>
body {{font: 15px/1.5 system-ui, sans-serif; margin: 2em; max-width: 60em}}
table {{border-collapse: collapse; margin: 1em 0}}
th, td {{padding: .25em .8em; text-align: left; border-bottom: 1px solid #ddd}}
th {{border-bottom: 2px solid #333}}
</style>{body}</html>
"""


def page(text: str) -> str:
    """The audit as a page of HTML, for the report."""
    from markdown_it import MarkdownIt

    return _PAGE.format(body=MarkdownIt("commonmark").enable("table").render(text))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of ``tad audit``: 0, or 2 for values it cannot read."""
    parser = argparse.ArgumentParser(
        prog="tad audit",
        description="The paper's printed values (results/reported), and the audit of them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("audit", help="recompute what the paper prints")
    command.add_argument(
        "--out", type=Path, default=FOLDER / "AUDIT.md", help="Markdown, or .html for a page"
    )
    command.add_argument("--print", action="store_true", help="print it instead of writing it")
    options = parser.parse_args(arguments)
    try:
        text = render()
        if options.print:
            print(text, end="")
        else:
            write_text(options.out, page(text) if options.out.suffix == ".html" else text)
            print(options.out)
    except (ReportedError, OSError) as error:
        print(f"analysis.reported.values: {error}", file=sys.stderr)
        return 2
    return 0
