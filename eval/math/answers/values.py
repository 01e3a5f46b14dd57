"""One number out of a statement, exactly: see ``grammar.md``, Statement and Value.

Everything is a ``Fraction``, so 70007 is never 70000 and 1e999 is never 1e888. ``parse_quantity``
reads a whole text as one number, ``statement`` what a stated answer commits to, ``prose`` the
last value of a sentence. None of them evaluates text or raises on any.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from eval.math.answers.text import MAX_DIGITS, Token, plain_text, tokens, unmarked

MEASURED_DECIMALS = 10
"""A gold answer with this many decimals is a rounded quotient (TabMWP stores 5/13 as a float)."""

MAX_DEPTH = 130
"""Brackets within brackets; an answer has three."""

MAX_TOKENS = 700
"""Of a sentence; no statement of an answer is longer."""


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


# --- the words of the grammar ---------------------------------------------------------------

_SMALL = {word: number for number, word in enumerate(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"])}  # fmt: skip
_SMALL |= {word: 10 * number for number, word in enumerate(
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)}  # fmt: skip
_SMALL["fourty"] = 40
_SCALES = {
    "hundred": 100, "dozen": 12, "thousand": 10**3, "lakh": 10**5, "lakhs": 10**5, "million": 10**6,
    "millions": 10**6, "crore": 10**7, "crores": 10**7, "billion": 10**9, "trillion": 10**12,
    "dozens": 12, "k": 10**3, "bn": 10**9, "mn": 10**6,
}  # fmt: skip
_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9}
_PARTS = {"half": 2, "quarter": 4}
_PARTS |= {
    word: number
    for number, word in enumerate(
        [
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
            "eleventh",
            "twelfth",
        ],
        start=3,
    )
}
_PARTS |= {"fifteenth": 15, "sixteenth": 16, "twentieth": 20, "thirtieth": 30, "fiftieth": 50,
           "hundredth": 100, "thousandth": 1000, "ten-thousandth": 10**4, "millionth": 10**6}  # fmt: skip
_PLURAL_PARTS = {word + "s": number for word, number in _PARTS.items() if word != "half"}
_PLURAL_PARTS["halves"] = 2

UNITS: dict[str, tuple[str, Fraction]] = {}
"""Unit of measure -> its dimension and size in the smallest one."""
for _line in (
    "time: second sec s 1; minute min 60; hour hr h 3600; day 86400; week 604800",
    "years: month 1; year yr 12",
    "length: inch in inche 1; foot feet ft 12; yard yd 36; mile 63360",
    "metric: millimeter mm 1; centimeter cm 10; meter metre m 1000; kilometer kilometre km 1000000",
    "weight: ounce oz 1; pound lb 16; ton 32000",
    "mass: milligram mg 1; gram g 1000; kilogram kg kilo 1000000",
    "volume: milliliter ml 1; liter litre l 1000",
    "money: cent ¢ c penny pennie pence p 1; dollar $ buck usd euro € eur £ 100",
):
    _name, _entries = _line.split(": ")
    for _entry in _entries.split("; "):
        *_words, _size = _entry.split()
        UNITS |= {word: (_name, Fraction(_size)) for word in _words}

_FILLERS = set(
    [
        "about",
        "approximately",
        "approx",
        "around",
        "roughly",
        "exactly",
        "only",
        "just",
        "equal",
        "to",
        "equals",
        "is",
        "are",
        "be",
        "was",
        "that",
        "a",
        "an",
        "the",
        "of",
        "total",
        "number",
        "sum",
        "amount",
        "value",
        "simply",
        "therefore",
        "thus",
        "clearly",
        "hence",
        "then",
        "so",
        "indeed",
        "also",
        "now",
        "obviously",
        "equivalent",
        "precisely",
        "actually",
        "probably",
        "likely",
        "currently",
        "found",
        "rs",
        "usd",
        "eur",
        "gbp",
        "us",
        "inr",
        "cad",
        "i",
        "think",
        "believe",
        "it",
        "its",
        "it's",
        "he",
        "she",
        "they",
        "we",
        "there",
        "will",
        "would",
        "should",
        "must",
    ]
)
_NEGATORS = {"negative", "minus"}
_BOUNDS = set(
    [
        "than",
        "between",
        "least",
        "most",
        "over",
        "under",
        "above",
        "below",
        "beyond",
        "either",
        "neither",
        "nor",
        "not",
        "never",
        "almost",
        "nearly",
        "upto",
        "isn't",
        "wasn't",
        "without",
        "except",
        "besides",
        "instead",
        "root",
        "log",
        "square",
        "cube",
    ]
)
_MULTIPLES = {"twice": 2, "double": 2, "thrice": 3, "triple": 3, "quadruple": 4}
_PARTITIVE = {"percent", "percentage", "pct"}
_OPERATORS: dict[tuple[str, ...], Callable[[Fraction, Fraction], Fraction] | None] = {
    ("times",): operator.mul, ("multiplied", "by"): operator.mul, ("plus",): operator.add,
    ("minus",): operator.sub, ("divided", "by"): operator.truediv, ("over",): operator.truediv,
    ("more", "than"): None, ("greater", "than"): None, ("above",): None,
    ("less", "than"): None, ("fewer", "than"): None,
    ("out", "of"): operator.truediv, ("of",): None, ("to",): None, ("through",): None,
    ("by",): None, ("and",): None, ("or",): None, ("versus",): None, ("vs",): None, ("nor",): None,
    ("till",): None, ("until",): None, ("modulo",): None, ("mod",): None, ("below",): None,
}  # fmt: skip
_OPERATOR_STARTS = {words[0] for words in _OPERATORS}
_POWERS = {"squared": 2, "cubed": 3}
_BOUNDARY = set(
    [
        "because",
        "since",
        "as",
        "so",
        "which",
        "when",
        "if",
        "but",
        "although",
        "though",
        "while",
        "whereas",
        "unless",
        "given",
        "considering",
        "not",
        "rather",
        "instead",
        "hence",
        "thus",
        "therefore",
        "where",
        "who",
        "after",
        "before",
        "due",
        "meaning",
        "i.e",
        "namely",
        "for",
        "per",
        "each",
        "every",
        "with",
        "in",
        "from",
        "on",
        "at",
        "without",
        "leaving",
        "assuming",
        "after",
        "including",
    ]
)
_CONCLUDING = {"so", "thus", "therefore", "hence", "leaving", "giving", "making", "="}
_EXPLAINING = {"because", "since", "if", "when", "although", "though", "while", "whereas", "given"}
_VERBS = set(
    [
        "is",
        "are",
        "was",
        "were",
        "remain",
        "remains",
        "left",
        "will",
        "would",
        "has",
        "have",
        "had",
        "can",
        "could",
        "does",
        "do",
        "did",
        "isn't",
        "aren't",
        "cannot",
        "can't",
        "doesn't",
        "don't",
        "didn't",
        "seems",
        "makes",
        "make",
        "exceeds",
        "gives",
        "leaves",
        "ignores",
    ]
)
_REFUTING = set(
    [
        "too",
        "wrong",
        "incorrect",
        "impossible",
        "not",
        "isn't",
        "wasn't",
        "doesn't",
        "cannot",
        "can't",
        "don't",
        "never",
        "unlikely",
        "invalid",
        "insufficient",
    ]
)
_QUOTES = set("\"'`()[]{}<>~≈=:,*_|$€£¥₹#…") | {"\\(", "\\)", "\\[", "\\]", "\\{", "\\}", "\\$",
    "\\approx", "\\,", "\\ ", "\\;", "\\!", "\\sim", "\\text", "\\mathrm", "\\textbf", "\\mathbf",
    "\\boxed", "\\left", "\\right", "\\quad", "\\mbox", "\\displaystyle", "\\colon",
    "\\hspace", "\\qquad", "\\implies", "\\therefore", "\\bf", "\\rm", "\\:", "\\textit"}  # fmt: skip
_CURRENCY = {"$", "€", "£", "¥", "₹", "\\$"}
_ADVERBS = {"far", "way", "also", "still", "just", "simply", "clearly", "much", "obviously"}


class _Reader:
    """A recursive descent over the tokens of one sentence.

    Each ``_rule(i)`` returns what it read from token ``i`` and the index behind it, or None. In
    ``formula`` mode a minus between numbers subtracts; in prose it is a range and is refused.
    """

    def __init__(self, text: str, *, formula: bool = False) -> None:
        self.tokens = tokens(text)[:MAX_TOKENS]
        self.formula = formula

    def _word(self, i: int) -> str:
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def _token(self, i: int, *kinds: str) -> Token | None:
        return self.tokens[i] if i < len(self.tokens) and self.tokens[i].kind in kinds else None

    # Expressions of numerals

    def expression(self, i: int, depth: int = 0) -> tuple[Quantity, int] | None:
        """Sums and products; a lone numeral keeps its decimals."""
        read = self._product(i, depth)
        while read and self._word(read[1]) in ("+", "-"):
            left, j = read
            sign = self._word(j)
            if sign == "-" and not (self.formula or depth or self._equals_later(j)):
                return read
            right = self._product(j + 1, depth)
            if not right:
                return None if self.formula else read
            change = right[0].value if sign == "+" else -right[0].value
            read = Quantity(left.value + change), right[1]
        return read

    def _equals_later(self, i: int) -> bool:
        return any(token.text == "=" for token in self.tokens[i:])

    def _product(self, i: int, depth: int) -> tuple[Quantity, int] | None:
        read = self._power(i, depth)
        while read:
            left, j = read
            sign = self._word(j)
            if sign in ("*", "×", "x", "\\times", "\\cdot", "/", "\\div", "\\ast"):
                k = j + 1
                while self._word(k) in _CURRENCY:
                    k += 1
                right = self._power(k, depth)
            elif sign == "(" and not self.tokens[j].spaced:
                right = self._power(j, depth)
            else:
                break
            if not right and (self._token(j + 1, "word") or not self.formula):
                return read
            if not right or (sign in ("/", "\\div") and not right[0].value):
                return None
            divides = sign in ("/", "\\div")
            value = left.value / right[0].value if divides else left.value * right[0].value
            if _size(value) > MAX_DIGITS:
                return None
            read = Quantity(value), right[1]
        return read

    def _power(self, i: int, depth: int) -> tuple[Quantity, int] | None:
        read = self._atom(i, depth)
        if not read or self._word(read[1]) not in ("^", "**"):
            return read
        exponent = self._power(read[1] + 1, depth + 1) if depth < MAX_DEPTH else None
        if not exponent or exponent[0].value.denominator != 1:
            return None
        base, power = read[0].value, int(exponent[0].value)
        if abs(power) * _size(base) > MAX_DIGITS or (power < 0 and not base):
            return None
        return Quantity(base**power), exponent[1]

    def _atom(self, i: int, depth: int) -> tuple[Quantity, int] | None:
        token = self._token(i, "number", "command", "sign")
        if token is None or depth > MAX_DEPTH:
            return None
        if token.kind == "number":
            return self._numeral(i)
        if token.text in ("-", "+"):
            read = self._power(i + 1, depth + 1)
            if read and token.text == "-":
                return replace(read[0], value=-read[0].value), read[1]
            return read
        if token.text in ("(", "{"):
            read = self.expression(i + 1, depth + 1)
            closed = read and self._word(read[1]) == {"(": ")", "{": "}"}[token.text]
            return (read[0], read[1] + 1) if closed else None
        if token.text.endswith("frac"):
            return self._fraction(i + 1, depth)
        return None

    def _fraction(self, i: int, depth: int) -> tuple[Quantity, int] | None:
        """The two arguments of \\frac: groups, or digits (``\\frac12``)."""
        token = self._token(i, "number")
        if token and len(token.text) == 2 and token.text.isdigit():
            top, bottom = Fraction(int(token.text[0])), Fraction(int(token.text[1]))
            return (Quantity(top / bottom), i + 1) if bottom else None
        over = self._atom(i, depth + 1)
        under = self._atom(over[1], depth + 1) if over else None
        if not under or not under[0].value:
            return None
        return Quantity(over[0].value / under[0].value), under[1]

    def _numeral(self, i: int) -> tuple[Quantity, int] | None:
        token = self.tokens[i]
        if token.value is None:
            return None
        found = Quantity(token.value, False, token.decimals, token.digits)
        if token.suffix in _SUFFIXES:
            return Quantity(token.value * _SUFFIXES[token.suffix]), i + 1
        if token.decimals or token.suffix:
            return found, i + 1
        part = self._mixed_part(i + 1)
        if part:
            return Quantity(token.value + part[0]), part[1]
        return found, i + 1

    def _mixed_part(self, i: int) -> tuple[Fraction, int] | None:
        """The fraction of a mixed number: ``3 1/2``, ``3\\frac12``, in prose ``3-1/2``."""
        if self._word(i).endswith("frac") and self._token(i, "command"):
            read = self._fraction(i + 1, 1)
            return (read[0].value, read[1]) if read and 0 < read[0].value < 1 else None
        if self._word(i) == "-" and not self.formula and not self.tokens[i].spaced:
            i += 1
            if not self._token(i, "number") or self.tokens[i].spaced:
                return None
        elif not self._token(i, "number") or not self.tokens[i].spaced:
            return None
        top, bottom = self._token(i, "number"), self._token(i + 2, "number")
        if self._word(i + 1) != "/" or not bottom or not bottom.value or not top.value:
            return None
        part = top.value / bottom.value
        return (part, i + 3) if part < 1 and not top.decimals + bottom.decimals else None

    # Numbers in words

    def _spelled(self, i: int) -> tuple[Fraction, int] | None:
        """A cardinal in words: ``two hundred and five``, ``a dozen``, ``two point five``."""
        start = i
        if self._word(i) in ("a", "an") and self._word(i + 1) in _SCALES:
            i += 1
        elif self._word(i) not in _SMALL:
            return None
        total = group = 0
        while True:
            word = self._word(i)
            if word in _SMALL and (not group % 100 or (not group % 10 and _SMALL[word] < 10)):
                if group % 100 == 10 or (group and not group % 100 and self._word(i - 1) in _SMALL):
                    break
                group += _SMALL[word]
            elif word in ("hundred", "dozen", "dozens"):
                group = (group or 1) * _SCALES[word]
            elif word in _SCALES and len(word) > 2:
                total, group = total + (group or 1) * _SCALES[word], 0
            else:
                break
            i += 1
            hyphen = self._word(i) == "-" and self._word(i + 1) in _SMALL
            joined = self._word(i) == "and" and self._word(i + 1) in _SMALL
            fraction = self._word(i + 2).strip("-") in _PARTS | _PLURAL_PARTS
            if hyphen or (joined and self._word(i - 1) in _SCALES and not fraction):
                i += 1
        if i == start:
            return None
        value = Fraction(total + group)
        if self._word(i) == "point":
            j, decimals = i + 1, ""
            while _SMALL.get(self._word(j), 10) < 10:
                decimals, j = decimals + str(_SMALL[self._word(j)]), j + 1
            if decimals:
                return value + Fraction(int(decimals), 10 ** len(decimals)), j
        return value, i

    def _part(self, i: int, count: Fraction | None) -> tuple[Fraction, int] | None:
        """The denominator word behind a count (None: an article or nothing): ``half``, ``thirds``."""
        if self._word(i) == "-":
            i += 1
        word = self._word(i)
        plural = _PLURAL_PARTS.get(word)
        if plural and count is not None and count != 1:
            return count / plural, i + 1
        single = _PARTS.get(word)
        if single and count == 1:
            return Fraction(1, single), i + 1
        return None

    def _in_words(self, i: int) -> tuple[Fraction, int] | None:
        """Words: a cardinal, a fraction, or both (``two and a half``)."""
        word = self._word(i)
        article = i + 1 if word in ("a", "an", "one") else i
        if self._word(article) == "half" or (article > i and self._word(article) in _PARTS):
            bottom, j = _PARTS[self._word(article)], article + 1
            if self._word(j) in ("a", "an") and self._word(j + 1) in _SCALES:
                return Fraction(_SCALES[self._word(j + 1)], bottom), j + 2
            return Fraction(1, bottom), j
        read = self._spelled(i)
        if read is None:
            return None
        return self._part(read[1], read[0]) or read

    # Values

    def value(self, i: int) -> tuple[Quantity, int] | None:
        """One value with its sign, magnitude, percent sign and unit of measure."""
        sign, unit = 1, ""
        multiple = _MULTIPLES.get(self._word(i))
        if multiple:
            read = self.value(i + 1)
            return (replace(read[0], value=multiple * read[0].value), read[1]) if read else None
        while self._word(i) in _NEGATORS | {"-", "+"} | _CURRENCY | {"\\", "\\,"}:
            if self._word(i) in _NEGATORS | {"-"}:
                sign = -sign
            elif self._word(i) in _CURRENCY - {"¥", "₹"}:
                unit = self._word(i).strip("\\")
            i += 1
        read = self.expression(i)
        if read is None:
            words = self._in_words(i)
            if words is None:
                return None
            found, i = Quantity(words[0]), words[1]
        else:
            found, i = read
            part = self._part(i, found.value if found.value.denominator == 1 else None)
            if part:
                found, i = Quantity(part[0]), part[1]
        found, i = self._scaled(found, i)
        if self._word(i) == "and":
            part = self._in_words(i + 1)
            if part and 0 < part[0] < 1:
                found, i = Quantity(found.value + part[0]), part[1]
        found = replace(found, value=sign * found.value)
        return self._measured(found, i, unit)

    def _scaled(self, found: Quantity, i: int) -> tuple[Quantity, int]:
        """Times its magnitude words: ``12.5 thousand``, ``12 thousand 500``, ``2 dozen``."""
        while self._word(i) in _SCALES and self._token(i, "word"):
            scale = _SCALES[self._word(i)]
            found, i = Quantity(found.value * scale), i + 1
            rest = self._token(i, "number")
            if rest and rest.value is not None and rest.value < scale and scale >= 1000:
                found, i = Quantity(found.value + rest.value), i + 1
        return found, i

    def _measured(self, found: Quantity, i: int, unit: str) -> tuple[Quantity, int]:
        """With its percent sign and unit; a smaller unit of the same dimension is added to it."""
        word = self._word(i)
        if word in ("%", "\\%") or word in _PARTITIVE:
            return replace(found, percent=True), i + 1
        if word == "per" and self._word(i + 1) == "cent":
            return replace(found, percent=True), i + 2
        if word in _CURRENCY | {"°"} and not unit:
            i += 1
        named = _unit(self._word(i)) if self._token(i, "word", "sign") else ""
        unit = named or unit or _unit(word)
        i += bool(named)
        found = replace(found, unit=unit)
        joined = i + (self._word(i) in ("and", ","))
        if unit and self._token(joined, "number", "word"):
            more = self.value(joined)
            if more and more[0].unit and UNITS[unit][0] == UNITS[more[0].unit][0]:
                ratio = UNITS[more[0].unit][1] / UNITS[unit][1]
                if ratio < 1:
                    total = found.value + more[0].value * ratio
                    return Quantity(total, unit=unit), more[1]
        return found, i

    # Statements

    def statement(self) -> Quantity | str:
        """The value a statement commits to; "refused" for several or a modified one, "none"."""
        i = 0
        while i < len(self.tokens):
            word = self._word(i)
            last_equals = self._chain(i)
            if last_equals:
                i = last_equals
                continue
            read = (
                None
                if word in ("a", "an") and self._word(i + 1) not in _SCALES | _PARTS
                else (self.value(i))
            )
            if read:
                return self._tail(*read)
            token = self.tokens[i]
            if token.kind == "number" or word in _BOUNDS or token.text in ("√", "\\sqrt"):
                return "refused"
            if not (word in _QUOTES or word in _FILLERS or self._word(i + 1) == "="):
                return self._prose(i)
            i += 1
        return "none"

    def _chain(self, i: int) -> int | None:
        """The index behind the last "=" of an equation chain that begins here, if it is one."""
        found = None
        for j in range(i, len(self.tokens)):
            word = self._word(j)
            if word == "=" and self.value(self._skip(j + 1)):
                found = self._skip(j + 1)
            elif found is None and word in (",", ";", ".", "and", "or"):
                return None
            elif word in (",", ";", "and", "or") or word in _BOUNDARY:
                break
        return found

    def _skip(self, i: int) -> int:
        skipped = (_QUOTES - _CURRENCY) | {"about", "approximately"}
        while self._word(i) in skipped and i < len(self.tokens):
            i += 1
        return i

    def _tail(self, found: Quantity, i: int) -> Quantity | str:
        """What follows a value: it stands, is modified, is one of several, or is refuted."""
        glued = self._token(i, "word")
        if glued and not glued.spaced and glued.text in ("x", "y", "n", "z", "a", "b", "i"):
            return "refused"
        first = i
        while i < len(self.tokens):
            word = self._word(i)
            if word == "=":
                after = self.value(self._skip(i + 1))
                return self._tail(*after) if after else found
            if word in (".", ";", "!", "?"):
                break
            if word in _POWERS and i == first:
                return Quantity(found.value ** _POWERS[word])
            if word == "factorial" and i == first:
                return "refused"
            if word in ("+", "*", "/", "^", "**", "×", "x", "±", "\\pm", "\\times", "\\cdot"):
                follows = self._token(self._skip(i + 1), "number", "command")
                if follows or (i == first and word != "/"):
                    return "refused"
            if (
                word in ("-", ":")
                and self._token(i + 1, "number")
                and not self.tokens[i + 1].spaced
            ):
                return "refused"
            if word == "-" and self._token(i + 1, "number") and i == first:
                return "refused"
            if word in (",", "("):
                return self._after_comma(found, i)
            if word in _VERBS or word == "n't":
                return "refused" if self._refuted(i) else found
            if word in _REFUTING and i == first and word not in ("not", "don't"):
                return "refused"
            changed = self._operated(found, i)
            if changed is not None:
                return changed
            if word in _BOUNDARY:
                return self._contradicted(found, i)
            i += 1
        return found

    def _operated(self, found: Quantity, i: int) -> Quantity | str | None:
        """The outcome of an operator in words with a second value; None if there is none here."""
        if self._word(i) not in _OPERATOR_STARTS:
            return None
        for words, operate in _OPERATORS.items():
            if tuple(self._word(i + step) for step in range(len(words))) != words:
                continue
            j = self._skip(i + len(words))
            while self._word(j) in ("a", "an", "the", "another", "about") and not self.value(j):
                j += 1
            other = self.value(j)
            if not other:
                return None
            if words[0] in ("and", "or"):
                return self._joined(found, words[0], *other)
            if words == ("of",) and (found.percent or abs(found.value) < 1):
                share = found.value / 100 if found.percent else found.value
                return Quantity(share * other[0].value)
            if operate is None or (operate is operator.truediv and not other[0].value):
                return "refused"
            return Quantity(operate(found.value, other[0].value))
        return None

    def _joined(self, found: Quantity, word: str, other: Quantity, i: int) -> Quantity | str:
        """ "5 or 6" and "5 and 6" are no single value; "60, or 1 hour" is, "5 and 3 are left" is."""
        if other.value == found.value and word == "or" or self._restated(found, other):
            return found
        while self._token(i, "word") and self._word(i) not in _BOUNDARY | _VERBS | {"and", "or"}:
            i += 1
        return found if word == "and" and self._word(i) in _VERBS else "refused"

    def _restated(self, found: Quantity, other: Quantity) -> bool:
        """Whether another value says the same in another unit (``60 minutes, or 1 hour``)."""
        if not other.unit or found.unit == other.unit:
            return found.percent and other.value == found.value / 100
        dimension, size = UNITS[other.unit]
        sizes = (
            [UNITS[found.unit][1]]
            if found.unit and UNITS[found.unit][0] == dimension
            else [unit[1] for unit in UNITS.values() if unit[0] == dimension]
        )
        return any(found.value * mine == other.value * size for mine in sizes)

    def _after_comma(self, found: Quantity, i: int) -> Quantity | str:
        """Behind a comma or bracket: another value makes a list unless it is refuted, restates
        this one or begins a clause; anything else is explanation."""
        bracket = self._word(i) == "("
        j = self._skip(i + 1)
        joiner = self._word(j) if self._word(j) in ("or", "and") else ""
        if joiner:
            j = self._skip(j + 1)
        if bracket and self._word(j) in ("wrong", "incorrect"):
            return "refused"
        other = self.value(j)
        if not other:
            return self._contradicted(found, j)
        if bracket or self._restated(found, other[0]) or other[0].value == found.value:
            return found
        k = other[1]
        while self._token(k, "word") and self._word(k) not in _VERBS | _BOUNDARY:
            k += 1
        return found if self._word(k) in _VERBS and joiner != "or" else "refused"

    def _contradicted(self, found: Quantity, i: int) -> Quantity | str:
        """A clause behind "but" or "no" with a value of its own takes the first one back."""
        if self._word(i) not in ("but", "no", "wait", "actually"):
            return found
        if self._word(i) == "but" and self._word(i + 1) == "not":
            return found
        for j in range(i + 1, len(self.tokens)):
            if self._word(j) in ("should", "actually", "it's", "correct", "is"):
                for k in range(j + 1, min(j + 4, len(self.tokens))):
                    read = self.value(k)
                    if read and not self._refuted(read[1]):
                        return self._tail(*read)
        return found

    def _refuted(self, i: int) -> bool:
        """Whether a predicate within three words from here refutes its subject."""
        for j in range(i, min(i + 4, len(self.tokens))):
            word = self._word(j)
            if word in _REFUTING:
                return True
            if word not in _VERBS | _ADVERBS | {"a", "the", "clearly", "be"}:
                return False
        return False

    def _prose(self, i: int) -> Quantity | str:
        """Words first: the last value of the main clause, numerals before number words.

        Explanations and what follows a value ("24 apples in 4 boxes") are passed over, up to the
        next conclusion ("so", "=")."""
        numeral: Quantity | str = "none"
        spelled: Quantity | str = "none"
        while i < len(self.tokens):
            word = self._word(i)
            if word in _EXPLAINING:
                i = self._next(i + 1, _CONCLUDING | {","})
            elif word in _BOUNDARY - _CONCLUDING and "none" != numeral:
                i = self._next(i + 1, _CONCLUDING)
            else:
                read = self._value_in_prose(i)
                if read is None:
                    i += 1
                    continue
                outcome, i = read
                if self.tokens[i - 1].kind == "word":
                    spelled = outcome
                else:
                    numeral = outcome
                if outcome == "refused":
                    i = self._next(i, _CONCLUDING)
        return spelled if numeral == "none" else numeral

    def _next(self, i: int, words: set[str]) -> int:
        while i < len(self.tokens) and self._word(i) not in words:
            i += 1
        return i

    def _value_in_prose(self, i: int) -> tuple[Quantity | str, int] | None:
        """What a value at this token commits to, and the index behind; None if none begins here
        or if it is set aside ("not 6", "6 is too large")."""
        token, word = self.tokens[i], self._word(i)
        if word in ("one", "a", "an") and self._word(i + 1) not in _SCALES | _PARTS:
            return None
        if word in ("-", "+") and (i == 0 or not token.spaced or self.tokens[i + 1 : i + 2] == []):
            return None
        read = self.value(i)
        if read is None:
            return ("refused", i + 1) if token.kind == "number" else None
        before = self._word(i - 1) if i else ""
        if before == "not" or self._refuted(read[1]):
            return None
        if before in _BOUNDS or (i > 1 and self._word(i - 2) in ("either", "between", "from")):
            return "refused", read[1]
        return self._tail(*read), read[1]


def _size(value: Fraction) -> int:
    """About how many digits a fraction has."""
    return max(value.numerator.bit_length(), value.denominator.bit_length()) // 3 + 1


def statement(words: str) -> Quantity | str:
    """The value a sentence commits to; "refused" if it is no single value, "none" without."""
    try:
        return _Reader(words).statement()
    except RecursionError:  # "twice twice twice ..."
        return "refused"


def parse_quantity(text: str, *, formula: bool = False) -> Quantity | None:
    """The number that the whole text is, or None; a currency sign or a final stop may stay."""
    text = unmarked(plain_text(text)).strip().rstrip(".").strip()
    if len(text) > 2 * MAX_DIGITS:
        return None
    reader = _Reader(text, formula=formula)
    try:
        read = reader.value(0)
    except RecursionError:
        return None
    if not read or read[1] < len(reader.tokens) or read[0].unit not in _CURRENCY | {""}:
        return None
    return read[0]


def _unit(word: str) -> str:
    """A unit of measure in the singular, "" for any other word."""
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in UNITS:
            return form
    return ""
