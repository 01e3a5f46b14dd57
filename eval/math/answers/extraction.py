"""Where a generation commits to an answer (strict mode): from text to the answer's own words.

A base model goes on after its answer, restates it, questions it or takes it back. ``own_part``
cuts what no longer belongs to the question, ``commitments`` finds the statements that count, and
``number``, ``words``, ``choice`` and ``formula`` read one of them as the data set's answer type.
None of them raises on any text; None means that the text commits to nothing.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

from eval.math.answers.quantities import (
    Quantity,
    followed_by_arithmetic,
    numbers_in,
    plain_text,
    spelled_in,
)

MAX_CHARS = 20_000
"""Only this much of a generation is read: 1,024 tokens are about 4,000 characters."""

MAX_STATEMENTS = 40
"""A loop states the same answer hundreds of times; the last ones are enough."""

_LEADING_TOKENS = re.compile(r"(?:\s|<\|im_(?:start|end)\|>(?:assistant)?|<s>|<\|endoftext\|>)+")
_NEXT_QUESTION = re.compile(
    r"</s>|<\|im_(?:start|end)\|>|<\|endoftext\|>|<\|end\|>|<\|eot_id\|>"
    r"|(?:^|\n|(?<=[.!?$])\s)[ \t]*(?:Question|Problem)[ \t]*:"
    r"|(?:^|\n)[ \t]*(?:Q|User|Human|Assistant)\s*:"
)


def own_part(generation: str) -> str:
    """The text up to the first new question, chat turn or end-of-text mark, both ends stripped."""
    text = generation[:MAX_CHARS]
    leading = _LEADING_TOKENS.match(text)
    if leading:
        text = text[leading.end() :]
    cut = _NEXT_QUESTION.search(text)
    return (text[: cut.start()] if cut else text).strip()


@dataclass(frozen=True, slots=True)
class Statement:
    """One stated answer: its words, what its sentence goes on to say, and the text from there on.

    ``boxed`` tells a \\boxed{} from a phrase such as "the answer is". The clause of a box begins
    behind it, that of a phrase with its words.
    """

    words: str
    clause: str
    onward: str
    boxed: bool


_PHRASE = re.compile(
    r"\b(?:answer|choice)\b(?:\s+(?:to|of|for)\b[^.\n=:]{0,80}?)?"
    r"\s*(?:\bis\b|\bare\b|\bwas\b|\b(?:would|will|should|must)\s+be\b|[:=])(?:\s*[:=])?"
    r"|####",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\?\\(?:boxed|fbox)\b\s*")
_SENTENCE_END = re.compile(
    r"\n|(?<!\b[A-Z])(?<!\b[ap]\.m)(?<!\b[AP]\.M)(?<!\bMrs)(?<!\bMr)(?<!\bDr)(?<!\bMs)(?<!\bSt)"
    r"(?<!\brs )(?<!\bRs)[.!?](?=[\s\"')\]*$<]|$)"
)
_HOPE = re.compile(r"\bI hope\b", re.IGNORECASE)
_REFUTED = re.compile(
    r"^\W{0,4}(?:\w+\W+){0,4}?(?:does not|doesn't|do not|is too\b|is not\b|isn't|cannot|can't"
    r"|is wrong|is incorrect|is impossible)",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"^\W{0,4}(?:not|never|n't)\b", re.IGNORECASE)


def statements(text: str) -> list[Statement]:
    """Every phrase and box that states an answer, in order of appearance."""
    marks = sorted(
        [(m.start(), m.end(), False) for m in _PHRASE.finditer(text)]
        + [(m.start(), m.end(), True) for m in _BOX.finditer(text)]
    )
    marks = marks[-MAX_STATEMENTS:]
    found = []
    for index, (_, end, boxed) in enumerate(marks):
        if boxed:
            stated, stop = _braced(text, end)
            clause = text[stop:]
        else:
            limit = marks[index + 1][0] if index + 1 < len(marks) else len(text)
            stated = text[end:limit]
            clause = stated.lstrip()
        sentence = _SENTENCE_END.search(clause)
        clause = clause[: sentence.end()] if sentence else clause
        found.append(Statement(stated, clause, text[end:], boxed))
    return found


def _braced(text: str, start: int) -> tuple[str, int]:
    """What a \\boxed holds, and where it ends: to the matching brace, or to the end of the line."""
    if text[start : start + 1] != "{":
        match = re.compile(r"[^\s$]*").match(text, start)
        return match[0].rstrip(".,"), match.end()
    depth = 0
    for index in range(start, len(text)):
        char = text[index]
        if char in "{}" and text[index - 1] != "\\":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return text[start + 1 : index], index + 1
    line = text[start + 1 :].split("\n", 1)[0]
    return line, start + 1 + len(line)


def commitments(text: str) -> tuple[list[Statement], str | None]:
    """The statements that stand, last first, and the text after a last one that does not.

    A statement falls when it is empty, negated ("is not 5"), a question ("is it 42?") or refuted
    in its own sentence ("\\boxed{5} does not work"). If that happens to the last one, the words
    behind it may hold the correction, and come before any earlier statement.
    """
    standing: list[Statement] = []
    correction = None
    every = [s for s in statements(text) if s.words.strip(" \n\t:=.,*$\"'")]
    for index, statement in enumerate(every):
        if statement.boxed:
            fallen = bool(_REFUTED.match(statement.clause))
        else:
            clause = statement.clause
            fallen = bool(_NEGATED.match(clause)) or clause.rstrip().endswith("?")
            fallen = fallen or _refutes_itself(clause)
        if not fallen:
            standing.append(statement)
        elif index == len(every) - 1:
            onward = statement.onward
            end = _SENTENCE_END.search(onward)
            correction = onward[end.end() :] if end else ""
    return standing[::-1], correction


def _refutes_itself(sentence: str) -> bool:
    """Whether a phrase's own sentence takes its answer back: "(C) is too large"."""
    words = sentence.strip().split(None, 1)
    return len(words) == 2 and bool(_REFUTED.match(words[1]))


