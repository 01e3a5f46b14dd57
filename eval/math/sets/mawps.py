"""MAWPS: one step, spaced signs, gold a float. No copy on the hub is known."""

from __future__ import annotations

import random

from eval.math.sets import Dataset, Problem
from eval.math.sets.gsm8k import EXEMPLARS
from eval.math.stories import NAMES, THINGS, Sum, closed, key


def counting(rng: random.Random, largest: int) -> Problem:
    """One to three counted on or back, spaced signs."""
    who, what = rng.choice(NAMES), rng.choice(THINGS)
    low, change = rng.randint(2, largest - 3), rng.randint(1, 3)
    number = rng.choice((Sum(low, change, low + change, "+"), Sum(low + change, change, low, "-")))
    verb = "buys" if number.sign == "+" else "sells"
    question = (
        f"{who} has {number.start} {what} . {who} {verb} {number.change} . "
        f"How many {what} are there now ?"
    )
    item = {"input": question, "target": float(number.result)}
    return Problem(item, closed(number.step, number.result), key("mawps", question))


DATASET = Dataset(
    name="mawps", column="MAWPS", place=5, answer="number", layout="question",
    exemplars=EXEMPLARS, shots=8, fields=("input", "target"),
    question=lambda item: item["input"],
    gold=lambda item: str(item["target"]),
    analogue=counting,
)  # fmt: skip
