"""Exact numbers out of running text: ``$1,250.50``, ``3 1/2``, ``1.2 x 10^5``, ``5 million``.

Everything is a ``Fraction``, so 70007 is never 70000 and 1e999 is never 1e888. Nothing here
evaluates text: powers, sums and other arithmetic are not numbers (``5**2`` is not 5).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from fractions import Fraction

MAX_DIGITS = 2000
"""Longer numerals are not read: converting them costs quadratic time, and no answer has them."""

MAX_EXPONENT = 400
"""Bound of a decimal exponent; beyond it a Fraction would have to hold all those digits."""

MEASURED_DECIMALS = 10
"""A gold answer with this many decimals is a rounded quotient (TabMWP stores 5/13 as a float)."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written. ``decimals`` counts the digits after the point of a plain decimal."""

    value: Fraction
    percent: bool = False
    decimals: int = 0
    digits: int = 0

    def __str__(self) -> str:
        value = self.value
        if value.denominator == 1:
            text = str(value.numerator)
        elif self.decimals:
            scaled = value * 10**self.decimals
            sign = "-" if value < 0 else ""
            numerals = str(abs(int(scaled))).rjust(self.decimals + 1, "0")
            text = f"{sign}{numerals[: -self.decimals]}.{numerals[-self.decimals :]}".rstrip("0")
        else:
            text = f"{value.numerator}/{value.denominator}"
        return text + ("%" if self.percent else "")


_TRANSLATE = str.maketrans({
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "⁄": "/", "∕": "/", "÷": "/",
    "×": "x", "∙": "x", "·": "x", "“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ",
    "\u2009": " ", "\u202f": " ", "\u200b": "",
})  # fmt: skip


def plain_text(text: str) -> str:
    """Fold Unicode forms of digits, signs, quotes and fractions to ASCII (``３½`` -> ``3 1/2``)."""
    if text.isascii():
        return text
    out = []
    for char in text:
        if char.isdecimal() and not char.isascii():
            out.append(str(unicodedata.decimal(char)))
        elif unicodedata.decomposition(char).startswith("<fraction>"):
            out.append(" " + unicodedata.normalize("NFKC", char))  # 3½ is 3 1/2, not 31/2
        elif "\uff00" <= char <= "\uffef":
            out.append(unicodedata.normalize("NFKC", char))
        else:
            out.append(char)
    return "".join(out).translate(_TRANSLATE)


_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12,
}  # fmt: skip
_NUMBER_WORD = "|".join([*_UNITS, *_TENS, *_SCALES])

