"""One value at a place of a sentence, exactly: see ``grammar.md``, Value.

Everything is a ``Fraction``, so 70007 is never 70000 and 1e999 is never 1e888. Nothing evaluates
text: sums, products and powers of numerals are worked out here, with bounds.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from eval.math.answers.quantities import Quantity
from eval.math.answers.reading.text import MAX_DIGITS, Token, plain_text, tokens, unmarked
from eval.math.answers.reading.vocabulary import (
    CURRENCY,
    MULTIPLES,
    NEGATIVE,
    PARTS,
    PERCENT,
    PLURAL_PARTS,
    SCALES,
    SMALL,
    SUFFIXES,
    UNITS,
    unit_of,
)

MAX_DEPTH = 130
"""Brackets within brackets; an answer has three."""

MAX_TOKENS = 700
"""Of a sentence; no statement of an answer is longer."""


class Reader:
    """A recursive descent over the tokens of one sentence.

    Each ``_rule(i)`` returns what it read from token ``i`` and the index behind it, or None. In
    ``formula`` mode a minus between numbers subtracts; in prose it is a range and is refused.
    """

    def __init__(self, text: str, *, formula: bool = False) -> None:
        self.text = text
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
                while self._word(k) in CURRENCY:
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
        if token.suffix in SUFFIXES:
            return Quantity(token.value * SUFFIXES[token.suffix]), i + 1
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
        if self._word(i) in ("a", "an") and self._word(i + 1) in SCALES:
            i += 1
        elif self._word(i) not in SMALL and self._word(i) != "point":
            return None
        total = group = 0
        while True:
            word = self._word(i)
            if word in SMALL and (not group % 100 or (not group % 10 and SMALL[word] < 10)):
                if group % 100 == 10 or (group and not group % 100 and self._word(i - 1) in SMALL):
                    break
                group += SMALL[word]
            elif word in ("hundred", "dozen", "dozens"):
                group = (group or 1) * SCALES[word]
            elif word in SCALES and len(word) > 2:
                total, group = total + (group or 1) * SCALES[word], 0
            else:
                break
            i += 1
            hyphen = self._word(i) == "-" and self._word(i + 1) in SMALL | SCALES
            joined = self._word(i) == "and" and self._word(i + 1) in SMALL
            thousands = self._word(i) == "," and self._word(i - 1) in SCALES
            joined = joined or (thousands and self._word(i + 1) in SMALL)
            fraction = self._word(i + 2).strip("-") in PARTS.keys() | PLURAL_PARTS
            if hyphen or (joined and self._word(i - 1) in SCALES and not fraction):
                i += 1
        value = Fraction(total + group)
        if self._word(i) == "point":
            j, decimals = i + 1, ""
            while SMALL.get(self._word(j), 10) < 10:
                decimals, j = decimals + str(SMALL[self._word(j)]), j + 1
            if decimals:
                return value + Fraction(int(decimals), 10 ** len(decimals)), j
        return (value, i) if i > start else None

    def _part(self, i: int, count: Fraction | None) -> tuple[Fraction, int] | None:
        """The denominator word behind a count (None: not a whole one): ``half``, ``thirds``."""
        if self._word(i) == "-":
            i += 1
        word = self._word(i)
        plural = PLURAL_PARTS.get(word)
        if plural and count is not None and count != 1:
            return count / plural, i + 1
        single = PARTS.get(word)
        if single and count == 1:
            return Fraction(1, single), i + 1
        return None

    def _in_words(self, i: int) -> tuple[Fraction, int] | None:
        """Words: a cardinal, a fraction, or both (``two and a half``)."""
        word = self._word(i)
        article = i + 1 if word in ("a", "an", "one") else i
        if self._word(article) == "half" or (article > i and self._word(article) in PARTS):
            bottom, j = PARTS[self._word(article)], article + 1
            if self._word(j) in ("a", "an") and self._word(j + 1) in SCALES:
                return Fraction(SCALES[self._word(j + 1)], bottom), j + 2
            return Fraction(1, bottom), j
        read = self._spelled(i)
        if read is None:
            return None
        return self._part(read[1], read[0]) or read

    # Values

    def value(self, i: int) -> tuple[Quantity, int] | None:
        """One value with its sign, magnitude, percent sign and unit of measure."""
        sign, unit = 1, ""
        multiple = MULTIPLES.get(self._word(i))
        if multiple:
            read = self.value(i + 1)
            return (replace(read[0], value=multiple * read[0].value), read[1]) if read else None
        while self._word(i) in NEGATIVE | {"-", "+"} | CURRENCY | {"\\", "\\,"}:
            if self._word(i) in NEGATIVE | {"-"}:
                sign = -sign
            elif self._word(i) in CURRENCY - {"¥", "₹"}:
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
                scale = SCALES.get(self._word(i - 1), 1)  # "a dozen and a half"
                found, i = self._scaled(Quantity(found.value + part[0] * scale), part[1])
        found = replace(found, value=sign * found.value)
        return self._measured(found, i, unit)

    def _scaled(self, found: Quantity, i: int) -> tuple[Quantity, int]:
        """Times its magnitude words: ``12.5 thousand``, ``12 thousand 500``, ``2 dozen``."""
        while self._word(i) in SCALES and self._token(i, "word"):
            scale = SCALES[self._word(i)]
            found, i = Quantity(found.value * scale), i + 1
            rest = self._token(i, "number")
            if rest and rest.value is not None and rest.value < scale and scale >= 1000:
                more, i = self._scaled(Quantity(rest.value), i + 1)
                found = Quantity(found.value + more.value)
        return found, i

    def _measured(self, found: Quantity, i: int, unit: str) -> tuple[Quantity, int]:
        """With its percent sign and unit; a smaller unit of the same dimension is added to it."""
        word = self._word(i)
        if word in PERCENT:
            return replace(found, percent=True), i + 1
        if word == "per" and self._word(i + 1) == "cent":
            return replace(found, percent=True), i + 2
        if word in CURRENCY | {"°"} and not unit:
            i += 1
        named = unit_of(self._word(i)) if self._token(i, "word", "sign") else ""
        if self._word(i) == "in" and self._token(i + 1, "word", "number"):
            named = ""  # the preposition
        unit = named or unit or (unit_of(word) if word in CURRENCY else "")
        i += bool(named)
        if named and self._word(i) == "^":  # "27 m^2"
            power = self._atom(i + 1, 0)
            i = power[1] if power else i
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


def _size(value: Fraction) -> int:
    """About how many digits a fraction has."""
    return max(value.numerator.bit_length(), value.denominator.bit_length()) // 3 + 1


def parse_quantity(text: str, *, formula: bool = False) -> Quantity | None:
    """The number that the whole text is, or None; a currency sign or a final stop may stay."""
    text = (
        plain_text(text).strip()
        if formula
        else unmarked(plain_text(text)).strip().rstrip(".").strip()
    )
    if len(text) > 2 * MAX_DIGITS:
        return None
    reader = Reader(text, formula=formula)
    try:
        read = reader.value(0)
    except RecursionError:
        return None
    if not read or read[1] < len(reader.tokens) or read[0].unit not in CURRENCY | {""}:
        return None
    return read[0]
