"""Costs of runs from invented records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.tables.costs import costs_frame, petaflops
from analysis.tables.draw import main
from tad.experiment.flops import EXECUTED, pair_account
from tad.experiment.run_id import RunId
from tad.methods import Method
from tad.records import RecordError
from workflow.items import offline_record

from ..conftest import CONFIG, SUITE


@pytest.fixture
def root(tmp_path) -> Path:
    for item in ("table1", "table4", "table7"):
        for run in SUITE.runs(item):
            folder = tmp_path / "runs" / str(run)
            folder.mkdir(parents=True, exist_ok=True)
            manifest = {"tokens": 1000, "wall_seconds": 7.0, "resumed_from_step": 0}
            manifest["peak_memory_bytes"] = 2 * 10**9
            if run.method.name == "vanilla_kd":
                manifest["states_seconds"] = 1.5
            (folder / "manifest.json").write_text(json.dumps(manifest))
            (folder / "fewshot.json").write_text(json.dumps({"average": 0.5}))
            (folder / "math.json").write_text(json.dumps({"average": {"compat": 12.5}}))
            if ahead := offline_record(run):
                record = {"wall_seconds": 3.0}
                path = tmp_path / ahead
                path.parent.mkdir(parents=True, exist_ok=True)
                written = record if run.method.row.rows == "selected" else {"generation": record}
                path.write_text(json.dumps(written))
    return tmp_path


def test_every_method_of_the_tables_has_its_cost(root):
    frame = costs_frame(SUITE, root).set_index(["stage", "pair", "method"]).sort_index()
    runs = {run for item in ("table1", "table4", "table7") for run in SUITE.runs(item)}
    assert len(frame) == len(runs)
    pair = ("scratch", "qwen1.5-1.8b_0.5b")
    assert frame.loc[(*pair, "miniplm"), "ahead"] == 3.0
    assert frame.loc[(*pair, "seq_kd"), "ahead"] == 3.0
    assert frame.loc[(*pair, "vanilla_kd"), "ahead"] == 1.5
    assert frame.loc[(*pair, "clm"), "ahead"] == 0.0
    assert frame.loc[(*pair, "clm"), "score"] == 50.0
    assert frame.loc[("math", "phi3-4b_tinyllama", "clm"), "score"] == 12.5
    flops = frame.loc[pair, "petaflops"]
    assert flops["clm"] < flops["vanilla_kd"] == flops["tad-k10-b2"]
    assert flops["miniplm"] > flops["vanilla_kd"], "two teacher passes a token, and a reference"
    account = pair_account(SUITE, pair[1])
    context = SUITE.stages["scratch"].context
    clm = account.cost("clm", context=context, conventions=EXECUTED).total
    assert flops["clm"] == pytest.approx(1000 * clm / 1e15)


def test_minillm_is_counted_as_it_is_run_here(root):
    """One pass over what is written, one over the corpus, and the student's own decoding."""
    run = RunId("scratch", "qwen1.5-1.8b_0.5b", Method("minillm"), 0)
    account, context = pair_account(SUITE, run.pair), SUITE.stages["scratch"].context
    train = account.cost("clm", context=context, conventions=EXECUTED).total
    teacher = account.cost("vanilla_kd", context=context, conventions=EXECUTED).teacher
    decoding = account.student.decoding(context, EXECUTED)
    assert petaflops(SUITE, run, 1e15) == pytest.approx(2 * train + teacher + decoding)


def test_the_table_is_written_and_a_missing_record_is_named(root, capsys):
    options = ["costs", "--root", str(root), "--config", str(CONFIG / "smoke.yaml")]
    assert main(options) == 0
    text = (root / "tables" / "costs.md").read_text()
    assert "MiniLLM" in text and "× CLM" in text and "resumed" not in text
    lost = root / "runs" / str(SUITE.runs("table1")[0]) / "manifest.json"
    lost.unlink()
    with pytest.raises(RecordError, match="no such record"):
        costs_frame(SUITE, root)
    assert main(options) == 2
    assert str(lost) in capsys.readouterr().err
