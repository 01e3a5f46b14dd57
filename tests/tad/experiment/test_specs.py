"""Which runs read the teacher's states, and from where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tad.experiment.config import ConfigError, load_suite
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


MACHINE = [
    "pairs.phi2_1b.gpus=[1, 8]",
    "pairs.phi2_1b.sharding=fsdp",
    "stages.scratch.gradient_checkpointing=true",
]


def test_how_a_run_is_fitted_to_its_machine_is_no_part_of_what_it_is():
    plain, fitted = load_suite(CONFIG / "paper.yaml"), load_suite(CONFIG / "paper.yaml", MACHINE)
    one, other = spec(plain, "vanilla_kd", seed=0), spec(fitted, "vanilla_kd", seed=0)
    assert (one.optimisation.sharding, one.optimisation.gradient_checkpointing) == ("none", False)
    assert (other.optimisation.sharding, other.optimisation.gradient_checkpointing) == (
        "fsdp",
        True,
    )
    assert one.model_dump() == other.model_dump()
    assert not {"sharding", "gradient_checkpointing"} & set(one.model_dump()["optimisation"])


def test_a_pair_has_its_own_values_before_those_of_the_stage():
    values = ["stages.math.sharding=fsdp", "pairs.phi3-4b_tinyllama.sharding=none"]
    values += ["pairs.phi3-4b_tinyllama.micro_batch_size=2"]
    suite = load_suite(CONFIG / "paper.yaml", values)
    tiny, large = (
        spec(suite, "rkl", "math", pair, seed=0).optimisation
        for pair in ("phi3-4b_tinyllama", "phi3-14b_llama2-7b")
    )
    assert (tiny.sharding, tiny.micro_batch_size) == ("none", 2)
    assert (large.sharding, large.micro_batch_size) == ("fsdp", 8)
    odd = load_suite(CONFIG / "paper.yaml", ["pairs.phi2_1b.micro_batch_size=3"])
    with pytest.raises(ConfigError, match=r"pairs.phi2_1b.micro_batch_size=3: .*batch_size=128"):
        spec(odd, "rkl", seed=0)


def test_the_teachers_precision_is_part_of_a_run_where_it_is_chosen():
    suite = load_suite(CONFIG / "mini.yaml")
    chosen = load_suite(CONFIG / "mini.yaml", ["stages.scratch.teacher_dtype=bfloat16"])
    one, other = spec(suite, "vanilla_kd"), spec(chosen, "vanilla_kd")
    assert "teacher_dtype" not in one.model_dump()
    assert other.model_dump()["teacher_dtype"] == "bfloat16"
    assert one.states is not None and other.states is None, "stored states are of another teacher"


@pytest.mark.parametrize(
    ("written", "range_"), [("2", (2, 2)), ("[1, 8]", (1, 8)), ("{min: 2, max: 4}", (2, 4))]
)
def test_gpus_are_a_number_or_a_range(written, range_):
    gpus = (
        load_suite(CONFIG / "paper.yaml", [f"pairs.phi2_1b.gpus={written}"]).pairs["phi2_1b"].gpus
    )
    assert (gpus.min, gpus.max) == range_


@pytest.mark.parametrize("written", ["0", "[8, 1]", "[1, 2, 3]", "many", "{min: 1}", "true"])
def test_a_range_that_is_none_is_told_in_one_line(written):
    with pytest.raises(ConfigError, match=r"pairs\.phi2_1b\.gpus") as told:
        load_suite(CONFIG / "paper.yaml", [f"pairs.phi2_1b.gpus={written}"])
    assert "\n" not in str(told.value)
