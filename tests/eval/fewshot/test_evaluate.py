"""Few-shot suites on tiny random models, against scoring written out by hand."""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
import socket
from pathlib import Path

import pytest

from eval.fewshot.evaluate import (
    FewshotSetup,
    FewshotSuite,
    evaluate_models,
    items_path,
    load_model,
    main,
)
from eval.fewshot.tasks import FewshotError, all_tasks
from eval.items import read_items

REAL = Path(__file__).parents[3] / "../shared/data/fewshot"
SPECS = {task.name: task for task in all_tasks()}
TASKS = [*SPECS]


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


def gap(scores: list[float], right: int) -> float:
    return scores[right] - max(scores[:right] + scores[right + 1 :])


def hellaswag_by_hand(score: ByHand, item: dict) -> tuple[int, int, int, float]:
    def clean(text: str) -> str:
        text = text.strip().replace(" [title]", ". ")
        return re.sub(r"\[.*?\]", "", text).replace("  ", " ")

    begun = f"{item['activity_label']}: {item['ctx_a']} {item['ctx_b'].capitalize()}"
    endings = [clean(ending) for ending in item["endings"]]
    scores = [score(clean(begun), " " + ending) for ending in endings]
    normed = [s / len(ending) for s, ending in zip(scores, endings, strict=True)]
    label = int(item["label"])
    return best(scores), best(normed), label, gap(normed, label)


def piqa_by_hand(score: ByHand, item: dict) -> tuple[int, int, int, float]:
    options = [item["sol1"], item["sol2"]]
    scores = [score(f"Question: {item['goal']}\nAnswer:", " " + option) for option in options]
    normed = [s / len(option) for s, option in zip(scores, options, strict=True)]
    return best(scores), best(normed), item["label"], gap(normed, item["label"])


def winogrande_by_hand(score: ByHand, item: dict) -> tuple[int, None, int, float]:
    before, after = item["sentence"].split("_")
    options = [item["option1"], item["option2"]]
    scores = [score(before + option, " " + after.strip()) for option in options]
    label = int(item["answer"]) - 1
    return best(scores), None, label, gap(scores, label) / len(after.strip())


BY_HAND = {
    "hellaswag": hellaswag_by_hand,
    "piqa": piqa_by_hand,
    "winogrande": winogrande_by_hand,
}


def check_by_hand(model: Path, data: Path, rows: list[dict], task: str, limit: int) -> None:
    spec = SPECS[task]
    score = ByHand(model)
    items = read_items(data / task / f"{spec.scored}.jsonl", spec.fields)[:limit]
    rows = [row for row in rows if row["task"] == task]
    assert len(rows) == len(items)
    for item, row in zip(items, rows, strict=True):
        plain, normed, gold, margin = BY_HAND[task](score, item)
        assert row["margin"] == pytest.approx(margin, abs=2e-5)
        assert (row["margin"] > 0) == (row["correct"] == 1)
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
        margins = [row["margin"] for row in rows if row["task"] == name]
        assert task["margin"] == pytest.approx(sum(margins) / 10, abs=1e-5)
        spread = math.sqrt(sum((x - task["margin"]) ** 2 for x in margins) / 9 / 10)
        assert task["margin_stderr"] == pytest.approx(spread, abs=1e-5)
        assert task["chance"] == pytest.approx(1 / task["options"])
        assert task["chance"] <= task["commonest"] <= 1
        assert task["dtype"] == "float32"
    accuracies = [task["accuracy"] for task in record["tasks"].values()]
    assert record["average"] == pytest.approx(sum(accuracies) / 8)
    margins = [task["margin"] for task in record["tasks"].values()]
    assert record["avg_margin"] == pytest.approx(sum(margins) / 8)
    assert record["tasks"]["siqa"]["lm_eval_task"] == "social_iqa"
    assert record["tasks"]["hellaswag"]["metric"] == "acc_norm"
    assert record["tasks"]["hellaswag"]["column"] == "HS"
    assert record["tasks"]["winogrande"]["metric"] == "acc"
    assert len({row["doc_hash"] for row in rows}) > 70
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["qwen", "gemma"])
def test_options_side_by_side_have_the_answers_of_lm_eval(folders, suite, name):
    """Requests of all tasks together: contexts shared or not, options of one token or many."""
    from lm_eval.models.huggingface import HFLM

    lm = load_model(str(folders / name), FewshotSetup.of(batch_size=4))
    requests = [
        (tuple(i.args), *lm._encode_pair(*i.args))
        for task in suite.tasks.values()
        for i in task.instances[:12]
    ]
    requests.append((("x", "y"), requests[0][1], requests[0][2][:1]))
    expected = HFLM._loglikelihood_tokens(lm, requests, disable_tqdm=True)
    found = lm._loglikelihood_tokens(requests)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    for (ours, _), (theirs, _) in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3, rel=1e-5)


