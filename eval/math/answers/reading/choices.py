"""The option letter a text commits to: see ``grammar.md``, Choice."""

from __future__ import annotations

import re
from itertools import islice

from eval.math.answers.reading.statements import REFUTED, commitments, first_sentence, sentences

MAX_LETTERS = 100
NEAR = 80
"""Characters on either side of a letter that decide what it is."""

_ORDINALS = {"first": "A", "second": "B", "third": "C", "fourth": "D", "fifth": "E"}
_ORDINAL = re.compile(rf"(?i)\b({'|'.join(_ORDINALS)})\s+(?:option|choice|one)\b")
_WRAPPER = re.compile(
    r"\\(?:boxed|text|textbf|textit|mathrm|mathbf|mathsf|mbox|bf|rm|boldsymbol)(?![a-z])|[${}\"`]"
    r"|\\[()\][,;: ]"
)
_LETTER = re.compile(
    r"[(\[<]\s*(?P<bracketed>[A-Ea-e])\s*\.?[)\]>]"
    r"|\b(?:option|choice|letter|answer)s?(?:\s*:?\s+|-)[(\[']?(?P<named>[A-Ea-e])\b[)\]']?"
    r"|(?<![\w\\'$-])(?P<listed>[A-Ea-e])\s*\)"
    r"|'(?P<quoted>[A-Ea-e])'|(?<![\w\\'.^+*/=-])(?P<bare>[A-E])(?![\w'^_+*/=(])"
    r"|(?:^|(?<=\s)|')(?P<small>[b-e]|a(?=\W*$))(?=[\s.,;:']*$|[.:]\s|')",
)
_EXCLUDED = re.compile(
    r"\b(?:(?:not|cannot|can't|couldn't)(?:\s+(?:choose|pick|select|be))?|nor|neither|never|than|of|over|(?:anything|all|everything)\s+but|besides|aside\s+from|apart\s+from|rules?\s+out|ruled\s+out|ruling\s+out|eliminat\w+"
    r"|exclud\w+|reject\w*|discard\w*|except|unlike|isn't|against|without|drop\w*)"
    r"(?:\s+(?:options?|choices?|both|either|answers?))?[\s(\['\"]*$",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"\b(?:because|since|although|though|whereas|while|even though|given|considering|if|unless)\b"
    r"|\bas\b(?!\s+(?:the|my|our|an?)\b)",
    re.IGNORECASE,
)
_NOUN = re.compile(
    r"\s+(?!(?:because|since|as|rather|instead|not|and|or|while|whereas|although|is|was|which|so|but|if"
    r"|when|given|works|matches)\b)[a-z]"
)
_GONE = re.compile(
    r"\W{0,3}(?:is|was|are|(?:can|could|may)\s+be)\s+(?:\w+ly\s+)?(?:eliminated|excluded|ruled\s+out|out|gone|rejected)\b"
)
_VERB = re.compile(
    r"\W{0,3}(?:is|are|was|were|has|have|gives?|would|does|do|can|could|exceeds?|ignores?|uses?"
    r"|fails?|doesn't|isn't|comes|makes|yields|seems|adds?|being)\b",
    re.IGNORECASE,
)
_FAVOURED = re.compile(
    r"\W{0,3}(?:(?!\b[A-E]\b)[^.;]){0,40}?\b(?:is|was|must be|are"
    r"|(?:seems|looks|appears)(?: to be)?)\s+"
    r"(?:therefore\s+|thus\s+|clearly\s+)?(?:the\s+)?"
    r"(?:only\s+)?(?:correct|right|answer|best|one|true|closest|solution|choice)\b"
    r"|\W{0,3}it\s+(?:is|must\s+be|has\s+to\s+be)\b|\W{0,3}is\s+what\s+(?:we|I)\b"
    r"|\W{0,3}does(?!n't|\s+not)\W*$"
    r"|\s*[|:]\s*(?:yes|true|correct|right|works|match\w*)\b"
    r"|\W{0,3}is\s+the\s+only\b|\W{0,3}(?:matches|works|fits|holds|agrees|satisfies|solves)\b",
    re.IGNORECASE,
)
_TICKED = re.compile(r"\[\s?[xX]\s?\]\s*\(?([A-E])\b")
_CASES = re.compile(
    r"\bif\b[^.]*(?:\b(?:and|but|or|otherwise)\b|[,;])\s*\(?([A-E])\b\)?\s*(?:if|otherwise|when|else|$)"
)
_JOINED = re.compile(r"(?:\b(?:and|or)|[,/&])\s*\(?$")
_MARKED = re.compile(
    r"(?:^|(?<=[\n|.;,]))\W{0,4}(?P<letter>[A-E])\b(?![^\S\n]*=)[^\n;]{0,60}?"
    r"(?:[-:|(]|\bis)\s*(?:clearly\s+)?(?:(?P<right>correct|right|true|yes|works|match(?:es)?)"
    r"|incorrect|wrong|false|no|fails?|too \w+)\b"
)
"""Options that are marked one by one: "(A) 12 - incorrect", "| B | yes |"."""
_UNFIT = re.compile(r"\s*[|:]\s*(?:no|false|wrong|incorrect|fails?|too)\b", re.IGNORECASE)
_CHOSEN = re.compile(
    r"\b(?:so|hence|thus|therefore|choose|chose|choosing|pick|select|(?:go|going|vote|opt|settle)\s+(?:with|for|on)|say|no(?=,)|yes(?=,)|mark|tick|circle|box|bubble|fill\s+in"
    r"|is|be|leaves?|leaving|with|to|as|but|option|choice|letter|it's|guess|matches|think|conclusion|ergo|\w+ly)\b[\s,:]*(?:only\s+)?"
    r"(?:the\s+)?(?:answer|option|choice|letter)?[\s(\[':]*$|:\s*$",
    re.IGNORECASE,
)
_OPTIONS = re.compile(
    r"(?:^|(?<=[\s,;|]))(?:[(\[]?a[)\]]|^\W{0,3}a[.:])\s*[^\s)][^\n]*?"
    r"(?:(?:[\s,;|]+[(\[]?[b-e][)\]]|\n\W{0,3}[b-e][.:])\s*[^\s)][^\n]*?){1,4}"
    r"(?=[.\s]*$|[.!?]\s|\n\s*\n|\n(?!\W{0,3}[b-e][).:]))",
    re.IGNORECASE | re.MULTILINE,
)
"""The options of the question, copied: "A) 5 B) 6 C) 7"."""
_SEVERAL = re.compile(
    r"\b([A-E])\b\W{0,3}(?:and|&|or)\W{0,3}\b([A-E])\b\W{0,3}(?:are|were)\s+(?:both\s+|all\s+)?"
    r"(?:correct|right|true|answers?|valid|possible|solutions?)",
)


