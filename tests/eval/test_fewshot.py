"""Few-shot suites on tiny random models, against scoring written out by hand."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import socket
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from eval.fewshot.analogues import (
    AnalogueError,
    Text,
    held_out_documents,
    make_items,
    write_analogues,
)
from eval.fewshot.evaluate import (
    FewshotError,
    Suite,
    analogues,
    evaluate_models,
    items_path,
    load_model,
    main,
)
from eval.fewshot.tasks import load_suite_spec, read_items
from eval.fewshot.text import content_positions, passages_of
from tests.tad.made_up_text import prose as documents

REAL = Path(__file__).parents[2] / "../shared/data/fewshot"
TASKS = [*analogues.MAKERS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two tiny models with a byte-level tokenizer, and analogues of ten items a task."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

    from tad.data.prepare import train_tokenizer

    root = tmp_path_factory.mktemp("fewshot")
    tokenizer = train_tokenizer(documents(), 300)
    shape = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
        "eos_token_id": 0, "bos_token_id": None, "pad_token_id": 0, "initializer_range": 0.2,
    }  # fmt: skip
    for name, model in (
        ("qwen", lambda: Qwen2ForCausalLM(Qwen2Config(**shape))),
        ("gemma", lambda: Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=16))),
    ):
        torch.manual_seed(0)
        model().save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    write_analogues(documents(), root / "analogues", items=10)
    return root


@pytest.fixture(scope="module")
def suite(folders):
    return Suite("smoke", analogues=folders / "analogues")


@pytest.fixture(scope="module")
def finished(folders, suite):
    """The record and the items of the Qwen model on the analogue suite."""
    out = folders / "results" / "fewshot.json"
    evaluate_models(suite, [str(folders / "qwen")], [out])
    rows = gzip.decompress(items_path(out).read_bytes()).decode().splitlines()
    return json.loads(out.read_text()), [json.loads(row) for row in rows], out


# --- Scores --------------------------------------------------------------------------------------


class ByHand:
    """Log-likelihood of a continuation: one unpadded forward pass, no part of lm-eval."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def __call__(self, context: str, continuation: str) -> float:
        import torch

        before = self.tokenizer(context).input_ids
        ids = torch.tensor([self.tokenizer(context + continuation).input_ids])
        with torch.no_grad():
            log_p = torch.log_softmax(self.model(ids).logits[0, :-1], -1)
        picked = log_p.gather(1, ids[0, 1:, None])[:, 0]
        return picked[len(before) - 1 :].sum().item()


