"""Where a text commits to an answer: see ``grammar.md``, Commitment.

``commitments`` gives the statements that stand, last first, and the correction after them.
Nothing here reads values; no text raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_STATEMENTS = 40
"""A loop states the same answer hundreds of times; the last ones are enough."""


MAX_BEFORE = 300
"""Characters of its sentence that are looked at before a label."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One stated answer: its words, what its sentence goes on to say, and the text from there on.

    ``boxed`` tells a box from a phrase such as "the answer is". The clause of a box begins
    behind it, that of a phrase with its words.
    """

    words: str
    clause: str
    onward: str
    boxed: bool


_QUALITY = r"(?:final|correct|right|best|required|desired|numerical|calculated|true|actual|closest)"
_BE = (
    r"(?:(?:would|will|should|must|can|could|may|might)\s+(?:only\s+|then\s+|therefore\s+)?be"
    r"|(?:has|have|needs|ought|seems|appears|turns\s+out|works\s+out|comes\s+out|comes|amounts"
    r"|is\s+found|is\s+equal|is\s+going)\s+to(?:\s+be)?|becomes|equals|is|are|was|were)(?![^\W\d])"
)
_NOT_BE = (
    r"\s+(?P<negated>(?:is|was|are|could|would|should|must)n't|(?:(?:can|could|must|would|should|will)"
    r"\s?(?:not|n't)|can't|won't)(?:\s+\w+)?\s+be)\b"
)
_COPULA = rf"(?:{_NOT_BE}|(?:\s*,[^,.\n]{{1,40}},)?\s+{_BE}(?:\s*[:=])?|\s*[:=]=?|\s+-+\s)"
_FOREIGN = (
    r"(?:答案|答え|正解|정답|答|respuesta(?:\s+(?:final|correcta))?|réponse(?:\s+finale)?|antwort|lösung"
    r"|risposta|resposta|ответ|odpowiedź|jawaban)\s*(?:是|为|為|は|은|는|一共有|est|es|ist|è|é|adalah|to)?"
    r"(?:(?=\s*不)|(?![^\W\d_]{2}))\s*[:=]?|选(?:择|项)?(?=\s*\(?[A-E])"
)
_LABEL = re.compile(
    rf"(?:(?:\bfinal_|\b)answer\b\"?(?!\s+(?:choice|option)s\b)|\bans\b\.?"
    rf"|\b(?:{_QUALITY}|my|our)\s+(?:answer\s+)?(?:choice|option)\b|\b(?:answer\s+)?choice\b(?=\s+is\b|\s*:))"
    rf"(?:\s+(?:choice|option)\b)?(?:\s*\([^()\n]{{1,40}}\))?(?:\s+(?:to|of|for|in)\b[^.?\n=:]{{0,120}}?)?{_COPULA}"
    rf"|(?:^|\n|#\s|[.!?]\s)[^\w\n]{{0,9}}(?:the\s+)?(?:{_QUALITY}\s+){{0,3}}(?:answer|ans)\b[^\w\n\\$(\[\"'<-]{{0,9}}"
    rf"(?=\n|\s-?[\d$\\(]|\s*\(?[A-Ea-e]\b)"
    rf"|(?:^|\n)A\s*:(?=\s*[-$\d\\])|####|{_FOREIGN}",
    re.IGNORECASE,
)
_FOREIGN_LABEL = re.compile(_FOREIGN, re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"(?<![.\d])(\d+),(\d{1,2})(?!\d)")
_REVERSED = re.compile(
    rf"(?:^|(?<=[.!?\n;]))(?P<value>[^.!?\n;]{{1,80}}?(?:\.\d+[^.!?\n;]{{0,40}}?)?)\s+(?:is|are|was|must\s+be)"
    rf"\s+(?:the|my|our)\s+(?:{_QUALITY}\s+)*answer\b(?!\s*[:=]|\s+(?:is|choice))",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\?\\(?:boxed|fbox|framebox)\b\s*|(?<![A-Za-z\\])boxed(?=\{)")
SENTENCE_END = re.compile(
    r"\n|;\s|(?<!\b[F-Z])(?<!\b[ap]\.m)(?<!\b[AP]\.M)(?<!\bMrs)(?<!\bMr)(?<!\bDr)(?<!\bMs)(?<!\bSt)"
    r"(?<!\brs )(?<!\bRs)(?<!\bi\.e)(?<!\be\.g)(?<!\bapprox)(?<!\bsq)(?<!\bvs)"
    r"[.!?](?!\s*=)(?=[\s\"')\]*$<]|$)"
)
_DENIED = re.compile(
    r"\b(?:not|never|isn't|wasn't|nor|can't be|cannot be)[^\w\n]{0,6}$", re.IGNORECASE
)
_NEGATED = re.compile(
    r"\W{0,4}(?:not|no\s+longer|never|n't|neither|no(?=\s+es)|nicht|n'est\s+pas|pas|non|não|не)\b|\s*不",
    re.IGNORECASE,
)
_TAG_QUESTION = re.compile(
    r",\s*(?:is(?:n't| not) it|right|correct|no|yes|ok(?:ay)?)\s*\?\s*$", re.I
)
_SUPPOSED = re.compile(
    r"(?:^|[.!?\n;:,])\W{0,3}(?:(?:but|and|so|now|then|even)\s+)?(?:if|suppose|supposing|assum(?:e|ing)|imagine|whether|unless"
    r"|let(?:'s| us| me)\s+(?:say|guess|assume|suppose|try)|say|had|were)\b[^.!?\n;,]*$"
    r"|(?:^|[.!?\n;])(?![^.!?\n;]*\b(?:I|I'd|I'll|we)\b)[^.!?\n;]*\b(?:think|thinks|thought|says?|said|claims?|claimed"
    r"|believes?d?|guess(?:es|ed)?|argues?|tempt\w+|expects?|suggest(?:s|ed)?|assumes?d?)\b[^.!?\n;]*$",
    re.IGNORECASE,
)
"""Before a label in its sentence: what it says is an assumption, or what others say."""
_WOULD_BE = (
    r"\b(?:would|could|might)\s+(?:only\s+)?(?:be|have\s+been)\b[^.!?\n]*\bif\b[^.!?\n]*"
    r"\b(?:had|were|did|hadn't|weren't|didn't|was)\b"
)
_COUNTERFACTUAL = re.compile(
    rf"{_WOULD_BE}"
    r"|\bif\b[^.!?\n]*\b(?:had|were|did|hadn't|weren't|didn't|was|asked|wanted)\b[^.!?\n]*\bwould\b",
    re.IGNORECASE,
)
_HYPOTHETICAL = re.compile(_WOULD_BE, re.IGNORECASE)
_OTHERS = re.compile(
    r"^\W*(?:some(?:one|body)?|anyone|many|most|people|others|(?:\w+\s+)?students?|those\s+who|one|you"
    r"|(?:my|his|her|the)\s+(?:\w+\s+)?(?:friend|classmate|teacher|brother|sister|calculator|book)s?)\s+(?:[^.]*\s)?"
    r"(?:say|says|said|think|thinks|thought|claims?|claimed|chose|chooses?|picks?|picked|selects?|selected|guess\w*|answer(?:s|ed)?)\b"
    r"|\bI\s+(?:doubt|don't\s+think|do\s+not\s+think)\b|^\W*none\s+of\b",
    re.IGNORECASE,
)
"""A sentence about what others answer, what is doubted, or what does not fit."""
_ASKING = re.compile(
    r"\W{0,3}(?:(?:so|but|and|then|now|hmm+)\W+)?(?:is|are|was|were|does|do|did|can|could|should|would|will|has"
    r"|have|what|which|how|who|why|when|where)\b",
    re.IGNORECASE,
)
_AFFIRMED = re.compile(r"\s*(?:yes|indeed|correct|right|yep)\b", re.IGNORECASE)
_LEAD = re.compile(r"^[ \t]*(?:;|\.{2,})[ \t]*")
_MISTAKEN = re.compile(
    r"\b(?:wrong|incorrect|false|tempting|naive|common|mistaken|bogus|earlier|previous|old|your|his|her|their"
    r"|first|initial|original|(?<!only )possible)\s*$"
    r"|\b(?:not\s+(?:the\s+case|true)|doubt|deny|n't\s+(?:think|believe|say|mean))"
    r"(?:\s+that)?(?:\s+the)?(?:\s+\w+)?\s*$",
    re.IGNORECASE,
)
"""Before a label: the answer is another's, an earlier one, or denied."""
REFUTED = re.compile(
    r"[^\w\n]{0,4}(?:(?:but|which|and|however),?\s+)?(?:(?:it|that|this)\s+)?"
    r"(?:(?:is|was|are|would be|seems|does|do|can|could|will)\b\W{1,3}"
    r"(?:clearly|obviously|far|also|still|just)?\W{0,3}"
    r"(?:not|too|wrong|incorrect|impossible|invalid)\b|(?:is|does|do|was|ca|wo)n't\b|cannot\b"
    r"|fails?\b|is\s+what\s+(?!I\b|we\b)|was\s+(?:my|the|our|a)\s+(?:first|initial|original|old|earlier|previous|wrong)\b"
    r"|(?:is|was)\s+(?:an?\s+)?(?:extraneous|wrong|invalid|incorrect)\b)",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    r"(?:^|[.!?\n,;])\s*(?:(?:oh|hmm+|but|ah|no|so)[,.]*\s+)*"
    r"(?:wait|actually|correction|oops|sorry|no(?=,\s|\.\s+(?:it|the)\b)|hold on|on second thought"
    r"|(?P<strong>(?:that|this|which)(?:'s| is| was) (?:clearly |obviously )?"
    r"(?:wrong|incorrect|not (?:right|correct))|I made (?:a|an) (?:mistake|error)"
    r"|scratch that|(?:let me )?correct(?:ing)? (?:that|myself)))\b",
    re.IGNORECASE,
)
_JOINT = re.compile(
    r"[\s$]*(?:\\[()\][]|\\text\s*\{\s*(?:and|or)\s*\}|[,&;]|\band\b|\bor\b|\\q?quad|\s|\$)+"
    r"(?:[A-Za-z](?:_\{?\w\}?)?\s*=\s*)?[\s$]*"
)


