"""The scale with a real teacher: what it plans, and all of it on a teacher cut to two minutes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tad.experiment.config import load_suite
from tad.records import read_json
from tests.tad.models.tiny_gguf import PACKAGE, SHAPE, install
from workflow.items import all_records

from .conftest import REPOSITORY, Project, write_corpus

TEXT = {"source": "local", "path": "corpus.jsonl", "packages": None, "validation_fraction": 0.2}
SOURCE = {"package": PACKAGE, "hub": None}
CUT = {
    "extends": "smollm",
    "seeds": [0],
    "corpora": {
        "general": {**TEXT, "tokens": 12_000, "validation_tokens": 2_000},
        "tasks": {**TEXT, "validation_tokens": 5_000},
    },
    "tokenizers": {"smollm2": SOURCE},
    "models": {"smollm2-135m": {"shape": SHAPE, "checkpoints": {"final": SOURCE}}},
    "pairs": {
        "smollm2-135m_pruned": {"tokens": {"scratch": 640}, "student": {"layers_of_teacher": 2}},
        "smollm2-135m_recipe": {
            "tokens": {"scratch": 640},
            "student": {"shape": {**SHAPE, "layers": 2, "vocab_size": None}},
        },
    },
    "stages": {"scratch": {"batch_size": 2, "context": 32, "evaluations": 2}},
    "evaluation": {
        "fewshot": {"suite": "smoke", "items": 2},
        "calibration_positions": 1_024,
        "samples": {"prompts": 2, "prompt_tokens": 8, "new_tokens": 8},
    },
}
"""The scale's own file, on made-up text and a teacher of four layers."""


def planned(scale: str) -> dict[str, int]:
    """Jobs of a scale by rule, as a dry run in the project's folder tells them."""
    command = [sys.executable, "-m", "snakemake", "-n", "--config"]
    done = subprocess.run(
        [*command, f"scale={scale}", "--", "all"],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout + done.stderr
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", told, re.MULTILINE)}


@pytest.mark.skipif((REPOSITORY / "work" / "smollm").exists(), reason="work/smollm is begun")
def test_a_dry_run_of_smollm_plans_every_job():
    jobs = planned("smollm")
    assert jobs["convert"] == jobs["tokenizer"] == 1 and "pretrain" not in jobs
    assert jobs["distill"] == jobs["heldout_run"] == 13
    assert jobs["states"] == 4, "three seeds of the one student, one of the other"
    assert jobs["fewshot"] == 13, "twelve students and the teacher"
    assert jobs["sample"] == 6, "five students of the first seed and the teacher"


@pytest.mark.skipif((REPOSITORY / "work" / "smollm-long").exists(), reason="it is begun")
def test_the_longer_grid_is_one_word_away():
    jobs = planned("smollm-long")
    assert jobs["distill"] == 31 and jobs["convert"] == 1


@pytest.mark.slow
def test_a_teacher_of_a_package_is_distilled_and_judged(tmp_path):
    pytest.importorskip("gguf", reason="gguf is not installed (make test-slow installs it)")
    install(tmp_path / "site")
    write_corpus(tmp_path / "corpus.jsonl")
    project = Project(tmp_path)
    project.config = tmp_path / "cut.yaml"
    project.config.write_text(yaml.safe_dump(CUT))
    path = f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    project.environment["PYTHONPATH"] = path
    project.run(project.snakemake())

    suite, root = load_suite(project.config), tmp_path / "work" / "cut"
    assert not [name for name in all_records(suite) if not (root / name).is_file()]
    source = read_json(root / "models" / "smollm2-135m" / "final" / "manifest.json")["source"]
    assert source["package"] == PACKAGE
    run = root / "runs" / "scratch" / "smollm2-135m_pruned" / "tad-k10-b2" / "seed0"
    manifest = read_json(run / "manifest.json")
    embeddings = SHAPE["vocab_size"] * SHAPE["hidden_size"]
    assert manifest["parameters"] - manifest["trainable_parameters"] == embeddings
    assert manifest["states_seconds"] > 0, "the teacher's states were read"
    card = (run / "README.md").read_text()
    assert "2 whole layers of the teacher, embeddings frozen" in card
    assert f"package {PACKAGE}" in card and str(tmp_path) not in card
    page = (root / "findings.html").read_text()
    assert "Continuations" in page and "The text itself" in page
    assert "Nothing to be done" in project.run(project.snakemake()).stderr
