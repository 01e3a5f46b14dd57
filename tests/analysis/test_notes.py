"""Notes say what the configuration holds."""

from __future__ import annotations

from analysis.notes import math_notes, setting_notes
from tad.experiment.config import load_suite

from .conftest import CONFIG

MINI = load_suite(CONFIG / "mini.yaml")
PAPER = load_suite(CONFIG / "paper.yaml")


def notes(suite, item):
    return " ".join(setting_notes(suite, suite.runs(item)))


def test_rows_that_are_not_under_one_setting_are_named():
    text = notes(MINI, "table1")
    assert "MiniLLM is this project's on-policy stand-in" in text and "on 25% of the tokens" in text
    assert "Seq-KD trains on one continuation" in text and "not by the beam search" in text
    assert "after 32 tokens of each row" in text
    assert "on 10% of the tokens" in notes(PAPER, "table1"), "from the configuration"
    assert "MiniLLM" not in notes(MINI, "table4")


def test_which_rows_have_the_cosine_term():
    assert "No row has the cosine term" in notes(MINI, "table1")
    text = notes(MINI, "table4")
    assert "Cosine term of Section 3.2.2: in Vanilla KD, RKL, TAD (K = 1)" in text
    assert "of phi-2 architecture, 1.7M → 920k. CLM (no KD), CLM (Mat.), MiniPLM: without." in text
    assert "Vanilla KD, no cosine, RKL, no cosine: without" in notes(PAPER, "ablations")


def test_optimiser_normalisation_and_attention():
    text = notes(MINI, "table4")
    assert "AdamW (the paper says Adam) at a constant rate of 0.002" in text
    assert "clipped to a norm of 1; batches of 16 rows of 128 tokens" in text
    assert "β(X) is taken over each row of 128 tokens" in text
    assert "attend across the documents of a packed row" in text
    assert "soft-capped" not in text and "of gemma2-9b are soft-capped" in notes(PAPER, "table4")


def test_instruction_data_beside_the_paper_s():
    text = notes(PAPER, "table8")
    assert "240,000 examples; the paper's ORCAMEL has 250,000" in text
    assert "β(X) is taken over the answer of each example" in text
    assert "packed row" not in text


def test_no_runs_no_notes():
    assert setting_notes(MINI, []) == []


def test_shots_and_exemplars_of_math():
    def record(**sets):
        entries = {
            name: {"column": name, "shots": shots, "exemplars": source}
            for name, (shots, source) in sets.items()
        }
        return {"datasets": entries}

    mixed = record(GSM8K=(8, "lm-eval gsm8k_cot"), MQA=(4, "written here"))
    (own,) = math_notes([mixed, mixed])
    assert own.startswith("The exemplars of MQA are this project's own")
    (none,) = math_notes([record(GSM8K=(0, "none"))])
    assert none.startswith("0 shots in GSM8K;")


def test_budgets_clipped_to_the_data_are_told_as_asked_and_had():
    text = notes(PAPER, "table1")
    assert (
        "MiniPLM of qwen1.5-1.8b_0.5b chooses from 4.97B tokens, not from 5.60B, and keeps 56% of "
        "them instead of 50%: general holds 5.00B in all, validation included."
    ) in text
    assert "MiniPLM of qwen1.5-1.8b_1.2b" not in text, "a pool of 4B is there"
    assert "trains on 4.97B tokens, not on the 5." in notes(PAPER, "table4")
    assert "instead of 50%" not in notes(MINI, "table1")