def choice(text: str) -> tuple[str | None, bool]:
    """The option letter (upper case) a solution commits to, and whether one was stated but
    refused; two different letters commit to none.

    A letter must stand alone: "closest" holds no C, and "a number" no A.
    """
    standing, correction, taken_back = commitments(text)
    if correction is not None:
        found = _weak(correction)
        if found or taken_back:
            return (found, False) if found else (None, bool(standing))
    for statement in standing:
        letters = _stated(statement.words, boxed=statement.boxed)
        if letters:
            return (letters[0], False) if len(letters) == 1 else (None, True)
        if statement.boxed and not statement.words.strip():
            return None, True
    return _weak(text), False


def _stated(words: str, *, boxed: bool) -> list[str]:
    """The distinct letters that a statement gives as the answer."""
    sentence = first_sentence(_WRAPPER.sub(" ", words).lstrip(" \n\t:=*-"))
    if sentence == "" and words.strip():
        sentence = _WRAPPER.sub(" ", words).strip()
    return _letters(sentence, strict=False)


def _letters(sentence: str, *, strict: bool) -> list[str]:
    """The distinct letters of a sentence that are neither refuted nor explained away.

    ``strict`` asks of a letter that the sentence chooses it: "so B", "option B is correct".
    """
    found: list[str] = []
    explained = _CLAUSE.search(sentence)
    bracketed = False
    for match in islice(_LETTER.finditer(sentence), MAX_LETTERS):
        letter = next(group for group in match.groups() if group).upper()
        before = sentence[max(0, match.start() - NEAR) : match.start()]
        after = sentence[match.end() : match.end() + NEAR]
        favoured = bool(_FAVOURED.match(after))
        if explained and match.start() > explained.start() and found:
            other = _CASES.search(sentence, explained.start())
            return [*found, other[1]] if other else found
        if match["bare"] == "A" and _NOUN.match(after) and not favoured:
            continue  # an article
        if found and match["bare"] and bracketed and not _JOINED.search(before):
            continue  # "the answer is (A) Plan B"
        if match["bare"] and before.strip(" '(") and re.match(r"\s*[-+*/=^]\s*[\w(]", after):
            continue  # a variable
        if (
            _EXCLUDED.search(before)
            or REFUTED.match(after)
            or _UNFIT.match(after)
            or _GONE.match(after)
        ):
            continue
        if _excluded_with_others(before, after):
            continue
        if found and _VERB.match(after) and not favoured:
            continue  # the subject of another clause
        whole = not before.strip(" ,:'(") and (
            match["bare"] is None or re.match(r"\s*(?:[.:-]|$)", after)
        )
        ends = match["named"] and not after.strip(" .*)")
        listed = found and match["bare"] is None
        if strict and not (favoured or _CHOSEN.search(before) or whole or ends or listed):
            continue
        bracketed = bracketed or bool(match["bracketed"])
        if letter not in found:
            found.append(letter)
    if not found:
        ordinal = _ORDINAL.search(sentence)
        behind = sentence[ordinal.end() :] if ordinal else ""
        chosen = not strict or not behind.strip(" .*") or _FAVOURED.match(behind)
        if ordinal and chosen and not REFUTED.match(behind):
            found = [_ORDINALS[ordinal[1].lower()]]
    return found