def test_truncated_requests_are_counted_each(folders, suite):
    """lm-eval logs less than one line a request where options share their context."""
    lm = load_model(str(folders / "gemma"), FewshotSetup.of(batch_size=4))
    task = SPECS["storycloze"]
    record, rows = suite.run(lm, task)
    assert record["truncated_requests"] == 0 and len(rows) == 10
    lm._max_length = 100
    record, _ = suite.run(lm, task)
    encoded = [lm._encode_pair(*i.args) for i in suite.tasks["storycloze"].instances]
    expected = sum(len(context) + len(option) > 101 for context, option in encoded)
    assert record["truncated_requests"] == expected > 0
    assert record["requests"] == 20 and record["bos_requests"] == 0


def test_requests_that_begin_with_bos_are_counted(folders, suite):
    lm = load_model(str(folders / "gemma"), FewshotSetup.of(batch_size=4))
    lm.tokenizer.bos_token = (
        "<eos>" if "<eos>" in lm.tokenizer.get_vocab() else lm.tokenizer.eos_token
    )
    encode = lm.tok_encode
    lm.tok_encode = lambda text, **options: [lm.tokenizer.bos_token_id, *encode(text, **options)]
    record, _ = suite.run(lm, SPECS["piqa"])
    assert record["bos_requests"] == record["requests"] == 20


