"""Greedy generation: padding, stops, caps and contexts change nothing but what they should."""

from __future__ import annotations

import json

import pytest
import torch

from eval.math.generate import (
    Fitted,
    TransformersEngine,
    batches,
    cut,
    end_tokens,
    fit,
    stop_strings,
)
from eval.math.prompts import Prompt

QUESTIONS = [
    "Question: 3 + 4\nAnswer:",
    "Q",
    "Question: Ann has 3 apples and gets 5.\nAnswer:",
    "12",
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ask(engine, texts, stop=(), cap=24):
    prompts = [Fitted(engine.tokenizer(text)["input_ids"], 0, cap) for text in texts]
    found = dict(engine.generate(prompts, stop))
    return [found[index] for index in range(len(texts))]


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_batching_and_padding_do_not_change_answers(tiny_models, family):
    together = ask(TransformersEngine(tiny_models[family], batch_size=4, device="cpu"), QUESTIONS)
    alone = ask(TransformersEngine(tiny_models[family], batch_size=1, device="cpu"), QUESTIONS)
    assert together == alone
    assert len({answer.text for answer in alone}) > 1


def test_greedy_is_the_most_likely_token_each_time(tiny_models):
    engine = TransformersEngine(tiny_models["llama"], batch_size=2, device="cpu")
    ids = engine.tokenizer(QUESTIONS[0])["input_ids"]
    start = len(ids)
    for _ in range(10):
        with torch.inference_mode():
            ids.append(int(engine.model(torch.tensor([ids])).logits[0, -1].argmax()))
    expected = engine.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
    assert ask(engine, QUESTIONS[:1], cap=10)[0].text == expected


def test_what_a_model_ships_about_sampling_does_not_matter(tiny_models, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_models["llama"], folder)
    shipped = {
        "do_sample": True,
        "temperature": 5.0,
        "repetition_penalty": 3.0,
        "eos_token_id": [0, 1],
    }
    (folder / "generation_config.json").write_text(json.dumps(shipped))
    plain = TransformersEngine(tiny_models["llama"], batch_size=4, device="cpu")
    sampled = TransformersEngine(folder, batch_size=4, device="cpu")
    assert [answer.text for answer in ask(sampled, QUESTIONS)] == [
        answer.text for answer in ask(plain, QUESTIONS)
    ]
    assert sampled.ends == [0, 1]


def test_generation_ends_at_a_stop_string(tiny_models):
    engine = TransformersEngine(tiny_models["llama"], batch_size=4, device="cpu")
    full = ask(engine, QUESTIONS, cap=60)
    stop = full[0].text[10:13]
    stopped = ask(engine, QUESTIONS, stop=stop, cap=60)
    for before, after in zip(full, stopped, strict=True):
        assert after.text == before.text.split(stop)[0].strip()
    assert stopped[0].tokens < full[0].tokens
    assert not stopped[0].truncated
    assert full[0].truncated


def test_each_row_keeps_its_own_cap(tiny_models):
    engine = TransformersEngine(tiny_models["llama"], batch_size=4, device="cpu")
    ids = [engine.tokenizer(text)["input_ids"] for text in QUESTIONS]
    caps = [3, 20, 7, 12]
    mixed = dict(engine.generate([Fitted(i, 0, c) for i, c in zip(ids, caps, strict=True)], ()))
    for index, cap in enumerate(caps):
        assert mixed[index] == ask(engine, [QUESTIONS[index]], cap=cap)[0]


@pytest.mark.parametrize(
    ("stop", "kept"),
    [
        ("\n\nQuestion:", "one"),
        (("\n\nProblem:", "\n\nQuestion:"), "one"),
        (["zzz"], "one\n\nQuestion: two\n\nProblem: three"),
        ((), "one\n\nQuestion: two\n\nProblem: three"),
        ("three", "one\n\nQuestion: two\n\nProblem:"),
    ],
)
def test_cut_at_the_earliest_of_one_or_several_stops(stop, kept):
    assert cut("one\n\nQuestion: two\n\nProblem: three", stop) == kept


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ValueError, match="empty"):
        stop_strings(["", "x"])
    assert stop_strings("abc") == ("abc",)


def test_batches_cover_everything_longest_first():
    prompts = [Fitted([0] * length, 0, 1) for length in (3, 9, 1, 7, 9)]
    order = batches(prompts, 2)
    assert order == [[1, 4], [3, 0], [2]]


def test_exemplars_are_dropped_until_the_answer_has_room(tiny_tokenizer):
    prompt = Prompt(tuple(f"Question: {n}\nAnswer: {n}" for n in range(6)), "question", "test")
    full = fit(prompt, "How many?", tiny_tokenizer, 10_000, 1024)
    assert (full.shots, full.max_new_tokens) == (6, 1024)
    tight = fit(prompt, "How many?", tiny_tokenizer, len(full.ids) + 20, 1024)
    assert tight.shots < 6
    assert tight.ids == tiny_tokenizer(prompt.text("How many?", tight.shots))["input_ids"]
    assert tight.max_new_tokens == len(full.ids) + 20 - len(tight.ids)
    assert fit(prompt, "How many?", tiny_tokenizer, 20, 1024) is None


def test_end_tokens_join_the_tokenizers_and_the_models(tiny_tokenizer):
    from transformers import GenerationConfig

    assert end_tokens(tiny_tokenizer, GenerationConfig(eos_token_id=[7, 9])) == [0, 7, 9]
    assert end_tokens(tiny_tokenizer, GenerationConfig()) == [0]
