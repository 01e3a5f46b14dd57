"""Every pair of the paper, tiny: its teacher is pre-trained and its student distilled."""

from __future__ import annotations

import json
import math

import pytest
import yaml
from safetensors.torch import load_file

from tad.data import prepare as data
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tad.train import pretrain
from tad.train import run as distill

from .conftest import make_project

WIDE = {"layers": 2, "heads": 4, "kv_heads": 4, "intermediate_size": 48, "tied": False}
SHAPES = {  # teacher and student, in Table 9's way: as wide and shallower
    "phi2_1b": ({**WIDE, "hidden_size": 80, "head_dim": 20}, {"layers": 1}),
    "qwen2.5-3b_1b": (
        {**WIDE, "hidden_size": 32, "head_dim": 8, "kv_heads": 2, "tied": True},
        {"layers": 1},
    ),
    "gemma2-9b_2b": (
        {**WIDE, "hidden_size": 32, "head_dim": 16, "kv_heads": 2, "tied": True},
        {"layers": 1, "head_dim": 14},
    ),
}
TEACHERS = {"phi2_1b": "phi-2", "qwen2.5-3b_1b": "qwen2.5-3b", "gemma2-9b_2b": "gemma2-9b"}
TOKENS = 2_560  # 20 steps of 4 x 32


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One folder with a tokenizer under every name, and every model of the paper tiny."""
    models, pairs = {}, {}
    for pair, (teacher, smaller) in SHAPES.items():
        name = TEACHERS[pair]
        models[name] = {"shape": teacher, "checkpoints": {"final": {"tokens": TOKENS}}}
        pairs[pair] = {"tokens": {"scratch": TOKENS}, "student": {"shape": {**teacher, **smaller}}}
    llama = {**WIDE, "hidden_size": 32, "head_dim": 8, "kv_heads": 2}
    # Phi-3 has more rows than the tokenizer they share has tokens, and fused projections.
    phi3 = {**WIDE, "hidden_size": 48, "head_dim": 12, "vocab_size": 308}
    models["phi3-4b"] = {"shape": phi3, "checkpoints": {"final": {"tokens": TOKENS}}}
    points = {
        "1t": {"tokens": TOKENS // 2},
        "2t": {"tokens": TOKENS},
        "2.5t": {"tokens": 2 * TOKENS},
    }
    models["tinyllama-1.1b"] = {"shape": llama, "checkpoints": points}
    pairs["phi3-4b_tinyllama"] = {"tokens": {"continued": TOKENS, "math": TOKENS}}
    tokenizer = {"vocab_size": 300, "corpora": ["general"]}
    project = make_project(
        tmp_path_factory.mktemp("families") / "project",
        models=models,
        pairs=pairs,
        tokenizers={name: tokenizer for name in ("qwen", "phi", "gemma", "llama")},
        select={
            "items": ["table4", "table6"],
            "pairs": [*SHAPES, "phi3-4b_tinyllama"],
            "methods": ["tad-k5-b2"],
        },
    )
    text = yaml.safe_load(project.config.read_text())
    text["stages"]["continued"] = text["stages"]["scratch"]
    project.config.write_text(yaml.safe_dump(text, sort_keys=False))
    return project


@pytest.mark.parametrize("pair", [*SHAPES, "phi3-4b_tinyllama"])
def test_a_pair_trains_from_text_to_student(project, pair, monkeypatch):
    monkeypatch.chdir(project.folder)
    config = ["--config", str(project.config)]
    suite = load_suite(project.config)
    entry, layout = suite.pairs[pair], Layout.work(suite.scale)
    names = [entry.teacher] + ([entry.student.model] if entry.student.model else [])
    tokenizer = suite.models[names[-1]].tokenizer
    assert data.main(["tokenizer", *config, "--tokenizer", tokenizer]) == 0
    pack = ["pack", *config, "--corpus", "general", "--tokenizer", tokenizer]
    assert data.main(pack) == 0
    for name in names:
        assert pretrain.main([*config, "--model", name]) == 0
    stage = "continued" if entry.student.model else "scratch"
    run = f"{stage}/{pair}/tad-k5-b2/seed0"
    assert distill.main([*config, run]) == 0

    folder = project.folder / layout.run(run)
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    curve = [line["eval_kl"] for line in lines if "eval_kl" in line]
    assert all(math.isfinite(value) for value in curve)
    assert curve[-1] < curve[0], "the student did not come closer to its teacher"
    assert ("cosine" in next(line for line in lines if "clm" in line)) == entry.hidden_cosine
    manifest = json.loads((folder / "manifest.json").read_text())
    frozen = manifest["parameters"] - manifest["trainable_parameters"]
    assert (frozen > 0) == (stage == "scratch"), "embeddings of the teacher's width are frozen"


def test_later_checkpoints_go_on_from_earlier_ones(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    if not (project.work / "models" / "tinyllama-1.1b" / "2.5t" / "manifest.json").exists():
        pytest.skip("needs the models of the test before")
    loss = {}
    for point in ("1t", "2t", "2.5t"):
        folder = project.work / "models" / "tinyllama-1.1b" / point
        lines = [json.loads(x) for x in (folder / "train.jsonl").read_text().splitlines()]
        loss[point] = [line["eval_nll"] for line in lines if "eval_nll" in line]
        assert load_file(folder / "model.safetensors")
    # Each starts where the one before it ended.
    assert loss["2t"][0] == pytest.approx(loss["1t"][-1], rel=1e-5)
    assert loss["2.5t"][0] == pytest.approx(loss["2t"][-1], rel=1e-5)
    assert loss["2.5t"][-1] < loss["1t"][-1]
