"""The answer a text commits to, as the data set's answer type: see ``grammar.md``, Statement.

``number``, ``words`` and ``formula`` read what ``statements.commitments`` found; each gives the
answer and its words. None of them raises on any text.
"""

from __future__ import annotations

import re
from fractions import Fraction

from eval.math.answers.quantities import Quantity
from eval.math.answers.reading.clauses import statement
from eval.math.answers.reading.statements import (
    REFUTED,
    Statement,
    commitments,
    first_sentence,
    sentences,
)
from eval.math.answers.reading.values import parse_quantity
from eval.math.answers.reading.vocabulary import GIVING_UP, MODIFIED_BEFORE


def number(text: str) -> tuple[Quantity | None, str | None, bool]:
    """The number a solution commits to, the words it was read from, and whether an answer was
    stated but refused as no single value.

    The last standing statement that holds a value; without any, the last sentence that does.
    """
    standing, correction, taken_back = commitments(text)
    if correction is not None:
        found = _last_value(correction)
        if isinstance(found, Quantity):
            return found, correction.strip(), False
        if taken_back:
            return None, None, bool(standing)
    for stated in standing:
        words = first_sentence(stated.words)
        if stated.boxed and _FACTORIAL.search(stated.words):
            return None, words, True
        found = Quantity(Fraction(0)) if _NONE.match(words) else statement(words)
        if isinstance(found, Quantity):
            return found, words, False
        if found == "refused" or (stated.boxed and not words):
            return None, words or None, True
    if not standing and (GIVING_UP.search(text) or _running_on(text)):
        return None, None, _last_value(text) is not None
    stated = first_sentence(standing[0].words) if standing else None
    found = _last_value(standing[0].onward if standing else text)
    return (found, stated, False) if isinstance(found, Quantity) else (None, stated, bool(found))


def _running_on(text: str) -> bool:
    """Whether a text ends in one sentence again and again with other numbers."""
    ends = sentences(text)[:3]
    return len(set(ends)) == 3 == len(ends) and len({re.sub(r"\d+", "0", end) for end in ends}) == 1


def _last_value(text: str) -> Quantity | str | None:
    """What the last sentence with a value gives; "refused" if that is no single one."""
    for sentence in sentences(text):
        found = statement(sentence)
        if found != "none":
            return found
    return None


def words(text: str) -> str | None:
    """The words a solution commits to: those stated, or what its last sentence says "is" so."""
    standing, _, _ = commitments(text)
    for stated in standing:
        found = first_sentence(re.sub(r"\\(?:boxed|text|textbf|mathrm)\b|[${}]", " ", stated.words))
        return found or None
    for sentence in sentences(text):
        return re.split(r"\b(?:is|are|was|were|at)\b|[:=](?=\s)", sentence)[-1].strip() or None
    return None


_NONE = re.compile(r"(?:none|nil)\b(?!\s+of\b)", re.IGNORECASE)
_FACTORIAL = re.compile(r"\d\s*!")
_SPAN = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL
)
_BOUNDED = re.compile(
    r"(?:\bthan|\bat\s+(?:most|least)|\bbetween|\bnot|\bnever|\b(?:be)?low|\babove)\s*$", re.I
)
_SET_ASIDE = re.compile(r"\b(?:rather\s+than|instead\s+of|not|unlike)\s+$", re.IGNORECASE)
_SYMBOL = re.compile(r"[π√∞^_°≤≥]")
_ALTERNATIVE = re.compile(r",?\s+(?:or|and)\s+")
_JOIN = re.compile(r"\s*(?:,|;)?\s*(?:\band\b|\bor\b)?\s*")
_EXPLAINED = re.compile(
    r"[,;]?\s+(?:because|since|as|which|so|if|where|when|not|rather|instead|but|given)\b|\s\((?=[A-Za-z]{2})"
)


def formula(text: str) -> tuple[str | None, bool]:
    """The LaTeX (or words) a solution of a MATH problem commits to, and whether one was stated
    but refused.

    The last standing statement; with none, the right side of the last formula of a text that
    does not break off inside one, else the last number.
    """
    standing, correction, taken_back = commitments(text)
    if correction is not None:
        corrected = _last_formula(correction) if correction.strip() else None
        if corrected is not None or taken_back:
            return corrected, corrected is None
    for stated in standing:
        if stated.boxed:
            return stated.words.strip() or None, not stated.words.strip()
        found = _stated_formula(stated)
        if found and found.strip():
            return found.strip(), False
    if standing or GIVING_UP.search(text) or _running_on(text):
        return None, False
    return _last_formula(text), False


