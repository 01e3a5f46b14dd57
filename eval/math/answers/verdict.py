"""The verdict on one generation: ``grade(dataset, generation, gold)``.

Two modes. ``strict`` is meant to be right: it reads what the text commits to and compares exactly
(``reading``, ``quantities``, ``formulas``; the rules are in ``grammar.md``). ``compat`` grades as
the reference protocol does (``compat``), for the paper's tables. Neither evaluates what a model
wrote; symbolic questions go to a worker process with limits of time and memory (``equivalence``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from eval.math.answers import compat, equivalence
from eval.math.answers import formulas as answers
from eval.math.answers.quantities import Quantity, same_quantity
from eval.math.answers.reading import extraction
from eval.math.answers.reading.choices import choice
from eval.math.answers.reading.clauses import statement
from eval.math.answers.reading.text import own_part, plain_text
from eval.math.answers.reading.values import parse_quantity
from eval.math.answers.reading.vocabulary import UNITS
from eval.math.datasets import DATASETS, AnswerType

Mode = Literal["strict", "compat"]
MODES: tuple[Mode, ...] = ("strict", "compat")


ANSWER_TYPES: dict[str, AnswerType] = {name: entry.answer for name, entry in DATASETS.items()}
"""What each data set's answers are; its keys are the data sets that can be graded."""


ASKING_SECONDS = 1.5
"""A list may ask about many pairs; none is begun after this much CPU time. With the worker's own
limit (2.5) one generation costs less than 5 seconds."""


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict. ``prediction`` is the answer as read (None: no answer). ``event`` is None, or
    "timeout", "memory" or "crash" where a bounded comparison ended so and counts as wrong.
    ``refused`` tells that an answer was stated which is no single value or letter (strict only).
    """

    prediction: str | None
    correct: bool
    event: str | None = None
    refused: bool = False


def grade(dataset: str, generation: str, gold: str, mode: Mode = "strict") -> Grade:
    """Grade what a model wrote after the prompt against the gold answer as the data set has it.

    ``gold`` is the answer before any normalisation: the number, the option letter, or for MATH
    the content of the solution's last box. Safe on any text and from any thread. Raises
    ValueError for an unknown data set or mode, GradingError if a parser's version is wrong.
    """
    if dataset not in ANSWER_TYPES:
        raise ValueError(f"dataset {dataset!r}: must be one of {', '.join(ANSWER_TYPES)}")
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: must be strict or compat")
    kind = ANSWER_TYPES[dataset]
    symbolic = _Symbolic(mode)
    if mode == "compat":
        answer = compat.prediction(dataset, kind == "choice", generation)
        reference = compat.gold_answer(dataset, kind == "choice", gold)
        if kind == "choice":
            return Grade(answer, answer == reference)
        return Grade(answer, compat.equal(reference, answer, symbolic), symbolic.event)
    text = own_part(generation)
    if kind == "choice":
        letter, refused = choice(text)
        return Grade(letter, letter is not None and letter == gold.strip().upper(), None, refused)
    if kind == "latex":
        answer, refused = extraction.formula(text)
        correct = answer is not None and answers.same(gold, answer, symbolic)
        return Grade(answer, correct, symbolic.event, refused)
    if kind == "number" or parse_quantity(gold) is not None:
        return _grade_number(text, gold)
    return _grade_words(text, gold)


class _Symbolic:
    """Asks the worker, within one generation's share of time, and remembers what went wrong."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.event: str | None = None
        self.seconds = 0.0

    def __call__(self, gold: str, answer: str) -> bool:
        if self.event is None and self.seconds > ASKING_SECONDS:
            self.event = "timeout"
        if self.event:  # one overrun uses up the whole share
            return False
        outcome = equivalence.compare(self.mode, gold, answer)
        self.event = outcome.event
        self.seconds += outcome.seconds
        return outcome.equal


def _grade_number(text: str, gold: str) -> Grade:
    """A gold that is no number ("nan") is a fault of the data, and equals nothing."""
    wanted = parse_quantity(gold)
    found, words, refused = extraction.number(text)
    if found is None:
        return Grade(words, False, None, refused)
    return Grade(str(found), wanted is not None and same_quantity(found, wanted))


