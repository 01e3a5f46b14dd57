"""What a scale needs is what its runs, as the DAG resolves them, will ask for."""

from __future__ import annotations

import pytest

from tad.check.benchmarks import benchmarks
from tad.check.wanted import sources, wanted
from tad.command import PROJECT
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.experiment.specs import hub_ids, pretrain_spec, run_spec

SCALES = ("smoke", "mini", "paper")


def suite_of(scale: str, *overrides: str):
    return load_suite(PROJECT / "config" / f"{scale}.yaml", overrides)


@pytest.mark.parametrize("scale", SCALES)
def test_every_model_and_corpus_of_a_run_is_wanted(scale):
    suite = suite_of(scale)
    need, work = wanted(suite), Layout.work(scale)
    names = {source.name for source in sources(suite, need)}
    made = {str(work.model(*point)) for point in need.models}
    made |= {str(work.run(run)) for run in suite.runs()}
    data = {str(work.tokens(*packed)) for packed in need.packed}
    data |= {
        str(work.tokens(name, tokenizer))
        for name in need.instructions
        for tokenizer in need.tokenizers
    }
    for run in suite.runs():
        spec = run_spec(suite, run)
        asked = {spec.teacher, spec.start, spec.selection and spec.selection.reference} - {None}
        started = {place for place in asked if place.startswith(f"work/{scale}/runs/")}
        assert asked - started <= names | made, run
        assert spec.data in data, run
    for model, point in need.models:
        if suite.models[model].checkpoints[point].tokens is not None:
            spec = pretrain_spec(suite, model, point)
            assert spec.data in data
            assert spec.start is None or spec.start in made


def test_the_paper_loads_all_of_its_models_and_data():
    suite = suite_of("paper")
    found = sources(suite, wanted(suite))
    assert {s.hub for s in found if s.kind != "dataset"} == hub_ids(suite)
    assert [s.hub for s in found if s.kind == "dataset"] == [
        "sail/regmix-data-sample",
        "open-web-math/open-web-math",
        "microsoft/orca-math-word-problems-200k",
        "camel-ai/math",
    ]
    phi = next(s for s in found if s.hub == "microsoft/phi-2")
    assert phi.keys == ("models.phi-2.checkpoints.final", "tokenizers.phi") and phi.kind == "model"


def test_a_subset_wants_less():
    suite = suite_of(
        "paper", "select.items=[figure1]", "select.pairs=[phi2_1b]", "select.methods=[vanilla_kd]"
    )
    found = sources(suite, wanted(suite))
    assert [s.name for s in found] == ["microsoft/phi-2", "sail/regmix-data-sample"]
    assert benchmarks(suite) == ([], []), "figure 1 reads no few-shot record"


def test_small_scales_load_nothing():
    for scale in ("smoke", "mini"):
        suite = suite_of(scale)
        assert sources(suite, wanted(suite)) == []
        found, told = benchmarks(suite)
        assert not found and [finding.level for finding in told] == ["ok"]


def test_local_copies_take_the_place_of_the_hub(tmp_path):
    (tmp_path / "text").mkdir()
    suite = suite_of(
        "paper",
        "select.items=[figure1]",
        "select.pairs=[phi2_1b]",
        "select.methods=[vanilla_kd]",
        f"models.phi-2.checkpoints.final={{hub: null, path: {tmp_path}}}",
        f"tokenizers.phi={{hub: null, path: {tmp_path}}}",
        f"corpora.general.id={tmp_path / 'text'}",
    )
    assert [(s.hub, s.path) for s in sources(suite, wanted(suite))] == [
        (None, str(tmp_path)),
        (None, str(tmp_path / "text")),
    ]


def test_the_benchmarks_are_those_of_the_evaluation():
    pytest.importorskip("lm_eval")
    found, told = benchmarks(suite_of("paper"))
    names = {source.hub for source in found}
    assert {"allenai/ai2_arc", "Rowan/hellaswag", "openai/gsm8k", "LSDSem/story_cloze"} <= names
    arc = {s.keys[0]: s.subset for s in found if s.hub == "allenai/ai2_arc"}
    assert arc == {
        "few-shot task arc_easy": "ARC-Easy",
        "few-shot task arc_challenge": "ARC-Challenge",
    }
    assert "failure  math set mawps: no copy on the hub is known" in told[0].line()


def test_benchmarks_of_local_folders(tmp_path):
    (tmp_path / "gsm8k.jsonl").write_text("{}\n")
    (tmp_path / "test.jsonl").write_text("{}\n")
    local = f"evaluation.fewshot.local={{storycloze: {tmp_path}, piqa: {tmp_path}}}"
    suite = suite_of("paper", local, f"evaluation.math.data={tmp_path}")
    told = {finding.about: finding for finding in benchmarks(suite)[1]}
    assert told["evaluation.fewshot.local.storycloze"].level == "ok"
    assert f"{tmp_path}/validation.jsonl is missing" in told["evaluation.fewshot.local.piqa"].line()
    assert told["math set gsm8k"].level == "ok" and told["math set svamp"].level == "failure"
