"""Seq-KD: a packed corpus of teacher-written text, the same however it was made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tad.baselines import blocks as offline
from tad.baselines import generation
from tad.baselines.generation import GeneratedTokens, Generation, GenerationError
from tad.data.packing import DataError, PackedTokens, read_manifest, training_rows
from tad.data.prepare import load_encoder
from tad.divergences import IGNORE
from tad.models.sampling import choose, uniforms

from ..offline_jobs import (
    die_after,
    killed_and_resumed,
    make_tokenizer,
    pack_nonsense,
    save_model,
    sharpen,
)

CONTEXT, PROMPT = 16, 5


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A packed corpus of 320 tokens, and a teacher with 330 rows."""
    root = tmp_path_factory.mktemp("generation")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(root / "tokenizer")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=330, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, initializer_range=0.2, max_position_embeddings=64,
    )  # fmt: skip
    return SimpleNamespace(
        data=pack_nonsense(load_encoder("bpe", root / "tokenizer"), root / "data"),
        teacher=save_model(sharpen(LlamaForCausalLM(config)), tokenizer, root / "teacher"),
    )


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(offline, "BLOCK", 7)


def job(places, **changes) -> Generation:
    values = {"teacher": places.teacher, "data": places.data, "context": CONTEXT}
    values |= {"sequences": 20, "prompt_tokens": PROMPT, "seed": 3}
    return Generation(**(values | changes))


def test_rows_are_prompts_and_what_the_teacher_writes(places, tmp_path):
    generation.run(job(places, temperature=0.8, top_p=0.9), tmp_path)
    made, data = (PackedTokens(f, "train", CONTEXT) for f in (tmp_path, places.data))
    assert len(made) == 20
    teacher = LlamaForCausalLM.from_pretrained(places.teacher)
    rows = training_rows(len(data), 20, 3)
    for place, row in enumerate(rows):
        ids = data[int(row)]["input_ids"][:PROMPT]
        for draw in torch.from_numpy(uniforms(CONTEXT - PROMPT, 3, place)):
            with torch.no_grad():
                logits = teacher(ids[None]).logits[:, -1, :320]
            token = choose(logits, draw[None], temperature=0.8, top_p=0.9)
            ids = torch.cat([ids, token])
        assert made[place]["input_ids"].tolist() == ids.tolist()


def test_only_what_the_teacher_wrote_is_learnt(places, tmp_path):
    generation.run(job(places), tmp_path)
    rows = GeneratedTokens(tmp_path, CONTEXT)
    plain = PackedTokens(tmp_path, "train", CONTEXT)
    for row in range(len(rows)):
        ids, labels = rows[row]["input_ids"], rows[row]["labels"]
        counted = labels != IGNORE
        # Position t predicts token t + 1: the written tokens are 5 to 15.
        assert counted.nonzero().flatten().tolist() == list(range(PROMPT - 1, CONTEXT - 1))
        assert labels[counted].tolist() == ids[PROMPT:].tolist()
        assert plain[row]["labels"][counted].tolist() == labels[counted].tolist()
    assert (rows.vocab_size, rows.eos_id) == (plain.vocab_size, plain.eos_id)


def test_the_manifest_is_that_of_a_packed_corpus(places, tmp_path):
    manifest = generation.run(job(places), tmp_path)
    original = read_manifest(Path(places.data))
    assert read_manifest(tmp_path) == manifest
    assert set(manifest) == {*original, "generation"}
    assert manifest["validation"] == original["validation"]
    assert manifest["tokenizer"] == original["tokenizer"]
    assert manifest["fingerprint"] != original["fingerprint"]
    assert manifest["train"]["tokens"] == 20 * CONTEXT + 1
    assert manifest["generation"]["generated_tokens"] == 20 * (CONTEXT - PROMPT)
    assert manifest["generation"]["wall_seconds"] > 0
    assert manifest["generation"]["fingerprints"]["data"] == original["fingerprint"]
    with pytest.raises(DataError, match="validation.bin: missing"):
        PackedTokens(tmp_path, "validation", CONTEXT)
    PackedTokens(places.data, "validation", CONTEXT)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_do_not_change_the_text(places, tmp_path, batch_size):
    generation.run(job(places), tmp_path / "a", batch_size=7)
    generation.run(job(places), tmp_path / "b", batch_size=batch_size)
    assert (tmp_path / "a/train.bin").read_bytes() == (tmp_path / "b/train.bin").read_bytes()