_NUMERAL = r"(?:\d{1,3}(?:,\d{3})++|\d++)"
NUMBER = re.compile(
    rf"""
    (?<![\w.,:^_/\\])(?<!\d-)                   # not inside 1.234.567, x_2, 2:30, 10-15
    (?:(?P<currency>[$€£¥₹]|\brs\.?\s)\s*)?
    (?P<inner_sign>-)?
    (?:
        (?P<mixed>\d++)\s+(?P<mixed_top>\d++)\s?/\s?(?P<mixed_bottom>\d++)
      | (?P<whole>{_NUMERAL})?(?P<decimal>\.\d++)?
        (?: (?:e|\s?(?:x|\*|\\times|\\cdot)\s?10\s?(?:\^|\*\*))\s?
            \{{?(?P<exponent>[-+]?\d++)\}}? )?
        (?:\s?/\s?(?P<bottom>{_NUMERAL}))?
    )
    (?<=[\d}}])(?![.,:-]?\d)                    # the whole numeral or nothing
    (?P<percent>\s?\\?%|\s+percent\b|\s+per\s?cent\b)?
    (?:\s+(?P<scale>hundred|thousand|million|billion|trillion|dozen)\b)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MINUS = re.compile(r"(?P<before>[\w)\]}%]?)\s*-\s?$")
_ARITHMETIC = re.compile(r"\s*(?:\*\*?|\^|/|\+|\\times|\\cdot|[-x]\s*\$?\d)\s*[\d($\\{-]?")
_WORDS = re.compile(
    rf"\b(?:a\s+)?(?:{_NUMBER_WORD})(?:(?:\s+and)?[\s-]+(?:{_NUMBER_WORD}))*\b", re.IGNORECASE
)


def _read(match: re.Match[str]) -> Quantity | None:
    """The unsigned number a NUMBER match stands for; None beyond the limits or over zero."""
    part = match.groupdict()
    if any(text and len(text) > MAX_DIGITS for text in part.values()):
        return None
    decimals = digits = 0
    if part["mixed"]:
        bottom, numeral = part["mixed_bottom"], None
        value = Fraction(int(part["mixed"]) * int(bottom) + int(part["mixed_top"]))
    else:
        bottom, numeral = part["bottom"], (part["whole"] or "0").replace(",", "")
        decimal = (part["decimal"] or ".")[1:]
        decimals, digits = len(decimal), len((numeral + decimal).lstrip("0"))
        value = Fraction(int(numeral + decimal), 10**decimals)
    if part["exponent"]:
        exponent = int(part["exponent"])
        if abs(exponent) > MAX_EXPONENT:
            return None
        value, decimals = value * Fraction(10) ** exponent, 0
    if bottom:
        divisor = int(bottom.replace(",", ""))
        if not divisor:
            return None
        value, decimals, digits = value / divisor, 0, 0
    if part["scale"]:
        value, decimals = value * _SCALES[part["scale"].lower()], 0
    if part["inner_sign"]:
        value = -value
    return Quantity(value, bool(part["percent"]), decimals, digits)


def numbers_in(text: str) -> list[tuple[int, int, Quantity]]:
    """(start, end, number) of every numeral in a text, left to right.

    A minus behind a number (``9 - 4``) is an operation, not a sign; the ends of a range (10-15),
    clock times and malformed numerals (12,34) are left out.
    """
    found = []
    for match in NUMBER.finditer(text):
        number, start = _read(match), match.start()
        minus = _MINUS.search(text[max(0, start - 8) : start])
        if number is None:
            continue
        if minus and not minus["before"]:
            start -= len(minus[0])
            number = replace(number, value=-number.value)
        found.append((start, match.end(), number))
    return found


def words_to_number(words: str) -> int | None:
    """The integer that English number words spell; None if they spell none (``"and"``)."""
    total = group = 0
    seen = False
    for word in re.split(r"[\s-]+", words.lower()):
        if word in _UNITS or word in _TENS:
            group += _UNITS.get(word, _TENS.get(word, 0))
        elif word in ("hundred", "dozen"):
            group = (group or 1) * _SCALES[word]
        elif word in _SCALES:
            total, group = total + (group or 1) * _SCALES[word], 0
        elif word not in ("and", "a"):
            return None
        seen = seen or word not in ("and", "a")
    return total + group if seen else None


def spelled_in(text: str) -> list[tuple[int, int, Quantity]]:
    """(start, end, number) of every number written in words, left to right."""
    found = []
    for match in _WORDS.finditer(text):
        number = words_to_number(match[0])
        if number is not None:
            found.append((match.start(), match.end(), Quantity(Fraction(number))))
    return found


def parse_quantity(text: str) -> Quantity | None:
    """The number that the whole text is, or None. Currency signs and a final full stop may stay."""
    text = plain_text(text).strip().removeprefix("+").rstrip(".").strip()
    numbers = numbers_in(text) if len(text) <= 2 * MAX_DIGITS else []
    whole = len(numbers) == 1 and numbers[0][:2] == (0, len(text))
    number = numbers[0][2] if whole else None
    if number is None and _WORDS.fullmatch(text):
        spelled = words_to_number(text)
        number = None if spelled is None else Quantity(Fraction(spelled))
    return number


def followed_by_arithmetic(text: str) -> bool:
    """Whether what stands behind a number makes it part of a sum, product or power."""
    return _ARITHMETIC.match(text) is not None


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
    measured = gold.decimals >= MEASURED_DECIMALS or not _terminates(gold.value)
    if not measured:
        return False
    if gold.decimals >= MEASURED_DECIMALS:
        slack = abs(gold.value) / 10**MEASURED_DECIMALS
        if any(abs(mine - gold.value) <= slack for mine in answers):
            return True
    if answer.decimals < 1 or answer.digits < significant:
        return False
    return any(
        abs(mine - theirs) < Fraction(1, 10**answer.decimals)  # rounded or cut off
        for mine in answers[:1]
        for theirs in golds
    )


def _terminates(value: Fraction) -> bool:
    bottom = value.denominator
    for factor in (2, 5):
        while bottom % factor == 0:
            bottom //= factor
    return bottom == 1