def best(scores: list[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def hellaswag_by_hand(score: ByHand, item: dict) -> tuple[int, int, int]:
    def clean(text: str) -> str:
        text = text.strip().replace(" [title]", ". ")
        return re.sub(r"\[.*?\]", "", text).replace("  ", " ")

    begun = f"{item['activity_label']}: {item['ctx_a']} {item['ctx_b'].capitalize()}"
    endings = [clean(ending) for ending in item["endings"]]
    scores = [score(clean(begun), " " + ending) for ending in endings]
    normed = [s / len(ending) for s, ending in zip(scores, endings, strict=True)]
    return best(scores), best(normed), int(item["label"])


def piqa_by_hand(score: ByHand, item: dict) -> tuple[int, int, int]:
    options = [item["sol1"], item["sol2"]]
    scores = [score(f"Question: {item['goal']}\nAnswer:", " " + option) for option in options]
    normed = [s / len(option) for s, option in zip(scores, options, strict=True)]
    return best(scores), best(normed), item["label"]


def winogrande_by_hand(score: ByHand, item: dict) -> tuple[int, None, int]:
    before, after = item["sentence"].split("_")
    options = [item["option1"], item["option2"]]
    scores = [score(before + option, " " + after.strip()) for option in options]
    return best(scores), None, int(item["answer"]) - 1


BY_HAND = {
    "hellaswag": hellaswag_by_hand,
    "piqa": piqa_by_hand,
    "winogrande": winogrande_by_hand,
}


def check_by_hand(model: Path, data: Path, rows: list[dict], task: str, limit: int) -> None:
    spec = {t.name: t for t in load_suite_spec("paper").tasks}[task]
    score = ByHand(model)
    items = read_items(spec, data / task, spec.scored)[:limit]
    rows = [row for row in rows if row["task"] == task]
    assert len(rows) == len(items)
    for item, row in zip(items, rows, strict=True):
        plain, normed, gold = BY_HAND[task](score, item)
        assert row["acc"] == int(plain == gold)
        if normed is not None:
            assert row["acc_norm"] == int(normed == gold)
        assert row["correct"] == row[spec.metric]


@pytest.mark.parametrize("task", BY_HAND)
def test_scores_are_those_of_a_forward_pass_by_hand(folders, finished, task):
    _, rows, _ = finished
    check_by_hand(folders / "qwen", folders / "analogues", rows, task, 10)


def test_record_says_what_was_measured_and_how(finished):
    from importlib import metadata

    record, rows, out = finished
    assert record["analogue"] is True and record["suite"] == "smoke"
    assert record["lm_eval"] == metadata.version("lm_eval")
    assert list(record["tasks"]) == TASKS
    for name, task in record["tasks"].items():
        mine = [row["correct"] for row in rows if row["task"] == name]
        assert task["n"] == len(mine) == 10
        accuracy = sum(mine) / 10
        assert task["accuracy"] == pytest.approx(accuracy)
        assert task["stderr"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 9))
        assert task["shots"] == 0 and len(task["prompt_hash"]) == 64
        assert task["dtype"] == "float32"
    accuracies = [task["accuracy"] for task in record["tasks"].values()]
    assert record["average"] == pytest.approx(sum(accuracies) / 8)
    assert record["tasks"]["siqa"]["lm_eval_task"] == "social_iqa"
    assert record["tasks"]["hellaswag"]["metric"] == "acc_norm"
    assert record["tasks"]["winogrande"]["metric"] == "acc"
    assert len({row["doc_hash"] for row in rows}) > 70
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_gemma_and_truncation(folders, suite, caplog):
    """Its tokenizer has no first token to add, and prompts longer than the model are counted."""
    lm = load_model(str(folders / "gemma"), 4, None, None)
    task = {t.name: t for t in suite.spec.tasks}["storycloze"]
    record, rows = suite.run(lm, task)
    assert record["truncated_requests"] == 0 and len(rows) == 10
    lm._max_length = 100
    record, _ = suite.run(lm, task)
    assert 0 < record["truncated_requests"] <= 20


# --- Many models, interruption, repetition --------------------------------------------------------


def comparable(out: Path) -> dict:
    """A record without the state of the source tree, which may change while tests run."""
    record = json.loads(out.read_text())
    assert record.pop("git") is None or "commit" in json.loads(out.read_text())["git"]
    return record


def test_an_interrupted_suite_goes_on_with_what_is_missing(folders, suite, finished, monkeypatch):
    models = [str(folders / "qwen"), str(folders / "gemma")]
    outs = [folders / "again" / name / "fewshot.json" for name in ("qwen", "gemma")]
    calls: list[str] = []
    run = Suite.run

    def interrupted(self, lm, task):
        if len(calls) == 11:
            raise KeyboardInterrupt
        calls.append(task.name)
        return run(self, lm, task)

    monkeypatch.setattr(Suite, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(suite, models, outs)
    assert outs[0].is_file() and not outs[1].is_file()  # the first model's are there already
    assert comparable(outs[0]) == comparable(finished[2])
    assert items_path(outs[0]).read_bytes() == items_path(finished[2]).read_bytes()

    calls.clear()
    evaluate_models(suite, models, outs)
    assert calls == TASKS[3:]
    calls.clear()
    before = comparable(outs[1])
    evaluate_models(suite, models, outs)
    assert calls == []
    monkeypatch.setattr(Suite, "run", run)
    evaluate_models(suite, models[1:], outs[1:], force=True)
    assert comparable(outs[1]) == before


def test_unfinished_results_of_another_job_are_not_used(folders, tmp_path):
    limited = Suite("smoke", analogues=folders / "analogues", limit=2)
    left = tmp_path / ".fewshot.partial" / "hellaswag.json"
    left.parent.mkdir()
    left.write_text(json.dumps({"job": "another", "record": {"accuracy": 7.0}, "rows": []}))
    evaluate_models(limited, [str(folders / "qwen")], [tmp_path / "fewshot.json"])
    record = json.loads((tmp_path / "fewshot.json").read_text())
    assert {task["n"] for task in record["tasks"].values()} == {2}
    assert record["tasks"]["hellaswag"]["accuracy"] <= 1
    assert not left.parent.exists()


def test_every_model_sees_the_same_examples(folders):
    few = Suite("smoke", analogues=folders / "analogues", shots=3, limit=4)
    lm = load_model(str(folders / "qwen"), 8, None, None)
    task = {t.name: t for t in few.spec.tasks}["arc_easy"]
    first, rows = few.run(lm, task)
    again, same = few.run(lm, task)
    assert first == again and rows == same and first["shots"] == 3


def test_another_setting_is_another_result(folders, finished):
    record, _, out = finished
    few = Suite("smoke", analogues=folders / "analogues", shots=2)
    limited = Suite("smoke", analogues=folders / "analogues", limit=3)
    assert few.prompts["piqa"] != record["tasks"]["piqa"]["prompt_hash"]
    assert limited.requests["piqa"] == 6
    assert few.tasks["piqa"].instances[0].args[0].count("Question:") == 3
    for other in (few, limited):
        task = other.spec.tasks[0]
        assert other.job(task, "model") != Suite.job(other, task, "another model")
        assert other.job(task, "model") not in record["jobs"].values()


# --- Real items from local files, no network ------------------------------------------------------


@pytest.mark.skipif(not REAL.is_dir(), reason="no real items beside this checkout")
def test_real_items_run_offline_with_the_packaged_prompts(folders, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    local = {task: REAL / task for task in TASKS}
    suite = Suite("paper", local=local, limit=6)
    out = tmp_path / "fewshot.json"
    evaluate_models(suite, [str(folders / "qwen")], [out], batch_size=8)
    record = json.loads(out.read_text())
    rows = gzip.decompress(items_path(out).read_bytes()).decode().splitlines()
    assert record["analogue"] is False
    assert {name: task["n"] for name, task in record["tasks"].items()} == dict.fromkeys(TASKS, 6)
    assert {task["options"] for task in record["tasks"].values()} == {2, 3, 4}
    rows = [json.loads(row) for row in rows]
    for task in BY_HAND:
        check_by_hand(folders / "qwen", REAL, rows, task, 6)
    context, continuation = suite.tasks["siqa"].instances[0].args
    assert context.startswith("Q: ") and context.endswith("\nA:") and continuation[0] == " "


# --- Errors --------------------------------------------------------------------------------------


def test_errors_are_one_line_and_name_the_cure(folders, tmp_path, capsys):
    model = str(folders / "qwen")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "validation.jsonl").write_text('{"goal": "a", "sol1": "b", "label": 0}\n')
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "validation.jsonl").write_text('{"goal": \n')
    cases = {
        "suite 'papers' is unknown (allowed: paper": ["--suite", "papers"],
        "needs --analogues": ["--suite", "smoke"],
        "takes no --analogues": ["--suite", "paper", "--analogues", str(folders / "analogues")],
        "manifest.json is missing": ["--suite", "smoke", "--analogues", str(tmp_path)],
        "task 'piqua' is unknown": ["--suite", "paper", "--local", "piqua=x"],
        "validation.jsonl with the fields activity_label, ctx_a": [
            "--suite", "paper", "--local", f"hellaswag={tmp_path / 'empty'}",
        ],
    }  # fmt: skip
    for message, arguments in cases.items():
        assert main(["--model", model, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert main(["--model", str(tmp_path / "none"), "--suite", "paper"]) == 2
    assert "config.json is missing" in capsys.readouterr().err
    spec = {t.name: t for t in load_suite_spec("paper").tasks}["piqa"]
    with pytest.raises(FewshotError, match="validation.jsonl:1: no field 'sol2'"):
        read_items(spec, tmp_path / "bad", "validation")
    with pytest.raises(FewshotError, match="validation.jsonl:1: not JSON"):
        read_items(spec, tmp_path / "cut", "validation")


def test_more_shots_than_examples_are_refused(folders):
    with pytest.raises(FewshotError, match="fewer than 9 shots"):
        Suite("smoke", analogues=folders / "analogues", shots=9)


# --- Analogues -----------------------------------------------------------------------------------


def test_analogues_have_the_fields_options_and_splits_of_the_originals(folders):
    for spec in load_suite_spec("smoke").tasks:
        assert analogues.SPLITS[spec.name] == (spec.scored, spec.examples)
        items = read_items(spec, folders / "analogues" / spec.name, spec.scored)
        assert len(items) == 10
        for item in items:
            options = [
                *item.get("endings", []),
                *item.get("choices", {}).get("text", []),
                *(item[k] for k in item if re.fullmatch(r"option\d|sol\d|answer[ABC]|.*quiz\d", k)),
            ]
            assert len(set(options)) == spec.options, item


def test_the_right_answer_is_what_the_document_says():
    text = Text(documents())
    joined = [" ".join(passage.sentences) for passage in text.passages]
    items = {task: make_items(text, task, 20, 0) for task in TASKS}
    for item in items["hellaswag"]:
        whole = f"{item['ctx']} {item['endings'][int(item['label'])]}"
        assert any(whole in document for document in joined)
    for item in items["winogrande"]:
        whole = item["sentence"].replace("_", item[f"option{item['answer']}"])
        assert any(whole in document for document in joined)
    for item in items["arc_challenge"] + items["arc_easy"]:
        answer = item["choices"]["text"]["ABCD".index(item["answerKey"])]
        assert any(f"{item['question']} {answer}" in document for document in joined)
    for item in items["piqa"]:
        right, wrong = (item["sol1"], item["sol2"])[:: -1 if item["label"] else 1]
        assert any(f"{item['goal']} {right}" in document for document in joined)
        pairs = zip(right.split(), wrong.split(), strict=True)
        assert 1 <= sum(a != b for a, b in pairs) <= 2
    for item in items["storycloze"]:
        opening = " ".join(item[f"input_sentence_{i}"] for i in range(1, 5))
        ending = item[f"sentence_quiz{item['answer_right_ending']}"]
        assert any(f"{opening} {ending}" in document for document in joined)
    for item in items["siqa"]:
        answer = item["answer" + "ABC"[int(item["label"]) - 1]]
        assert any(f"{item['context']} {answer}" in document for document in joined)


def test_neither_place_nor_length_gives_the_answer_away():
    text = Text(documents(200))
    items = make_items(text, "arc_easy", 400, 0)
    places = [item["answerKey"] for item in items]
    assert all(60 < places.count(letter) < 140 for letter in "ABCD")
    longest = 0
    for item in items:
        lengths = [len(option) for option in item["choices"]["text"]]
        longest += best(lengths) == "ABCD".index(item["answerKey"])
    assert 50 < longest < 170


def test_challenge_is_harder_than_easy_by_word_overlap():
    def overlap(items: list[dict]) -> float:
        shares = []
        for item in items:
            words = [set(option.lower().rstrip(".").split()) for option in item["choices"]["text"]]
            right = words.pop("ABCD".index(item["answerKey"]))
            shares += [len(right & other) / len(right | other) for other in words]
        return sum(shares) / len(shares)

    text = Text(documents())
    easy, hard = (make_items(text, task, 30, 0) for task in ("arc_easy", "arc_challenge"))
    assert overlap(hard) > overlap(easy) + 0.1


def test_analogues_depend_on_text_and_seed_alone(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_analogues(documents(), tmp_path / name, items=5, seed=seed)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.json*")]
    assert len(files) == 17
    for file in files:
        same = (tmp_path / "a" / file).read_bytes()
        assert same == (tmp_path / "b" / file).read_bytes()
        assert same != (tmp_path / "c" / file).read_bytes()


def test_too_little_text_says_how_much_there_is():
    with pytest.raises(AnalogueError, match=r"storycloze: 500 items wanted, \d+ can be made"):
        make_items(Text(documents(20)), "storycloze", 500, 0)


def test_only_prose_is_kept():
    document = (
        "Return the sum of two arrays.\n\nArgs:\n    x (array): the first one\n    y: second\n\n"
        ">>> add(1, 2)\n3\n\nThe arrays may have\nany shape that fits. Use my_function for ints. "
        "They are never changed in place."
    )
    (passage,) = passages_of([document, ">>> 1 + 1\n2"])
    assert passage.sentences == (
        "Return the sum of two arrays.",
        "The arrays may have any shape that fits.",
        "They are never changed in place.",
    )
    assert content_positions(["The", "first", "of", "these,", "which", "counts", "here."]) == [
        1,
        4,
        5,
    ]


def test_held_out_documents_are_those_that_were_packed(tmp_path, folders):
    from tad.data.packing import pack
    from tad.data.prepare import load_encoder
    from tad.experiment.schema import Corpus

    encoder = load_encoder("qwen", folders / "qwen")
    texts = documents(40)
    corpus = Corpus(
        source="local", path="x", tokens=2000, validation_tokens=1500, validation_fraction=0.4
    )
    pack(texts, encoder, "general", corpus, tmp_path / "packed", sources={})
    found = held_out_documents(tmp_path / "packed", folders / "qwen")
    assert len(found) > 3 and set(found) <= set(texts)
    assert analogues.main(
        ["--data", str(tmp_path / "packed"), "--tokenizer", str(folders / "qwen"),
         "--out", str(tmp_path / "made"), "--items", "5000"]
    ) == 2  # fmt: skip
