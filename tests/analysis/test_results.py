"""Records to frames to figures and tables: right numbers, named faults, the same bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.figures.draw import CALIBRATION_K, calibration_look, draw
from analysis.results import curve_frame, heldout_frame, over_seeds
from analysis.tables.draw import heldout_table, write_heldout
from analysis.tables.render import Table, latex, plus_minus
from tad.experiment.config import load_suite
from tad.methods import Method
from tad.records import RecordError

CONFIG = Path(__file__).parents[2] / "config" / "smoke.yaml"
SUITE = load_suite(CONFIG)


@pytest.fixture
def root(tmp_path):
    """Invented records for every run and teacher of the smoke scale."""
    rng = np.random.default_rng(0)
    for run in SUITE.runs():
        folder = tmp_path / "runs" / str(run)
        folder.mkdir(parents=True)
        values = {
            name: {"mean": float(rng.uniform(1, 2)), "se": 0.01}
            for name in ("nll", "kl", "reverse_kl")
        }
        (folder / "heldout.json").write_text(json.dumps({"metrics": values}))
        lines = [
            {
                "step": step,
                "tokens": 100 * step,
                "eval_nll": 3.0,
                "eval_kl": 2.0 / (1 + step),
                "eval_loss": 3.0 + 2.0 / (1 + step),
            }
            for step in range(4)
        ] + [{"step": 2, "tokens": 200, "loss": 3.5}]
        (folder / "train.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    for teacher in SUITE.teachers("figure2"):
        folder = tmp_path / "models" / teacher / "final"
        folder.mkdir(parents=True)
        metrics = {"mismatch": {"mean": 0.6, "se": 0.01}}
        for k in (1, 2, 5, 10, 20, 50):
            row = {"mean": 0.5 / k, "se": 0.001, "q25": 0.3 / k, "q50": 0.5 / k, "q75": 0.7 / k}
            metrics[f"alpha_{k}"] = row
        (folder / "heldout.json").write_text(json.dumps({"metrics": metrics}))
    return tmp_path


def test_intervals_over_seeds_are_t_intervals():
    frame = pd.DataFrame({"m": ["a"] * 3 + ["b"], "v": [1.0, 2.0, 4.0, 7.0]})
    rows = over_seeds(frame, ["m"], "v").set_index("m")
    expected = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
    assert rows.loc["a", "mean"] - rows.loc["a", "half"] == pytest.approx(expected[0])
    assert rows.loc["a", "seeds"] == 3
    assert np.isnan(rows.loc["b", "half"])


def test_the_heldout_table_has_the_records_numbers(root):
    table = heldout_table(heldout_frame(root, SUITE.runs("heldout")))
    assert len(table) == len(SUITE.runs("heldout"))
    row = table.iloc[0]
    path = root / "runs" / row["stage"] / row["pair"] / row["method"] / "seed0" / "heldout.json"
    assert row["kl"] == json.loads(path.read_text())["metrics"]["kl"]["mean"]


def test_curves_hold_every_held_out_point_and_nothing_else(root):
    frame = curve_frame(root, SUITE.runs("figure1"))
    assert sorted(frame["tokens"].unique()) == [0, 100, 200, 300]
    assert len(frame) == 4 * len(SUITE.runs("figure1"))


@pytest.mark.parametrize("name", ["figure1", "figure2"])
def test_a_figure_is_the_same_bytes_each_time(root, name):
    files = [root / "figures" / f"{name}.{kind}" for kind in ("pdf", "png", "csv")]
    draw(name, SUITE, root)
    first = [path.read_bytes() for path in files]
    draw(name, SUITE, root)
    assert [path.read_bytes() for path in files] == first
    assert b"/Subtype /Type3" not in first[0], "submission checks refuse Type 3 fonts"


def test_a_missing_record_is_named(root):
    path = root / "runs" / str(SUITE.runs()[0]) / "heldout.json"
    path.unlink()
    with pytest.raises(RecordError, match=str(SUITE.runs()[0])):
        heldout_frame(root, SUITE.runs())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "no key 'metrics'"),
        ('{"metrics": {"kl": {"mean": NaN, "se": 0}}}', "mean is nan"),
    ],
)
def test_a_broken_record_is_named(root, text, message):
    path = root / "runs" / str(SUITE.runs()[0]) / "heldout.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=message) as error:
        heldout_frame(root, SUITE.runs())
    assert str(path) in str(error.value)


def test_a_run_without_held_out_points_is_named(root):
    run = SUITE.runs("figure1")[0]
    (root / "runs" / str(run) / "train.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(RecordError, match="no held-out point"):
        curve_frame(root, [run])


def test_tables_are_written_in_three_forms(root):
    write_heldout(SUITE, root)
    text = (root / "tables" / "heldout.md").read_text()
    assert text.count("\n| scratch |") == len(SUITE.runs("heldout"))
    assert "<table>" in (root / "tables" / "heldout.html").read_text()
    assert len(pd.read_csv(root / "tables" / "heldout.csv")) == len(SUITE.runs("heldout"))


def test_cells_are_escaped():
    table = Table(title="t", header=["KL(T||S)", "<b>"], rows=[["a_1", "2"]], bold={(0, 1)})
    assert r"| KL(T\|\|S) | <b> |" in table.markdown()
    assert "| a_1 | **2** |" in table.markdown()
    assert "&lt;b&gt;" in table.page() and "<b>2</b>" in table.page()
    assert r"a\_1 & \textbf{2} \\" in table.latex()
    with pytest.raises(ValueError, match="1 cells under 2 headers"):
        Table(title="t", header=["a", "b"], rows=[["1"]])


def test_names_and_numbers_as_the_paper_prints_them():
    assert Method.of("tad", k=10, beta=2.0).label == "TAD (K = 10)"
    assert Method.of("tad", k=10, beta=0.5).label == "TAD (K = 10, β = 0.5)"
    assert latex("50% ± 1 & α_K") == r"50\% $\pm$ 1 \& $\alpha$\_K"
    assert plus_minus(0.5, float("nan"), 4) == "0.5000"
    assert plus_minus(0.5, 0.01, 4) == "0.5000 ± 0.0100"


@pytest.mark.parametrize("scale", ["smoke", "mini", "paper"])
def test_no_two_methods_of_a_calibration_figure_look_the_same(scale):
    methods = {run.method for run in load_suite(CONFIG.with_name(f"{scale}.yaml")).runs("table4")}
    shown = [x for x in methods if x.name != "tad" or x.k in CALIBRATION_K]
    looks = {(look["color"], look["marker"]) for look in map(calibration_look, shown)}
    assert len(looks) == len(shown) > 3


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_published_files_are_those_of_their_manifest(scale):
    root = CONFIG.parents[1] / "results" / scale
    expected = json.loads((root / "manifest.json").read_text())["files"]
    found = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in expected}
    assert found == expected
