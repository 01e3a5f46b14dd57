"""What a sentence does to its value: see ``grammar.md``, Statement.

``statement`` gives the value a sentence commits to. It raises on no text.
"""

from __future__ import annotations

import operator
import re

from eval.math.answers.quantities import Quantity
from eval.math.answers.reading.values import Reader
from eval.math.answers.reading.vocabulary import (
    ADVERBS,
    ALTERNATIVE,
    BOUNDARY,
    BOUNDS,
    CHANGED,
    CONCLUDED,
    CONCLUDING,
    CORRECTING,
    CURRENCY,
    EXPLAINING,
    FILLERS,
    GIVING_UP,
    HEDGES,
    MODIFIED_BEFORE,
    MODIFIED_BEHIND,
    NOTHING,
    OPERATORS,
    PARTS,
    REFUTING,
    SCALES,
    SIGNS,
    SKIPPED,
    UNITS,
    VERBS,
    word_set,
)

PRONOUNS = word_set("it that this these those he she they them we us i")
"""Before them a new clause begins."""
_CASES = re.compile(r"\b(?:otherwise|respectively)\b")
_SO = frozenset({"so", "thus", "hence", "therefore"})


class _Sentence(Reader):
    """The tokens of one sentence, read for the value that it commits to."""

    def statement(self) -> Quantity | str:
        """The value a statement commits to; "refused" for several or a modified one, "none"."""
        i = 0
        while i < len(self.tokens):
            word = self._word(i)
            last_equals = self._chain(i)
            if last_equals:
                i = last_equals
                continue
            article = word in ("a", "an") and self._word(i + 1) not in SCALES.keys() | PARTS
            read = None if article else self.value(i)
            if read and self._word(read[1]) == "of" and self._word(read[1] + 1) in PRONOUNS:
                return self._prose(i)  # "the three of them raised 600"
            if read:
                return "refused" if self._modified(i) else self._tail(*read)
            if word in NOTHING and not i:
                return "refused"
            if (
                len(word) == 1
                and self._token(i, "word")
                and self._word(i + 1) in {"+", "-", "*", "^", "/"}
            ):
                return "refused"  # "x + 4"
            bounds = word in BOUNDS and not self._superlative(i)
            bounds = bounds and any(self.value(j) for j in range(i + 1, len(self.tokens)))
            if self.tokens[i].kind == "number" or bounds or self._relation(i):
                return "refused"
            if not (word in SKIPPED or word in FILLERS or self._word(i + 1) == "="):
                return self._prose(i)
            i += 1
        return "none"

    def _modified(self, i: int) -> bool:
        """Whether the words before this value bound, change or doubt it ("a multiple of 6")."""
        return bool(i and MODIFIED_BEFORE.search(self.text, 0, self.tokens[i - 1].end))

    def _superlative(self, i: int) -> bool:
        """ "the least number of buses" is no bound, "at least 8" is."""
        return self._word(i) in ("least", "most") and self._word(i - 1) != "at"

    def _relation(self, i: int) -> bool:
        """Whether a sign bounds what follows ("x > 3", "|-3|") and does not wrap it ("<3>")."""
        word = self._word(i)
        if word == "|":
            return self._word(i + 1) == "-"
        if word == "<":
            return ">" not in (self._word(i + 2), self._word(i + 3))
        return word == ">" and self._word(i - 1) not in ("=", "-")

    def _chain(self, i: int) -> int | None:
        """The index behind the last "=" of an equation chain that begins here, if it is one."""
        found = None
        for j in range(i, len(self.tokens)):
            word = self._word(j)
            if word == "=" and self.value(self._skip(j + 1)):
                found = self._skip(j + 1)
            elif found is None and word in (",", ";", ".", "and", "or"):
                return None
            elif word in (",", ";", "and", "or") or word in BOUNDARY:
                break
        return found

    def _skip(self, i: int) -> int:
        skipped = (SKIPPED - CURRENCY) | {"about", "approximately"}
        while self._word(i) in skipped and i < len(self.tokens):
            i += 1
        return i

    def _tail(self, found: Quantity, i: int, *, prose: bool = False) -> Quantity | str:
        """What follows a value: it stands, is modified, is one of several, or is refuted.

        In ``prose`` more values may follow: "each of the 4 friends gets 18"."""
        glued = self._token(i, "word")
        if glued and not glued.spaced and glued.text in ("x", "y", "n", "z", "a", "b", "i"):
            return "refused"
        first = i
        if self._token(i, "number") and self._token(i - 1, "number"):
            return "refused"  # "12 3", "1,234 567"
        if MODIFIED_BEHIND.match(self.text, self.tokens[i - 1].end):
            return "refused"
        if not prose and _CASES.search(self.text, self.tokens[i - 1].end):
            return "refused"
        near = [self._word(i + step) for step in range(5)]
        if {"remainder", "power"} & {*near} and "0" not in near[1:]:
            return "refused"  # "3 with a remainder of 2", "2 to the 5th power"
        while i < len(self.tokens):
            word = self._word(i)
            if word == "=":
                after = self.value(self._skip(i + 1))
                return self._tail(*after) if after else found
            if word in (".", ";", "!", "?"):
                dotted = self._token(i + 1, "number")  # "8..9"
                return "refused" if dotted and not dotted.spaced else found
            if word in CHANGED and i == first:
                return Quantity(CHANGED[word](found.value))
            if self._operated_on(i, i == first):
                return "refused"
            if word == ":":
                return found
            if word == "or" and self._word(i + 1) in ("so", "more", "less", "fewer"):
                if self._word(i + 1) != "so":
                    return "refused"
                i += 2
                continue
            if word in (",", "(", "["):
                return self._after_comma(found, i)
            if word == "below" and self._word(i + 1) == "zero":
                return Quantity(-abs(found.value))
            if word == "and" and self._word(i + 1) in PRONOUNS:
                return self._another_clause(found, i + 2)
            if word in VERBS or word == "n't":
                return "refused" if self._refuted(i) else found
            if word in REFUTING and i == first and word not in ("not", "don't"):
                return "refused"
            changed = self._operated(found, i)
            if changed is not None:
                return changed
            if word == "per" and self._token(i + 1, "number"):
                return "refused"
            in_all = self.value(i + 1) if word == "in" and i == first else None
            if in_all and in_all[0].value >= found.value:
                return "refused"  # "1 in 4"
            dash = word == "-" and self.tokens[i].spaced
            if dash and len(self._word(i + 1)) == 1 and self._token(i + 1, "word"):
                return "refused"  # "100 - y"
            if dash and (i > first or not self._token(i + 1, "number")):
                return self._after_comma(found, i)
            if word in BOUNDARY:
                return "refused" if self._parallel(i) else self._contradicted(found, i)
            second = self._token(i, "number")
            if second and not (prose or second.suffix or second.value == found.value):
                return "refused"
            i += 1
        return found

    def _parallel(self, i: int) -> bool:
        """Whether a second value takes the same preposition: "9 for Tom and 10 for Ann"."""
        for j in range(i + 2, len(self.tokens) - 2):
            if self._word(j) in ("and", ",", "while", "but", "or"):
                other = self.value(self._skip(j + 1))
                if other and self._word(i) in [self._word(other[1] + step) for step in range(3)]:
                    return not self.value(i + 1)
        return False

    def _another_clause(self, found: Quantity, i: int) -> Quantity | str:
        """ "... and it was not 4" keeps the value, "... and that is wrong" does not."""
        behind = next((j for j in range(i, i + 4) if self._word(j) in REFUTING), None)
        kept = behind is None or self.value(self._skip(behind + 1))
        return found if kept else "refused"

    def _operated_on(self, i: int, first: bool) -> bool:
        """Whether a sign of arithmetic, a range or a ratio follows ("18+", "5-7", "2:30")."""
        word = self._word(i)
        if word in SIGNS:
            follows = self._token(self._skip(i + 1), "number", "command")
            return bool(follows) or (first and word != "/")
        ranged = self._token(i + 1, "number") if word in ("-", ":", "~") else None
        return bool(ranged and (first or not ranged.spaced))

    def _operated(self, found: Quantity, i: int) -> Quantity | str | None:
        """The outcome of an operator in words with a second value; None if there is none here."""
        word = self._word(i)
        follows, operate = OPERATORS.get(word, ("", None))
        if word not in OPERATORS or (follows and self._word(i + 1) != follows):
            return None
        if word == "out" and self._word(i + 2) == "the":
            return found  # "22 out of the 30 students"
        j = self._skip(i + 1 + bool(follows))
        passed = HEDGES if word == "or" else {"a", "an", "the", "another", "about"}
        while self._word(j) in passed and not self.value(j):
            j += 1
        other = self.value(j)
        if not other:
            return None
        if word in ("and", "or"):
            return self._joined(found, word, *other)
        if word == "of" and (found.percent or abs(found.value) < 1):
            share = found.value / 100 if found.percent else found.value
            return Quantity(share * other[0].value)
        partitive = self._word(j - 1) == "the" and word in ("of", "by")
        if partitive or (word == "over" and other[0].unit):
            return found  # "18 of the 20 apples", "18 by the 3rd year", "18 over 3 days"
        if operate is None or (operate is operator.truediv and not other[0].value):
            return "refused"
        return Quantity(operate(found.value, other[0].value))

    def _joined(self, found: Quantity, word: str, other: Quantity, i: int) -> Quantity | str:
        """ "5 or 6" and "5 and 6" are refused, "60, or 1 hour" and "5 and 3 are left" are not."""
        if other.value == found.value and word == "or" or self._restated(found, other):
            return found
        while self._token(i, "word") and self._word(i) not in BOUNDARY | VERBS | {"and", "or"}:
            i += 1
        return found if word == "and" and self._word(i) in VERBS else "refused"

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
        bracket = self._word(i) in ("(", "[")
        j = self._skip(i + 1)
        corrects = CORRECTING.match(self.text, self.tokens[i].end)
        if corrects:
            j = next(
                (k for k in range(j, len(self.tokens)) if self.tokens[k].end > corrects.end()), j
            )
            instead = self.value(self._skip(j))
            return self._tail(*instead) if instead else found
        joiner = self._word(j) if self._word(j) in ALTERNATIVE else ""
        while self._word(j) in HEDGES and not self.value(j):
            j = self._skip(j + 1)
        if bracket and self._word(j) in ("wrong", "incorrect"):
            return "refused"
        other = self.value(j)
        if not other:
            return self._contradicted(found, j)
        if bracket or self._restated(found, other[0]) or other[0].value == found.value:
            return found
        k = other[1]
        if self._word(k) in ("more", "less", "fewer", "each", "per", "of"):
            return found  # "36, 12 more than yesterday"
        while self._token(k, "word") and self._word(k) not in VERBS | BOUNDARY:
            k += 1
        return found if self._word(k) in VERBS and joiner in ("", "and") else "refused"

    def _contradicted(self, found: Quantity, i: int) -> Quantity | str:
        """A clause behind "but" or "no" with a value of its own takes the first one back, and so
        does a conclusion ("3 times as much as 6, so 18")."""
        conclusion = self._next(i, _SO)
        k = self._skip(conclusion + 1)
        while self._word(k) in FILLERS and not self.value(k):
            k += 1
        concluded = self.value(k)
        if concluded and self._word(concluded[1]) in ("", ".", "="):
            return self._tail(*concluded)
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
            if word in REFUTING:
                return True
            if word not in VERBS | ADVERBS:
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
            if word in EXPLAINING:
                i = self._next(i + 1, CONCLUDING | {","})
            elif word == "(" and numeral not in ("none", "refused"):
                i = self._next(i + 1, frozenset({")"}))
            elif numeral != "none" and self._begins_clause(i):
                i = self._next(i + 1, CONCLUDING)
            else:
                read = self._value_in_prose(i)
                if read is None:
                    i += 1
                    continue
                start, (outcome, i) = i, read
                if any(token.kind == "number" for token in self.tokens[start:i]):
                    numeral = outcome
                else:
                    spelled = outcome
                if outcome == "refused":
                    i = self._next(i, CONCLUDING)
        return spelled if numeral == "none" else numeral

    def _begins_clause(self, i: int) -> bool:
        """Whether an explanation or another main clause begins here."""
        word = self._word(i)
        joined = word == "and" and self._word(i + 1) in PRONOUNS
        return joined or word in BOUNDARY - CONCLUDING

    def conclusion(self) -> Quantity | None:
        """The value that the sentence ends in, behind "so", "namely", "which is"."""
        marks = [*CONCLUDED.finditer(self.text)]
        if not marks:
            return None
        end = marks[-1].end()
        i = next((k for k, token in enumerate(self.tokens) if token.end > end), len(self.tokens))
        read = self.value(self._skip(i)) if i < len(self.tokens) else None
        if not read or MODIFIED_BEHIND.match(self.text, self.tokens[read[1] - 1].end):
            return None
        moved = OPERATORS.keys() | REFUTING
        behind = [token.text for token in self.tokens[read[1] :] if token.text not in ".!"]
        return read[0] if all(word.isalpha() and word not in moved for word in behind) else None

    def _next(self, i: int, words: frozenset[str]) -> int:
        while i < len(self.tokens) and self._word(i) not in words:
            i += 1
        return i

    def _value_in_prose(self, i: int) -> tuple[Quantity | str, int] | None:
        """What a value at this token commits to, and the index behind; None if none begins here
        or if it is set aside ("not 6", "6 is too large")."""
        token, word = self.tokens[i], self._word(i)
        if word in ("one", "a", "an") and self._word(i + 1) not in SCALES.keys() | PARTS:
            return None
        if word in ("-", "+") and (i == 0 or not token.spaced or self.tokens[i + 1 : i + 2] == []):
            return None
        read = self.value(i)
        if read is None:
            return ("refused", i + 1) if token.kind == "number" else None
        before = self._word(i - 1) if i else ""
        if before == "not" or self._refuted(read[1]):
            return None
        if (
            (before in BOUNDS and not self._superlative(i - 1))
            or self._modified(i)
            or (i and self._relation(i - 1))
            or (i > 1 and self._word(i - 2) in ("either", "between", "from"))
        ):
            return "refused", read[1]
        return self._tail(*read, prose=True), read[1]


def _passing(found: Quantity | str, concluded: Quantity) -> bool:
    """Whether a value is only on the way to the concluded one: refused, or no whole number."""
    if isinstance(found, str):
        return True
    return found.value.denominator != 1 and concluded.value.denominator == 1


def statement(words: str) -> Quantity | str:
    """The value a sentence commits to; "refused" if it is no single value, "none" without."""
    try:
        if GIVING_UP.search(words):
            return "none"
        sentence = _Sentence(words)
        found = sentence.statement()
        concluded = None if found == "none" else sentence.conclusion()
        return concluded if concluded and _passing(found, concluded) else found
    except RecursionError:  # "twice twice twice ..."
        return "refused"
