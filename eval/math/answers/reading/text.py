"""From a generation to plain text and tokens: see ``grammar.md``, Generation.

``own_part`` cuts what no longer belongs to the question and takes off everything that carries no
meaning: markdown, tags, emphasis, bullets, invisible and doubled Unicode forms. LaTeX stays.
``tokens`` cuts a statement into numerals, words, commands and signs.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 20_000
"""Only this much of a generation is read: 1,024 tokens are about 4,000 characters."""

MAX_DIGITS = 2_000
"""Longer numerals are not read: converting them costs quadratic time, and no answer has them."""

MAX_EXPONENT = 400
"""Bound of a decimal exponent; beyond it a Fraction would have to hold all those digits."""

_LEADING_TOKENS = re.compile(r"(?:\s|<\|im_(?:start|end)\|>(?:assistant)?|<s>|<\|endoftext\|>)+")
_NEXT_QUESTION = re.compile(
    r"</s>|<\|im_(?:start|end)\|>|<\|endoftext\|>|<\|end\|>|<\|eot_id\|>"
    r"|(?:^|\n|(?<=[.!?$])\s)[ \t]*(?:Question|Problem)[ \t]*:"
    r"|\n[ \t#*]*(?:Question|Problem|Exercise)[ \t]*(?:\d+\b|:)"
    r"|\n[ \t#*]*(?:Next|New)[ \t]+(?:question|problem)\b"
    r"|(?:^|\n)[ \t]*(?:Q|User|Human|Assistant)\s*:"
)
_FOLDED = str.maketrans({
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "﹣": "-", "⁄": "/", "∕": "/",
    "÷": "/", "∙": "×", "·": "×", "⋅": "×", "✕": "×", "∗": "*", "“": '"', "”": '"', "„": '"',
    "«": '"', "»": '"', "‘": "'", "’": "'", "′": "'", "⟨": "<", "⟩": ">", "【": "[", "】": "]",
    "→": ": ", "⇒": ": ", "➜": ": ", "∴": " ", "•": " ", "。": ".", "、": ",",
})  # fmt: skip
_KEPT_SIGNS = "°√✓✔✅☑✗✘❌✖"
_IDEOGRAPH = r"[\u3041-\u30ff\u4e00-\u9fff\uac00-\ud7a3]"


def plain_text(text: str) -> str:
    """One form of each character: ASCII digits, signs, quotes, spaces; ``3½`` is ``3 1/2``,
    ``10³`` is ``10^{3}``; invisible characters, lone surrogates and pictures go."""
    text = html.unescape(text) if "&" in text else text
    if text.isascii():
        return text
    out: list[str] = []
    raised = ""
    for char in text:
        kind = unicodedata.category(char)
        form = unicodedata.decomposition(char)
        script = {"<super>": "^", "<sub>": "_"}.get(form.split(" ")[0], "")
        if script and kind != "Lo" and char not in "ºª":
            out.append("" if raised == script else ("}" if raised else "") + script + "{")
            out.append(unicodedata.normalize("NFKC", char))
            raised = script
            continue
        if raised:
            out.append("}")
            raised = ""
        if char.isascii():
            out.append(char)
        elif char.isdecimal():
            out.append(str(unicodedata.decimal(char)))
        elif form.startswith("<font>"):
            out.append(unicodedata.normalize("NFKC", char))
        elif form.startswith("<circle>"):
            out.append(" (" + unicodedata.normalize("NFKC", char) + ") ")
        elif form.startswith("<fraction>"):
            out.append(" " + unicodedata.normalize("NFKC", char))
        elif "\uff00" <= char <= "\uffef":
            out.append(unicodedata.normalize("NFKC", char))
        elif kind in ("Cf", "Cs", "Mn", "Me"):
            continue
        elif kind == "Zs" or (kind == "So" and char not in _KEPT_SIGNS):
            out.append(" ")
        else:
            out.append(char)
    return ("".join(out) + ("}" if raised else "")).translate(_FOLDED)


_MARKS = [
    (
        re.compile(
            r"\b(?:none|no(?: one| number)?) other than\b|\bno more and no less than\b", re.I
        ),
        "",
    ),
    (re.compile(r"~~[^~\n]{1,200}~~"), " "),  # struck out
    (re.compile(r"(?<=[\w)\]])[^\S\n]?[✓✔✅☑]\ufe0f?"), " is correct."),
    (re.compile(r"(?<=[\w)\]])[^\S\n]?[✗✘❌✖]\ufe0f?"), " is wrong."),
    (re.compile(r"[✓✔✅☑✗✘❌✖]\ufe0f?"), " "),
    (re.compile(rf"(?<={_IDEOGRAPH})(?=[A-Za-z\d$(-])|(?<=[A-Za-z\d])(?={_IDEOGRAPH})"), " "),
    (re.compile(r"<<[^<>\n]*>>"), ""),  # GSM8K's calculator notes
    (re.compile(r"<answer>", re.IGNORECASE), "\nAnswer: "),
    (re.compile(r"</?(?![A-E]>)[A-Za-z][^<>\n]{0,20}>"), ""),
    (re.compile(r"^[ \t]*(?:>[ \t]*)+", re.MULTILINE), ""),
    (
        re.compile(
            r"^[ \t]*#{1,6}(?!#)[ \t]*(?=[^\W\d])(?!(?:negative|minus|about|approx\w*|exactly|x ="
            r"|rs|usd|[a-e]|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen"
            r"|\w+ty)\b))",
            re.MULTILINE | re.IGNORECASE,
        ),
        "",
    ),
    (re.compile(r"\b(?:Rs|No|Nr)\.\s?(?=\d)", re.IGNORECASE), ""),
    (re.compile(r"^[ \t]*(?:[-*+][ \t]+(?=\S)|\d[.)][ \t]+(?=[-$]?\d))", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*\|([^|\n]{1,200})\|([^|\n]{1,200})\|[ \t]*$", re.MULTILINE), r"\1:\2"),
]
_EMPHASIS = re.compile(
    r"(?<![\w*)}\\^])(\*\*\*|\*\*|\*|__|_|`{1,3})(?=[^\s*_`])([^\n]{0,200}?[^\s*_`\\])\1(?![\w*({\\])"
)
_STRAY = re.compile(r"(?<![\w)}])\*\*+|\*\*+(?![\w({\\-])|`+(?!`)")


def unmarked(text: str) -> str:
    """A text without mark-up; arithmetic signs between operands stay (``3 * 4``, ``5**2``)."""
    for pattern, replacement in _MARKS:
        text = pattern.sub(replacement, text)
    for _ in range(2):
        text = _EMPHASIS.sub(r"\2", text)
    return _STRAY.sub("", text)


def own_part(generation: str) -> str:
    """The text up to the first new question, chat turn or end-of-text mark, as plain text."""
    text = generation[:MAX_CHARS]
    leading = _LEADING_TOKENS.match(text)
    if leading:
        text = text[leading.end() :]
    cut = _NEXT_QUESTION.search(text)
    return unmarked(plain_text(text[: cut.start()] if cut else text)).strip()


@dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is number, word, command or sign; ``text`` is lower case but for commands.

    A number's ``value`` is None where the numeral is malformed (``12,34``). ``spaced`` tells
    whether white space comes before it, ``end`` where it ends in the text.
    """

    kind: str
    text: str
    spaced: bool
    end: int
    value: Fraction | None = None
    decimals: int = 0
    digits: int = 0
    suffix: str = ""


