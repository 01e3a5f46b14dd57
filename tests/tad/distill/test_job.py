"""Whole distillations of tiny models: what the folder holds, resume, what is never overwritten."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.llama.modeling_llama import LlamaModel

from tad.data.vocabulary import size
from tad.distill import job, measure, train
from tad.records import read_json, read_json_lines

from .conftest import jsonl, save_llama, tad_distill

NO_CALIBRATION = pytest.mark.usefixtures("no_calibration")


@pytest.fixture
def no_calibration(monkeypatch):
    monkeypatch.setattr(job, "_full_ece", lambda *_: None)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(ours, theirs) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_distillation_with_baselines(teacher, texts, tmp_path, capsys):
    out = tmp_path / "out"
    given = {"teacher": teacher, "data": texts, "out": out}
    assert tad_distill(**given, baselines="clm,vanilla_kd_matched") == 0
    model = AutoModelForCausalLM.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.num_hidden_layers == 2 and size(tokenizer) == 320
    results = read_json(out / "report.json")
    ours, plain, matched = results["students"]
    assert ours["held_out"]["kl"] < results["start"]["kl"]
    assert ours["held_out"]["kl"] < plain["held_out"]["kl"]
    assert plain["flops"] < ours["flops"] == matched["flops"]
    assert [one["with"] for one in results["comparisons"]] == ["clm", "vanilla_kd_matched"]
    assert results["comparisons"][0]["kl"]["high"] < 0
    assert 0 < plain["full_ece"]["value"] < 1 and results["teacher"]["full_ece"]["value"] < 0.1
    report = (out / "report.md").read_text()
    assert "**Worth it?**" in report and "Vanilla KD, matched" in report
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "AutoModelForCausalLM" in (out / "README.md").read_text()
    # The numbers are those of the weights that were saved.
    sums = measure.load(out / "heldout.npz")
    nll = 0.0
    data = job.prepare(job.Settings(**_settings(given)), tokenizer)
    for row in (data.held_out[i] for i in range(len(data.held_out))):
        logits = model(row["input_ids"][None]).logits[0].log_softmax(-1)
        nll -= float(logits.gather(-1, row["labels"][:, None]).double().sum())
    assert sums["nll"].sum() == pytest.approx(nll, rel=1e-5)
    # The same command does nothing; another is refused, and names the argument.
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert tad_distill(**given, baselines="clm") == 0
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    assert tad_distill(**given, tokens="3200") == 2
    assert "--tokens was 1600, and is 3200); give another --out" in capsys.readouterr().err
    assert not (out / ".work").exists()


def _settings(given):
    from tad.distill.arguments import parser, settings

    from .conftest import SMALL

    options = SMALL | {f"--{key}": str(value) for key, value in given.items()}
    return vars(settings(parser().parse_args([x for pair in options.items() for x in pair])))


@NO_CALIBRATION
def test_a_killed_distillation_goes_on_to_the_same_weights(
    teacher, texts, tmp_path, monkeypatch, capsys
):
    assert tad_distill(teacher=teacher, data=texts, out=tmp_path / "whole") == 0
    given = {"teacher": teacher, "data": texts, "out": tmp_path / "cut"}
    with monkeypatch.context() as patch:
        original = train._History.on_step_end

        def killed(self, args, state, control, **kwargs):
            original(self, args, state, control, **kwargs)
            if state.global_step == 8:
                raise KeyboardInterrupt

        patch.setattr(train._History, "on_step_end", killed)
        assert tad_distill(**given) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert tad_distill(**given) == 0
    assert read_json(tmp_path / "cut" / "manifest.json")["resumed_from_step"] == 7
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    histories = [
        [
            {key: value for key, value in line.items() if key != "seconds"}
            for line in read_json_lines(tmp_path / name / "train.jsonl")
        ]
        for name in ("whole", "cut")
    ]
    assert histories[0] == histories[1]


@NO_CALIBRATION
@pytest.mark.parametrize("form", ["text", "messages"])
def test_the_teacher_runs_once_for_all_students_with_the_same_bits(
    teacher, texts, tmp_path, monkeypatch, form
):
    if form == "messages":
        turns = [("user", "loss {}"), ("assistant", "tail {} of {}")]
        rows = [[{"role": x, "content": text.format(i, "x" * (i % 7))} for x, text in turns]
                for i in range(60)]  # fmt: skip
        texts = jsonl(tmp_path / "chats.jsonl", [{"messages": one} for one in rows])
    given = {"teacher": teacher, "data": texts, "baselines": "vanilla_kd,vanilla_kd_matched,clm"}
    seen, original = [], LlamaModel.forward

    def counted(self, input_ids=None, **kwargs):
        if self.config.num_hidden_layers == 4:  # the teacher
            seen.append(len(input_ids))
        return original(self, input_ids, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    passed = {}
    for states_gb in (0, 1):
        seen.clear()
        out = tmp_path / str(states_gb)
        assert tad_distill(**given, out=out, context=32, states_gb=states_gb) == 0
        passed[states_gb] = sum(seen)
    for part in (".", "baselines/vanilla_kd", "baselines/vanilla_kd_matched", "baselines/clm"):
        assert same(*(weights(tmp_path / name / part) for name in "01"))
        curves = [read_json_lines(tmp_path / name / part / "train.jsonl") for name in "01"]
        measured = [[line["eval_kl"] for line in one if "eval_kl" in line] for one in curves]
        assert measured[0] == measured[1]
    # Each row once; without states, in each of three trainings, twice where a step is matched, and
    # for all measures.
    cost = read_json(tmp_path / "1" / "manifest.json")
    assert passed[1] < passed[0] / 3
    assert cost["seconds"] > 0 and not (tmp_path / "1" / ".work").exists()


@NO_CALIBRATION
def test_states_that_do_not_fit_leave_the_teacher_running(teacher, texts, tmp_path, caplog):
    given = {"teacher": teacher, "data": texts, "baselines": "vanilla_kd"}
    caplog.set_level("INFO", "tad.distill.states")
    assert tad_distill(**given, out=tmp_path / "out", states_gb=1e-6) == 0
    assert "the teacher runs for each student" in caplog.text and "--states-gb" in caplog.text


@NO_CALIBRATION
def test_adapters_are_trained_and_merged(teacher, texts, tokenizer, tmp_path):
    pytest.importorskip("peft")
    student, out = save_llama(tmp_path / "student", tokenizer, seed=1), tmp_path / "out"
    given = {"teacher": teacher, "data": texts, "student": student, "out": out}
    assert tad_distill(**given, lora="r=2,alpha=4,targets=q_proj+v_proj") == 0
    before, after = weights(student), weights(out)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert before.keys() == after.keys()
    assert {key.split(".")[-2] for key in changed} == {"q_proj", "v_proj"}
    # q and v are 32 x 32: rank 2 has 2 * 64 weights for each of 2 layers.
    assert read_json(out / "report.json")["models"]["student"]["trained"] == 2 * 2 * 2 * 64


@NO_CALIBRATION
def test_only_responses_are_learnt_of_chats(teacher, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"loss {i}"},
                      {"role": "assistant", "content": f"tail {i}"}]}
        for i in range(60)
    ]  # fmt: skip
    data = jsonl(tmp_path / "chats.jsonl", rows)
    given = {"teacher": teacher, "data": data, "out": tmp_path / "out", "context": 48}
    assert tad_distill(**given, tokens=800) == 0
    results = read_json(tmp_path / "out" / "report.json")
    assert results["data"]["form"] == "messages"
    assert 0 < results["positions"] < results["sequences"] * 12


@NO_CALIBRATION
def test_clm_at_the_flops_of_tad_has_more_tokens(teacher, texts, tmp_path):
    out = tmp_path / "out"
    given = {"teacher": teacher, "data": texts, "out": out}
    assert tad_distill(**given, baselines="clm_matched") == 0
    ours, plain = read_json(out / "report.json")["students"]
    assert plain["tokens"] > ours["tokens"]
    assert plain["flops"] == pytest.approx(ours["flops"], rel=0.1)


@NO_CALIBRATION
def test_a_folder_with_something_else_is_left_alone(teacher, texts, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    assert tad_distill(teacher=teacher, data=texts, out=out) == 2
    assert "holds something else; give a new folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_a_logger_that_is_not_there_is_told_first(teacher, texts, tmp_path, capsys):
    given = {"teacher": teacher, "data": texts, "out": tmp_path / "out"}
    assert tad_distill(**given, report_to="no_such_logger") == 2
    assert "--report-to no_such_logger: not installed, or unknown" in capsys.readouterr().err


def test_intervals_of_differences_are_of_the_same_sequences():
    rng = np.random.default_rng(0)
    tokens, level = np.full(50, 10.0), rng.normal(20, 5, 50)
    ours = {"tokens": tokens, "kl": level}
    theirs = {"tokens": tokens, "kl": level + 1 + 0.1 * rng.normal(size=50)}
    gap = measure.difference(ours, theirs, "kl")
    assert gap["low"] < -0.1 < gap["high"] < 0
    assert gap["mean"] == pytest.approx(-0.1, abs=0.005)
    # Unpaired, the spread of the sequences would hide it.
    assert gap["high"] - gap["low"] < 0.1 * level.std() / 10


@NO_CALIBRATION
def test_what_is_measured_reaches_a_logger(teacher, texts, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    given = {"teacher": teacher, "data": texts, "out": out, "report_to": "tensorboard"}
    assert tad_distill(**given) == 0
    events = EventAccumulator(str(out / "logs")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/clm", "train/divergence", "eval/kl", "eval/nll"} <= tags
    last = read_json_lines(out / "train.jsonl")[-1]
    assert events.Scalars("eval/kl")[-1].value == pytest.approx(last["eval_kl"], rel=1e-6)
