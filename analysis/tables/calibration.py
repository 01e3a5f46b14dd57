"""The table of calibration: Full-ECE of every student of Table 4 with what it can be judged by.

Beside each value stand its bootstrap interval over sequences, the value that a perfectly calibrated
model would be expected to have on so few positions, the same with 15 bins, top-label ECE, and the
difference to vanilla KD of the same seed on the same positions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.kinds import read_record
from analysis.names import titled
from analysis.results import spread
from analysis.writing.render import Table, control_note, controls_last
from eval.calibration.sums import SequenceGaps, compare
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.methods import BASELINE, Method


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table, all values in percent.

    Raises RecordError for a missing record, CalibrationError for runs on other positions.
    """
    runs = suite.runs("table4")
    frame = pd.DataFrame([_row(Layout(root), run, runs) for run in runs])
    frame, rules = controls_last(frame, ["pair"])
    header = ["Pair", "Method", "Seed", "Full-ECE", "95%", "floor", "15 bins", "floor", "ECE"]
    header += ["− vanilla KD", "95%", "p"]
    table = Table(
        title=f"Calibration of the students of Table 4 (scale {suite.scale})",
        header=header,
        rows=[_cells(row) for _, row in frame.iterrows()],
        notes=[*_notes(frame), *control_note(frame["method"])],
        left=2,
        blocks=rules,
    )
    titled(suite, table).write(root / "tables", name, frame)


def _row(layout: Layout, run: RunId, runs: list[RunId]) -> dict[str, Any]:
    folder = layout.run(run)
    record = read_record(folder / "calibration.json")
    low, high = record["full_ece_interval"]
    other = record["others"]["15"]
    row = {
        "pair": run.pair,
        "method": str(run.method),
        "seed": run.seed,
        "positions": record["positions"],
        "full_ece": 100 * record["full_ece"],
        "low": 100 * low,
        "high": 100 * high,
        "floor": 100 * record["noise_floor"],
        "full_ece_15": 100 * other["full_ece"],
        "floor_15": 100 * other["noise_floor"],
        "ece": 100 * record["ece"],
    }
    baseline = RunId(run.stage, run.pair, Method(BASELINE), run.seed)
    if run != baseline and baseline in runs:
        files = [layout.run(name) / "calibration.npz" for name in (run, baseline)]
        found = compare(*map(SequenceGaps.load, files))
        row["difference"] = 100 * found.difference
        row["difference_low"], row["difference_high"] = (100 * x for x in found.interval)
        row["p_value"] = found.p_value
    return row


def _cells(row: pd.Series) -> list[str]:
    compared = ["–", "–", "–"]
    if pd.notna(row.get("difference")):
        compared = [
            f"{row['difference']:+.2f}",
            f"{row['difference_low']:+.2f} to {row['difference_high']:+.2f}",
            f"{row['p_value']:.3f}",
        ]
    return [
        row["pair"],
        Method.parse(row["method"]).label,
        str(row["seed"]),
        f"{row['full_ece']:.2f}",
        f"{row['low']:.2f} to {row['high']:.2f}",
        *(f"{row[name]:.2f}" for name in ("floor", "full_ece_15", "floor_15", "ece")),
        *compared,
    ]


def _notes(frame: pd.DataFrame) -> list[str]:
    counted = spread(frame["positions"])
    return [
        f"Percent, on {counted} held-out positions a run. Full-ECE (Liu et al., 2024) over all "
        "entries of the vocabulary, 10 equal-width bins; the paper states neither bins nor "
        "positions.",
        "Floor: the value expected of a perfectly calibrated model on so few positions, from "
        "labels drawn from the model itself. Differences below it say nothing.",
        "Intervals are bootstraps over sequences; the difference to vanilla KD (of the same seed) "
        "is paired by sequence, its p two-sided.",
    ]
