"""Table 5 from invented curves of a known law: right values, intervals, refusals that say why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.tables.draw import table5
from analysis.tables.table5 import Table5Error, pair_curves, table5_frame
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.experiment.specs import run_spec
from tad.records import RecordError

CONFIG = Path(__file__).parents[2] / "config"
PAIRS = ("phi2_1b", "qwen2.5-3b_1b")
LAWS = {"vanilla_kd": (3.0, 60, 0.33), "rkl": (3.1, 60, 0.33), "tad-k10-b2": (2.9, 60, 0.33)}
"""E, B and exponent of the law that each method's curve follows."""


def suite_of(scale="mini", pairs=PAIRS, seeds=(0, 1, 2), **stage):
    """The suite of a scale with other pairs, seeds and values of its training stage."""
    suite = load_suite(CONFIG / f"{scale}.yaml")
    methods = [*dict.fromkeys([*suite.select.methods, *LAWS])]
    select = suite.select.model_copy(update={"pairs": list(pairs), "methods": methods})
    stages = suite.stages | {"scratch": suite.stages["scratch"].model_copy(update=stage)}
    # Every pair with the budget of one that the scale runs: it decides where warm-up ends.
    tokens = {"tokens": suite.pairs[PAIRS[0]].tokens}
    budgets = {name: pair.model_copy(update=tokens) for name, pair in suite.pairs.items()}
    changes = {"seeds": list(seeds), "select": select, "stages": stages, "pairs": budgets}
    return suite.model_copy(update=changes)


def law(method, tokens):
    E, B, beta = LAWS[method]
    return E + B / np.asarray(tokens, dtype=float) ** beta


def write_curves(root, suite, *, points=16, first=2e4, budget=2e6, noise=1e-3):
    """A ``train.jsonl`` for every run of Table 5, with a start at 0 tokens far off the law."""
    rng = np.random.default_rng(0)
    tokens = [0, *np.geomspace(first, budget, points).astype(int)]
    for run in suite.runs("table5"):
        losses = [9.0, *law(str(run.method), tokens[1:]) * np.exp(rng.normal(0, noise, points))]
        lines = [
            {"tokens": int(t), "eval_nll": x - 0.1, "eval_kl": 0.1, "eval_loss": float(x)}
            for t, x in zip(tokens, losses, strict=True)
        ]
        path = Layout(root).run(run) / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_curves(tmp_path_factory.mktemp("root"), suite_of())


def test_extrapolations_hold_the_law_that_made_the_points(root):
    frame = table5_frame(pair_curves(suite_of(), root))
    assert len(frame) == len(PAIRS) * len(LAWS) * 3
    assert frame["factor"].round().tolist() == [5, 50, 500] * 6
    truth = [law(row.method, row.tokens).item() for row in frame.itertuples()]
    inside = (frame["low"] <= truth) & (truth <= frame["high"])
    assert inside.mean() >= 0.8
    assert frame["loss"].to_numpy() == pytest.approx(truth, abs=0.08)
    assert (frame["seeds"] == 3).all() and (frame["points"] == 48).all()


def test_the_difference_to_vanilla_kd_is_paired(root):
    frame = table5_frame(pair_curves(suite_of(), root)).set_index(["pair", "method", "factor"])
    row = frame.xs("tad-k10-b2", level="method").iloc[0]
    assert row["minus_kd"] == pytest.approx(-0.1, abs=0.03)
    assert row["minus_kd_low"] < row["minus_kd"] < row["minus_kd_high"] < 0
    assert frame.xs("vanilla_kd", level="method")["minus_kd"].isna().all()


def test_no_number_stands_without_its_interval(root, tmp_path):
    suite = suite_of()
    table = table5.table5(suite, table5_frame(pair_curves(suite, root)))
    for row in table.rows:
        assert all("[" in cell for cell in row[2:5])
        assert "[" in row[6] and "[" in row[7]
    text = " ".join(table.notes)
    assert "constant" in text and "serve as budgets" in text and "Eq. 1" in text
    assert "as printed" not in table.markdown(), "the paper's values are of other models"