def test_more_sequences_begin_with_fewer_and_repeated_prompts_differ(places, tmp_path):
    generation.run(job(places), tmp_path / "few")
    generation.run(job(places, sequences=70), tmp_path / "many")  # of 56: prompts come again
    few, many = (PackedTokens(tmp_path / f, "train", CONTEXT) for f in ("few", "many"))
    rows = [tuple(many[row]["input_ids"].tolist()) for row in range(70)]
    assert [tuple(few[row]["input_ids"].tolist()) for row in range(20)] == rows[:20]
    assert len(set(rows)) == 70
    assert len({row[:PROMPT] for row in rows}) < 70


@pytest.mark.parametrize("blocks", [1, 2])
def test_killed_and_resumed_gives_the_same_file(places, tmp_path, monkeypatch, blocks):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = generation.run(job(places), whole)
    killed_and_resumed(monkeypatch, lambda: generation.run(job(places), parts), blocks)
    assert (parts / "train.bin").read_bytes() == (whole / "train.bin").read_bytes()
    assert read_manifest(parts)["fingerprint"] == expected["fingerprint"]
    assert not (parts / ".partial").exists()


def test_blocks_of_another_job_are_not_used(places, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            generation.run(job(places, temperature=0.5), tmp_path / "a")
    assert not (tmp_path / "a/manifest.json").exists()
    generation.run(job(places), tmp_path / "a")
    generation.run(job(places), tmp_path / "b")
    assert (tmp_path / "a/train.bin").read_bytes() == (tmp_path / "b/train.bin").read_bytes()


def test_a_finished_generation_is_left_alone(places, tmp_path, monkeypatch):
    first = generation.run(job(places), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(generation, "in_blocks", None)
        assert generation.run(job(places), tmp_path) == first
    (tmp_path / "train.bin").write_bytes(b"cut")
    assert generation.run(job(places), tmp_path)["train"] == first["train"]
    PackedTokens(tmp_path, "train", CONTEXT)


def test_written_tokens_are_the_teachers_not_the_corpus(places, tmp_path):
    """The teacher finds its text likelier than the corpus: as likely as its entropy says."""
    generation.run(job(places, sequences=56), tmp_path)
    teacher = LlamaForCausalLM.from_pretrained(places.teacher)
    nll, entropy = {}, {}
    for name, folder in (("own", tmp_path), ("corpus", places.data)):
        rows = PackedTokens(folder, "train", CONTEXT)
        ids = torch.stack([rows[row]["input_ids"] for row in range(56)])
        with torch.no_grad():
            logp = torch.log_softmax(teacher(ids).logits[:, PROMPT - 1 : -1, :320], -1)
        nll[name] = -logp.gather(-1, ids[:, PROMPT:, None]).mean().item()
        entropy[name] = -(logp.exp() * logp).sum(-1).mean().item()
    assert nll["own"] < nll["corpus"] - 0.5
    assert nll["own"] == pytest.approx(entropy["own"], abs=0.25)


def test_faults_are_told(places, tmp_path, capsys):
    generation.run(job(places), tmp_path / "made")
    with pytest.raises(GenerationError, match="context 8: its rows are 16"):
        GeneratedTokens(tmp_path / "made", 8)
    with pytest.raises(GenerationError, match="not made by"):
        GeneratedTokens(places.data, CONTEXT)
    arguments = ["--teacher", places.teacher, "--data", places.data, "--context", "16"]
    arguments += ["--sequences", "3", "--prompt-tokens", "4", "--out", str(tmp_path / "out")]
    assert generation.main(arguments) == 0
    assert np.fromfile(tmp_path / "out/train.bin", "<u2").size == 3 * 16 + 1
    for wrong, message in [
        (["--prompt-tokens", "16"], "--prompt-tokens 16"),
        (["--sequences", "0"], "--sequences 0"),
        (["--temperature", "0"], "temperature 0"),
        (["--top-p", "2"], "top-p 2"),
        (["--out", places.data], "would be overwritten"),
        (["--data", str(tmp_path)], "manifest.json: missing"),
        (["--context", "900"], "context=900"),
    ]:
        assert generation.main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err