def statements(text: str) -> list[Statement]:
    """Every label, box and reversed label that states an answer, in order of appearance."""
    marks = [
        (m.start(), m.end(), "not" if m["negated"] else "label") for m in _LABEL.finditer(text)
    ]
    marks += [(m.start(), m.end(), "box") for m in _BOX.finditer(text)]
    marks += [
        (m.end(), m.end(), m["value"])
        for m in _REVERSED.finditer(text)
        if not _BOX.search(m["value"])
    ]
    marks = sorted(marks)[-MAX_STATEMENTS:]
    found: list[Statement] = []
    behind = -1
    for index, (start, end, kind) in enumerate(marks):
        limit = marks[index + 1][0] if index + 1 < len(marks) else len(text)
        if kind == "box":
            stated, stop = _braced(text, end)
            clause = sentence_of(text[stop:])
            if _DENIED.search(text[max(0, start - MAX_BEFORE) : start]):
                clause = " is not"
            if _supposed(text, start):
                clause = "if " + clause
            joint = text[behind:start] if 0 <= behind <= start <= behind + 60 else ""
            if joint.strip(" \n$") and _JOINT.fullmatch(joint):
                stated = f"{found.pop().words}, {stated}"
            behind = stop
            found.append(Statement(stated, clause, text[end:], True))
        elif kind in ("label", "not"):
            stated = _LEAD.sub("", text[end:limit], count=1)
            if _FOREIGN_LABEL.match(text, start):
                stated = _DECIMAL_COMMA.sub(r"\1.\2", stated)
            clause = sentence_of(stated.lstrip())
            label = _sentence_before(text, start) + text[start:end] + " " + clause
            if _supposed(text, start) or _COUNTERFACTUAL.search(label):
                clause = "if " + clause
            elif kind == "not":
                clause = "not " + clause
            found.append(Statement(stated, clause, text[end:], False))
        else:
            found.append(Statement(kind.strip(), "", text[end:], False))
    return found


