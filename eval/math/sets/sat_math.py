"""SAT math: LaTeX, four options."""

from __future__ import annotations

import random
import re

from eval.math.sets import RIGHT_CHOICE, Dataset, Exemplars, Item, Problem, with_options
from eval.math.stories import draw_sum, final_letter, key, options, small


def _question(item: Item) -> str:
    """ "A) x B) y" becomes "(A) x (B) y"; the few items that write "A. x" get the first bracket."""
    listed = re.sub(r"(?<=\s)([B-D])\)\s", r"(\1) ", "(" + item["options"].strip())
    return f"{item['question'].strip()}\n{RIGHT_CHOICE}\n{listed}"


def four_options(rng: random.Random, largest: int) -> Problem:
    """An equation in LaTeX, one of four options."""
    number = draw_sum(rng, small(largest))
    values, index = options(rng, number.result, 4, largest)
    inverse = "-" if number.sign == "+" else "+"
    item = {
        "question": f"If $x {inverse} {number.change} = {number.start}$, what is $x$?",
        "options": " ".join(
            f"{letter}) {option}" for letter, option in zip("ABCD", values, strict=True)
        ),
        "Answer": "ABCD"[index],
    }
    return Problem(
        item, final_letter(number.step, values, index), key("sat_math", number.step, *values)
    )


# Invented for this project in the manner of the SAT.
_EXEMPLARS = (
    (
        "If $3(x-2)=2x+5$, what is the value of $x$?",
        "(A) 1 (B) 7 (C) 11 (D) 13",
        "Expanding the left side gives $3x-6=2x+5$.\n"
        "Subtracting $2x$ and adding 6 on both sides gives $x=11$.\n"
        "Final Answer: The final answer is (C).",
    ),
    (
        "A line in the $xy$-plane passes through $(0,4)$ and $(2,10)$. "
        "Which equation describes it?",
        r"(A) $y=3x+4$ (B) $y=4x+3$ (C) $y=6x+4$ (D) $y=\frac{1}{3}x+4$",
        "The slope is $\\frac{10-4}{2-0}=3$ and the $y$-intercept is 4.\n"
        "So the line is $y=3x+4$.\n"
        "Final Answer: The final answer is (A).",
    ),
    (
        "A bag holds 6 red, 9 blue and 5 green marbles. One marble is drawn at random. "
        "What is the probability that it is blue?",
        r"(A) $\frac{1}{4}$ (B) $\frac{3}{10}$ (C) $\frac{9}{11}$ (D) $\frac{9}{20}$",
        "There are $6+9+5=20$ marbles, of which 9 are blue.\n"
        "The probability is $\\frac{9}{20}$.\n"
        "Final Answer: The final answer is (D).",
    ),
    (
        "The function $f$ is defined by $f(x)=x^{2}-kx$, and $f(5)=10$. What is the value of $k$?",
        "(A) 2 (B) 3 (C) 5 (D) 15",
        "Putting in $x=5$ gives $25-5k=10$.\n"
        "Then $5k=15$, so $k=3$.\n"
        "Final Answer: The final answer is (B).",
    ),
)


DATASET = Dataset(
    name="sat_math", column="SAT", place=8, answer="choice", layout="problem",
    exemplars=Exemplars("written here", lambda: with_options(_EXEMPLARS), "mmlu_stem"), shots=4,
    fields=("question", "options", "Answer"),
    question=_question,
    gold=lambda item: item["Answer"].strip().upper(),
    options=lambda item: 4,
    analogue=four_options,
)  # fmt: skip