def first_sentence(words: str) -> str:
    """Up to the first sentence end that is not inside an abbreviation, without the full stop."""
    words = words.lstrip()
    end = _SENTENCE_END.search(words)
    return (words[: end.start()] if end else words).strip()


_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,20}>")
_FRACTION = re.compile(r"(?<=\d)?\\?\\[dtc]?frac\s*\{?(-?\d+)\}?\s*\{?(-?\d+)\}?")
_WRAPPER = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_FILLER = re.compile(
    r"(?:[\s:=~≈(\[{\"'*`]|\b(?:about|approximately|around|roughly|exactly|only|just|equal to"
    r"|equals|is|a total of|the number|that)\b)+",
    re.IGNORECASE,
)

_ALTERNATIVE = re.compile(r"\s*(?:\w+\s+){0,2}or\s+\$?\d")


def tidy_words(words: str) -> str:
    """A statement without mark-up: calculator notes, tags, bold, LaTeX wrappers, odd Unicode."""
    text = plain_text(words)
    text = _TAG.sub("", _CALCULATOR.sub("", text))
    text = re.sub(r"\*\*(?=\S)([^*\n]+)\*\*", r"\1", text).replace("`", "")
    text = text.replace("\\$", "$").replace("\\%", "%").replace("\\!", "").replace("{,}", ",")
    text = re.sub(r"\\[,;: ]|~", " ", text)
    text = _FRACTION.sub(lambda m: f" {m[1]}/{m[2]}", text)
    for _ in range(2):
        text = _WRAPPER.sub(r" \1 ", text)
    return re.sub(r" ?\^ ?\{?\\circ\}?", "", text).strip()


def number_in_statement(words: str) -> Quantity | None:
    """The number a statement gives: of "80 + 52 = 132 cups" 132, of "3 apples" 3, of "5**2" none.

    Leading fillers are skipped. Prose that does not begin with its number gives its last one,
    digits before number words.
    """
    sentence = first_sentence(tidy_words(words))
    if "=" in sentence:
        for part in reversed(sentence.split("=")):
            if numbers_in(part):
                sentence = part
                break
    filler = _FILLER.match(sentence)
    start = filler.end() if filler else 0
    digits = numbers_in(sentence)
    spelled = spelled_in(sentence)
    for found in (digits, spelled):
        if found and found[0][0] <= start:
            rest = sentence[found[0][1] :]
            unclear = followed_by_arithmetic(rest) or _ALTERNATIVE.match(rest)
            return None if unclear else found[0][2]
    if digits:
        begins_malformed = sentence[start:][:1].isdigit()
        return None if begins_malformed or not sentence[start:][:1].isalpha() else digits[-1][2]
    return spelled[-1][2] if spelled else None


def last_number(text: str) -> Quantity | None:
    """The last number of a text without any stated answer."""
    found = numbers_in(tidy_words(text))
    return found[-1][2] if found else None


def number(text: str) -> tuple[Quantity | None, str | None]:
    """The number a solution commits to, and the words it was read from.

    The last standing statement that holds a number; else the last number of the text.
    """
    standing, correction = commitments(text)
    if correction is not None:
        corrected = last_number(correction)
        if corrected is not None:
            return corrected, correction.strip()
    for statement in standing:
        found = number_in_statement(statement.words)
        if found is not None:
            return found, first_sentence(statement.words)
        if numbers_in(tidy_words(statement.words)):
            break  # it states something, but no plain number: "9^9^9"
    if standing:
        return None, first_sentence(standing[0].words) or None
    return last_number(text), None


