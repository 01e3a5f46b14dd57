"""The examples run as they stand, and their loss falls."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, **options):
    return runpy.run_path(str(EXAMPLES / name))["main"](**options)


def test_every_example_has_a_test():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "distil.py",
        "lora.py",
        "plain_loop.py",
        "transformers_trainer.py",
        "trl_sft.py",
    }


def test_plain_loop():
    history = run("plain_loop.py", steps=12)
    assert history[-1] < 0.9 * history[0]


def test_distil():
    results = run("distil.py", tokens="3k")
    ours = results["students"][0]
    assert ours["held_out"]["kl"] < results["start"]["kl"]
    assert [one["with"] for one in results["comparisons"]] == ["clm"]


def test_transformers_trainer():
    logs = run("transformers_trainer.py", steps=12)
    losses = [x for x in logs if "loss" in x]
    assert losses[-1]["loss"] < 0.95 * losses[0]["loss"]
    assert losses[0]["loss"] == pytest.approx(losses[0]["clm"] + losses[0]["divergence"], rel=1e-4)
    evaluation = next(x for x in logs if "eval_loss" in x)
    assert evaluation["eval_loss"] < losses[0]["loss"]


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is absent")
def test_trl_sft():
    losses = [x for x in run("trl_sft.py", steps=12) if "loss" in x]
    assert losses[-1]["loss"] < 0.9 * losses[0]["loss"]
    assert losses[-1]["divergence"] > 0  # the teacher takes part


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="PEFT is absent")
def test_lora():
    student, logs = run("lora.py", steps=12)
    losses = [x["loss"] for x in logs if "loss" in x]
    assert losses[-1] < 0.98 * losses[0]
    trained = {name for name, p in student.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert all(p.abs().max() > 0 for name, p in student.named_parameters() if "lora_B" in name)
