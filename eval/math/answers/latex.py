"""The shape of a MATH answer: tidied LaTeX taken apart into lists, tuples, sets, matrices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from eval.math.answers.quantities import Quantity, parse_quantity, plain_text

MAX_CHARS = 3_000
"""A longer answer is not taken apart; it is right only if it equals the gold text."""

MAX_PARTS = 24
"""Parts of a list or entries of a matrix that are compared."""

_SYMBOLS = {
    "π": r"\pi ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "∪": r"\cup ",
    "°": "",
    "θ": r"\theta ",
    "±": r"\pm ",
    "∈": r"\in ",
    "ℝ": r"\mathbb{R}",
    "∅": r"\emptyset ",
}
_GREEK = "alpha|beta|gamma|delta|epsilon|theta|lambda|mu|pi|rho|sigma|tau|phi|omega"
_COMMANDS = (
    "frac|dfrac|tfrac|sqrt|pi|cdot|times|left|right|begin|end|text|infty|theta|boxed|circ|cup|cap"
    "|log|ln|sin|cos|tan|binom|pm|le|ge|leq|geq|mathbb|mathrm|mathbf|overline|angle|alpha|beta"
)
_REWRITES = [
    (re.compile(rf"(?<!\\)\\\\(?=(?:{_COMMANDS})(?![A-Za-z]))"), r"\\"),  # \\frac, from the prompt
    (re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|displaystyle|limits)(?![a-z])"), ""),
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;:> ]|~|\\quad|\\qquad|\\hspace\{[^{}]*\}"), " "),
    (re.compile(r"\\[dtc]frac(?![a-z])"), r"\\frac"),
    (re.compile(r"\\(?:leq|leqslant)(?![a-z])"), r"\\le"),
    (re.compile(r"\\(?:geq|geqslant)(?![a-z])"), r"\\ge"),
    (re.compile(r"\\(?:varnothing|O)(?![a-z])"), r"\\emptyset"),
    (re.compile(r"\\(?:mbox|textbf|textit|textrm|emph|mathbf|mathit|operatorname)(?=\s*\{)"),
     r"\\text"),
    (re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))|\\degree(?![a-z])"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\*\*(?=\S)([^*]+)\*\*"), r"\1"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*([\dA-Za-z])\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"(\\frac\s*\{[^{}]*\})\s*([\dA-Za-z])"), r"\1{\2}"),
    (re.compile(r"\\sqrt\s*([\dA-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"√\s*(\d+|[A-Za-z]|\([^()]*\))"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(?:infinity|inf)(?![A-Za-z])"), r"\\infty"),
    (re.compile(rf"(?<![\\A-Za-z])({_GREEK})(?![A-Za-z])"), r"\\\1"),
    (re.compile(r"\\text\s*\{\s*,?\s*(?:or|and)\s*\}|(?<![A-Za-z])(?:or|and)(?![A-Za-z])"), ","),
    (re.compile(r"\\text\s*\{(-?[\d.,/]+)\}"), r"\1"),
    (re.compile(r"\\(?:mathbb\s*\{\s*R\s*\}|mathbb\s*R|R(?![a-z]))"), r"(-\\infty,\\infty)"),
]  # fmt: skip


def tidy(latex: str) -> str:
    """One way of writing each thing: no sizing or spacing commands, braces balanced and complete.

    Text that a limit cut off ("(3,4", "\\frac{1}{2") is closed; a surplus closer is dropped.
    """
    text = re.sub(r"\s+", " ", latex).strip()
    if not text.isascii():
        for char, command in _SYMBOLS.items():
            text = text.replace(char, command)
        text = plain_text(text).replace("\\pi x", "\\pi \\times ")
        text = re.sub(r"(?<=\d)\s*x\s*(?=\d)", r" \\times ", text)
    text = text.replace("\\$", "").replace("$", "")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _unwrap(_balance(re.sub(r"\s+", " ", text)).strip(" .,:;`\"'"))


def _balance(text: str) -> str:
    """Drop closers that open nothing and add those that are missing at the end.

    Half-open intervals make ( and [ close each other, so only their number is looked at.
    """
    out: list[str] = []
    open_: list[str] = []
    escaped = False
    for char in text:
        if escaped or char == "\\":
            escaped = not escaped
        elif char in "{([":
            open_.append(char)
        elif char in "})]":
            partner = "{" if char == "}" else "(["
            if not open_ or open_[-1] not in partner:
                continue
            open_.pop()
        out.append(char)
    closer = {"{": "}", "(": ")", "[": "]"}
    return "".join(out) + "".join(closer[char] for char in reversed(open_))


def _unwrap(text: str) -> str:
    """Remove a \\boxed and redundant braces around the whole (in one pass: there may be many)."""
    text = text.removeprefix("\\boxed").strip()
    partner: dict[int, int] = {}
    opened: list[int] = []
    for index, char in enumerate(text):
        if char in "{}" and text[index - 1 : index] != "\\":
            if char == "{":
                opened.append(index)
            elif opened:
                partner[opened.pop()] = index
    start, end = 0, len(text) - 1
    while partner.get(start) == end and start < end:
        start, end = start + 1, end - 1
    return text[start : end + 1].strip()


def _closing(text: str, start: int) -> int:
    """Index of the bracket that closes the one at ``start``; -1 if none does."""
    depth = 0
    index = start
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 2
            continue
        if char in "{([":
            depth += 1
        elif char in "})]":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    return -1


def split_top(text: str, separator: str) -> list[str]:
    """Split at a separator (a character or a command) that stands outside every bracket."""
    parts, depth, start, index = [], 0, 0, 0
    while index < len(text):
        if depth == 0 and text.startswith(separator, index):
            parts.append(text[start:index].strip())
            index = start = index + len(separator)
            continue
        if text[index] == "\\":
            depth += {"\\{": 1, "\\}": -1}.get(text[index : index + 2], 0)
            index += 2
            continue
        depth += (text[index] in "{([") - (text[index] in "})]")
        index += 1
    return [*parts, text[start:].strip()]


@dataclass(frozen=True, slots=True)
class Shape:
    """An answer taken apart. ``kind`` is number, text, list, tuple, set, union, matrix or atom.

    ``brackets`` are those of a tuple or interval; ``parts`` hold the LaTeX of its elements (of a
    matrix: row by row, with ``columns``).
    """

    kind: str
    latex: str
    number: Quantity | None = None
    unit: str = ""
    brackets: str = ""
    parts: tuple[str, ...] = ()
    columns: int = 0


_ENVIRONMENT = r"\{(?:[pbB]?matrix|array)\}"
_MATRIX = re.compile(
    rf"\\begin\s*{_ENVIRONMENT}(?:\s*\{{[lcr| ]*\}})?(.*)\\end\s*{_ENVIRONMENT}", re.DOTALL
)
# A unit in \\text{}, a word of four letters or a known symbol; "3 xy" is a product.
_UNIT = re.compile(
    r"(?P<value>.*[\d})\]]) ?"
    r"(?:\\(?:text|mathrm) ?\{ ?(?P<wrapped>[^{}]*[A-Za-z]{2}[^{}]*|[^{}]*[mg])\}"
    r"|(?<= )(?P<word>[A-Za-z]{4,}(?: [A-Za-z]+)*)"
    r"|(?P<symbol>cm|mm|km|ft|mph|kg|lb|hr|min|sec)) ?(?P<power>\^ ?\{?[23]\}?)?"
)


def shape(latex: str) -> Shape:
    """Take a tidied answer apart."""
    text = latex
    unit = ""
    found = _UNIT.fullmatch(text)
    if found:
        power = re.sub(r"\D", "", found["power"] or "")
        unit = _unit_name(found["wrapped"] or found["word"] or found["symbol"], power)
        text = found["value"].strip()
    number = plain_number(text)
    if number is not None:
        return Shape("number", text, number, unit)
    whole_text = re.fullmatch(
        r"(?:\\text\s*\{[^{}]*\}|[A-Za-z][A-Za-z' -]{2,})", latex.strip(" ()")
    )
    if whole_text:
        return Shape("text", latex)
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        rows = [row for row in matrix[1].split("\\\\") if row.strip()]
        cells = tuple(cell.strip() for row in rows for cell in row.split("&"))
        return Shape("matrix", text, parts=cells, columns=len(rows[0].split("&")) if rows else 0)
    return _composite(text) or Shape("atom", text, unit=unit)


def _composite(text: str) -> Shape | None:
    """A union, list, set, tuple or interval; None for a single thing."""
    union = split_top(text, "\\cup")
    if len(union) > 1:
        return Shape("union", text, parts=tuple(union))
    if text.replace(" ", "") in ("\\emptyset", "\\{\\}"):
        return Shape("set", text)
    parts = split_top(text, ",")
    if len(parts) > 1:
        return Shape("list", text, parts=tuple(part for part in parts if part))
    if text.startswith("\\{") and text.endswith("\\}"):
        return Shape("set", text, parts=tuple(split_top(text[2:-2], ",")))
    if text[:1] in ("(", "[") and _closing(text, 0) == len(text) - 1:
        inner = split_top(text[1:-1], ",")
        if len(inner) > 1:
            return Shape("tuple", text, brackets=text[0] + text[-1], parts=tuple(inner))
    if text.count("\\pm") == 1:
        left, right = text.split("\\pm")
        plus = f"{left}+{right}" if left.strip() else right
        return Shape("list", text, parts=(plus.strip(), f"{left}-{right}".strip()))
    return None


def plain_number(text: str) -> Quantity | None:
    """A number in figures or as (mixed, nested) fractions of such, perhaps with a percent sign."""
    text = re.sub(r"\s*\\?%", "%", text).strip()
    if "\\frac" in text:
        value = _fraction(text.removesuffix("%"), depth=0)
        return None if value is None else Quantity(value, text.endswith("%"))
    if re.search(r"[A-Za-z\\]", text.replace("\\times", "")) and not re.match(r"[\d.]+e\d", text):
        return None
    return parse_quantity(text)


def _fraction(text: str, depth: int) -> Fraction | None:
    """The value of "3\\frac{1}{2}", numerators and denominators read likewise; None if 1/0."""
    sign, whole, rest = re.fullmatch(r"(-?)\s*(\d{0,300})\s*(.*)", text.strip(), re.DOTALL).groups()
    if not rest.startswith("\\frac"):
        number = parse_quantity(text)
        return None if number is None or number.percent else number.value
    middle = _closing(rest, 5)
    if depth > 100 or rest[5:6] != "{" or rest[middle + 1 : middle + 2] != "{":
        return None
    if _closing(rest, middle + 1) != len(rest) - 1:
        return None
    top = _fraction(rest[6:middle], depth + 1)
    bottom = _fraction(rest[middle + 2 : -1], depth + 1)
    if top is None or not bottom or (whole and (top < 0 or bottom < 0)):
        return None
    value = int(whole or 0) + top / bottom
    return -value if sign else value


_UNIT_NAMES = {
    "centimeter": "cm", "meter": "m", "kilometer": "km", "inch": "in", "inche": "in",
    "feet": "ft", "foot": "ft", "hour": "h", "minute": "min", "second": "s",
    "degree": "", "unit": "",
}  # fmt: skip


def _unit_name(words: str, power: str) -> str:
    """A unit in one spelling ("square inches", 2 -> "in2"); the dummy unit "units" is none."""
    name = words.strip(" .").lower().replace(".", "")
    bare = re.sub(r"^(?:square|sq) ", "", name)
    singular = bare.removesuffix("s") if len(bare) > 2 else bare
    return _UNIT_NAMES.get(singular, singular) + (power or ("2" if bare != name else ""))
