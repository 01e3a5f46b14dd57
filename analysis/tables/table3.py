"""Table 3: what the paper says its methods cost, beside our own count.

Rows: the FLOPs of Table 3 and Section 3.2.2, the overheads and totals that the text draws from
them, and the GPU hours of Appendix A and A.1. Ours is ``tad.experiment.flops`` under the convention
that fits the printed figures best; ``conventions`` shows how well the others fit. Always of the
paper's own models (config/paper.yaml), whatever the root.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.reported.audit import BF16_PEAK, WEEK_HOURS, gpu_hours
from analysis.reported.values import flops, quantities
from analysis.results import pair_name, paper_pairs, paper_suite
from analysis.writing.render import Table, blocks
from tad.experiment.config import Suite
from tad.experiment.flops import (
    PAPER,
    Assumptions,
    Conventions,
    model_account,
    pair_account,
    petaflops,
)
from tad.methods import BASELINE, ROWS

TAD = "tad"
USE = 0.4
"""Share of the peak that a well-kept training loop reaches on an H100."""

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
        what = f"{pair_name(row.pair)}, {ROWS[row.method].label}"
        ours = petaflops(suite, row.pair, row.method)
        yield row.where, what, "petaFLOP for 1M tokens", ours, row.petaflops


def _overheads(suite: Suite) -> Iterator[Row]:
    for pair, percent in quantities("miniplm_overhead").items():
        ours = petaflops(suite, pair, "miniplm") / petaflops(suite, pair, BASELINE) - 1
        what = f"{pair_name(pair)}, MiniPLM over Vanilla KD"
        yield "Section 3.2.2", what, "% more", 100 * ours, percent


def _totals(suite: Suite) -> Iterator[Row]:
    """The text gives a lower limit of 1e19 for these, no value."""
    for pair in paper_pairs("table4"):
        total = petaflops(suite, pair, TAD) * 1e15 * 1e3
        what = f"{pair_name(pair)}, TAD (text: above 1e19)"
        yield "Section 3.2.2", what, "FLOP for 1B tokens", total, nan


def _hours(suite: Suite) -> Iterator[Row]:
    """GPU hours that our FLOPs need at ``USE`` of the peak, against those the paper states.

    A pair that is not in the paper stands there without a printed value.
    """
    unit = f"GPU hours at {USE:.0%} of peak"
    printed, per_hour = quantities("hours"), USE * BF16_PEAK * 3600
    for pair, entry in suite.pairs.items():
        if "scratch" in entry.tokens:
            spent = petaflops(suite, pair, TAD) * 1e9 * entry.tokens["scratch"]
            theirs = entry.printed_gpus * WEEK_HOURS if entry.printed else nan
            yield "Appendix A", f"{pair_name(pair)}, TAD", unit, spent / per_hour, theirs
    for pair, hours in printed.items():
        spent = petaflops(suite, pair, TAD) * 1e9 * suite.pairs[pair].tokens["math"]
        what = f"{pair_name(pair)}, TAD stage 1 (printed: both stages)"
        yield "Appendix A.1", what, unit, spent / per_hour, hours


def _appendix(suite: Suite) -> Iterator[Row]:
    for row in gpu_hours().itertuples():
        unit = "GPU hours" if "GPU hours" in row.quantity else "ratio"
        yield "Appendix A.1", row.quantity, unit, row.calculated, row.printed


def conventions(suite: Suite) -> pd.DataFrame:
    """How far each way of counting is from the ten printed Vanilla KD and MiniPLM figures.

    Columns: convention, rms and worst (percent, the worst by size). The last row counts MiniPLM's
    reference model as well, which the paper does not.
    """
    printed = flops().query("method in (@BASELINE, 'miniplm')")
    context = suite.stages["scratch"].context
    reference = model_account(suite, suite.baselines.miniplm.reference["scratch"])
    ways = {name: (way, Assumptions()) for name, way in ALTERNATIVES.items()}
    ways["the same with MiniPLM's reference model"] = PAPER, Assumptions(reference=reference)
    rows = []
    for name, (way, assumptions) in ways.items():
        told = {"context": context, "conventions": way, "assumptions": assumptions}
        ours = [
            pair_account(suite, row.pair).cost(row.method, **told).total
            for row in printed.itertuples()
        ]
        errors = 100 * (np.array(ours) * 1e-9 / printed["petaflops"].to_numpy() - 1)
        worst = float(errors[np.abs(errors).argmax()])
        rows.append((name, float(np.sqrt(np.mean(errors**2))), worst))
    return pd.DataFrame(rows, columns=["convention", "rms", "worst"])


NOTE = (
    "Seq-KD is counted with cached keys and values; the printed figures would be 12 to 17 teacher "
    "passes a token, and the paper does not say how it counts. MiniLLM is counted with four epochs "
    "over each generated token and as much plain pre-training. TAD's own loss is elementwise and "
    "adds less than a thousandth. The GPU hours printed for Appendix A are the week that it names; "
    "for A.1, ours are the first stage's alone, because the tokens of the second are not stated."
)


def table3(frame: pd.DataFrame, ways: pd.DataFrame) -> Table:
    """The table to read, from ``costs`` and ``conventions``."""
    rows, last = [], None
    for row in frame.itertuples():
        missing = pd.isna(row.printed)
        printed = "–" if missing else f"{row.printed:,.4g}"
        difference = "–" if missing else f"{row.difference:+.1%}"
        where = "" if row.where == last else row.where
        rows.append([where, row.what, row.unit, f"{row.ours:,.4g}", printed, difference])
        last = row.where
    parts = [f"{row.convention}: {row.rms:.1f}%, {row.worst:+.1f}%" for row in ways.itertuples()]
    fits = (
        "Ways of counting, by root mean square and worst error against the ten printed Vanilla KD "
        f"and MiniPLM figures. {'; '.join(parts)}."
    )
    return Table(
        title="Table 3. Cost of the methods, ours and printed",
        header=["Where", "What", "Unit", "Ours", "Printed", "Difference"],
        rows=rows,
        notes=[NOTE, fits],
        left=3,
        blocks=blocks(frame["where"].tolist()),
    )


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table below ``root``."""
    frame = costs(paper_suite())
    table3(frame, conventions(paper_suite())).write(root / "tables", name, frame)
