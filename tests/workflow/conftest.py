"""A suite of the smallest size that still goes through every step, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tad.made_up_text import prose

REPOSITORY = Path(__file__).parents[2]
SHAPE = {"layers": 2, "heads": 2, "kv_heads": 2, "intermediate_size": 64, "tied": False}
TEACHER = {**SHAPE, "hidden_size": 32, "head_dim": 16}
STUDENT = {**SHAPE, "hidden_size": 16, "head_dim": 8}

TINY = {
    "scale": "tiny",
    "seeds": [0],
    "select": {
        "items": ["figure1", "figure2", "heldout", "table2"],
        "pairs": ["qwen1.5-1.8b_0.5b"],
        "methods": ["vanilla_kd", "tad-k10-b2"],
    },
    "corpora": {
        "general": {
            "source": "local",
            "path": "corpus.jsonl",
            "tokens": 12_000,
            "validation_tokens": 5_000,
            "validation_fraction": 0.2,
        }
    },
    "tokenizers": {"qwen": {"vocab_size": 300, "corpora": ["general"]}},
    "pretraining": {
        "corpus": "general",
        "batch_size": 4,
        "context": 32,
        "learning_rate": 2e-3,
        "weight_decay": 0.1,
        "evaluations": 2,
    },
    "models": {"qwen1.5-1.8b": {"shape": TEACHER, "checkpoints": {"final": {"tokens": 4_000}}}},
    "pairs": {"qwen1.5-1.8b_0.5b": {"tokens": {"scratch": 7_680}, "student": {"shape": STUDENT}}},
    "stages": {
        "scratch": {
            "corpus": "general",
            "batch_size": 4,
            "micro_batch_size": 2,
            "context": 32,
            "learning_rate": 2e-3,
            "weight_decay": 0.1,
            "temperature": 1.0,
            "evaluations": 3,
            "evaluation_sequences": 16,
            "checkpoint_every_steps": 10,
        }
    },
    "evaluation": {"fewshot": {"suite": "smoke", "items": 2}},
}
"""60 steps of distillation, with a checkpoint every 10."""

RUN = "scratch/qwen1.5-1.8b_0.5b/tad-k10-b2/seed0"


def write_corpus(path: Path, documents: int = 150) -> None:
    """Invented prose, every document on words of its own."""
    with path.open("w") as file:
        for text in prose(documents):
            file.write(json.dumps({"text": text}) + "\n")


class Project:
    """A folder with the tiny suite; commands run in it as a user would run them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / "tiny.yaml"
        self.work = folder / "work" / "tiny"
        # Rules call `python`, which must be the one that runs the tests.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": path}
        self.environment = {**os.environ, **offline}

    def python(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", module, *arguments]

    def snakemake(self, *arguments: str) -> list[str]:
        return [
            *self.python("snakemake", "--snakefile", str(REPOSITORY / "Snakefile")),
            *("--cores", "1", "--config", f"scale={self.config}"),
            *(arguments or ("--", "all")),
        ]

    def run(self, command: list[str], ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if ok:
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    def start(self, command: list[str]) -> subprocess.Popen:
        """A process in a group of its own, which can be killed whole."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def copy(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder)
        return Project(folder)


def make_project(folder: Path, **changes) -> Project:
    """A new project; ``changes`` replace top-level entries of TINY."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "config" / "experiments.yaml", folder)
    project = Project(folder)
    project.config.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
    write_corpus(folder / "corpus.jsonl")
    return project


@pytest.fixture(scope="session")
def taught(tmp_path_factory) -> Project:
    """A project whose data and teacher are made; tests copy it and leave it alone."""
    project = make_project(tmp_path_factory.mktemp("taught") / "project")
    config = ["--config", str(project.config)]
    project.run(project.python("tad", "data", "tokenizer", *config, "--tokenizer", "qwen"))
    pack = ["pack", *config, "--corpus", "general", "--tokenizer", "qwen"]
    project.run(project.python("tad", "data", *pack))
    project.run(project.python("tad", "pretrain", *config, "--model", "qwen1.5-1.8b"))
    return project