def _spans(text: str) -> list[str]:
    return [next(group for group in m.groups() if group is not None) for m in _SPAN.finditer(text)]


def _right_side(match: re.Match[str]) -> str:
    inside = next(group for group in match.groups() if group is not None)
    left, _, right = inside.partition("=")
    curve = re.search(r"[a-zA-Z][^()]*[-+]", left) and not re.search(r"[a-zA-Z=]", right)
    if curve:
        return inside.strip(" ,\n").rstrip(".")
    return inside.split("=")[-1].strip(" ,\n").rstrip(".")


def _stated_formula(stated: Statement) -> str | None:
    """The formula a phrase introduces: joined spans ("$3$ and $4$"), or the plain sentence."""
    words = stated.words.lstrip(" \n\t:=*")
    if words.replace("\\$", "").startswith("$") and not words.strip("$. \n"):
        return None
    spans = []
    position = 0
    while match := _SPAN.match(words, position):
        spans.append(
            next(group for group in match.groups() if group is not None).strip(" ,").rstrip(".")
        )
        joint = _JOIN.match(words, match.end())
        position = joint.end()
        if position == match.end():
            break
    if spans:
        behind = words[match.end() if match else position :]
        if REFUTED.match(behind):
            return None
        spans = _distinct(spans)
        return ", ".join(spans) if len(spans) > 1 else _worked_out(spans[0], first_sentence(words))
    words = re.split(r"\bI hope\b", words, maxsplit=1)[0].rstrip(" \n\t.,;$")
    sentence = first_sentence(words)
    inside = _spans(sentence)
    if inside and not re.search(r"[\d\\]", _SPAN.sub("", sentence)):
        return _worked_out(inside[-1], sentence)
    plain = sentence.replace("\\$", "\0").replace("$", "").replace("\0", "\\$")
    if "\\" in plain:
        return _EXPLAINED.split(plain)[0]
    found = statement(plain)
    if isinstance(found, Quantity) and not re.search(r"[=^_(\[{]|\d[A-Za-z]", plain):
        return str(found)
    plain = _EXPLAINED.split(plain)[0]
    if len(plain.split()) > 3 and "=" not in plain:
        plain = re.split(r"\b(?:is|equals)\s", plain)[-1]  # "the largest one is 31"
    return plain


def _distinct(spans: list[str]) -> list[str]:
    """Without those that say the number before once more: "$\\frac{11}{2}$, or $5.5$"."""
    values = [parse_quantity(span, formula=True) for span in spans]
    return [
        span
        for index, span in enumerate(spans)
        if values[index] is None
        or values[index].value not in [v.value for v in values[:index] if v]
    ]


def _worked_out(formula: str, sentence: str) -> str | None:
    """A number among words as the words leave it: "a multiple of $6$", "$3$ times $4$"."""
    number = parse_quantity(formula)
    if number is None:
        head = sentence[: sentence.find(formula)].rstrip(" $\\([")
        return None if MODIFIED_BEFORE.search(head) or _BOUNDED.search(head) else formula
    found = statement(_unspanned(sentence))
    if isinstance(found, Quantity):
        return formula if found.value == number.value else str(found)
    return None if found == "refused" else formula


def _unspanned(sentence: str) -> str:
    return _SPAN.sub(lambda m: f" {next(g for g in m.groups() if g is not None)} ", sentence)


def _last_formula(text: str) -> str | None:
    if text.replace("\\$", "").count("$") % 2:
        return None
    spans = [*_SPAN.finditer(text)]
    while spans and (
        REFUTED.match(text, spans[-1].end()) or _SET_ASIDE.search(text, 0, spans[-1].start())
    ):
        spans.pop()
    if spans:
        inside = [_right_side(spans[-1])]
        for one, other in zip(spans[-2::-1], spans[:0:-1], strict=True):
            if not _ALTERNATIVE.fullmatch(text, one.end(), other.start()):
                break
            inside.insert(0, _right_side(one))
        return ", ".join(dict.fromkeys(inside)) or None
    last = next(iter(sentences(text)), "")
    _, *behind = re.split(r"\b(?:is|are|equals|was)\s|=", last)
    predicate = behind[-1].strip() if behind else ""
    if _SYMBOL.search(predicate) or re.fullmatch(r"[(\[{].+,.+[)\]}]", predicate):
        return re.sub(r"(?:\s+[A-Za-z]{2,})+$", "", predicate)
    found = _last_value(text)
    if isinstance(found, Quantity):
        return str(found)
    return last if parse_quantity(last, formula=True) else predicate or None
