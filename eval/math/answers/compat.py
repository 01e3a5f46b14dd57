"""The reference protocol, quirks included (compat mode): extraction, normalisation, grading.

Tables 7 and 8 were graded by a harness whose behaviour is written down as a list of rules; this
module follows that list rule by rule, for comparability, and is not meant to be right ("700" is
"7" here, by its percent rule). Two things differ on purpose: no text is ever evaluated as
Python, and work is bounded. The protocol's words, not its code, are the source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache

from eval.math.datasets import boxed

MAX_CHARS = 8_000
"""Longer texts are cut: they equal no answer, and each rule is linear in the length."""

NO_CHOICE = "placeholder"
"""What the protocol calls a multiple-choice answer without a letter."""

Symbolic = Callable[[str, str], bool]
"""(gold, prediction) -> whether the protocol's symbolic rule holds."""

# The words the protocol deletes as units, by what they measure; each also with a plural s. A dot
# stands for any character, as in the protocol.
_UNIT_WORDS = """
length     km|m|dm|cm|mm|mt|mtr|metre|meter|mile|yard|ft|feet|inch|inches
area       sq m|m sqaure|sq . m|sq inch|cm 2|pi sq m|square|sq|acre|hectare|Surface
volume     cu cm|cu . m|cubic|cube|cc|gal|gallon|liter|litre|lt|l
mass       kg|g|gm|lb
time       second|sec|s|minw|minute|min|hour|hr|h|noon|day|month|year|yr|am|pm|a . m|p . m
speed      kmph|kmh|mph|mp|rounds
angle      degree|deg|° f|th|rd|st|o|t
money      profit of rs|rs .|rs|rupee|profit|gain|loss
relation   more|less|increase|decrease|rise|no change|excess|ratio|percent|per|by|way|are
things     apple|coin|toy|pie|tile|monkey|soldier|man|men|woman|women
other      unit|number|mark|ohm|prime|pure
direction  east|west| m east
letters    a|c|d|ab|bc|a .|b .|c .|d .|e .|f .|g .|h .|q .|s .
"""


@lru_cache(maxsize=1)
def _units() -> list[tuple[str, re.Pattern[str]]]:
    words = [word for line in _UNIT_WORDS.strip().splitlines() for word in line[11:].split("|")]
    words.sort(key=len, reverse=True)  # "sq m" before "m"
    words += [word + "s" for word in words]
    return [
        (word.split(" .")[0].split(".")[0], re.compile(rf"(^|\W){word}($|\W)")) for word in words
    ]


def prediction(dataset: str, multiple_choice: bool, text: str) -> str | None:
    """The answer the protocol extracts, normalised twice; None for an empty or failed output."""
    text = text.strip()
    if not text or text == "error":
        return None
    if multiple_choice:
        return _letter(text)
    return normalise(normalise(_cleaned(_extract(text[-MAX_CHARS:]))))


def gold_answer(dataset: str, multiple_choice: bool, gold: str) -> str:
    """The gold answer after as many normalisation passes as the protocol gives it."""
    if multiple_choice:
        return gold.strip().upper()
    for _ in range(3 if dataset == "math" else 2):
        gold = normalise(gold)
    return gold


def _letter(text: str) -> str:
    """The first "answer is" with a letter, no word boundary behind it."""
    own = text.split("Problem:", 1)[0].replace("choice is", "answer is").lower()
    match = re.search(r"answer is \(?([abcde])\)?", own)
    return match[1].upper() if match else NO_CHOICE


def _extract(text: str) -> str:
    """Where the answer stands: Minerva phrase, box, the two "answer is" phrases, last number."""
    if "final answer is $" in text and "$. I hope" in text:
        return text.split("final answer is $", 1)[1].split("$. I hope", 1)[0].strip()
    if "boxed" in text:
        return boxed(text.rsplit("boxed", 1)[1])
    for phrase in ("he answer is", "final answer is"):
        if phrase in text:
            return text.rsplit(phrase, 1)[1].strip()
    numbers = re.findall(r"-?(?:\d*\.)?\d+", text.replace(",", ""))
    return numbers[-1] if numbers else ""


def _cleaned(answer: str) -> str:
    answer = re.sub(r"\n\s*", "", answer)
    return answer.removeprefix(":").removesuffix(".").removesuffix("/")


def normalise(answer: str) -> str:
    """One pass of the protocol's clean-up. It is not idempotent: the number of passes matters."""
    text = answer.strip().replace("\n", "").rstrip(".").replace("\\!", "")
    text = re.sub(r"\\begin\{array\}\{.*?\}", r"\\begin{pmatrix}", text)
    text = text.replace("\\end{array}", "\\end{pmatrix}").replace("bmatrix", "pmatrix")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for old, new in (("\\left", ""), ("\\right", ""), ("\\{", "{"), ("\\}", "}")):
        text = text.replace(old, new)
    text = re.sub(r"\\text\{.*?\}$", "", text).strip() or text
    text = _without_units(text)
    for gone in ("^{\\circ}", "^\\circ", "\\$", "$"):
        text = text.replace(gone, "")
    text = re.sub(r"\\text\{(.*?)\}", r"\1", _from_words(text))
    for name in "xyz":
        for sign in ("=", "\\in", "\\to"):
            text = text.replace(name + sign, "")
    text = text.replace("\\emptyset", "{}").replace("(-\\infty,\\infty)", "\\mathbb{R}")
    text = text.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    return _spelling(text)


