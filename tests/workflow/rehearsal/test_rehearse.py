"""A cut of the paper's rehearsal, run: each rule, each way to load, each family once."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from tad.data.vocabulary import bos_tokens
from tad.models.loading import load_config, load_tokenizer
from tests.workflow.conftest import REPOSITORY, Project
from workflow.rehearsal.scale import ITEMS

pytestmark = pytest.mark.slow

RUNS = "work/rehearsal/runs"
CUT = [
    "work/rehearsal/figures/figure2.png",
    "work/rehearsal/references/gemma3-1b-pt/math.json",
    f"{RUNS}/scratch/qwen1.5-1.8b_1.2b/minillm/seed0/heldout.json",
    f"{RUNS}/scratch/phi2_1b/tad-k10-b2-x0.03/seed0/fewshot.json",
    f"{RUNS}/scratch/qwen2.5-3b_1b/rkl-x0.03/seed0/calibration.json",
    f"{RUNS}/scratch/gemma2-9b_2b/vanilla_kd-x0.03/seed0/heldout.json",
    f"{RUNS}/continued/phi3-4b_tinyllama/tad-k1-b2/seed0/fewshot.json",
    f"{RUNS}/math/phi3-4b_tinyllama/miniplm/seed0/math.json",
    f"{RUNS}/supervised/phi3-14b_llama2-7b/sft/seed0/math.json",
]
"""Two pairs that ask for two GPUs are among them, which are two processes here."""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("rehearsed"))
    project.run(project.python("tad", "rehearse", "--out", "stand-ins"))
    return project


def test_stand_ins_have_the_oddities_of_the_originals(project):
    hub = project.folder / "stand-ins" / "hub"

    def tokenizer(name: str):
        return load_tokenizer(str(hub / name))

    assert (hub / "google/gemma-2-9b/model.safetensors.index.json").is_file(), "sharded"
    weights = load_file(hub / "facebook/opt-125m/model.safetensors")
    assert {str(value.dtype) for value in weights.values()} == {"torch.bfloat16"}
    llama, phi3 = (
        tokenizer("meta-llama/Llama-2-7b-hf"),
        tokenizer("microsoft/Phi-3-mini-4k-instruct"),
    )
    assert bos_tokens(llama) == [llama.bos_token_id] and not bos_tokens(phi3)
    assert phi3.get_vocab().items() > llama.get_vocab().items()
    assert (llama.eos_token, phi3.eos_token) == ("</s>", "<|endoftext|>")
    gemma3 = str(hub / "google/gemma-3-1b-pt")
    assert load_config(gemma3).vocab_size == len(load_tokenizer(gemma3)) - 1
    named = json.loads((hub / "facebook/galactica-125m/tokenizer_config.json").read_text())
    assert not named.get("eos_token")
    for task in ("storycloze/test", "hellaswag/validation"):
        lines = (hub / "fewshot" / f"{task}.jsonl").read_text().splitlines()
        assert len(lines) == ITEMS


def test_made_again_they_are_the_same(project, tmp_path):
    again = Project(tmp_path)
    again.run(again.python("tad", "rehearse", "--out", "stand-ins"))
    files = [path for path in (project.folder / "stand-ins").rglob("*") if path.is_file()]
    assert len(files) > 100
    for path in files:
        other = tmp_path / path.relative_to(project.folder)
        assert other.read_bytes() == path.read_bytes(), path


def test_a_cut_of_it_runs(project):
    call = project.python("snakemake", "--snakefile", str(REPOSITORY / "Snakefile"))
    call += ["--cores", "2", "--config", "scale=stand-ins/rehearsal.yaml", "--", *CUT]
    project.run(call)
    for name in CUT:
        assert (project.folder / name).is_file(), name
    gemma = project.folder / RUNS / "scratch/gemma2-9b_2b/vanilla_kd-x0.03/seed0/manifest.json"
    assert json.loads(gemma.read_text())["spec"]["optimisation"]["steps"] == 3
