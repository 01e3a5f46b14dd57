"""MiniPLM, Seq-KD, MiniLLM and the ablations, from the records of a run to its students."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tad.baselines import generation, selection
from tad.baselines.selection import selected_rows
from tad.data.packing import PackedTokens
from tad.experiment.config import load_suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.train import pretrain
from tad.train import run as distill

from .conftest import TEACHER, Project

PAIR = "scratch/qwen1.5-1.8b_0.5b"
REFERENCE = {
    "family": "llama",
    "tokenizer": "qwen",
    "shape": {**TEACHER, "hidden_size": 16, "head_dim": 8},
    "checkpoints": {"final": {"tokens": 1_000}},
}
BASELINES = {
    "seq_kd": {"prompt_tokens": 8},
    "minillm": {"prompt_tokens": 8, "token_share": 0.25},
}


@pytest.fixture(scope="module")
def project(taught, tmp_path_factory) -> Project:
    project = taught.copy(tmp_path_factory.mktemp("baselines") / "project")
    config = yaml.safe_load(project.config.read_text())
    config["models"]["opt-125m"] = REFERENCE
    config["baselines"] = BASELINES
    config["pairs"]["qwen1.5-1.8b_0.5b"]["tokens"]["scratch"] = 2_560
    project.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return project


@pytest.fixture
def spec(project, monkeypatch):
    """The spec of a method's run, in whose project the test works."""
    monkeypatch.chdir(project.folder)
    suite = load_suite("tiny.yaml")
    return lambda method: run_spec(suite, RunId.parse(f"{PAIR}/{method}/seed0"))


def train(method: str) -> dict:
    run = f"{PAIR}/{method}/seed0"
    assert distill.main(["--config", "tiny.yaml", run]) == 0
    return json.loads(Path(f"work/tiny/runs/{run}/manifest.json").read_text())


def test_miniplm_trains_on_what_the_teacher_prefers(spec):
    values = spec("miniplm").selection
    assert values.sequences == 2 * 80 and values.delta == 0.5  # 20 steps of 4 sequences
    assert pretrain.main(["--config", "tiny.yaml", "--model", "opt-125m"]) == 0
    options = ["--teacher", spec("miniplm").teacher, "--reference", values.reference]
    options += ["--data", spec("miniplm").data, "--tokenizer", spec("miniplm").tokenizer]
    options += ["--context", "32", "--sequences", "160", "--delta", "0.5", "--seed", "0"]
    assert selection.main([*options, "--out", values.folder]) == 0
    kept = selected_rows(values.folder)
    with np.load(f"{values.folder}/scores.npz") as scores:
        left = np.setdiff1d(scores["index"], kept)
        score = dict(zip(scores["index"], scores["score"], strict=True))
    assert len(kept) == 80
    assert min(score[row] for row in kept) >= max(score[row] for row in left)
    manifest = train("miniplm")
    assert manifest["rows_fingerprint"] and manifest["tokens"] == 2_560
    lines = Path(f"work/tiny/runs/{PAIR}/miniplm/seed0/train.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    assert all("divergence" not in line for line in logged), "MiniPLM trains by CLM alone"
    assert "eval_kl" in logged[-1], "and is measured against its teacher all the same"


def test_seq_kd_trains_on_what_the_teacher_writes(spec):
    values = spec("seq_kd").writing
    options = ["--teacher", spec("seq_kd").teacher, "--data", spec("seq_kd").data]
    options += ["--context", "32", "--sequences", str(values.sequences), "--prompt-tokens", "8"]
    assert generation.main([*options, "--seed", "0", "--out", values.folder]) == 0
    written = PackedTokens(values.folder, "train", 32)
    corpus = PackedTokens(spec("seq_kd").data, "train", 32)
    heads = {tuple(corpus[i]["input_ids"][:8].tolist()) for i in range(len(corpus))}
    rows = {tuple(corpus[i]["input_ids"].tolist()) for i in range(len(corpus))}
    for i in range(values.sequences):
        row = written[i]["input_ids"].tolist()
        assert tuple(row[:8]) in heads and tuple(row) not in rows
    manifest = train("seq_kd")
    assert manifest["rows_fingerprint"] == written.fingerprint


def test_minillm_has_its_share_of_the_budget(spec):
    manifest = train("minillm")
    assert manifest["tokens"] == 640
    assert manifest["spec"]["writing"]["prompt_tokens"] == 8


def test_dkd_trains_and_the_cosine_term_can_be_left_out(spec):
    assert train("dkd")["tokens"] == 2_560
    suite = load_suite("tiny.yaml")
    cosine = {
        method: run_spec(suite, RunId.parse(f"scratch/phi2_1b/{method}/seed0")).hidden_cosine
        for method in ("rkl", "rkl_nocosine", "vanilla_kd", "vanilla_kd_nocosine")
    }
    assert cosine == {
        "rkl": True,
        "rkl_nocosine": False,
        "vanilla_kd": True,
        "vanilla_kd_nocosine": False,
    }
