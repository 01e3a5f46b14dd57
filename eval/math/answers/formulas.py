"""Whether two MATH answers are the same, shape first (see ``latex``), symbols last.

``same`` decides as a careful reader would and asks ``atoms_equal`` (a symbolic comparison, see
``equivalence``) only about the scalars and equations that are left once the shape agrees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from eval.math.answers.latex import (
    MAX_CHARS,
    MAX_PARTS,
    Shape,
    shape,
    split_top,
    tidy,
)
from eval.math.answers.quantities import same_quantity
from eval.math.answers.reading.vocabulary import SMALL

_NAME = (
    r"(?:(?:\\(?:angle|triangle) ?)?\\?[A-Za-z](?:_\{?\w+\}?)?'?(?:\^\{-1\})?"
    r"(?:\([^()=]{1,12}\))?|\\[a-z]+"
    r"|[A-Za-z]{3,}|(?:\\(?:angle|triangle) ?)?[A-Z]{2,4}|\|[A-Z]{1,2}\||\\text\s*\{[^{}]*\}"
    r"|\([a-z](?:, ?[a-z])+\))"
)
_ELEMENT = re.compile(r"^\s*[A-Za-z]\s*\\in(?![a-z])\s*")
_SUM = re.compile(r"[A-Za-z](?: ?[+] ?[A-Za-z])+")
_ASSIGNED = re.compile(rf"\s*{_NAME}\s*(?:=|\\in(?![a-z]))\s*(?P<value>[^=]+)")
_RELATION = re.compile(r"=|<|>|\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])")
_BASE = re.compile(
    r"(?P<digits>\w+?) ?(?:_ ?[{( ]*|\(?(?:in )?base ?[_-]? ?)(?:\\text\{)?"
    r"(?P<base>[a-z]+|\d+)[ })]*",
    re.I,
)
_OPTION = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm)\s*\{\s*\(?[A-E]\)?[.:]?\s*\}|\(?[A-E]\)[.:]?)"
    r"(?:\\[ ,;:!]|\\q?quad\b|~|\s)*(?=\S)"
)
"""An option's letter before its formula, as competition answers are boxed: \\textbf{(B)} 12."""
_BASES = {word: str(number) for word, number in SMALL.items() if 2 <= number <= 16}

Atoms = Callable[[str, str], bool]
"""(gold LaTeX, answer LaTeX) -> whether the two scalars or equations are equal."""


def same(gold: str, answer: str, atoms_equal: Atoms) -> bool:
    """Whether an answer equals a gold answer, both as LaTeX or words.

    Lists and sets have no order, tuples have; open and closed intervals differ; an inequality
    may stand for an interval, "y = ..." for its right side, 24 for "24 cm^2" but not for
    "24 m". Raises nothing; symbolic doubts are left to ``atoms_equal``.
    """
    if gold.strip() == answer.strip():
        return bool(answer.strip())
    if max(len(gold), len(answer)) > MAX_CHARS:
        return False
    option = _OPTION.match(answer)
    readings = [answer, *((option[0], answer[option.end() :]) if option else ())]
    wanted = tidy(gold)
    return any(_same(wanted, tidy(reading), atoms_equal, depth=0) for reading in readings)


def _same(gold: str, answer: str, atoms_equal: Atoms, depth: int) -> bool:
    if not gold or not answer or depth > 4:
        return False
    if gold.replace(" ", "") == answer.replace(" ", ""):
        return True
    if gold.count("'") != answer.count("'"):
        return False  # a derivative is not its function
    based = _based_integers(gold, answer)
    if based is not None:
        return based
    gold, answer = (_ELEMENT.sub("", side) for side in _strip_assignments(gold, answer))
    mine, theirs = shape(gold), shape(answer)
    if mine.unit and theirs.unit and mine.unit != theirs.unit:
        return False
    if mine.number is not None and theirs.number is not None:
        return same_quantity(theirs.number, mine.number, significant=6)
    if "text" in (mine.kind, theirs.kind):
        return _words(gold) == _words(answer)
    return _same_shape(mine, theirs, atoms_equal, depth)


def _same_shape(gold: Shape, answer: Shape, atoms_equal: Atoms, depth: int) -> bool:
    def part(one: str, other: str) -> bool:
        return _same(one, other, atoms_equal, depth + 1)

    kinds = {gold.kind, answer.kind}
    if len(gold.parts) > MAX_PARTS or len(answer.parts) > MAX_PARTS:
        return False
    if kinds <= {"list", "set", "union"}:
        others = [part for side in (gold, answer) if side.kind != "union" for part in side.parts]
        if "union" in kinds and len(kinds) > 1 and not all(map(_ORDER.search, others)):
            return False  # only "x < 2 or x > 5" is a union as well
        return _unordered(gold.parts, answer.parts, part)
    if gold.kind == answer.kind == "matrix":
        return gold.columns == answer.columns and _ordered(gold.parts, answer.parts, part)
    if kinds <= {"tuple", "list", "matrix"} and len(kinds) == 2 or kinds == {"tuple"}:
        square = "[" in gold.brackets + answer.brackets or "]" in gold.brackets + answer.brackets
        if kinds == {"tuple"}:
            if gold.brackets != answer.brackets:
                return False
        elif square or max(gold.columns, answer.columns) > 1:
            return False  # an interval is no list; a row of numbers is no matrix
        return _ordered(gold.parts, answer.parts, part)
    if kinds == {"tuple", "atom"}:
        interval = _interval(gold.latex if gold.kind == "atom" else answer.latex)
        other = answer if gold.kind == "atom" else gold
        return interval is not None and part(other.latex, interval)
    intervals = [_interval(side.latex) for side in (gold, answer)] if kinds == {"atom"} else [None]
    if None not in intervals:
        variables = [set(re.findall(r"(?<!\\)\b[A-Za-z]\b", side.latex)) for side in (gold, answer)]
        if variables[0] == variables[1]:
            return part(*intervals)
    if kinds <= {"number", "atom"}:
        return atoms_equal(_scalar(gold), _scalar(answer))
    return False


