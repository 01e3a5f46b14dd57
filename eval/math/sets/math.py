"""MATH: the 500 problems of the OpenAI split (which is what the paper's figures fit), in LaTeX."""

from __future__ import annotations

import random
from fractions import Fraction

from eval.math.sets import Dataset, Exemplars, Hub, Problem, last_box
from eval.math.stories import draw_sum, key, small

TASKS = (
    "Calculate", "Compute", "Determine", "Evaluate", "Express as one fraction", "Find",
    "Find the value of", "Give", "Give as one fraction", "Reduce", "Simplify", "Solve", "State",
    "What is", "Work out", "Write as one fraction",
)  # fmt: skip


def _exemplars() -> list[tuple[str, str]]:
    from lm_eval.tasks.minerva_math.utils import list_fewshot_samples

    return [(doc["problem"], doc["solution"]) for doc in list_fewshot_samples()]


def fractions(rng: random.Random, largest: int) -> Problem:
    """A sum of fractions in LaTeX, gold in a box, Minerva's closing line."""
    number, bottom = draw_sum(rng, small(largest)), rng.randint(3, largest)
    result = Fraction(number.result, bottom)
    terms = [f"\\frac{{{value}}}{{{bottom}}}" for value in (number.start, number.change)]
    gold = (
        str(result.numerator) if result.denominator == 1
        else f"\\frac{{{result.numerator}}}{{{result.denominator}}}"
    )  # fmt: skip
    total = f"\\frac{{{number.result}}}{{{bottom}}}"
    simpler = "" if total == gold else f" = {gold}"
    step = f"{number.step}, so ${terms[0]} {number.sign} {terms[1]} = {total}{simpler}$"
    item = {
        "problem": f"{rng.choice(TASKS)} ${terms[0]} {number.sign} {terms[1]}$.",
        "solution": f"{step}. The answer is $\\boxed{{{gold}}}$.",
    }
    solution = f"{step}\nFinal Answer: The final answer is ${gold}$. I hope it is correct."
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