def _supposed(text: str, start: int) -> bool:
    """Whether what begins here is assumed, another's answer or an earlier one."""
    before = text[max(0, start - MAX_BEFORE) : start]
    return bool(_SUPPOSED.search(before) or _MISTAKEN.search(before))


def _sentence_before(text: str, stop: int) -> str:
    """What a sentence says before a place in it."""
    before = text[max(0, stop - MAX_BEFORE) : stop]
    ends = [*SENTENCE_END.finditer(before)]
    return before[ends[-1].end() :] if ends else before


def sentence_of(text: str) -> str:
    """The text up to and with its first sentence end."""
    end = SENTENCE_END.search(text)
    return text[: end.end()] if end else text


def first_sentence(words: str) -> str:
    """The first sentence of a statement, without its full stop."""
    words = words.lstrip(" \n\t:=*")
    end = SENTENCE_END.search(words)
    return (words[: end.start()] if end else words).strip()


def _of_the_writer(sentence: str) -> str:
    """What of a sentence its writer holds to be so: not what would be, or others think."""
    if _HYPOTHETICAL.search(sentence):
        return ""
    if not _OTHERS.search(sentence):
        return sentence
    turn = re.search(r"\b(?:but|actually|so|therefore|thus|hence)\b", sentence)
    return sentence[turn.end() :] if turn else ""