def _scalar(found: Shape) -> str:
    """LaTeX for the symbolic comparison; a percentage as hundredths (sympy reads no sign)."""
    if found.number is not None and found.number.percent:
        value = found.number.value / 100
        return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    return found.latex.replace("\\%", "").replace("%", "")


def _ordered(one: Iterable[str], other: Iterable[str], part: Atoms) -> bool:
    one, other = tuple(one), tuple(other)
    return len(one) == len(other) and all(map(part, one, other))


def _unordered(one: tuple[str, ...], other: tuple[str, ...], part: Atoms) -> bool:
    """Whether the parts can be paired off (equality is transitive, so greedy pairing is right)."""
    left = list(other)
    if len(one) != len(left):
        return False
    for mine in one:
        partner = next((index for index, theirs in enumerate(left) if part(mine, theirs)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _words(latex: str) -> str:
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", latex)
    bare = re.sub(r"[\s\"'.()]+", " ", text).strip().casefold()
    return re.sub(r"^(?:an?|the|on|in|at) (?=\w{2})", "", bare)


def _strip_assignments(gold: str, answer: str) -> tuple[str, str]:
    """Drop "name =" on one side where the other is no equation; "ab = 7" is none (a product)."""
    for _ in range(2):
        if not _RELATION.search(gold):
            answer = _assigned(answer)
        elif not _RELATION.search(answer):
            gold = _assigned(gold)
    return gold, answer


def _assigned(latex: str) -> str:
    """The value of "x = 3", of a chain "m+n = 256+37 = 293", of "2+3 = 5"; else the text."""
    sides = split_top(latex, "=")
    if len(sides) > 2 and all(sides) and not _ORDER.search(latex) and "," not in latex:
        return sides[-1]
    letters = re.search(r"[A-Za-z]", re.sub(r"\\[a-z]+", "", sides[0]))
    if len(sides) == 2 and sides[0] and (_SUM.fullmatch(sides[0]) or not letters):
        return sides[1]
    found = _ASSIGNED.fullmatch(latex)
    return found["value"].strip() if found else latex


_ORDER = re.compile(r"<|>|\\le(?![a-z])|\\ge(?![a-z])")


def _interval(latex: str) -> str | None:
    """The interval of "2 \\le x < 5" or "x > 3"; None for anything else."""
    signs = _ORDER.findall(latex)
    sides = [side.strip() for side in _ORDER.split(latex)]
    if not signs or any(not side for side in sides):
        return None
    if {sign in ("<", "\\le") for sign in signs} == {False}:
        sides.reverse()
        signs = [{">": "<", "\\ge": "\\le"}[sign] for sign in reversed(signs)]
    elif {sign in ("<", "\\le") for sign in signs} != {True}:
        return None
    variable = re.compile(r"\\?[A-Za-z]+(?:_\w+)?")
    if len(sides) == 3 and variable.fullmatch(sides[1]):
        left, _, right = sides
        brackets = "(["[signs[0] == "\\le"] + ")]"[signs[1] == "\\le"]
    elif len(sides) == 2 and variable.fullmatch(sides[0]):
        left, right, brackets = "-\\infty", sides[1], "(" + ")]"[signs[0] == "\\le"]
    elif len(sides) == 2 and variable.fullmatch(sides[1]):
        left, right, brackets = sides[0], "\\infty", "(["[signs[0] == "\\le"] + ")"
    else:
        return None
    return f"{brackets[0]}{left},{right}{brackets[1]}"


def _based_integers(gold: str, answer: str) -> bool | None:
    """Compare numbers with a stated base (101_2); None where the gold states none.

    An answer without a base is read in the gold's, which the question fixes.
    """
    flat = re.sub(r"\\text ?\{([^{}]*)\}", r" \1 ", answer)
    mine, theirs = _BASE.fullmatch(gold), _BASE.fullmatch(re.sub(" +", " ", flat).strip())
    if not mine or not mine["digits"][0].isdigit():
        return False if theirs and theirs["digits"].isdigit() else None
    if not theirs:
        return answer == mine["digits"]
    bases = [_BASES.get(found["base"].lower(), found["base"]) for found in (mine, theirs)]
    return mine["digits"] == theirs["digits"] and bases[0] == bases[1]
