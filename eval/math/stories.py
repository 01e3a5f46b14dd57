"""What generated problems are made of: names, things, sums, options, closing lines."""

from __future__ import annotations

import random
from dataclasses import dataclass

NAMES = (
    "Ann", "Ben", "Dan", "Eva", "Ida", "Joe", "Kim", "Lea", "Leo", "Max",
    "Mia", "Ned", "Pam", "Ray", "Sam", "Sue", "Ted", "Tim", "Tom", "Zoe",
)  # fmt: skip
THINGS = (
    "apples", "balls", "bells", "books", "cards", "coins", "cups", "dolls", "eggs", "figs",
    "flags", "hats", "keys", "lamps", "maps", "nuts", "pens", "rings", "stamps", "toys",
)  # fmt: skip
VERBS = {"+": "gets", "-": "loses"}


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


def small(largest: int) -> int:
    """The bound of the easier sets: few enough sums to know them by heart."""
    return max(5, 3 * largest // 5)


def story(rng: random.Random, largest: int) -> tuple[str, str, Sum]:
    """A body and a question around one sum."""
    who, what, number = rng.choice(NAMES), rng.choice(THINGS), draw_sum(rng, largest)
    body = f"{who} has {number.start} {what}. {who} {VERBS[number.sign]} {number.change}."
    return body, f"How many {what} does {who} have now?", number


def options(rng: random.Random, result: int, count: int, largest: int) -> tuple[list[int], int]:
    """``count`` different whole numbers in random order, and where the right one stands."""
    others = [value for value in range(largest + 1) if value != result]
    values = [result, *rng.sample(others, count - 1)]
    rng.shuffle(values)
    return values, values.index(result)


def closed(steps: str, answer: object) -> str:
    """A solution that ends as GSM8K's exemplars do."""
    return f"{steps}. The answer is {answer}."


def final_letter(steps: str, values: list[int], index: int) -> str:
    """A solution that goes through the options to the right one, and ends in its letter."""
    looked = [f"({letter}) {value} no" for letter, value in zip("ABCDE", values, strict=False)]
    looked[index] = looked[index].removesuffix("no") + "yes"
    seen = " ".join(looked[: index + 1])
    return f"{steps}. {seen}\nFinal Answer: The final answer is ({'ABCDE'[index]})."


def key(*parts: object) -> str:
    """The identity of a problem (``Problem.key``)."""
    return "|".join(str(part) for part in parts)