def test_an_option_that_the_model_cannot_take_is_named(folders, suite):
    lm = load_model(str(folders / "qwen"), FewshotSetup.of())
    lm._max_length = 5
    with pytest.raises(
        FewshotError, match=r"piqa/validation.jsonl: item \d+: an option of \d+ tok"
    ):
        suite.run(lm, SPECS["piqa"])


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
    run = FewshotSuite.run

    def interrupted(self, lm, task):
        if len(calls) == 11:
            raise KeyboardInterrupt
        calls.append(task.name)
        return run(self, lm, task)

    monkeypatch.setattr(FewshotSuite, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models(suite, models, outs, FewshotSetup.of())
    assert outs[0].is_file() and not outs[1].is_file()  # the first model's are there already
    assert comparable(outs[0]) == comparable(finished[2])
    assert items_path(outs[0]).read_bytes() == items_path(finished[2]).read_bytes()

    calls.clear()
    evaluate_models(suite, models, outs, FewshotSetup.of())
    assert calls == TASKS[3:]
    calls.clear()
    before = comparable(outs[1])
    evaluate_models(suite, models, outs, FewshotSetup.of())
    assert calls == []
    monkeypatch.setattr(FewshotSuite, "run", run)
    evaluate_models(suite, models[1:], outs[1:], FewshotSetup.of(), force=True)
    assert comparable(outs[1]) == before


def test_unfinished_results_of_another_job_are_not_used(folders, tmp_path):
    limited = FewshotSuite("smoke", analogues=folders / "analogues", limit=2)
    left = tmp_path / ".fewshot.partial" / "hellaswag.json"
    left.parent.mkdir()
    left.write_text(json.dumps({"job": "another", "record": {"accuracy": 7.0}, "rows": []}))
    evaluate_models(
        limited, [str(folders / "qwen")], [tmp_path / "fewshot.json"], FewshotSetup.of()
    )
    record = json.loads((tmp_path / "fewshot.json").read_text())
    assert {task["n"] for task in record["tasks"].values()} == {2}
    assert record["tasks"]["hellaswag"]["accuracy"] <= 1
    assert not left.parent.exists()


def test_every_model_sees_the_same_examples(folders):
    few = FewshotSuite("smoke", analogues=folders / "analogues", shots=3, limit=4)
    lm = load_model(str(folders / "qwen"), FewshotSetup.of(batch_size=8))
    task = SPECS["arc_easy"]
    first, rows = few.run(lm, task)
    again, same = few.run(lm, task)
    assert first == again and rows == same and first["shots"] == 3


def test_another_setting_is_another_result(folders, finished):
    record, _, out = finished
    few = FewshotSuite("smoke", analogues=folders / "analogues", shots=2)
    limited = FewshotSuite("smoke", analogues=folders / "analogues", limit=3)
    assert few.prompts["piqa"] != record["tasks"]["piqa"]["prompt_hash"]
    assert len(limited.tasks["piqa"].instances) == 6
    assert few.tasks["piqa"].instances[0].args[0].count("Question:") == 3
    for other in (few, limited):
        task, setup = other.specs[0], FewshotSetup.of()
        assert other.job(task, "model", setup) != other.job(task, "another model", setup)
        assert other.job(task, "model", setup) not in record["jobs"].values()


# --- Real items from local files, no network ------------------------------------------------------


@pytest.mark.skipif(not REAL.is_dir(), reason="no real items beside this checkout")
def test_real_items_run_offline_with_the_packaged_prompts(folders, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    local = {task: REAL / task for task in TASKS}
    suite = FewshotSuite("paper", local=local, limit=6)
    out = tmp_path / "fewshot.json"
    evaluate_models(suite, [str(folders / "qwen")], [out], FewshotSetup.of(batch_size=8))
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
    (tmp_path / "file").write_text("")
    smoke = ["--suite", "smoke", "--analogues", str(folders / "analogues")]
    cases = {
        "suite 'papers' is unknown (allowed: paper": ["--suite", "papers"],
        "needs --analogues": ["--suite", "smoke"],
        "takes no --analogues": ["--suite", "paper", *smoke[2:]],
        "manifest.json is missing": ["--suite", "smoke", "--analogues", str(tmp_path)],
        "task 'piqua' is unknown": ["--suite", "paper", "--local", "piqua=x"],
        "validation.jsonl: no such file; it holds JSON lines with the fields activity_label": [
            "--suite", "paper", "--local", f"hellaswag={tmp_path / 'empty'}",
        ],
        "hellaswag: the hub's dataset cannot be had": ["--suite", "paper"],
        "--limit 0: must be at least 1": [*smoke, "--limit", "0"],
        "--shots -1: must be at least 0": [*smoke, "--shots", "-1"],
        "--device cuda:7: torch finds no GPU": [*smoke, "--device", "cuda:7"],
        "is a folder": [*smoke, "--out", str(tmp_path)],
        "cannot be written (Not a directory)": [*smoke, "--out", str(tmp_path / "file" / "x.json")],
    }  # fmt: skip
    for message, arguments in cases.items():
        assert main(["--model", model, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert main(["--model", str(tmp_path / "none"), "--suite", "paper"]) == 2
    assert "config.json is missing" in capsys.readouterr().err


def test_a_result_of_another_setup_is_not_kept(folders, suite, tmp_path):
    """The same model in float32 and then in bfloat16: two results, and the first kept as it is."""
    few = FewshotSuite("smoke", analogues=folders / "analogues", limit=2)
    model, out = str(folders / "qwen"), tmp_path / "fewshot.json"
    evaluate_models(few, [model], [out], FewshotSetup.of("float32"))
    assert {task["dtype"] for task in json.loads(out.read_text())["tasks"].values()} == {"float32"}
    written = out.stat().st_mtime_ns
    evaluate_models(few, [model], [out], FewshotSetup.of("float32", batch_size=3))
    assert out.stat().st_mtime_ns == written
    evaluate_models(few, [model], [out], FewshotSetup.of("bfloat16"))
    tasks = json.loads(out.read_text())["tasks"].values()
    assert {task["dtype"] for task in tasks} == {"bfloat16"}
    assert few.job(few.specs[0], "m", FewshotSetup("auto", "cuda")) != few.job(
        few.specs[0], "m", FewshotSetup("auto", "cpu")
    )


def test_damaged_results_are_made_anew(folders, tmp_path):
    few = FewshotSuite("smoke", analogues=folders / "analogues", limit=2)
    out = tmp_path / "fewshot.json"
    for damaged in ("{}", "[1]", '{"jobs": ', ""):
        out.write_text(damaged)
        items_path(out).write_bytes(b"")
        evaluate_models(few, [str(folders / "qwen")], [out], FewshotSetup.of())
        assert len(json.loads(out.read_text())["tasks"]) == 8


def test_a_model_that_is_not_whole_is_refused_before_any_task(folders, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    from eval.fewshot.evaluate import main

    for name, cut in (("lacking", None), ("small", 250)):
        folder = shutil.copytree(folders / "qwen", tmp_path / name)
        tensors = load_file(folder / "model.safetensors")
        if cut is None:
            del tensors["model.layers.1.self_attn.k_proj.bias"]
        else:
            text = (folder / "config.json").read_text()
            (folder / "config.json").write_text(text.replace('size": 300', f'size": {cut}'))
            for head in ("model.embed_tokens.weight", "lm_head.weight"):
                if head in tensors:
                    tensors[head] = tensors[head][:cut].clone()
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        data = ["--suite", "smoke", "--analogues", str(folders / "analogues"), "--limit", "1"]
        assert main(["--model", str(folder), *data]) == 2
        told = capsys.readouterr().err
        fault = "lack model.layers.1.self_attn.k_proj.bias" if cut is None else "250 token embed"
        assert f"{folder}: " in told and fault in told and told.count("\n") == 1
        assert not (folder / "fewshot.json").exists()
