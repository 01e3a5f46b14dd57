"""MAWPS: one step, spaced signs, gold a float. No copy on the hub is known."""

from __future__ import annotations

import random

from eval.math.sets import Dataset, Problem
from eval.math.sets.gsm8k import EXEMPLARS
from eval.math.stories import NAMES, closed, draw_sum, key


def tenths(rng: random.Random, largest: int) -> Problem:
    """One step with tenths, spaced signs."""
    who, what = rng.choice(NAMES), rng.choice(("flour", "juice", "milk", "rice", "rope"))
    number = draw_sum(rng, largest)
    start, change, result = (
        f"{value / 10:g}" for value in (number.start, number.change, number.result)
    )
    verb = "buys" if number.sign == "+" else "uses"
    question = f"{who} has {start} {what} . {who} {verb} {change} . How much {what} is there now ?"
    step = f"{start} {number.sign} {change} = {result}"
    item = {"input": question, "target": float(result)}
    return Problem(item, closed(step, result), key("mawps", step))


DATASET = Dataset(
    name="mawps", column="MAWPS", place=5, answer="number", layout="question",
    exemplars=EXEMPLARS, shots=8, fields=("input", "target"),
    question=lambda item: item["input"],
    gold=lambda item: str(item["target"]),
    analogue=tenths,
)  # fmt: skip
