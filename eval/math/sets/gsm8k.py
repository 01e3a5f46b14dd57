"""GSM8K: two to eight steps to a whole number, gold behind ####."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path

import yaml

from eval.math.sets import Dataset, Exemplars, Hub, Problem
from eval.math.stories import NAMES, THINGS, VERBS, Sum, closed, draw_sum, key


def _exemplars() -> list[tuple[str, str]]:
    # find_spec instead of an import: one YAML file is needed, not two seconds of lm-eval.
    package = Path(find_spec("lm_eval").origin).parent
    task = yaml.safe_load((package / "tasks" / "gsm8k" / "gsm8k-cot.yaml").read_text("utf-8"))
    return [(doc["question"], doc["target"]) for doc in task["fewshot_config"]["samples"]]


EXEMPLARS = Exemplars("lm-eval gsm8k_cot", _exemplars, "gsm8k")
"""Of all sets that ask a question and want a number."""


def two_steps(rng: random.Random, largest: int) -> Problem:
    """Two steps to a whole number."""
    who, what, first = rng.choice(NAMES), rng.choice(THINGS), draw_sum(rng, largest)
    change = rng.randint(2, max(2, largest // 4))
    if first.result + change <= largest:
        second = Sum(first.result, change, first.result + change, "+")
    else:
        second = Sum(first.result, change, first.result - change, "-")
    question = (
        f"{who} has {first.start} {what}. {who} {VERBS[first.sign]} {first.change}, "
        f"then {VERBS[second.sign]} {change}. How many {what} are there now?"
    )
    steps = f"{first.step}. {second.step}"
    item = {"question": question, "answer": f"{steps}\n#### {second.result}"}
    return Problem(item, closed(steps, second.result), key("gsm8k", steps))


DATASET = Dataset(
    name="gsm8k", column="GSM8K", place=1, answer="number", layout="question",
    exemplars=EXEMPLARS, shots=8, fields=("question", "answer"),
    question=lambda item: item["question"],
    gold=lambda item: item["answer"].rpartition("####")[2].strip(),
    analogue=two_steps,
    hub=Hub("openai/gsm8k", ("test",), name="main"),
)  # fmt: skip
