"""Tiny models are not called what the originals are."""

from __future__ import annotations

import pytest

from analysis.names import model_title, pair_title, short, titled
from analysis.writing.render import Table
from tad.experiment.config import load_suite
from tad.records import read_json

from .conftest import CONFIG

MINI = load_suite(CONFIG / "mini.yaml")
PAPER = load_suite(CONFIG / "paper.yaml")


def test_a_model_made_here_is_an_architecture_with_its_size():
    assert model_title(MINI, "phi-2") == "phi-2 architecture, 1.7M"
    assert model_title(MINI, "phi-2_seed1") == "phi-2 architecture, 1.7M, seed 1"
    assert pair_title(MINI, "phi2_1b") == "phi-2 architecture, 1.7M → 920k"
    both = "phi3-4b architecture, 1.7M → tinyllama-1.1b architecture, 810k"
    assert pair_title(MINI, "phi3-4b_tinyllama") == both


def test_the_size_is_what_a_run_counts():
    root = CONFIG.parent / "results" / "mini" / "runs"
    run = root / "scratch" / "phi2_1b" / "vanilla_kd" / "seed0" / "manifest.json"
    if not run.is_file():
        pytest.skip("results/mini is not there")
    assert read_json(run)["parameters"] == pytest.approx(920_000, rel=0.01)


def test_what_is_loaded_keeps_its_name():
    assert model_title(PAPER, "phi-2") == "phi-2"
    assert pair_title(PAPER, "phi2_1b") == "phi2_1b"


def test_a_table_is_titled_in_its_columns_of_words_alone():
    rows = [["phi2_1b", "tinyllama-1.1b at 2T", "phi2_1b"], ["mine", "x", "1"]]
    table = Table(title="t", header=["a", "b", "c"], rows=rows, left=2)
    assert titled(PAPER, table).rows == rows
    first, second = titled(MINI, table).rows
    assert first == [
        "phi-2 architecture, 1.7M → 920k",
        "tinyllama-1.1b architecture, 810k, at 1.92M tokens",
        "phi2_1b",
    ]
    assert second == rows[1]


def test_short_numbers():
    assert [short(x) for x in (5, 2e3, 1.5e6, 2e9, 1e12)] == ["5", "2k", "1.5M", "2B", "1T"]
