"""ASDiv: one step, gold with its unit in brackets; answers of several parts are dropped."""

from __future__ import annotations

import random
import re

from eval.math.sets import Dataset, Hub, Problem
from eval.math.sets.gsm8k import EXEMPLARS
from eval.math.stories import NAMES, THINGS, closed, draw_sum, key


def with_unit(rng: random.Random, largest: int) -> Problem:
    """One step, gold with its unit."""
    who, other = rng.sample(NAMES, 2)
    what, number = rng.choice(THINGS), draw_sum(rng, largest)
    relation = "more" if number.sign == "+" else "fewer"
    item = {
        "body": f"{who} has {number.start} {what}. {other} has {number.change} {relation}.",
        "question": f"How many {what} does {other} have?",
        "answer": f"{number.result} ({what})",
    }
    return Problem(item, closed(number.step, number.result), key("asdiv", item["body"], what))


DATASET = Dataset(
    name="asdiv", column="ASDiv", place=4, answer="number_or_text", layout="question",
    exemplars=EXEMPLARS, shots=8, fields=("body", "question", "answer"),
    question=lambda item: f"{item['body'].strip()} {item['question'].strip()}",
    gold=lambda item: re.sub(r"\(.*?\)", "", item["answer"]).strip(),
    keep=lambda item: ";" not in item["answer"],
    analogue=with_unit,
    hub=Hub("EleutherAI/asdiv", ("validation",)),
)  # fmt: skip