def test_a_fit_that_refuses_says_why(tmp_path):
    suite = suite_of(pairs=PAIRS[:1])
    write_curves(tmp_path, suite, points=3)
    frame = table5_frame(pair_curves(suite, tmp_path))
    table = table5.table5(suite, frame)
    assert {cell for row in table.rows for cell in row[2:5]} == {"refused"}
    assert "phi2_1b, Vanilla KD: refused, because 3 budgets are too few" in " ".join(table.notes)
    assert frame["loss"].isna().all() if "loss" in frame else True
    table5.write(suite, tmp_path)
    assert (tmp_path / "figures" / "table5.png").is_file()


def test_a_rate_that_decays_gives_no_budgets(root):
    curves = pair_curves(suite_of(schedule="cosine"), root)
    assert all("decays (cosine)" in fit for curve in curves for fit in curve.fits.values())


def test_points_of_the_warm_up_are_left_out(root):
    whole = pair_curves(suite_of(warmup_fraction=0.0), root)[0].fits["rkl"]
    suite = suite_of(warmup_fraction=0.2)
    later = pair_curves(suite, root)[0].fits["rkl"]
    assert whole.tokens.min() == pytest.approx(2e4, rel=1e-3)
    warm_up = 0.2 * run_spec(suite, suite.runs("table5")[0]).optimisation.tokens
    assert later.tokens.min() > 0.99 * warm_up and len(later.tokens) < len(whole.tokens)


def test_points_that_do_not_determine_the_law_are_marked(tmp_path):
    suite = suite_of(pairs=PAIRS[:1], seeds=(0,))
    write_curves(tmp_path, suite, points=6, first=1e6, noise=5e-3)
    table = table5.table5(suite, table5_frame(pair_curves(suite, tmp_path)))
    assert "not identified" in {row[-1] for row in table.rows}
    assert "not-identified" in " ".join(table.notes)


def test_the_paper_s_scale_has_its_budgets_and_printed_values(tmp_path):
    suite = suite_of("paper", pairs=PAIRS[:1])
    write_curves(tmp_path, suite, budget=2e9, first=5e7)
    frame = table5_frame(pair_curves(suite, tmp_path))
    assert frame["tokens"].unique().tolist() == [1e10, 1e11, 1e12]
    table = table5.table5(suite, frame)
    assert list(table.header[2:5]) == ["10B", "100B", "1T"]
    assert table.rows[1][1:5] == ["  as printed", "2.80", "2.77", "2.76"]
    assert table.rows[5][1:5] == ["  as printed", "2.78", "2.73", "2.71"]


def test_table_and_figure_are_the_same_bytes_each_time(root):
    suite = suite_of(pairs=PAIRS[:1])
    table5.write(suite, root)
    files = [root / "figures" / f"table5.{kind}" for kind in ("pdf", "png", "csv")]
    files += [root / "tables" / f"table5.{kind}" for kind in ("csv", "md", "html", "tex")]
    first = [path.read_bytes() for path in files]
    table5.write(suite, root)
    assert [path.read_bytes() for path in files] == first
    assert b"/Subtype /Type3" not in first[0], "submission checks refuse Type 3 fonts"
    numbers = pd.read_csv(files[2])
    kinds = {"point", "curve", "minus Vanilla KD", "part of the points"}
    assert set(numbers["kind"]) == kinds
    assert "without the first 25%" in set(numbers["variant"])


def test_a_missing_record_is_named(tmp_path, capsys):
    with pytest.raises(RecordError, match="phi2_1b/vanilla_kd/seed0/train.jsonl: no such record"):
        pair_curves(suite_of(), tmp_path)
    config = str(CONFIG / "smoke.yaml")
    assert table5.main(["--root", str(tmp_path), "--config", config]) == 2
    error = capsys.readouterr().err
    assert error.startswith("analysis.tables.table5: ") and error.count("\n") == 1


def test_a_scale_without_the_runs_says_so(tmp_path):
    with pytest.raises(Table5Error, match="selects no pair and method of Table 5"):
        pair_curves(suite_of(pairs=["qwen1.5-1.8b_0.5b"]), tmp_path)