_GAP = r"(?:,\\!|\{,\}|,|\\[,;:! ]|['_~ ])"
_THREES = rf"\d{{1,3}}(?P<gap>{_GAP})\d{{3}}(?:(?P=gap)\d{{3}})*+(?!\d)"
_INDIAN = r"\d{1,2}(?:,\d\d)+,\d{3}(?!\d)"
_CURRENCY = r"(?:\$|€|£|¥|₹|\b(?:usd|eur|euros?|rs|dollars?|pounds?|rupees?)\b)"
_LEXER = re.compile(
    rf"""
    (?P<european>\d{{1,3}}(?:\.\d{{3}})+,\d+|\d{{1,3}}(?:\ \d{{3}})+,\d\d?)(?![\d.,]*\d)
  | (?P<comma>\d+,\d{{1,2}})(?![\d.,]*\d)
  | (?P<number>(?=\.?\d)(?:{_THREES}|{_INDIAN}|\d+)?+(?P<decimal>\.\d+)?+(?<=\d)
      (?:e(?P<exponent>[-+]?\d+)\b)?)
    (?:-?(?P<suffix>st|nd|rd|th|(?-i:[kKMB])|bn)\b)?(?P<malformed>(?:[.,]\d+)+)?
  | (?P<times>(?<=[\d\s)}}])(?<!\b0)x(?=\s?[\d$]))
  | (?P<word>[^\W\d_](?:[\w]|'(?=\w)|(?<=\.\w)\.)*)
  | (?P<command>\\[A-Za-z]+|\\.)
  | (?P<sign>\*\*|[^\s])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_KINDS = {"word": "word", "command": "command", "sign": "sign", "times": "sign"}


def tokens(text: str) -> list[Token]:
    """The tokens of a statement; ``2,50`` is 5/2 where a currency stands beside it."""
    found = []
    position = 0
    for match in _LEXER.finditer(text):
        kind = _KINDS.get(match.lastgroup or "", "number")
        value, decimals, digits, suffix = None, 0, 0, ""
        if kind == "number":
            suffix = match["suffix"] or ""
            value, decimals, digits = _numeral(match, text)
        shown = match[0] if kind == "command" else match[0].lower()
        spaced = match.start() > position
        position = match.end()
        found.append(Token(kind, shown, spaced, position, value, decimals, digits, suffix))
    return found


def _numeral(match: re.Match[str], text: str) -> tuple[Fraction | None, int, int]:
    """Value, decimals and significant digits; no value if malformed or beyond the limits."""
    written = match[0]
    if len(written) > MAX_DIGITS or match["malformed"]:
        return None, 0, 0
    if match["comma"]:
        near = text[max(0, match.start() - 6) : match.start()], text[match.end() : match.end() + 8]
        beside = re.search(_CURRENCY + r"\s*$", near[0], re.IGNORECASE) or re.match(
            r"\s*" + _CURRENCY, near[1], re.IGNORECASE
        )
        if not beside:
            return None, 0, 0
    if match["comma"] or match["european"]:
        whole, _, decimal = re.sub(r"[. ]", "", written).partition(",")
    else:
        decimal = (match["decimal"] or ".")[1:]
        whole = match["number"].lower().split("e")[0].removesuffix(match["decimal"] or "")
        whole = re.sub(r"\D", "", whole)
    value = Fraction(int((whole + decimal) or 0), 10 ** len(decimal))
    decimals = len(decimal)
    if match["exponent"]:
        if abs(int(match["exponent"][:9])) > MAX_EXPONENT:
            return None, 0, 0
        value, decimals = value * Fraction(10) ** int(match["exponent"]), 0
    return value, decimals, len((whole + decimal).lstrip("0"))