def _excluded_with_others(before: str, after: str) -> bool:
    """Whether a letter belongs to a list that is excluded: "eliminating A, B and D", "A and B are
    too small"."""
    head = re.search(r"((?:[(\[]?[A-E][)\]]?\s*(?:,|and|or|nor)\s*(?:and\s+)?)+)[(\[]?$", before)
    if head and _EXCLUDED.search(before[: head.start()]):
        return True
    tail = re.match(r"(?:[)\]]?\s*(?:,|and|or)\s*(?:and\s+)?[(\[]?[A-E][)\]]?)+", after)
    return bool(
        tail and re.match(r"\W{0,3}(?:are|were|do|don't|aren't|both|all)\b", after[tail.end() :])
    )


def _weak(text: str) -> str | None:
    """The letter that the last deciding sentence of a text without a label chooses."""
    marked = [*_MARKED.finditer(text)]
    right = {match["letter"] for match in marked if match["right"]}
    if len(marked) < 3:
        right = {*_TICKED.findall(text)}
    if len(right) == 1:
        return right.pop()
    plain = _OPTIONS.sub(" ", _WRAPPER.sub(" ", text))
    if _SEVERAL.search(plain):
        return None
    for sentence in sentences(plain):
        if re.search(r"\b(?:or|either)\b", sentence) and len(_letters(sentence, strict=False)) > 1:
            return None
        letters = _letters(sentence, strict=True)
        if letters:
            return letters[-1] if len(letters) == 1 else None
    opening = re.match(r"\W{0,3}(?:[A-E]\b|[a-e]\s*(?:[).:]|$))", plain)
    if not opening or (
        _VERB.match(plain, opening.end()) and not _FAVOURED.match(plain, opening.end())
    ):
        return None
    letters = _letters(first_sentence(plain), strict=False)
    return letters[0] if len(letters) == 1 else None
