"""Where the project lies: a folder with spaces and umlauts, and another one when it is finished."""

from __future__ import annotations

import os
import shutil

import pytest

from .conftest import REPOSITORY, RUN, TEACHER, TINY, Project, make_project

CODE = (
    "Snakefile",
    "environment.yml",
    "tad",
    "eval",
    "analysis",
    "workflow",
    "config",
    "results/reported",
)
REFERENCE = {
    "family": "llama",
    "tokenizer": "qwen",
    "shape": {**TEACHER, "hidden_size": 16, "head_dim": 8},
    "checkpoints": {"final": {"tokens": 1_000}},
}
SHORT = {"tokens": {"scratch": 2_560}}  # 20 steps
PAIR = "work/tiny/runs/scratch/qwen1.5-1.8b_0.5b"
TARGETS = [  # with "all": every rule but convert (test_smollm.py)
    *(f"work/tiny/runs/{RUN}/{kind}.json" for kind in ("heldout", "fewshot", "math")),
    *(f"{PAIR}/{method}/seed0/manifest.json" for method in ("miniplm", "seq_kd")),
    "work/tiny/models/qwen1.5-1.8b/final/heldout.json",
    "work/tiny/data/instruct/qwen/manifest.json",
]


def plan(project: Project, *targets: str) -> str:
    done = project.run([*project.python("snakemake"), "-n", *OPTIONS, "--", *targets])
    return done.stdout + done.stderr


OPTIONS = ("--cores", "1", "--config", "scale=tiny.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A clone in a folder with an awkward name, with the tiny suite and TARGETS made."""
    folder = tmp_path_factory.mktemp("places") / "Größe und it's (1)"
    source = {"path": "work/tiny/problems/instruct.jsonl", "layout": "plain"}
    source |= {"question": "prompt", "answer": "response"}
    project = make_project(
        folder,
        warm_jobs=True,
        models={**TINY["models"], "opt-125m": REFERENCE},
        pairs={"qwen1.5-1.8b_0.5b": {**TINY["pairs"]["qwen1.5-1.8b_0.5b"], **SHORT}},
        instructions={"instruct": {"sources": [source], "examples": 20, "validation_examples": 5}},
        stages={
            **TINY["stages"],
            "supervised": {**TINY["stages"]["scratch"], "corpus": "instruct", "context": 400},
        },
        baselines={"seq_kd": {"prompt_tokens": 8}, "minillm": {"prompt_tokens": 8}},
        evaluation={
            "fewshot": {"suite": "smoke", "items": 2},
            "math": {"suite": "smoke", "problems": 30, "limit": 2},
            "samples": {"prompts": 1, "prompt_tokens": 8, "new_tokens": 4},
        },
    )
    for name in CODE:
        path = REPOSITORY / name
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, folder / name)
    project.environment["PYTHONPATH"] = str(folder)
    done = project.run([*project.python("snakemake"), *OPTIONS, "--", "all", *TARGETS], ok=False)
    logs = "".join(path.read_text()[-800:] for path in folder.rglob("*.log"))
    assert done.returncode == 0, done.stderr[-3000:] + logs
    return project


def test_every_rule_works_below_a_name_with_spaces_and_umlauts(finished):
    for target in TARGETS:
        assert (finished.folder / target).is_file()
    assert "Nothing to be done" in plan(finished, "all", *TARGETS)


def test_a_finished_project_that_is_moved_or_copied_has_nothing_to_do(finished, tmp_path):
    copy = Project(tmp_path / "elsewhere")
    shutil.copytree(finished.folder, copy.folder)
    copy.environment["PYTHONPATH"] = str(copy.folder)
    assert "Nothing to be done" in plan(copy, "all", *TARGETS)
    os.rename(copy.folder, tmp_path / "again elsewhere")
    moved = Project(tmp_path / "again elsewhere")
    moved.environment["PYTHONPATH"] = str(moved.folder)
    assert "Nothing to be done" in plan(moved, "all", *TARGETS)
    (moved.folder / TARGETS[0]).unlink()
    assert "heldout_run" in plan(moved, *TARGETS), "and what is lost is made again"


def test_bare_snakemake_plans_everything(tmp_path):
    project = make_project(tmp_path / "project")
    command = [*project.python("snakemake"), "--snakefile", str(REPOSITORY / "Snakefile"), "-n"]
    bare = project.run([*command, *OPTIONS]).stdout
    counts = dict(line.split() for line in bare.splitlines() if len(line.split()) == 2)
    assert counts["distill"] == "2" and counts["all"] == "1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "sclae=mini",
            "sclae=...: no such key (did you mean 'scale'? allowed: scale, root, override)",
        ),
        ("seeds=[0,1]", "seeds=...: no such key (allowed: scale, root, override)"),
    ],
)
def test_an_unknown_key_is_refused(tmp_path, given, message):
    project = make_project(tmp_path / "project")
    command = [*project.snakemake("-n", "--", "all")]
    command.insert(command.index("--config") + 1, given)
    done = project.run(command, ok=False)
    assert done.returncode != 0
    assert message in " ".join((done.stdout + done.stderr).split())