def sentences(text: str) -> list[str]:
    """The sentences of a text that hold anything and ask nothing, last first."""
    ends = [*SENTENCE_END.finditer(text)]
    starts = [0, *(end.end() for end in ends)]
    stops = [*(end.start() for end in ends), len(text)]
    found = []
    for start, stop in zip(starts, stops, strict=True):
        part = text[start:stop]
        asked = text[stop : stop + 1] == "?" and _ASKING.match(part)
        asked = asked and not _AFFIRMED.match(text, stop + 1)
        part = _of_the_writer(part)
        if part.strip(" .*_`\"'") and not asked:
            found.append(part.strip())
    return found[::-1]


def _braced(text: str, start: int) -> tuple[str, int]:
    """What a box holds, and where it ends: to the matching brace, or to the end of the line."""
    if text[start : start + 1] != "{":
        match = re.compile(r"[^\s$]*").match(text, start)
        return match[0].rstrip(".,"), match.end()
    depth = 0
    for part in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(part[0], 0)
        if depth == 0 and part[0] == "}":
            return text[start + 1 : part.start()], part.end()
    line = text[start + 1 :].split("\n", 1)[0]
    return line, start + 1 + len(line)


def commitments(text: str) -> tuple[list[Statement], str | None, bool]:
    """The statements that stand, last first; the text of a correction after them; whether the
    last one was taken back outright (so that without a correction nothing stands).

    An empty box that closes commits to nothing, and stands; other empty statements are cut off.
    """
    every = [
        s
        for s in statements(text)
        if s.words.strip(" \n\t:=.,*$\"'-") or (s.boxed and "}" in s.onward[:3])
    ]
    supposed = [s for s in every if s.clause.startswith("if ")]
    every = [s for s in every if not s.clause.startswith("if ")]
    if supposed and not every:
        rest = supposed[-1].onward
        return [], rest[len(sentence_of(rest)) :], True
    standing: list[Statement] = []
    fallen = False
    for statement in every:
        fallen = _falls(statement)
        if not fallen:
            standing.append(statement)
    if not every:
        return [], None, False
    last = every[-1]
    behind = last.onward
    if fallen:
        if last.boxed:
            behind = behind[_braced(behind, 0)[1] :]
        end = SENTENCE_END.search(behind)
        comma = re.search(r",\s*(?:so|it)\b|\bbut\b", behind[: end.start()] if end else behind)
        start = comma.end() if comma else end.end() if end else len(behind) * last.boxed
        return standing[::-1], behind[start:], not (last.boxed and standing)
    retracted = _RETRACTED.search(behind, min(len(behind), len(last.words) if last.boxed else 0))
    if retracted:
        again = _RETRACTED.search(sentence_of(behind[retracted.end() :]))
        return (
            standing[::-1],
            behind[retracted.end() :],
            bool(retracted["strong"] or again and again["strong"]),
        )
    return standing[::-1], None, False


def _falls(statement: Statement) -> bool:
    """Whether a statement is negated, a question, or refuted in its own sentence."""
    clause = statement.clause
    if statement.boxed:
        return bool(REFUTED.match(clause))
    if _NEGATED.match(clause):
        return True
    return clause.rstrip().endswith("?") and not _TAG_QUESTION.search(clause)
