"""Scales over other scales, and overrides: what is merged, and every fault in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tad.experiment.config import ConfigError, load_suite, open_scale
from tad.experiment.layers import config_files, merge
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec

CONFIG = Path(__file__).parents[3] / "config"


def scale(tmp_path: Path, text: str, name: str = "mine") -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    return path


def test_merging_goes_to_any_depth_and_null_takes_out():
    old = {"a": {"b": 1, "c": [1]}, "d": {"e": {"f": 1}}, "g": 1}
    new = {"a": {"c": [2]}, "d": {"e": None}, "h": {"i": None, "j": 2}}
    assert merge(old, new) == {"a": {"b": 1, "c": [2]}, "d": {}, "g": 1, "h": {"j": 2}}
    assert old == {"a": {"b": 1, "c": [1]}, "d": {"e": {"f": 1}}, "g": 1}


def test_a_scale_over_another_changes_what_it_says_alone(tmp_path):
    path = scale(tmp_path, "extends: smoke\nstages: {scratch: {context: 64}}\n")
    mine, smoke = load_suite(path), load_suite(CONFIG / "smoke.yaml")
    assert mine.scale == "mine"
    assert mine.stages["scratch"] == smoke.stages["scratch"].model_copy(update={"context": 64})
    assert mine.pairs == smoke.pairs and mine.runs() == smoke.runs()
    # What lies in the folder of the scale is its own.
    assert smoke.corpora["math"].path == "work/smoke/problems/text.jsonl"
    assert mine.corpora["math"].path == "work/mine/problems/text.jsonl"


def test_a_chain_of_files(tmp_path):
    scale(tmp_path, "extends: smoke\nseeds: [3]\nstages: {scratch: {context: 64}}\n", "base")
    path = scale(tmp_path, "extends: base.yaml\nstages: {scratch: {context: 32}}\n")
    suite = load_suite(path)
    assert suite.seeds == [3] and suite.stages["scratch"].context == 32
    names = [file.name for file in config_files(path)]
    assert names == ["mine.yaml", "base.yaml", "smoke.yaml", "experiments.yaml"]


def test_null_takes_an_entry_or_a_field_out(tmp_path):
    text = "extends: smoke\nselect: {items: [heldout], methods: [clm]}\nitems: {table1: null}\n"
    suite = load_suite(scale(tmp_path, text + "evaluation: {fewshot: null}\n"))
    assert "table1" not in suite.items and suite.evaluation.fewshot is None
    with pytest.raises(ConfigError, match="mine.yaml: select.items: 'table1' is not defined"):
        load_suite(scale(tmp_path, "extends: smoke\nitems: {table1: null}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: smok\n", r"extends: 'smok' is no scale .*did you mean 'smoke'"),
        ("extends: mine.yaml\n", "extends this file"),
        ("extends: gone.yaml\n", r"gone.yaml: no such file"),
        ("extends: 3\n", "extends: 3: write a scale"),
        ("extends: smoke\nscale: smoke\n", "scale: 'smoke': must be the file's name, mine"),
        ("extends: smoke\nsedes: [1]\n", r"mine.yaml: sedes: unknown key .did you mean 'seeds'"),
        ("extends: smoke\npairs: {a: {teachr: b}}\n", "pairs.a.teachr: .*did you mean 'teacher'"),
        ("extends: smoke\nseeds: [-1]\n", "mine.yaml: seeds.0: -1: .*greater than or equal to 0"),
        (
            "extends: smoke\nitems: {heldout: {methods: [clm, jeffreys]}}\n",
            "mine.yaml: items.heldout.methods: 'jeffreys' is not in select.methods",
        ),
        (
            "extends: smoke\nitems: {heldout: {pairs: [gemma2-9b_2b]}}\n",
            "items.heldout.pairs: 'gemma2-9b_2b' is not in select.pairs",
        ),
    ],
)
def test_a_fault_is_one_line_with_the_file(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as fault:
        load_suite(scale(tmp_path, text))
    assert "\n" not in str(fault.value)


def test_a_fault_below_names_the_file_below(tmp_path):
    scale(tmp_path, "extends: smoke\nstages: {math: {context: 2}}\n", "base")
    with pytest.raises(ConfigError, match=r"base.yaml: stages.math.context: 2"):
        load_suite(scale(tmp_path, "extends: base.yaml\n"))


def test_a_file_that_bears_the_name_of_a_scale_is_not_run(tmp_path):
    copy = Path(shutil.copy(CONFIG / "smoke.yaml", tmp_path))
    shutil.copy(CONFIG / "experiments.yaml", tmp_path)
    with pytest.raises(ConfigError, match="smoke is a scale of config/: give the file another"):
        open_scale(copy)
    assert open_scale(CONFIG / "smoke.yaml").scale == "smoke"
    with pytest.raises(ConfigError, match="scale: 'smoke': must be the file's name, quick"):
        load_suite(copy.rename(tmp_path / "quick.yaml"))


def test_an_override_is_the_last_word():
    plain = load_suite(CONFIG / "smoke.yaml")
    given = ["stages.scratch.learning_rate=1e-3", "seeds=[4]", "pairs.phi2_1b.tokens.scratch=8_192"]
    suite = load_suite(CONFIG / "smoke.yaml", given)
    run = RunId.parse("scratch/phi2_1b/rkl/seed4")
    values, before = (run_spec(s, run).optimisation for s in (suite, plain))
    assert (values.learning_rate, values.steps) == (1e-3, 4)
    assert before.learning_rate == 2e-3 and {r.seed for r in suite.runs()} == {4}


def test_names_with_dots_and_values_to_be_added():
    given = ["models.tinyllama-1.1b.checkpoints.2.5t.tokens=190_000", "models.phi-2.seed=3"]
    given += ["evaluation.fewshot.local.piqa=here", "pretraining.micro_batch_size=8"]
    suite = load_suite(CONFIG / "smoke.yaml", given)
    assert suite.models["tinyllama-1.1b"].checkpoints["2.5t"].tokens == 190_000
    assert suite.models["phi-2"].seed == 3 and suite.pretraining.micro_batch_size == 8
    assert suite.evaluation.fewshot.local == {"piqa": "here"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.scrach.context=64", "stages.scrach: unknown key .did you mean 'scratch'"),
        ("stages.scratch.contxt=64", "scratch.contxt: unknown key .did you mean 'context'"),
        ("pairs.phi2_1bb.gpus=2", "pairs.phi2_1bb: unknown key .did you mean 'phi2_1b'"),
        ("sedes=[1]", "sedes: unknown key .did you mean 'seeds'"),
        ("seeds", "-o seeds: write KEY=VALUE"),
        ("seeds=[1", "-o seeds=.1: not valid YAML"),
        ("seeds=1", "-o seeds=1: seeds: 1: .*valid list"),
        ("seeds.0=1", "seeds.0: unknown key"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(override, message):
    with pytest.raises(ConfigError, match=message) as fault:
        load_suite(CONFIG / "smoke.yaml", [override])
    assert "\n" not in str(fault.value)
