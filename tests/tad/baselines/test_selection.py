"""tad.baselines.selection: the right sequences, by scores that a direct computation confirms."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tad.baselines import blocks as offline
from tad.baselines import selection
from tad.baselines.selection import Selection, SelectionError, log_probabilities, select, translate
from tad.data.packing import PackedTokens, training_rows
from tad.data.prepare import load_encoder
from tad.experiment.schema import Shape
from tad.fused import Head
from tad.models.architectures import CLASSES, architecture_config, new_model

from ..offline_jobs import killed_and_resumed, make_tokenizer, pack_nonsense, save_model, sharpen

CONTEXT = 16


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders: a packed corpus of 320 tokens, a teacher, a reference, one of another tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("selection")
    ours, theirs = make_tokenizer(), make_tokenizer(290, seed=1)
    ours.save_pretrained(root / "tokenizer")
    data = pack_nonsense(load_encoder("bpe", root / "tokenizer"), root / "data")

    def model(seed, vocabulary, positions=64):
        torch.manual_seed(seed)
        return sharpen(
            LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=vocabulary, hidden_size=32, intermediate_size=64,
                    num_hidden_layers=2, num_attention_heads=4, initializer_range=0.2,
                    max_position_embeddings=positions,
                )
            )
        )  # fmt: skip

    return SimpleNamespace(
        data=data,
        teacher=save_model(model(1, 320), ours, root / "teacher"),
        reference=save_model(model(2, 330), ours, root / "reference"),
        other=save_model(model(3, 290, positions=10), theirs, root / "other"),
    )


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(offline, "BLOCK", 7)


def job(places, **changes) -> Selection:
    values = {"teacher": places.teacher, "reference": places.reference, "data": places.data}
    values |= {"context": CONTEXT, "sequences": 30, "delta": 0.5, "seed": 3}
    return Selection(**(values | changes))


def scores_of(folder):
    with np.load(folder / "scores.npz") as found:
        return {name: found[name] for name in found.files}


def direct(source: str, ids) -> float:
    """Log-probability of ids after the first, from whole logits in float64."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source).double()
    with torch.no_grad():
        logp = torch.log_softmax(model(torch.as_tensor(ids)[None]).logits[0], -1)
    return sum(logp[t, ids[t + 1]].item() for t in range(len(ids) - 1))


# --- Choosing ------------------------------------------------------------------------------------


@given(
    scores=st.lists(st.integers(-3, 3), min_size=1, max_size=30),
    delta=st.floats(0, 1, exclude_min=True),
)
def test_the_best_are_chosen_by_brute_force(scores, delta):
    """Repeatedly take the first of the best that are left: ties go to the lower index."""
    left, expected = list(range(len(scores))), []
    for _ in range(max(1, round(delta * len(scores)))):
        best = max(left, key=lambda index: (scores[index], -index))
        left.remove(best)
        expected.append(best)
    chosen = select(np.array(scores, float), delta)
    assert chosen.tolist() == sorted(expected)


