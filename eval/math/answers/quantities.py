"""Exact numbers and when two of them are the same."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

MEASURED_DECIMALS = 10
"""A gold answer with this many decimals is a rounded quotient (TabMWP stores 5/13 as a float)."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written. ``decimals`` counts the digits after the point of a plain decimal,
    ``unit`` is its unit of measure where that is one of ``UNITS``."""

    value: Fraction
    percent: bool = False
    decimals: int = 0
    digits: int = 0
    unit: str = ""

    def __str__(self) -> str:
        value = self.value
        if value.denominator == 1:
            text = str(value.numerator)
        elif self.decimals:
            sign = "-" if value < 0 else ""
            numerals = str(abs(int(value * 10**self.decimals))).rjust(self.decimals + 1, "0")
            text = f"{sign}{numerals[: -self.decimals]}.{numerals[-self.decimals :]}".rstrip("0")
        else:
            text = f"{value.numerator}/{value.denominator}"
        return text + ("%" if self.percent else "")


def same_quantity(answer: Quantity, gold: Quantity, *, significant: int = 4) -> bool:
    """Whether a number answers the gold number: exactly, or as well as the gold itself is known.

    A percent sign on either side may be read as hundredths or be left out (25% for 25 and for
    0.25); without a sign 0.25 is not 25. Where the gold is a fraction with no finite decimal
    form, or a quotient stored with MEASURED_DECIMALS decimals, a decimal of at least
    ``significant`` digits, rounded or cut off, counts too.
    """
    answers, golds = [answer.value], [gold.value]
    if answer.percent:
        answers.append(answer.value / 100)
    if gold.percent:
        golds.append(gold.value / 100)
    if any(mine == theirs for mine in answers for theirs in golds):
        return True
    if gold.decimals >= MEASURED_DECIMALS:
        slack = abs(gold.value) / 10**MEASURED_DECIMALS
        if any(abs(mine - gold.value) <= slack for mine in answers):
            return True
    elif _terminates(gold.value):
        return False
    if answer.decimals < 1 or answer.digits < significant:
        return False
    step = Fraction(1, 10**answer.decimals)  # rounded or cut off
    return any(abs(answer.value - theirs) < step for theirs in golds)


def _terminates(value: Fraction) -> bool:
    bottom = value.denominator
    for factor in (2, 5):
        while bottom % factor == 0:
            bottom //= factor
    return bottom == 1
