"""Generated word problems in the shapes of the eight data sets, with step-by-step solutions.

``tad eval problems --out FOLDER --train 4000 --test 100 --seed 0`` writes
``FOLDER/NAME.jsonl`` (test items with the real set's fields), ``FOLDER/train/NAME.jsonl`` (the
same), ``FOLDER/instruct.jsonl`` (prompt, response and what they are made of, all data sets mixed)
and ``FOLDER/text.jsonl`` (other training problems as text to pre-train on). Train and
test never share a problem, nor its numbers in the same story: a hash of both decides which side
a problem belongs to. The problems are simple so that a small model can learn them; they stand in
for the real sets where there is no network, and are called analogues wherever they are shown.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from eval.math.datasets import DATASETS, STOP
from eval.math.prompts import training_pair

Split = Literal["train", "test"]

TEST_SHARE = 0.2
"""Share of all possible problems that belongs to the test side."""

NAMES = ("Ann", "Ben", "Dan", "Eva", "Ida", "Leo", "Max", "Mia", "Sam", "Tom")
THINGS = ("apples", "books", "cards", "coins", "cups", "eggs", "hats", "keys", "pens", "toys")
TASKS = ("Calculate", "Compute", "Evaluate", "Find", "Simplify", "Write as one fraction")


@dataclass(frozen=True, slots=True)
class Problem:
    """An item with its data set's fields, the solution a model should write, and its identity.

    ``key`` is the story with its numbers, without names and things: what train and test must not
    share.
    """

    item: dict[str, Any]
    solution: str
    key: str


@dataclass(frozen=True, slots=True)
class Sum:
    """One step of arithmetic in a story: ``start`` then ``change`` gives ``result``."""

    start: int
    change: int
    result: int
    sign: str

    @property
    def step(self) -> str:
        return f"{self.start} {self.sign} {self.change} = {self.result}"


def draw_sum(rng: random.Random, largest: int) -> Sum:
    """An addition or subtraction of numbers of at least 2, with every number up to ``largest``."""
    one, other = rng.randint(2, largest - 2), rng.randint(2, largest - 2)
    if one + other <= largest and rng.random() < 0.5:
        return Sum(one, other, one + other, "+")
    low, high = sorted((one, other))
    if high - low < 2:
        low, high = 2, high + 2
    return Sum(high, low, high - low, "-")


_VERBS = {"+": "gets", "-": "loses"}


def _story(rng: random.Random, largest: int) -> tuple[str, str, Sum]:
    """A body and a question around one sum."""
    who, what, number = rng.choice(NAMES), rng.choice(THINGS), draw_sum(rng, largest)
    body = f"{who} has {number.start} {what}. {who} {_VERBS[number.sign]} {number.change}."
    return body, f"How many {what} does {who} have now?", number


def _closed(step: str, answer: str) -> str:
    return f"{step}. The answer is {answer}."


def _key(*parts: object) -> str:
    return "|".join(str(part) for part in parts)


def free_number(rng: random.Random, largest: int) -> Problem:
    """GSM8K's shape: two steps to a whole number, gold behind ####."""
    who, what, first = rng.choice(NAMES), rng.choice(THINGS), draw_sum(rng, largest)
    change = rng.randint(2, max(2, largest // 4))
    if first.result + change <= largest:
        second = Sum(first.result, change, first.result + change, "+")
    else:
        second = Sum(first.result, change, first.result - change, "-")
    question = (
        f"{who} has {first.start} {what}. {who} {_VERBS[first.sign]} {first.change}, "
        f"then {_VERBS[second.sign]} {change}. How many {what} are there now?"
    )
    steps = f"{first.step}. {second.step}"
    item = {"question": question, "answer": f"{steps}\n#### {second.result}"}
    return Problem(item, _closed(steps, str(second.result)), _key("gsm8k", steps))


def body_and_question(rng: random.Random, largest: int) -> Problem:
    """SVAMP's shape: one step, body and question apart, gold stored as a float."""
    body, question, number = _story(rng, largest)
    item = {"Body": body, "Question": question, "Answer": float(number.result)}
    return Problem(item, _closed(number.step, str(number.result)), _key("svamp", number.step))


def with_unit(rng: random.Random, largest: int) -> Problem:
    """ASDiv's shape: one step, gold with its unit in brackets."""
    who, other = rng.sample(NAMES, 2)
    what, number = rng.choice(THINGS), draw_sum(rng, largest)
    relation = "more" if number.sign == "+" else "fewer"
    item = {
        "body": f"{who} has {number.start} {what}. {other} has {number.change} {relation}.",
        "question": f"How many {what} does {other} have?",
        "answer": f"{number.result} ({what})",
    }
    return Problem(item, _closed(number.step, str(number.result)), _key("asdiv", number.step))


def decimal(rng: random.Random, largest: int) -> Problem:
    """MAWPS's shape: one step with tenths, spaced signs, gold a float."""
    who, what = rng.choice(NAMES), rng.choice(("flour", "juice", "milk", "rice", "rope"))
    number = draw_sum(rng, largest)
    start, change, result = (
        f"{value / 10:g}" for value in (number.start, number.change, number.result)
    )
    verb = "buys" if number.sign == "+" else "uses"
    question = f"{who} has {start} {what} . {who} {verb} {change} . How much {what} is there now ?"
    step = f"{start} {number.sign} {change} = {result}"
    item = {"input": question, "target": float(result)}
    return Problem(item, _closed(step, result), _key("mawps", step))


def table(rng: random.Random, largest: int) -> Problem:
    """TabMWP's shape: prices in a table of three rows, a cost to add up or a dearer thing."""
    things = rng.sample([thing.rstrip("s") for thing in THINGS], 3)
    number = draw_sum(rng, largest)
    prices = [number.start, number.change, rng.randint(2, largest)]
    rows = list(zip(things, prices, strict=True))
    rng.shuffle(rows)
    first, second = things[0], things[1]
    item = {
        "table": "\n".join(f"{thing} | ${price}" for thing, price in rows),
        "table_title": None,
    }
    if rng.random() < 0.5 and prices[0] != prices[1]:
        dearer = first if prices[0] > prices[1] else second
        item |= {
            "question": f"Which costs more, the {first} or the {second}?",
            "choices": [first, second], "answer": dearer, "ans_type": "extractive_text",
            "unit": None,
        }  # fmt: skip
        step = f"{first} ${prices[0]}, {second} ${prices[1]}"
        answer = dearer
    else:
        item |= {
            "question": f"How much do the {first} and the {second} cost?",
            "choices": None, "answer": str(prices[0] + prices[1]), "ans_type": "integer_number",
            "unit": "$",
        }  # fmt: skip
        step = f"${prices[0]} + ${prices[1]} = ${prices[0] + prices[1]}"
        answer = f"${prices[0] + prices[1]}"
    return Problem(item, _closed(step, answer), _key("tabmwp", item["question"][:5], step))


def _options(rng: random.Random, result: int, count: int, largest: int) -> list[int]:
    """``count`` different whole numbers, the right one among them, in random order."""
    others = [value for value in range(largest + 1) if value != result]
    options = [result, *rng.sample(others, count - 1)]
    rng.shuffle(options)
    return options


def five_options(rng: random.Random, largest: int) -> Problem:
    """MathQA's shape: lower case, spaced signs, five lettered options."""
    body, question, number = _story(rng, largest)
    options = _options(rng, number.result, 5, largest)
    index = options.index(number.result)
    item = {
        "problem": f"{body} {question}".lower().replace(".", " .").replace("?", " ?"),
        "options": " , ".join(
            f"{letter} ) {option}" for letter, option in zip("abcde", options, strict=True)
        ),
        "correct": "abcde"[index],
    }
    solution = f"{number.step}\nFinal Answer: The final answer is ({'ABCDE'[index]})."
    return Problem(item, solution, _key("mathqa", number.step))


def four_options(rng: random.Random, largest: int) -> Problem:
    """SAT's shape: an equation in LaTeX, four options."""
    number = draw_sum(rng, largest)
    options = _options(rng, number.result, 4, largest)
    index = options.index(number.result)
    inverse = "-" if number.sign == "+" else "+"
    item = {
        "question": f"If $x {inverse} {number.change} = {number.start}$, what is $x$?",
        "options": " ".join(
            f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=True)
        ),
        "Answer": "ABCD"[index],
    }
    solution = f"{number.step}\nFinal Answer: The final answer is ({'ABCD'[index]})."
    return Problem(item, solution, _key("sat_math", number.step))


def latex(rng: random.Random, largest: int) -> Problem:
    """MATH's shape: fractions in LaTeX, gold in a box, Minerva's closing line."""
    bottom = rng.randint(2, max(3, largest // 2))
    number = draw_sum(rng, largest)
    result = Fraction(number.result, bottom)
    terms = [f"\\frac{{{value}}}{{{bottom}}}" for value in (number.start, number.change)]
    gold = (
        str(result.numerator) if result.denominator == 1
        else f"\\frac{{{result.numerator}}}{{{result.denominator}}}"
    )  # fmt: skip
    total = f"\\frac{{{number.result}}}{{{bottom}}}"
    simpler = "" if total == gold else f" = {gold}"
    step = f"${terms[0]} {number.sign} {terms[1]} = {total}{simpler}$"
    item = {
        "problem": f"{rng.choice(TASKS)} ${terms[0]} {number.sign} {terms[1]}$.",
        "solution": f"{step}, so the answer is $\\boxed{{{gold}}}$.",
    }
    solution = f"{step}\nFinal Answer: The final answer is ${gold}$. I hope it is correct."
    return Problem(item, solution, _key("math", number.step, bottom))


GENERATORS: dict[str, Callable[[random.Random, int], Problem]] = {
    "gsm8k": free_number,
    "math": latex,
    "svamp": body_and_question,
    "asdiv": with_unit,
    "mawps": decimal,
    "tabmwp": table,
    "mathqa": five_options,
    "sat_math": four_options,
}
"""One generator a data set, by name."""


def side(key: str) -> Split:
    """Which split a problem belongs to, by its key alone: the same for every seed and count."""
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "test" if draw < TEST_SHARE else "train"


def problems(
    name: str, split: Split, count: int, *, seed: int = 0, largest: int = 20
) -> Iterator[Problem]:
    """``count`` different problems of a data set and split, the same for the same arguments.

    ``largest`` bounds the numbers. Raises ValueError for an unknown name, a bound below 5, or
    where there are not that many different problems.
    """
    if name not in GENERATORS:
        raise ValueError(f"data set {name!r}: must be one of {', '.join(GENERATORS)}")
    if largest < 5:
        raise ValueError(f"largest={largest}: must be at least 5, for five different options")
    rng = random.Random(f"{name}/{split}/{seed}/{largest}")
    seen: set[str] = set()
    misses = 0
    while len(seen) < count:
        problem = GENERATORS[name](rng, largest)
        text = DATASETS[name].question(problem.item)
        if side(problem.key) != split or text in seen:
            misses += 1
            if misses > 50 * count + 5_000:
                raise ValueError(
                    f"{name}: only {len(seen)} different {split} problems with numbers up to "
                    f"{largest} found, {count} asked for; raise largest"
                )
            continue
        seen.add(text)
        yield problem


def items(name: str, split: Split, count: int, **options: int) -> list[dict[str, Any]]:
    """Items of a data set with its fields and ``idx``; see ``problems``."""
    drawn = problems(name, split, count, **options)
    return [{**problem.item, "idx": index} for index, problem in enumerate(drawn)]


def instructions(count: int, *, seed: int = 0, largest: int = 20) -> list[dict[str, str]]:
    """{question, answer, source, prompt, response} of ``count`` training problems of each set.

    The question is what the prompt asks (``Dataset.ask``), the answer the solution; source is
    "analogue/NAME". Prompt and response are both laid out as they are evaluated.
    """
    rows = []
    for name, dataset in DATASETS.items():
        for problem in problems(name, "train", count, seed=seed, largest=largest):
            row = {
                "question": dataset.ask(problem.item),
                "answer": problem.solution,
                "source": f"analogue/{name}",
            }
            prompt, response = training_pair(row)
            rows.append({**row, "prompt": prompt, "response": response})
    random.Random(seed).shuffle(rows)
    return rows


def write(folder: Path, *, train: int, test: int, seed: int = 0, largest: int = 20) -> None:
    """Write test items, training items and the instruction data; see the module's docstring."""
    from tad.records import write_json, write_json_lines

    options = {"seed": seed, "largest": largest}
    for name in GENERATORS:
        write_json_lines(folder / f"{name}.jsonl", items(name, "test", test, **options))
        write_json_lines(folder / "train" / f"{name}.jsonl", items(name, "train", train, **options))
    write_json_lines(folder / "instruct.jsonl", instructions(train, **options))
    # Another seed: what is pre-trained on is not what the supervised stage repeats.
    rows = instructions(train, seed=seed + 1, largest=largest)
    write_json_lines(
        folder / "text.jsonl", [{"text": row["prompt"] + row["response"]} for row in rows]
    )
    about = {"kind": "analogue", "train": train, "test": test, **options, "stop": list(STOP)}
    write_json(folder / "manifest.json", about)  # last: its presence says that all is there


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tad eval problems", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--train", type=int, default=2000, help="training problems a data set")
    parser.add_argument("--test", type=int, default=100, help="test problems a data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=20, help="largest number in a problem")
    given = parser.parse_args(arguments)
    try:
        write(given.out, train=given.train, test=given.test, seed=given.seed, largest=given.largest)
    except ValueError as error:
        print(f"eval.math.problems: error: {error}", file=sys.stderr)
        return 2
    return 0
