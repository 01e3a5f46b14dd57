"""Which runs read the teacher's states, and from where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tad.experiment.config import load_suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.methods import Method

CONFIG = Path(__file__).parents[3] / "config"


def spec(suite, method: str, stage: str = "scratch", pair: str = "phi2_1b", seed: int = 2):
    return run_spec(suite, RunId(stage, pair, Method.parse(method), seed))


def test_runs_of_one_teacher_order_and_stage_share_a_folder():
    suite = load_suite(CONFIG / "mini.yaml")
    kd = spec(suite, "vanilla_kd")
    assert kd.states.folder == "work/mini/states/scratch/phi2_1b/seed2"
    assert kd.states.sequences == kd.optimisation.steps * kd.optimisation.batch_size
    assert spec(suite, "tad-k10-b2").states == kd.states
    other = [
        spec(suite, "vanilla_kd", seed=1),
        spec(suite, "vanilla_kd", pair="qwen1.5-1.8b_0.5b"),
        spec(suite, "vanilla_kd", "math", "phi3-4b_tinyllama"),
        spec(suite, "vanilla_kd", "supervised", "phi3-4b_tinyllama"),
    ]
    assert len({kd.states.folder, *(each.states.folder for each in other)}) == 5


def test_where_they_come_from_is_no_part_of_what_a_run_is():
    suite = load_suite(CONFIG / "mini.yaml")
    without = suite.model_copy(update={"teacher_states_gb": 0.0})
    one, other = spec(suite, "vanilla_kd"), spec(without, "vanilla_kd")
    assert other.states is None
    assert one.model_dump() == other.model_dump()


@pytest.mark.parametrize("method", ["clm", "clm_matched", "miniplm", "seq_kd", "minillm"])
def test_runs_that_do_not_run_the_teacher_on_the_corpus_read_none(method):
    assert spec(load_suite(CONFIG / "mini.yaml"), method).states is None


def test_none_where_they_would_not_fit_or_rows_go_to_several_gpus():
    suite = load_suite(CONFIG / "mini.yaml")
    sizes = spec(suite, "vanilla_kd").optimisation
    gigabytes = 4 * sizes.tokens * 128 / 1e9
    for limit, fits in ((1.001 * gigabytes, True), (0.999 * gigabytes, False)):
        limited = suite.model_copy(update={"teacher_states_gb": limit})
        assert (spec(limited, "vanilla_kd").states is not None) == fits
    paper = load_suite(CONFIG / "paper.yaml")
    assert all(run_spec(paper, run).states is None for run in paper.runs())
    large = paper.model_copy(update={"teacher_states_gb": 1e9})
    assert spec(large, "vanilla_kd").states is not None
    assert spec(large, "vanilla_kd", pair="gemma2-9b_2b").states is None


def test_a_longer_run_than_the_pairs_budget_reads_none(monkeypatch):
    suite = load_suite(CONFIG / "mini.yaml")
    from tad.experiment import specs

    budget = specs.token_budget
    scale = {"vanilla_kd": 1, "rkl": 2, "dkd": 0.5}
    monkeypatch.setattr(
        specs, "token_budget", lambda s, run: int(budget(s, run) * scale[run.method.name])
    )
    assert spec(suite, "rkl").states is None
    assert spec(suite, "dkd").states == spec(suite, "vanilla_kd").states


def test_a_run_says_of_its_student_only_what_is_not_usual():
    """Fingerprints of finished runs, and what Snakemake compares, stay as they were."""
    suite = load_suite(CONFIG / "smoke.yaml")
    assert "pruned" not in spec(suite, "vanilla_kd", seed=0).model_dump()
    assert all("package" not in entry.model_dump() for entry in suite.tokenizers.values())
    real = load_suite(CONFIG / "smollm.yaml")
    cut = spec(real, "vanilla_kd", pair="smollm2-135m_pruned", seed=0).model_dump()
    assert cut["pruned"] == {"frozen": ["embeddings"]} and cut["shape"]["layers"] == 12
    made = spec(real, "vanilla_kd", pair="smollm2-135m_recipe", seed=0).model_dump()
    assert "pruned" not in made and made["shape"]["layers"] == 12
