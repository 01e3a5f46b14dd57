"""MATH: the 500 problems of the OpenAI split (which is what the paper's figures fit), in LaTeX."""

from __future__ import annotations

import random
from math import gcd

from eval.math.sets import Dataset, Exemplars, Hub, Problem, last_box
from eval.math.stories import draw_sum, key

TASKS = (
    "Calculate", "Compute", "Determine", "Evaluate", "Express as one fraction", "Find",
    "Find the value of", "Give", "Give as one fraction", "Reduce", "Simplify", "Solve", "State",
    "What is", "Work out", "Write as one fraction",
)  # fmt: skip


def _exemplars() -> list[tuple[str, str]]:
    from lm_eval.tasks.minerva_math.utils import list_fewshot_samples

    return [(doc["problem"], doc["solution"]) for doc in list_fewshot_samples()]


def fractions(rng: random.Random, largest: int) -> Problem:
    """A sum of fractions in LaTeX that cannot be reduced, gold in a box, Minerva's closing line."""
    number = draw_sum(rng, largest)
    bottom = rng.choice([b for b in range(3, largest + 1) if gcd(b, number.result) == 1])
    start, change, gold = (
        f"\\frac{{{value}}}{{{bottom}}}" for value in (number.start, number.change, number.result)
    )
    asked = f"{start} {number.sign} {change}"
    item = {
        "problem": f"{rng.choice(TASKS)} ${asked}$.",
        "solution": f"${asked} = {gold}$, so the answer is $\\boxed{{{gold}}}$.",
    }
    solution = (
        f"${asked} = {gold}$\nFinal Answer: The final answer is ${gold}$. I hope it is correct."
    )
    return Problem(item, solution, key("math", number.step, bottom))


DATASET = Dataset(
    name="math", column="MATH", place=2, answer="latex", layout="problem",
    exemplars=Exemplars("lm-eval minerva_math", _exemplars, "minerva_math"), shots=4,
    fields=("problem", "solution"), files=("math_oai",),
    question=lambda item: item["problem"],
    gold=lambda item: last_box(item["solution"]),
    analogue=fractions,
    hub=Hub("HuggingFaceH4/MATH-500", ("test",)),
)  # fmt: skip
