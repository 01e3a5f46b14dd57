"""The miniature of the paper's scale: the same jobs, small sizes in the order of the originals."""

from __future__ import annotations

import re

import pytest
import yaml

from tad.cli import main as tad
from tad.experiment.config import Suite, load_suite
from tad.experiment.specs import run_spec
from tests.workflow.conftest import REPOSITORY, Project
from workflow.rehearsal import rehearse
from workflow.rehearsal.scale import BATCH, CONTEXT, EVALUATIONS, STEPS, models
from workflow.rehearsal.sizes import published, tokenizer_sizes

NODE = re.compile(r'^\s*(\d+)\[label = "(.*?)"', flags=re.MULTILINE)
EDGE = re.compile(r"^\s*(\d+) -> (\d+)", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A folder with the scale file alone; no stand-in is needed to plan its jobs."""
    folder = tmp_path_factory.mktemp("rehearsal")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        path, extends = rehearse.scale_file("paper", folder / "stand-ins")
        rehearse.write_scale(load_suite(path), extends, folder / "stand-ins")
    return Project(folder)


@pytest.fixture(scope="module")
def paper() -> Suite:
    return load_suite(REPOSITORY / "config" / "paper.yaml")


@pytest.fixture(scope="module")
def small(project) -> Suite:
    return load_suite(project.folder / "stand-ins" / "rehearsal.yaml")


def jobs(project: Project, scale: str, name: str) -> tuple[set, set]:
    """(rule, file) of all that a scale makes, and (job, job that needs it); ``work/`` as one."""
    call = [*project.python("snakemake", "--snakefile", str(REPOSITORY / "Snakefile"))]
    call += ["--cores", "1", "--config", f"scale={scale}"]

    def told(*options: str) -> str:
        found = project.run([*call, *options, "--", "all"]).stdout
        return found.replace(f"work/{name}/", "work/SCALE/")

    lines = [line.split("\t") for line in told("--summary").splitlines()]
    files = {(line[2], line[0]) for line in lines if line[0].startswith("work/")}
    dot = told("--dag", "dot")
    labels = dict(NODE.findall(dot))
    return files, {(labels[a], labels[b]) for a, b in EDGE.findall(dot)}


def test_its_jobs_are_those_of_the_paper(project):
    files, edges = jobs(project, "paper", "paper")
    small_files, small_edges = jobs(project, "stand-ins/rehearsal.yaml", "rehearsal")
    assert len(files) > 500 and {"distill", "select", "generate", "math"} <= {r for r, _ in files}
    assert small_files == files
    assert len(edges) > 500
    assert small_edges == edges


def test_every_run_has_a_few_small_steps(small):
    for run in small.runs():
        values = run_spec(small, run).optimisation
        assert STEPS <= values.steps <= 250, run
        assert (values.batch_size, values.context, values.evaluations) == (
            BATCH,
            CONTEXT,
            EVALUATIONS,
        )


def test_it_keeps_what_decides_and_shrinks_what_is_large(paper, small):
    for name in ("seeds", "select", "items", "max_epochs", "references"):
        own, theirs = getattr(small, name), getattr(paper, name)
        assert own.keys() == theirs.keys() if name == "references" else own == theirs
    assert small.is_paper and not small.pretraining
    assert small.evaluation.fewshot.suite == small.evaluation.math.suite == "paper"
    assert set(small.evaluation.fewshot.local) >= {"storycloze", "hellaswag"}


def order(values: list[int]) -> list[list[int]]:
    return [[(a > b) - (a < b) for b in values] for a in values]


def test_shapes_are_small_and_in_the_order_of_the_originals(paper, small):
    teachers = {name: (m.shape, small.models[name].shape) for name, m in paper.models.items()}
    for name, (_, tiny) in teachers.items():
        assert tiny.hidden_size <= 64 and tiny.head_dim >= 4, name
        assert paper.models[name].family == small.models[name].family
    for pair, entry in paper.pairs.items():
        if entry.student.shape is None:
            continue
        (was, now), made = teachers[entry.teacher], small.pairs[pair].student.shape
        for key in ("hidden_size", "layers", "kv_heads", "head_dim", "intermediate_size"):
            big = [getattr(was, key), getattr(entry.student.shape, key)]
            assert order([getattr(now, key), getattr(made, key)]) == order(big), (pair, key)
        assert made.tied == entry.student.shape.tied


def test_vocabularies_keep_their_ratios_and_differ_where_the_originals_do(paper, small):
    for name, model in paper.models.items():
        rows = small.models[name].shape.vocab_size
        assert rows == pytest.approx(model.shape.vocab_size / 100, rel=0.02), name
    tokens = {source: tokenizer_sizes(source).size for source in published()["sources"]}
    assert tokens["Qwen/Qwen1.5-1.8B"] < tokens["Qwen/Qwen2.5-3B"] < 1519
    phi3 = tokens["microsoft/Phi-3-mini-4k-instruct"]
    assert (
        tokens["meta-llama/Llama-2-7b-hf"] == 320 < phi3 < small.models["phi3-4b"].shape.vocab_size
    )
    assert tokens["google/gemma-2-9b"] == small.models["gemma2-9b"].shape.vocab_size == 2560


def test_what_is_published_is_known_of_every_model_of_the_paper(paper):
    for _, model in models(paper):
        assert model.source in published()["sources"], model.source


def test_teachers_are_measured_on_text_in_their_own_tokens(paper):
    for teacher in paper.teachers("figure2"):
        packer = paper.tokenizers[paper.models[teacher].tokenizer].hub
        assert packer == paper.models[teacher].checkpoints["final"].hub


def test_a_scale_of_ones_own_is_rehearsed_too(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    mine = project.folder / "mine.yaml"
    phi = {"checkpoints": {"final": {"hub": None, "path": "/data/phi-2"}}}
    mine.write_text(yaml.safe_dump({"extends": "paper", "models": {"phi-2": phi}}))
    path, extends = rehearse.scale_file("mine.yaml", project.folder / "own")
    out = rehearse.write_scale(load_suite(path), extends, project.folder / "own")
    suite = load_suite(out)
    assert suite.models["phi-2"].checkpoints["final"].hub == "own/hub/data/phi-2"
    assert suite.is_paper is False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scale", "smoke"], "only a scale that loads its models"),
        (["--scale", "papre"], "no such file"),
        (["--out", "work/rehearsal/x"], "is where the jobs work"),
    ],
)
def test_what_cannot_be_rehearsed_is_told_in_a_line(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert tad(["rehearse", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
