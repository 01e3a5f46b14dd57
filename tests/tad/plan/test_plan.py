"""Jobs behind records, how they fit, what they read and store, what they ask of a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tad.experiment.config import load_suite
from tad.experiment.flops import model_shape
from tad.experiment.run_id import RunId
from tad.plan import data
from tad.plan.facts import PROJECT, machine
from tad.plan.fit import Fit, configured, fit, halved
from tad.plan.jobs import Job, jobs_of
from tad.plan.memory import Built, Memory
from tad.plan.plan import Plan, resources
from workflow.items import all_records
from workflow.watch.jobs import jobs

RUN = "scratch/phi2_1b/miniplm/seed0"
LARGE = "math/phi3-14b_llama2-7b/tad-k10-b2/seed0"


@pytest.fixture(scope="module")
def paper():
    return load_suite(PROJECT / "config" / "paper.yaml")


@pytest.fixture(scope="module")
def smoke():
    return load_suite(PROJECT / "config" / "smoke.yaml")


def distill(run: str) -> Job:
    return Job("distill", f"runs/{run}", (), RunId.parse(run))


def test_a_record_needs_all_that_the_rules_make_for_it(paper, smoke):
    found = jobs_of(paper, [f"runs/{RUN}/fewshot.json"])
    assert list(found) == [
        "tokenizer tokenizers/phi",
        "pack data/general/phi",
        "select selections/scratch/phi2_1b/seed0",
        f"distill runs/{RUN}",
        f"fewshot runs/{RUN}",
    ]
    assert found[f"distill runs/{RUN}"].needs == (
        "pack data/general/phi", "select selections/scratch/phi2_1b/seed0",
    )  # fmt: skip
    here = jobs_of(smoke, [f"runs/{RUN}/manifest.json"])
    assert "pretrain models/phi-2/final" in here, "a teacher that is made at this scale"
    assert "pretrain models/opt-125m/final" in here


def test_a_supervised_run_comes_after_the_run_that_it_starts_from(paper):
    run = "supervised/phi3-14b_llama2-7b/sft/seed0"
    found = jobs_of(paper, [f"runs/{run}/math.json"])
    assert "distill runs/math/phi3-14b_llama2-7b/clm/seed0" in found[f"distill runs/{run}"].needs
    assert "instructions data/instruct/llama" in found


def test_jobs_are_named_as_the_watch_names_them(smoke):
    """The same places as ``tad status`` counts, so that both speak of the same jobs."""
    kept = ("data", "models", "selections", "generated", "states", "tokenizers", "distill")
    watched = {job.name for job in jobs(smoke, Path("work/smoke")) if job.kind in kept}
    assert {job.place for job in jobs_of(smoke, all_records(smoke)).values()} >= watched


# --- Fits ----------------------------------------------------------------------------------------


def test_what_fits_as_configured_is_left_as_it_is(paper):
    found = fit(paper, distill("scratch/qwen1.5-1.8b_0.5b/tad-k10-b2/seed0"), machine("H100-80GB"))
    assert (found.gpus, found.micro_batch, found.checkpointing) == (1, 8, False)
    assert found.sharding == "none"
    assert found.differs(distill("scratch/qwen1.5-1.8b_0.5b/tad-k10-b2/seed0"), paper) == {}


@pytest.mark.parametrize("on", ["8xH100-80GB", "4xA100-40GB", "1xRTX4090-24GB"])
def test_what_fits_is_within_the_room_and_keeps_the_batch(paper, on):
    place = machine(on)
    for run in paper.runs():
        found = fit(paper, distill(str(run)), place)
        if found is not None:
            batch = paper.stages[run.stage].batch_size
            assert found.memory.peak <= place.room
            assert found.gpus <= place.count
            assert batch % (found.micro_batch * found.gpus) == 0
            assert found.sharding == "none" or found.gpus > 1


def test_a_model_that_is_too_large_for_a_gpu_is_sharded_or_refused(paper):
    job, pair = distill(LARGE), paper.pairs["phi3-14b_llama2-7b"]
    plain = pair.model_copy(update={"sharding": "none", "micro_batch_size": 8})
    bare = paper.model_copy(update={"pairs": paper.pairs | {"phi3-14b_llama2-7b": plain}})
    found = fit(bare, job, machine("8xH100-80GB"))
    assert found.sharding == "fsdp"
    assert found.differs(job, bare)["sharding"] == "fsdp"
    assert fit(paper, job, machine("1xRTX4090-24GB")) is None


def test_a_micro_batch_is_halved_down_to_one():
    assert halved(8) == [8, 4, 2, 1]


def test_a_fit_outside_of_the_configured_number_of_gpus_says_so(paper):
    found = Fit(4, 8, False, "none", Memory(weights=0.0))
    assert found.differs(distill("scratch/phi2_1b/clm/seed0"), paper) == {"gpus": 4}


def test_the_setting_is_what_the_configuration_says(paper):
    found = configured(paper, RunId.parse("scratch/gemma2-9b_2b/tad-k10-b2/seed0"))
    assert (found.gpus, found.micro_batch, found.context) == (2, 1, 2048)
    assert found.accumulates and found.teacher_beside


# --- Data ----------------------------------------------------------------------------------------


def test_a_corpus_that_holds_less_than_a_job_reads_is_short(paper):
    jobs = [Job("pack", "data/general/phi"), distill("scratch/phi2_1b/clm/seed0")]
    known = data.tokens(paper, jobs)[0]
    assert known.holds == 5_000_000_000
    pool = Job("select", "selections/scratch/qwen1.5-1.8b_0.5b/seed0", (),
               RunId.parse("scratch/qwen1.5-1.8b_0.5b/miniplm/seed0"))  # fmt: skip
    found = data.tokens(paper, [*jobs, pool])[0]
    asked = max(found.configured, found.needed) + found.held_out
    assert found.short == max(0, asked - found.holds)
    if found.needed > found.holds:
        assert found.short_jobs == (pool.place,)


def test_a_corpus_that_does_not_say_what_it_holds_is_not_short(smoke):
    found = data.tokens(smoke, [Job("pack", "data/general/phi")])
    assert [(each.holds, each.short) for each in found] == [(None, 0)]


def test_downloads_know_sizes_and_consents(paper):
    jobs = jobs_of(paper, ["runs/scratch/gemma2-9b_2b/clm/seed0/fewshot.json"]).values()
    found = {(each.kind, each.name): each for each in data.downloads(paper, jobs)}
    model = found["model", "google/gemma-2-9b"]
    assert model.gated and "Gemma" in model.licence
    assert model.gigabytes == pytest.approx(18.5, abs=0.3)
    assert found["dataset", "sail/regmix-data-sample"].gigabytes == 20.0


def test_disk_counts_checkpoints_of_as_many_runs_as_there_are_gpus(paper):
    runs = [f"runs/scratch/phi2_1b/{method}/seed0" for method in ("clm", "rkl", "vanilla_kd")]
    jobs = {distill(run.removeprefix("runs/")): 1 for run in runs}
    one, two = (data.disk(paper, jobs, gpus) for gpus in (1, 2))
    assert two["checkpoints"] == 2 * one["checkpoints"]
    assert one["models"] == two["models"] == pytest.approx(3 * 4 * 1.04, rel=0.1)


def test_disk_counts_models_that_are_trained_here(smoke):
    jobs = jobs_of(smoke, [f"models/tinyllama-1.1b/{point}/heldout.json" for point in ("1t", "2t")])
    assert [job.kind for job in jobs.values()].count("pretrain") == 2
    one = 4 * Built(*model_shape(smoke, "tinyllama-1.1b")).weights
    found = data.disk(smoke, dict.fromkeys(jobs.values(), 1), 1)
    assert found["models"] * 1e9 == 2 * one
    assert found["checkpoints"] * 1e9 == 9 * one


# --- Plans and resources -------------------------------------------------------------------------


def test_a_slower_pace_takes_longer_and_computes_the_same(paper):
    plan = Plan.of(paper, [f"runs/{RUN}/fewshot.json"], machine("8xH100-80GB"))
    slow = plan.at(0.1)
    assert slow.flops == plan.flops
    assert slow.gpu_hours == pytest.approx(4 * plan.gpu_hours, rel=0.01)
    assert plan.wall_hours >= sum(plan.jobs[name].hours for name in plan.critical_path) - 1e-6
    assert not plan.misfits


def test_resources_grow_with_the_models_and_the_gpus(paper, smoke):
    small = resources(paper, distill("scratch/qwen1.5-1.8b_0.5b/clm/seed0"), 1)
    large = resources(paper, distill(LARGE), 2)
    assert large.mem_mb > 2 * small.mem_mb > 20_000
    assert 60 < small.runtime < large.runtime <= 7 * 24 * 60
    assert resources(paper, distill(LARGE), 8).runtime < large.runtime
    here = resources(smoke, distill("scratch/phi2_1b/rkl/seed0"), 0)
    assert 1_000 < here.mem_mb < 4_000
    assert here.runtime >= 30


def test_every_job_of_a_scale_has_resources(paper, smoke):
    for suite, gpus in ((paper, 1), (smoke, 0)):
        for job in jobs_of(suite, all_records(suite)).values():
            found = resources(suite, job, gpus if job.on_gpu else 0)
            assert found.mem_mb > 500 and found.runtime >= 30, job.name


def test_planning_needs_no_torch():
    code = "import sys, tad.plan.plan; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)


def test_every_training_of_the_papers_scale_fits_as_it_is_configured(paper):
    """On the paper's GPUs (Appendix A); its pairs differ by methods and stages alone."""
    on = machine("8xH100-80GB")
    runs = {(run.pair, run.stage, run.method): run for run in paper.runs()}
    found = {str(run): fit(paper, distill(str(run)), on) for run in runs.values()}
    assert None not in found.values()
    changed = {name: each.differs(distill(name), paper) for name, each in found.items()}
    assert not any(changed.values()), {name: keys for name, keys in changed.items() if keys}