def words(text: str) -> str | None:
    """The words a solution commits to: those stated, or what its last sentence says "is" so."""
    standing, _ = commitments(text)
    if standing:
        stated = tidy_words(standing[0].words).lstrip(" :=")
        return first_sentence(stated) or None
    sentences = [part for part in _SENTENCE_END.split(tidy_words(text)) if part.strip()]
    if not sentences:
        return None
    return re.split(r"\b(?:is|are|was|were|at)\b|[:=](?=\s)", sentences[-1])[-1].strip() or None


_PUNCTUATION = string.punctuation + string.whitespace
_LETTER = r"[A-Ea-e]"
_CHOICE = re.compile(
    rf"\(\s*({_LETTER})\s*\)?(?![A-Za-z])|(?<![A-Za-z\\'])([A-E])(?![A-Za-z'])"
    rf"|(?<![A-Za-z\\'])({_LETTER})(?=\s*(?:\)|[.,;]?\s*$))"
)
_MARKED_CORRECT = re.compile(
    rf"\(\s*({_LETTER})\s*\)\s+(?:is|must be)\s+(?:the\s+)?(?:correct|right|answer)",
    re.IGNORECASE,
)


def choice(text: str) -> str | None:
    """The option letter (upper case) a solution commits to; two different letters commit to none.

    A letter must stand alone: "closest" holds no C, and "a number" no A.
    """
    standing, correction = commitments(plain_text(text))
    if correction:
        standing = [Statement(correction, correction, "", False), *standing]
    for statement in standing:
        letters = _letters(statement)
        if letters:
            return letters[0] if len(set(letters)) == 1 else None
    marked = [match[1].upper() for match in _MARKED_CORRECT.finditer(text)]
    if marked:
        return marked[-1]
    bare = text.strip(_PUNCTUATION).removeprefix("option").removeprefix("Option")
    bare = bare.strip(_PUNCTUATION).upper()
    return bare if len(bare) == 1 and bare in "ABCDE" else None


def _letters(statement: Statement) -> list[str]:
    """Letters named as the answer; one behind the answer ("not B", "because (C) ...") is none."""
    line = re.sub(r"\\(?:boxed|text|textbf|mathrm|mathbf)\b", "", statement.words)
    sentence = first_sentence(line.strip(" \n\t$:=*{}"))
    sentence = re.split(r"\b(?:because|since|not|rather than|instead of)\b", sentence)[0]
    found = [(m[1] or m[2] or m[3]).upper() for m in _CHOICE.finditer(sentence)]
    return found if re.search(r"\b(?:or|and)\b", sentence) else found[:1]


def formula(text: str) -> str | None:
    """The LaTeX (or words) a solution of a MATH problem commits to, as written.

    The last standing statement; with none, the right side of the last formula of a text that
    does not break off inside one, else the last number.
    """
    standing, correction = commitments(text)
    if correction and correction.strip():
        return _last_formula(correction)
    for statement in standing:
        stated = statement.words if statement.boxed else _stated_formula(statement.words)
        if stated and stated.strip():
            return stated.strip()
    return _last_formula(text) if not standing else None


_SPAN = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL
)
_JOIN = re.compile(r"\s*(?:,|;)?\s*(?:\band\b|\bor\b)?\s*")


def _stated_formula(words: str) -> str:
    """The formula a phrase introduces: joined spans ("$3$ and $4$"), or the plain sentence."""
    words = words.lstrip(" \n\t:=")
    dollars = words.replace("\\$", "")
    if dollars.startswith("$") and dollars.strip("$. \n").strip() == "":
        return ""
    spans = []
    position = 0
    while match := _SPAN.match(words, position):
        spans.append(next(group for group in match.groups() if group is not None).strip(" .,"))
        position = _JOIN.match(words, match.end()).end()
        if position == match.end():
            break
    if spans:
        return ", ".join(spans)
    words = _HOPE.split(words, maxsplit=1)[0].rstrip(" \n\t.,;$")
    sentence = first_sentence(words)
    inside = [m for m in _SPAN.finditer(sentence)]
    if len(inside) == 1:
        return next(group for group in inside[0].groups() if group is not None)
    if len(sentence.split()) > 3 and "\\" not in sentence:
        sentence = re.split(r"\b(?:is|equals)\s", sentence)[-1]  # "the largest one is 31"
    return sentence.replace("\\$", "\0").replace("$", "").replace("\0", "\\$")


def _last_formula(text: str) -> str | None:
    if text.replace("\\$", "").count("$") % 2:
        return None
    spans = list(_SPAN.finditer(text))
    if spans:
        last = next(group for group in spans[-1].groups() if group is not None)
        return last.split("=")[-1].strip(" .,\n") or None
    found = last_number(text)
    return None if found is None else str(found)
