"""Figures that set runs beside one another, by records whose truth is known."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from analysis.figures import style
from analysis.figures.draw import draw
from analysis.figures.runs import flops, lead, sweeps, training
from analysis.names import pair_title
from tad.experiment.config import ConfigError, load_suite
from tad.experiment.layout import Layout
from tad.methods import Method
from workflow.items import available

from ...conftest import CONFIG
from ...whole import fill

PAIRS = ("qwen1.5-1.8b_0.5b", "phi2_1b")


@pytest.fixture(scope="module")
def suite():
    return load_suite(CONFIG / "mini.yaml")


@pytest.fixture(scope="module")
def root(suite, tmp_path_factory):
    return fill(tmp_path_factory.mktemp("runs"), suite)


def test_sweeps_vary_one_parameter_and_keep_the_other(suite, root):
    frame = sweeps.sweeps_frame(suite, root)
    found = frame.groupby(["pair", "metric", "parameter"])["value"].apply(list).to_dict()
    assert sorted(found[PAIRS[0], "fewshot", "k"]) == [1, 5, 10, 20]
    assert sorted(found[PAIRS[0], "kl", "beta"]) == [0.5, 1, 2, 5, 10]
    assert found[PAIRS[1], "fewshot", "beta"] == [2], "Table 2 has the other pair alone"
    row = frame[(frame["pair"] == PAIRS[0]) & (frame["parameter"] == "k") & (frame["value"] == 5)]
    [mean] = row[row["metric"] == "fewshot"]["mean"]
    values = [
        json.loads((Layout(root).run(run) / "fewshot.json").read_text())["average"]
        for run in suite.runs("table1")
        if str(run.method) == "tad-k5-b2" and run.pair == PAIRS[0]
    ]
    assert mean == pytest.approx(100 * sum(values) / len(values))


def test_controls_and_other_methods_stand_on_no_axis():
    names = ("tad_only-k10-b2", "tad-k10-b2-r2", "tad-k5-b1", "rkl", "vanilla_kd-w5")
    assert not [name for name in names if list(sweeps._places(Method.parse(name)))]
    assert dict(sweeps._places(Method.parse("tad-k10-b2"))) == {"k": 10, "beta": 2}


def test_the_line_joins_what_no_cheaper_one_reaches(suite, root):
    part = pd.DataFrame({"petaflops": [3.0, 1.0, 2.0, 2.0], "score": [5.0, 4.0, 4.0, 4.5]})
    assert flops.pareto(part) == [1, 3, 0]
    frame = flops.flops_frame(suite, root)
    for _, rows in frame.groupby(["stage", "pair"]):
        best = rows[rows["best"]].sort_values("petaflops")
        assert best["score"].is_monotonic_increasing
        assert best["score"].max() == rows["score"].max()
    costs = pd.Series([1.0, 1.0, 1.0, 4.0])
    places = flops._side_by_side(costs)
    assert places.is_monotonic_increasing and places[1] == 1.0 and places[3] == 4.0


def test_the_lead_is_a_ratio_of_the_same_seed(suite, tmp_path):
    for run in {run for item in ("primary", "controls") for run in suite.runs(item)}:
        factor = {"tad-k10-b2": 0.9, "vanilla_kd_matched": 1.0}.get(str(run.method), 1.2)
        lines = [{"tokens": t, "eval_kl": factor * (1 + run.seed) / (1 + t), "eval_nll": 1.0,
                  "eval_loss": 2.0} for t in (0, 100, 200)]  # fmt: skip
        path = Layout(tmp_path).run(run) / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    frame = lead.lead_frame(suite, tmp_path)
    assert set(frame["tokens"]) == {100, 200} and set(frame["seeds"]) == {6}
    by_control = frame.groupby("control")["mean"].agg(["min", "max"])
    assert by_control.loc["vanilla_kd_matched"].tolist() == pytest.approx([-10, -10])
    assert by_control.loc["vanilla_kd"].tolist() == pytest.approx([-25, -25])
    assert frame["low"].tolist() == pytest.approx(frame["high"].tolist()), "all seeds agree"


def test_training_curves_are_means_of_equal_parts(suite, tmp_path, monkeypatch):
    runs = {run for item in ("figure1", "primary", "controls") for run in suite.runs(item)}
    for run in runs:
        lines = [{"tokens": 10 * step, "loss": 3.0, "clm": float(step + run.seed)}
                 for step in range(1, 9)]  # fmt: skip
        path = Layout(tmp_path).run(run) / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(training, "POINTS", 4)
    frame = training.training_frame(suite, tmp_path)
    one = frame[(frame["pair"] == PAIRS[1]) & (frame["method"] == "vanilla_kd")]
    assert one["tokens"].tolist() == [15, 35, 55, 75] and set(one["term"]) == {"clm"}
    seeds = one["seeds"].iloc[0]
    assert one["low"].tolist() == [1.5, 3.5, 5.5, 7.5]
    assert (one["high"] - one["low"]).tolist() == [seeds - 1] * 4


@pytest.mark.parametrize("name", ["sweeps", "flops", "lead", "training"])
def test_the_picture_names_pairs_and_says_what_bands_are(suite, root, name):
    draw(name, suite, root)
    numbers = pd.read_csv(root / "figures" / f"{name}.csv")
    assert len(numbers) and set(PAIRS) <= set(numbers["pair"])
    module = {"sweeps": sweeps, "flops": flops, "lead": lead, "training": training}[name]
    keys = numbers[["stage", "pair"]].apply(tuple, axis=1) if name == "flops" else numbers["pair"]
    pairs = {key: key[1] if name == "flops" else key for key in dict.fromkeys(keys)}
    titles = {key: pair_title(suite, pair) for key, pair in pairs.items()}
    for shown in (titles, dict([*titles.items()][:1])):
        with style.paper_style():
            page = module.figure(numbers, shown)
            page.canvas.draw()
        [legend] = page.legends
        inside = legend.get_window_extent()
        assert inside.x0 >= 0 and inside.x1 <= page.bbox.x1, "the legend is cut off"
    seeds = {"sweeps": "3", "flops": "3", "lead": "6", "training": "6"}[name]
    assert f"over {seeds} seeds" in legend.get_title().get_text()


def test_a_scale_of_one_seed_says_that_there_is_none(tmp_path):
    suite = load_suite(CONFIG / "smoke.yaml")
    fill(tmp_path, suite)
    frame = lead.lead_frame(suite, tmp_path)
    assert frame["low"].isna().all()
    titles = {pair: pair for pair in dict.fromkeys(frame["pair"])}
    [legend] = lead.figure(frame, titles).legends
    assert "one seed" in legend.get_title().get_text()


@pytest.mark.parametrize(
    ("methods", "made"),
    [
        (["vanilla_kd", "tad-k10-b2"], {"sweeps", "lead", "training"}),
        (["vanilla_kd", "tad-k5-b2"], {"training"}),
        (["clm"], set()),
    ],
)
def test_what_a_scale_does_not_run_is_not_asked_for(suite, tmp_path, methods, made):
    select = suite.select.model_copy(update={"methods": methods, "items": ["heldout", "primary"]})
    few = suite.model_copy(update={"select": select})
    names = ("sweeps", "lead", "training")
    assert {name for name in names if available(few, name)} == made
    fill(tmp_path, few)
    for name in names:
        if name in made:
            draw(name, few, tmp_path)
        else:
            with pytest.raises(ConfigError, match="no pair of"):
                draw(name, few, tmp_path)