def test_a_share_is_exact_and_in_order():
    scores = np.array([0.5, 2.0, -1.0, 0.5, 0.5, 3.0])
    assert select(scores, 0.5).tolist() == [0, 1, 5]
    assert select(scores, 1.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert select(scores, 1e-9).tolist() == [5]


@pytest.mark.parametrize("delta", [0.0, -0.1, 1.1, float("nan")])
def test_a_delta_out_of_range_is_refused(delta):
    with pytest.raises(SelectionError, match="--delta"):
        select(np.zeros(3), delta)


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(SelectionError, match="sequence 1"):
        select(np.array([0.0, np.nan, 1.0]), 0.5)


# --- Scoring -------------------------------------------------------------------------------------


def test_scores_and_choice_equal_a_direct_computation(places, tmp_path):
    record = selection.run(job(places), tmp_path, batch_size=4)
    found, data = scores_of(tmp_path), PackedTokens(places.data, "train", CONTEXT)
    expected = []
    for place, row in enumerate(found["index"]):
        item = data[int(row)]
        ids = [*item["input_ids"].tolist(), int(item["labels"][-1])]
        teacher, reference = (direct(s, ids) / CONTEXT for s in (places.teacher, places.reference))
        assert found["teacher"][place] == pytest.approx(teacher, abs=1e-5)
        assert found["reference"][place] == pytest.approx(reference, abs=1e-5)
        expected.append(teacher - reference)
    best = sorted(sorted(range(30), key=lambda i: -expected[i])[:15])
    assert selection.selected_rows(tmp_path).tolist() == found["index"][best].tolist()
    assert record["number"] == 15
    assert record["threshold"] == pytest.approx(min(expected[i] for i in best), abs=1e-5)
    assert record["tokens_scored"] == {"teacher": 30 * CONTEXT, "reference": 30 * CONTEXT}
    assert not record["reference_retokenized"]
    assert json.loads((tmp_path / "selection.json").read_text()) == record


def test_a_reference_of_another_tokenizer_scores_the_same_text(places, tmp_path):
    from transformers import AutoTokenizer

    record = selection.run(job(places, reference=places.other, sequences=9), tmp_path)
    found, data = scores_of(tmp_path), PackedTokens(places.data, "train", CONTEXT)
    ours, theirs = map(AutoTokenizer.from_pretrained, (places.teacher, places.other))
    count = 0
    for place, row in enumerate(found["index"]):
        item = data[int(row)]
        ids = [*item["input_ids"].tolist(), int(item["labels"][-1])]
        # Byte-level tokenizers take the end-of-text token in a text for what it is.
        other = theirs(ours.decode(ids))["input_ids"]
        windows = [other[start : start + 11] for start in range(0, len(other) - 1, 10)]
        total = sum(direct(places.other, window) for window in windows)
        assert found["reference"][place] == pytest.approx(total / CONTEXT, abs=1e-5)
        count += len(other) - 1
    assert record["tokens_scored"] == {"teacher": 9 * CONTEXT, "reference": count}
    assert record["reference_retokenized"]
    assert count != 9 * CONTEXT


def test_translation_keeps_text_and_documents(places):
    from transformers import AutoTokenizer

    ours, theirs = map(AutoTokenizer.from_pretrained, (places.teacher, places.other))
    texts = ["the loss of", "", " a naïve model"]
    ids = [i for text in texts for i in [*ours(text)["input_ids"], ours.eos_token_id]]
    found = translate(np.array(ids), ours, theirs)
    assert theirs.decode(found) == theirs.eos_token.join([*texts, ""])
    assert (found == theirs.eos_token_id).sum() == 3


def test_translated_documents_begin_as_the_reference_begins_them():
    from tokenizers.processors import TemplateProcessing

    def with_bos(tokenizer, token: str):
        special = (token, tokenizer.convert_tokens_to_ids(token))
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{token} $A", special_tokens=[special]
        )
        return tokenizer

    plain, ours, theirs = make_tokenizer(), make_tokenizer(), make_tokenizer(290, seed=1)
    ours, theirs = with_bos(ours, "A"), with_bos(theirs, "B")
    alone = [theirs(text, add_special_tokens=False)["input_ids"] for text in ("a loss", "the tail")]
    start, end = theirs.convert_tokens_to_ids("B"), theirs.eos_token_id
    for tokenizer in (plain, ours):
        first = tokenizer("a loss", add_special_tokens=False)["input_ids"]  # cut from a document
        ids = [*first, tokenizer.eos_token_id, *tokenizer("the tail")["input_ids"]]
        found = translate(np.array(ids), tokenizer, theirs)
        assert found.tolist() == [*alone[0], end, start, *alone[1]]
    whole = [*ours("a loss")["input_ids"], ours.eos_token_id]
    assert translate(np.array(whole), ours, theirs).tolist() == [start, *alone[0], end]


@pytest.mark.parametrize("family", CLASSES)
def test_log_probabilities_in_every_family(monkeypatch, family):
    """Soft-capping, biases, sequences of unequal lengths, windows, small chunks."""
    monkeypatch.setattr(selection, "CHUNK_LOGITS", 200)
    shape = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 4, "head_dim": 20}
    shape = Shape(**shape, intermediate_size=48, vocab_size=64, tied=family == "gemma2")
    model = sharpen(new_model(architecture_config(family, shape, max_positions=16), seed=1).eval())
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 64, size) for size in (5, 17, 1, 40, 2)]
    sums, counts = log_probabilities(model, sequences, batch_size=3)
    assert counts.tolist() == [4, 16, 0, 39, 1]
    for ids, total in zip(sequences, sums, strict=True):
        expected = 0.0
        for start in range(0, len(ids) - 1, 16):
            window = torch.from_numpy(ids[start : start + 17])
            with torch.no_grad():
                logits = model(window[None, :-1]).logits[0].double()
            logp = torch.log_softmax(logits, -1)
            expected += logp.gather(-1, window[1:, None]).sum().item()
        assert total == pytest.approx(expected, abs=1e-4)


