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


def holding(suite, holds: int | None, tokens: int | None = None):
    """A suite whose general corpus holds so many tokens."""
    corpus = suite.corpora["general"]
    change = {"holds": holds, "tokens": tokens or corpus.tokens}
    corpora = suite.corpora | {"general": corpus.model_copy(update=change)}
    return suite.model_copy(update={"corpora": corpora})


def test_budgets_beyond_what_the_data_hold_are_clipped_and_told():
    mini = load_suite(CONFIG / "mini.yaml")
    pair = mini.pairs["phi2_1b"].tokens["scratch"]
    full = spec(mini, "miniplm"), spec(mini, "clm_matched")
    context, batch = (getattr(full[0].optimisation, key) for key in ("context", "batch_size"))
    held = int(pair * 1.5)  # fewer than the pool of twice the budget
    suite = holding(mini, round(held / (1 - mini.corpora["general"].validation_fraction)))
    rows = (suite.corpora["general"].train_tokens - 1) // context
    assert rows == pytest.approx(held / context, abs=1)

    selected = spec(suite, "miniplm")
    assert selected.optimisation == full[0].optimisation, "as much is trained on"
    trained = selected.optimisation.steps * batch
    assert selected.selection.sequences == rows < selected.selection.asked
    assert selected.selection.asked == full[0].selection.sequences
    assert round(selected.selection.delta * rows) == trained

    matched = spec(suite, "clm_matched")
    assert matched.asked_tokens == pytest.approx(full[1].optimisation.tokens, abs=batch * context)
    assert matched.optimisation.steps == rows // batch < full[1].optimisation.steps
    assert spec(suite, "vanilla_kd") == spec(mini, "vanilla_kd")


def test_a_spec_without_clipping_is_as_if_there_were_none():
    mini = load_suite(CONFIG / "mini.yaml")
    for method in ("miniplm", "clm_matched", "tad-k10-b2"):
        one, other = spec(mini, method), spec(holding(mini, 10**12), method)
        assert one == other
        said = str(one.model_dump())
        assert "asked" not in said and "packed" not in said and "holds" not in said
    assert "holds" not in str(mini.corpora["general"].model_dump())


def test_less_configured_than_the_data_hold_is_refused_not_clipped():
    mini = load_suite(CONFIG / "mini.yaml")
    few = holding(mini, 10**12, mini.pairs["phi2_1b"].tokens["scratch"])
    with pytest.raises(ConfigError, match="tokens have the FLOPs of TAD, but .* raise either"):
        spec(few, "clm_matched")


def test_packed_is_of_the_paper_scale_s_supervised_runs_alone():
    paper = load_suite(CONFIG / "paper.yaml")
    packed = {run.stage: run_spec(paper, run).optimisation.packed for run in paper.runs()}
    assert packed == {"scratch": False, "continued": False, "math": False, "supervised": True}
    for name in ("mini", "smoke"):
        suite = load_suite(CONFIG / f"{name}.yaml")
        assert not any(run_spec(suite, run).optimisation.packed for run in suite.runs())


def test_the_paper_s_pool_and_matched_budget_are_clipped_to_its_sample():
    paper = load_suite(CONFIG / "paper.yaml")
    held = paper.corpora["general"].train_tokens
    assert held == 4_975_000_000 < paper.corpora["general"].tokens
    clipped = {
        (run.pair, run.method.name)
        for run in paper.runs()
        if (one := run_spec(paper, run)).asked_tokens or (one.selection and one.selection.asked)
    }
    assert ("qwen1.5-1.8b_0.5b", "miniplm") in clipped
    assert {method for _, method in clipped} == {"miniplm", "clm_matched"}
    for run in paper.runs():
        one = run_spec(paper, run)
        if run.stage == "scratch":
            assert one.optimisation.tokens <= held


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
    values += [f"pairs.phi3-14b_llama2-7b.{key}=null" for key in ("sharding", "micro_batch_size")]
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