def _grade_words(text: str, gold: str) -> Grade:
    answer = extraction.words(text)
    if answer is None:
        return Grade(None, False)
    head = _EXPLAINED.split(answer)[0]
    return Grade(answer, any(_same_words(gold, words) for words in {answer, head}))


MAX_WORDS = 200
"""Characters of a text answer beyond which it is neither a ratio nor a length of time."""

_EXPLAINED = re.compile(
    r",? (?:because|since|as|so|which|rather|instead|if|but|not)\b|, (?!or\b|and\b)|[;:] | \("
)
_OPTION = re.compile(r"^\(?[A-Ea-e]\)\s+")
_RATIO = re.compile(r"(\d{1,9})\s*(?::|/|\bto\b)\s*(\d{1,9})")
_CLOCK = re.compile(r"\d{1,2}:\d{2}")


def _same_words(gold: str, answer: str) -> bool:
    """Text answers: same words, or the same ratio (4:6 is 2:3), the same length (of time)."""
    mine, theirs = _bare_words(gold), _bare_words(answer)
    if mine == theirs:
        return bool(mine) or gold.strip() == answer.strip() != ""
    if len(answer) > MAX_WORDS:
        return False
    lengths = _length(gold), _length(answer)
    if None not in lengths:
        return lengths[0] == lengths[1]
    ratios = _ratio(gold), _ratio(answer)
    return None not in ratios and ratios[0] == ratios[1]


def _bare_words(text: str) -> str:
    text = _OPTION.sub("", plain_text(text).strip().strip("\"'`$*() "))
    text = re.sub(r"[.,;!\"'`]", "", text.casefold())
    return re.sub(r"^(?:(?:on|in|at|by|the|a|an) )+", "", re.sub(r"[\s-]+", " ", text).strip(" ()"))


def _length(text: str) -> tuple[str, Fraction] | None:
    """A length of time or the like: its dimension and size ("1 hour and 15 minutes")."""
    found = statement(text)
    if not isinstance(found, Quantity) or not found.unit:
        return None
    dimension, size = UNITS[found.unit]
    return dimension, found.value * size


def _ratio(text: str) -> Fraction | None:
    """A ratio of whole numbers; "10:30" with two digits behind the colon is a time, not a ratio."""
    match = _RATIO.fullmatch(text.strip(" ."))
    if not match or _CLOCK.fullmatch(text.strip(" .")) or not int(match[2]):
        return None
    return Fraction(int(match[1]), int(match[2]))


_KNOWN_PAIRS: list[tuple[Mode, str, str, str, bool]] = [
    ("strict", "gsm8k", "The answer is $1,234.50.", "1234.5", True),
    ("strict", "mathqa", "The answer is closest to 26, so (B) is correct.", "B", True),
    ("strict", "math", r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{1}{\sqrt{2}}", True),
    ("strict", "math", r"\boxed{(x+1)^2}", "x^2+2x+1", True),
    ("strict", "math", r"\boxed{(x+1)^2}", "x^2+2x+2", False),
    ("strict", "math", r"\boxed{2y=4x+6}", "y=2x+3", True),
    ("strict", "math", r"\boxed{\frac{1}{2^{98}}}", r"\frac{1}{2^{99}}", False),
    ("compat", "math", r"\boxed{2\sqrt{3}}", r"\sqrt{12}", True),
    ("compat", "math", r"\boxed{5**2}", "5", True),
    ("compat", "math", r"\boxed{x^2}", "x^3", False),
]


def self_test() -> None:
    """Grade ten known pairs through every part of the grader.

    Raises GradingError that names the pair and the likely cause, a parser runtime of the wrong
    version: some of them fail on every formula without saying so.
    """
    for mode, dataset, generation, gold, expected in _KNOWN_PAIRS:
        found = grade(dataset, generation, gold, mode)
        if found.correct != expected:
            raise equivalence.GradingError(
                f"self-test of the math grader: {mode} {dataset} {generation!r} against {gold!r} "
                f"gave {found}, expected {expected}. Check the versions of sympy, math-verify, "
                "latex2sympy2_extended and antlr4-python3-runtime (must be 4.11)."
            )


__all__ = ["ANSWER_TYPES", "MODES", "Grade", "Mode", "grade", "self_test"]
