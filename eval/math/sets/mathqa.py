"""MathQA: lower case, spaced signs, five lettered options."""

from __future__ import annotations

import random
import re

from eval.math.sets import RIGHT_CHOICE, Dataset, Exemplars, Hub, Item, Problem, with_options
from eval.math.stories import final_letter, key, options, small, story

_OPTION = re.compile(r"([a-e]) \)\s*(.*?)\s*(?=(?:'?\s*,\s*'?|\s)[b-e] \)|'?\]?\s*$)")


def _question(item: Item) -> str:
    """Options "a ) 12 , b ) 16" (or a printed list of such) become "(A) 12, (B) 16"."""
    problem = item["problem"].strip()
    listed = ", ".join(
        f"({letter.upper()}) {text}" for letter, text in _OPTION.findall(item["options"])
    )
    return f"{problem[:1].upper()}{problem[1:]}\n{RIGHT_CHOICE}\n{listed}"


def five_options(rng: random.Random, largest: int) -> Problem:
    """One step, one of five options."""
    body, question, number = story(rng, small(largest))
    values, index = options(rng, number.result, 5, largest)
    item = {
        "problem": f"{body} {question}".lower().replace(".", " .").replace("?", " ?"),
        "options": " , ".join(
            f"{letter} ) {option}" for letter, option in zip("abcde", values, strict=True)
        ),
        "correct": "abcde"[index],
    }
    return Problem(item, final_letter(number.step, values, index), key("mathqa", body, question))


# Invented for this project in the manner of the set: one step of arithmetic at a time, closed by
# the line that the graders read.
_EXEMPLARS = (
    (
        "A shop sells pens at 3 for $ 2 . how many dollars do 18 pens cost ?",
        "(A) 9, (B) 10, (C) 12, (D) 27, (E) 36",
        "18 pens are 18 / 3 = 6 groups of three pens.\n"
        "Each group costs 2 dollars, so they cost 6 * 2 = 12 dollars.\n"
        "Final Answer: The final answer is (C).",
    ),
    (
        "A cyclist rides 45 km in 2.5 hours . what is the speed of the cyclist in km / hr ?",
        "(A) 15, (B) 18, (C) 20, (D) 22.5, (E) 112.5",
        "Speed is distance divided by time.\n"
        "45 / 2.5 = 18, so the speed is 18 km/hr.\n"
        "Final Answer: The final answer is (B).",
    ),
    (
        "The average of four numbers is 21 . if one of them is 15 , "
        "what is the average of the other three ?",
        "(A) 19, (B) 21, (C) 22, (D) 23, (E) 25",
        "The four numbers add up to 4 * 21 = 84.\n"
        "Without 15 the others add up to 84 - 15 = 69, and their average is 69 / 3 = 23.\n"
        "Final Answer: The final answer is (D).",
    ),
    (
        "After a discount of 20 % a lamp costs rs . 96 . "
        "what was its price in rs . before the discount ?",
        "(A) 76.8, (B) 100, (C) 115.2, (D) 116, (E) 120",
        "The lamp costs 80% of its first price x, so 0.8x = 96.\n"
        "Therefore x = 96 / 0.8 = 120.\n"
        "Final Answer: The final answer is (E).",
    ),
)


DATASET = Dataset(
    name="mathqa", column="MQA", place=7, answer="choice", layout="problem",
    exemplars=Exemplars("written here", lambda: with_options(_EXEMPLARS), "mathqa"), shots=4,
    fields=("problem", "options", "correct"),
    question=_question,
    gold=lambda item: item["correct"].strip().upper(),
    options=lambda item: 5,
    analogue=five_options,
    hub=Hub("regisss/math_qa", ("test",), rename=(("Problem", "problem"),)),
)  # fmt: skip
