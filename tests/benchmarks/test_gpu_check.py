"""The GPU check on a CPU, tiny: what is right, what is wrong, and what is left out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.checks import attention, distillation, losses, several
from benchmarks.checks.row import (
    HEADER,
    NO_GPU,
    NO_GPUS,
    NOT_INSTALLED,
    OK,
    SAID,
    Row,
    judged,
    tried,
)

SHAPE = (32, 200, 16)
EXPECTED = Row(check="a", case="b")


def test_the_losses_are_those_of_the_reference():
    rows = list(losses.correctness("cpu", SHAPE))
    assert {row.outcome for row in rows} == {OK}
    assert {row.case for row in rows} == {
        f"{m}, {t}" for m in losses.METHODS for t in losses.DTYPES
    }
    assert all(row.gradient_error < 1e-5 for row in rows if "float32" in row.case)


@pytest.mark.parametrize("which", ["value", "gradient"])
def test_a_wrong_loss_is_found(which, monkeypatch):
    right = losses.fused

    def wrong(batch, name, **options):
        value, *gradients = right(batch, name, **options)
        if name == "tad":
            value = 1.02 * value if which == "value" else value
            gradients = [1.02 * x for x in gradients] if which == "gradient" else gradients
        return [value, *gradients]

    monkeypatch.setattr(losses, "fused", wrong)
    rows = list(losses.correctness("cpu", SHAPE))
    assert [row.case for row in rows if row.wrong] == ["tad, float32", "tad, bfloat16"]


def test_costs_have_a_row_of_each_peer(monkeypatch):
    monkeypatch.setattr(losses, "installed", lambda package: package != "trl")
    rows = {row.case: row for row in losses.costs("cpu", compile=False, shape=SHAPE, rounds=2)
            if row.check == "cost, float32"}  # fmt: skip
    measured = [row for row in rows.values() if row.outcome == SAID]
    assert len(measured) == 3 + len(losses.METHODS)  # products, F.kl_div and naive TAD beside ours
    assert all(row.seconds > 0 for row in measured)
    trl = [row.outcome for case, row in rows.items() if "TRL" in case]
    assert trl == [NOT_INSTALLED] * 2
    assert [row.outcome for case, row in rows.items() if "Liger" in case] == [NO_GPU]
    logits = 4 * SHAPE[0] * SHAPE[1]
    assert rows["plain KL, `F.kl_div`"].memory > 3 * logits, "logits of both, and their softmax"


def test_attention_on_a_cpu():
    exact, flash = attention.kernels("cpu", tokens=16)
    assert exact.outcome == OK and exact.value_error < 1e-5
    assert flash.outcome == NO_GPU


def test_weights_that_differ_are_told(monkeypatch):
    monkeypatch.setattr(distillation, "save_teacher", lambda *_: None)
    for outs, wrong in ((["a" * 64, "a" * 64], False), (["a" * 64, "b" * 64], True)):
        left = iter(outs)
        monkeypatch.setattr(distillation, "_weights", lambda *_, left=left: next(left))
        [row] = distillation.repeatable("cpu")
        assert row.wrong == wrong


def test_ranks_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert [row.outcome for row in several.ranks("cuda")] == [NO_GPUS] * 2
    weights = {"a": torch.ones(4)}
    monkeypatch.setattr(several, "trained", lambda out, kind, device, world: weights)
    assert [row.outcome for row in several.ranks("cpu")] == [OK, OK]
    two = {2: {"a": torch.full((4,), 1.01)}, 1: weights}
    monkeypatch.setattr(several, "trained", lambda out, kind, device, world: two[world])
    assert next(iter(several.ranks("cpu"))).wrong


def test_a_row_says_what_came_out():
    def fails(error):
        def check():
            raise error

        return check

    assert tried(EXPECTED, fails(ValueError("a | b"))).outcome == "WRONG: ValueError: a / b"
    assert tried(EXPECTED, fails(ValueError("x")), ours=False).outcome == "failed: ValueError: x"
    assert not tried(EXPECTED, fails(torch.OutOfMemoryError("x"))).wrong
    assert judged(EXPECTED, [(1e-5, 1e-4)]).outcome == OK
    assert judged(EXPECTED, [(1e-5, 1e-4), (math.nan, 1e-4)]).wrong
    assert len(EXPECTED.cells()) == len(HEADER)


def test_one_table_on_screen_and_in_a_file(tmp_path, monkeypatch, capsys):
    out = tmp_path / "table.md"
    command = ["--device", "cpu", "--only", "attention", "--out", str(out)]
    assert gpu_check.main(command) == 0
    text = out.read_text()
    assert text in capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "1 ok, 1 needs a GPU" in text and "no flash-attn" in text
    bad = replace(EXPECTED, outcome="WRONG: x")
    monkeypatch.setattr(attention, "kernels", lambda device: iter([bad]))
    assert gpu_check.main(command) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_told_in_one_line(capsys):
    assert gpu_check.main(["--device", "cuda"]) == 2
    error = capsys.readouterr().err
    assert "--device cuda: torch finds no GPU" in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_whole_check_on_a_cpu(tmp_path):
    """Every subject, with distillations and ranks in processes of their own."""
    out = tmp_path / "table.md"
    small = ["--tokens", "32", "--vocab", "200", "--hidden", "16", "--rounds", "1"]
    assert gpu_check.main(["--device", "cpu", "--out", str(out), *small]) == 0
    text = out.read_text()
    assert "WRONG" not in text and "sha256" in text and "two gloo ranks" in text