def test_the_head_is_scaled_before_it_is_capped():
    generator = torch.Generator().manual_seed(0)
    weight, states = (torch.randn(n, 4, generator=generator) for n in (6, 3))
    bias, labels = torch.arange(6.0), torch.tensor([0, 5, 2])
    head = Head(weight, bias, softcap=3.0, scale=0.5)
    logits = 3.0 * torch.tanh(0.5 * (states @ weight.T + bias) / 3.0)
    expected = torch.log_softmax(logits, -1)[torch.arange(3), labels]
    torch.testing.assert_close(selection._log_probability(states, labels, head), expected)


def test_the_pool_is_the_beginning_of_the_training_order():
    from tad.train.job import training_order

    values = SimpleNamespace(steps=5, batch_size=7, seed=11)
    expected = training_order(range(20), values).indices  # 35 of 20 sequences: two passes
    assert sorted(expected[:20]) == list(range(20)) and len(set(expected[20:])) == 15
    assert training_order(range(20), values, 7).indices[:28] == expected[7:]
    assert training_rows(20, 35, 11).tolist() == expected
    assert training_rows(20, 4, 11).tolist() == expected[:4]


# --- Interruption and repetition -----------------------------------------------------------------


def test_killed_and_resumed_gives_the_same_file(places, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    selection.run(job(places), whole)
    for blocks in (2, 6):  # in the middle of the teacher's and of the reference's
        killed_and_resumed(monkeypatch, lambda: selection.run(job(places), parts), blocks)
        assert (parts / "scores.npz").read_bytes() == (whole / "scores.npz").read_bytes()
        assert not (parts / ".partial").exists()
        shutil.rmtree(parts)


def test_a_resumed_scoring_computes_only_what_is_missing(places, tmp_path, monkeypatch):
    calls = []
    compute = selection.log_probabilities

    def counted(model, sequences, batch_size):
        calls.append(len(sequences))
        return compute(model, sequences, batch_size)

    monkeypatch.setattr(selection, "log_probabilities", counted)
    killed_and_resumed(monkeypatch, lambda: selection.run(job(places), tmp_path), 4)
    # 5 blocks each; the teacher's fifth was computed, lost, and is computed again.
    assert calls == [7, 7, 7, 7, 2, 2, 7, 7, 7, 7, 2]


def test_blocks_of_another_job_are_not_used(places, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        from ..offline_jobs import die_after

        die_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            selection.run(job(places, seed=4), tmp_path / "a")
    selection.run(job(places), tmp_path / "a")
    selection.run(job(places), tmp_path / "b")
    files = [(tmp_path / name / "scores.npz").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_a_finished_selection_is_left_alone_and_another_delta_only_selects(
    places, tmp_path, monkeypatch
):
    first = selection.run(job(places), tmp_path)
    times = [(tmp_path / name).stat().st_mtime_ns for name in ("scores.npz", "selection.json")]
    monkeypatch.setattr(selection, "_score", None)  # nothing may be scored any more
    assert selection.run(job(places), tmp_path) == first
    assert times == [
        (tmp_path / name).stat().st_mtime_ns for name in ("scores.npz", "selection.json")
    ]
    fewer = selection.run(job(places, delta=0.1), tmp_path)
    assert (fewer["number"], fewer["delta"]) == (3, 0.1)
    assert set(selection.selected_rows(tmp_path)) < set(scores_of(tmp_path)["index"])
    assert times[0] == (tmp_path / "scores.npz").stat().st_mtime_ns


def test_the_command_line(places, tmp_path, capsys):
    arguments = ["--teacher", places.teacher, "--reference", places.reference]
    arguments += ["--data", places.data, "--context", "16", "--out", str(tmp_path / "out")]
    assert selection.main([*arguments, "--sequences", "8"]) == 0
    assert len(selection.selected_rows(tmp_path / "out")) == 4
    for wrong, message in [
        (["--sequences", "1000"], "has 56 sequences"),
        (["--sequences", "0"], "--sequences 0"),
        (["--sequences", "8", "--delta", "2"], "--delta 2"),
        (["--sequences", "8", "--batch-size", "0"], "--batch-size 0"),
        (["--sequences", "9", "--tokenizer", places.other], "--tokenizer"),
        (["--sequences", "8", "--teacher", str(tmp_path)], "holds no *.safetensors"),
        (["--sequences", "9", "--teacher", places.other], "--tokenizer"),
    ]:
        assert selection.main([*arguments, *wrong]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error.splitlines()[-1]
