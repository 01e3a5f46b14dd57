"""One command for every table; what a user adds in YAML stands in all of them."""

from __future__ import annotations

import json

import pytest

from analysis.figures.draw import FIGURES
from analysis.figures.draw import draw as draw_figure
from analysis.tables.draw import TABLES, main, write
from tad.experiment.config import ConfigError
from tad.methods import ROWS, register
from workflow.items import TARGETS

from ..conftest import CONFIG, SUITE, fill
from .test_scores import fewshot


def test_every_target_has_a_command_that_draws_it():
    commands = {drawn.command for target in TARGETS.values() for drawn in target.draws}
    named = {f"tables {name}" for name in TABLES} | {f"figures {name}" for name in FIGURES}
    assert commands == {*named, "claims", "report"}


def test_a_table_that_the_scale_does_not_make_is_refused(tmp_path, capsys):
    config = str(CONFIG / "mini.yaml")
    assert main(["ablations", "--root", str(tmp_path), "--config", config]) == 2
    error = capsys.readouterr().err
    assert "mini.yaml: ablations is not in select.items" in error and error.count("\n") == 1
    suite = SUITE.model_copy(update={"select": SUITE.select.model_copy(update={"items": []})})
    for name in ("calibration", "costs", "table1"):
        with pytest.raises(ConfigError, match="is not in select.items"):
            write(name, suite, tmp_path)


@pytest.fixture
def extended(tmp_path):
    """The paper's scale with a method and a pair of the user's in every item, and all records."""
    register("my_kl", "tad.divergences:forward_kl", {"alpha": 0.5}, label="Mine")
    suite = SUITE
    pairs = {**suite.pairs, "mine_1b": suite.pairs["phi2_1b"].model_copy(update={"printed": None})}
    items = {
        name: item.model_copy(
            update={
                "pairs": [*item.pairs, *(["mine_1b"] if item.stage == "scratch" else [])],
                "methods": [*item.methods, *(["my_kl-alpha0.5"] if item.methods else [])],
            }
        )
        for name, item in suite.items.items()
    }
    select = suite.select.model_copy(
        update={
            "pairs": [*suite.select.pairs, "mine_1b"],
            "methods": [*suite.select.methods, "my_kl-alpha0.5"],
        }
    )
    suite = suite.model_copy(
        update={"pairs": pairs, "items": items, "select": select, "scale": "paper"}
    )
    fill(tmp_path, suite)
    for run in suite.runs():
        folder = tmp_path / "runs" / str(run)
        (folder / "fewshot.json").write_text(json.dumps(fewshot(str(run.method), True)))
        (folder / "calibration.json").write_text(json.dumps({"full_ece": 0.0123}))
    for model in suite.teachers("table1") + suite.teachers("table4"):
        path = tmp_path / "models" / model / "final" / "fewshot.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fewshot("clm", True)))
    yield suite, tmp_path
    del ROWS["my_kl"]


@pytest.mark.parametrize("name", ["table1", "table2", "table4", "heldout", "ablations"])
def test_a_users_method_and_pair_stand_in_every_table(extended, name):
    suite, root = extended
    write(name, suite, root)
    text = (root / "tables" / f"{name}.md").read_text()
    assert "Mine (alpha = 0.5)" in text
    assert any(line.startswith(("| mine_1b", "| scratch | mine_1b")) for line in text.splitlines())
    assert ("as printed" in text) == (name in ("table1", "table4"))


@pytest.mark.parametrize("name", ["table1", "table2", "table4"])
def test_a_table_of_other_pairs_alone_says_nothing_of_the_papers_rows(extended, name):
    suite, root = extended
    select = suite.select.model_copy(update={"pairs": ["mine_1b"]})
    item = suite.items[name].model_copy(update={"pairs": ["mine_1b"]})
    update = {"select": select, "items": {**suite.items, name: item}}
    write(name, suite.model_copy(update=update), root)
    text = (root / "tables" / f"{name}.md").read_text()
    for word in ("as printed", "Rows of the paper", "The paper quotes"):
        assert word not in text


def test_and_in_figures(extended):
    suite, root = extended
    draw_figure("figure1", suite, root)
    numbers = (root / "figures" / "figure1.csv").read_text()
    assert "mine_1b,my_kl-alpha0.5" in numbers


@pytest.mark.parametrize("name", ["table3", "table9", "audit"])
def test_tables_of_the_paper_take_no_notice(extended, name):
    suite, root = extended
    write(name, suite, root)
    assert "mine_1b" not in (root / "tables" / f"{name}.html").read_text()