def _spelling(text: str) -> str:
    """The end of a pass: infinity, "and", imaginary j, zeros, short left side, roots, fractions."""
    text = text.replace("infinity", "\\infty")
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    text = re.sub(r"\\mbox\{.*?\}", "", text.replace("and", "").replace("\\mathbf", ""))
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = re.sub(r"(?<!\d)(\d+)\.0*(?=\D|$)", r"\1", text)
    if text.startswith("."):
        text = "0" + text
    if text.count("=") == 1 and text.index("=") <= 2:
        text = text.split("=")[1]
    text = re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", text).replace(" ", "")
    return _slash(_bare_fractions(text))


def _without_units(text: str) -> str:
    for _ in range(2):
        for letters, pattern in _units():
            if letters in text:
                text = pattern.sub(r"\1\2", text) or text
    return text


def _from_words(text: str) -> str:
    """Number words anywhere make the whole text that number, by the package the protocol uses."""
    if not re.search(r"[A-Za-z]", text):
        return text
    from word2number import w2n

    try:
        return str(w2n.word_to_num(text))
    except Exception:  # it raises ValueError, IndexError and others for texts without a number
        return text


def _bare_fractions(text: str) -> str:
    """Brace the arguments of \\frac12 and \\frac1{72}; leave \\frac{72}1 alone."""
    head, *tails = text.split("\\frac")
    for tail in tails:
        if tail.startswith("{"):
            head += "\\frac" + tail
        elif len(tail) < 2:
            return text
        else:
            rest = tail[1:] if tail[1] == "{" else f"{{{tail[1]}}}{tail[2:]}"
            head += f"\\frac{{{tail[0]}}}{rest}"
    return head


def _slash(text: str) -> str:
    parts = text.split("/")
    if len(parts) == 2 and all(re.fullmatch(r"-?\d{1,400}", part) for part in parts):
        top, bottom = (str(int(part)) for part in parts)
        if f"{top}/{bottom}" == text:
            return f"\\frac{{{top}}}{{{bottom}}}"
    return text


_NUMBER_AND_LETTERS = re.compile(r"-?\d[\d.,]*[A-Za-z]+")
"""Text like "18dollars": the symbolic rule reads a product of letters, which equals no number."""


def equal(gold: str, answer: str | None, symbolic: Symbolic, depth: int = 0) -> bool:
    """Whether the protocol accepts a prediction, both sides already normalised."""
    if answer is None or depth > 6:
        return False
    if gold == answer:
        return True
    numbers = _float(gold), _float(answer)
    if None not in numbers:
        target, mine = numbers
        return any(
            math.isclose(form, mine, rel_tol=1e-4) for form in (target / 100, target, target * 100)
        )
    if not answer or (numbers[0] is not None and _NUMBER_AND_LETTERS.fullmatch(answer)):
        return False
    if "pmatrix" in answer and "pmatrix" not in gold:
        gold = _matrix_from_braces(gold)
    if _unbracketed(gold, answer):
        return True
    if _bracketed(gold) and _bracketed(answer):
        pairs = gold[1:-1].split(","), answer[1:-1].split(",")
        if len(pairs[0]) == len(pairs[1]) and all(
            equal(*pair, symbolic, depth + 1) for pair in zip(*pairs, strict=True)
        ):
            return True
    entries = _entries(gold), _entries(answer)
    if (
        entries[0]
        and entries[1]
        and [len(row) for row in entries[0]] == [len(row) for row in entries[1]]
    ):
        cells = [[cell for row in rows for cell in row] for rows in entries]
        if all(equal(*pair, symbolic, depth + 1) for pair in zip(*cells, strict=True)):
            return True
    return _equation(gold, answer, symbolic, depth) or symbolic(gold, answer)


def _float(text: str) -> float | None:
    text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        pass
    if text.endswith("%"):
        try:
            return float(text[:-1].removesuffix("\\")) / 100
        except ValueError:
            pass
    return None


def _bracketed(text: str) -> bool:
    return len(text) > 1 and text[0] in "([" and text[-1] in ")]"


def _unbracketed(gold: str, answer: str) -> bool:
    square, round_ = (
        [text.startswith(pair[0]) and text.endswith(pair[1]) for text in (gold, answer)]
        for pair in ("[]", "()")
    )
    crossed = (square[1] and gold.startswith("(")) or (round_[1] and gold.startswith("["))
    if (square[1] or round_[1]) and not crossed:
        gold, answer = gold.strip("[]()"), answer.strip("[]()")
    bare = [re.sub(r"[{}()]", "", text).lower() for text in (gold, answer)]
    return bare[0] == bare[1]


def _matrix_from_braces(gold: str) -> str:
    rows = re.findall(r"\{([^{}]*,[^{}]*)\}", gold)
    if not rows:
        return gold
    body = "\\\\".join(row.replace(",", "\\\\") for row in rows)
    return f"\\begin{{pmatrix}}{body}\\end{{pmatrix}}"


def _entries(text: str) -> list[list[str]]:
    match = re.fullmatch(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", text, re.DOTALL)
    if not match:
        return []
    return [
        [cell.strip() for cell in row.split("&")] for row in match[1].split("\\\\") if row.strip()
    ]


def _equation(gold: str, answer: str, symbolic: Symbolic, depth: int) -> bool:
    sides = [text.split("=") for text in (gold, answer)]
    if len(sides[0]) == len(sides[1]) == 2:
        zero = [f"{left.strip()} - ({right.strip()})" for left, right in sides]
        return symbolic(*zero) or symbolic(f"-({zero[0]})", zero[1])
    for own, other in ((0, 1), (1, 0)):
        left, *right = sides[own]
        if len(right) == 1 and len(sides[other]) == 1 and len(left.strip()) <= 2:
            pair = [gold, answer]
            pair[own] = right[0]
            return equal(*pair, symbolic, depth + 1)
    return False
