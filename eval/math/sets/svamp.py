"""SVAMP: one step, body and question apart, gold stored as a float."""

from __future__ import annotations

import random

from eval.math.sets import Dataset, Hub, Item, Problem
from eval.math.sets.gsm8k import EXEMPLARS
from eval.math.stories import closed, key, small, story


def _question(item: Item) -> str:
    body = item["Body"].strip()
    return f"{body}{'' if body.endswith('.') else '.'} {item['Question'].strip()}"


def one_step(rng: random.Random, largest: int) -> Problem:
    """One step to a small whole number."""
    body, question, number = story(rng, small(largest))
    item = {"Body": body, "Question": question, "Answer": float(number.result)}
    return Problem(item, closed(number.step, number.result), key("svamp", body, question))


DATASET = Dataset(
    name="svamp", column="SVAMP", place=3, answer="number", layout="question",
    exemplars=EXEMPLARS, shots=8, fields=("Body", "Question", "Answer"),
    question=_question,
    gold=lambda item: str(item["Answer"]),
    analogue=one_step,
    hub=Hub("ChilleD/SVAMP", ("train", "test")),
)  # fmt: skip
