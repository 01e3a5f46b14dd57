"""MATH answers in one way of writing, taken apart: see ``grammar.md``, MATH.

``tidy`` rewrites the tokens of an answer by the tables below; ``shape`` sorts what is left into
numbers, words, lists, tuples, sets, matrices and atoms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from eval.math.answers.quantities import Quantity
from eval.math.answers.reading.clauses import statement
from eval.math.answers.reading.text import plain_text, unmarked
from eval.math.answers.reading.values import parse_quantity
from eval.math.answers.reading.vocabulary import (
    CHANGED,
    OPERATORS,
    PLURAL_PARTS,
    SCALES,
    UNITS,
    unit_of,
    word_set,
)

MAX_CHARS = 3_000
"""A longer answer is not taken apart; it is right only if it equals the gold text."""

MAX_PARTS = 24
"""Parts of a list or entries of a matrix that are compared."""

_GREEK = word_set("alpha beta gamma delta epsilon theta lambda mu pi rho sigma tau phi omega")
_WORDS = {word: f"\\{word} " for word in _GREEK}
_WORDS |= {
    "infinity": "\\infty ",
    "inf": "\\infty ",
    "and": ",",
    "or": ",",
    "to": ":",
    "~": " ",
    ";": ",",
}
_DROPPED = word_set(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle "
    "textstyle limits nolimits bf rm it sf tt cal large Large LARGE huge Huge small normalsize "
    "bfseries itshape hline checkmark pounds euro cent yen"
)
_SPACES = word_set("quad qquad , ; : > ! space thinspace enspace") | {" "}
_UNWRAPPED = word_set(
    "boxed fbox framebox boldsymbol bm pmb underline mathsf mathtt mathcal mathit ensuremath"
)
_TEXTS = word_set(
    "text mbox textbf textit textrm textsf emph mathrm mathbf operatorname hbox texttt mathnormal"
)
_COLOURS = word_set(
    "color textcolor colorbox hspace vspace phantom label tag cancel bcancel xcancel sout st"
)
_RENAMED = {
    name: "\\" + other for other, names in {
        "frac": "dfrac tfrac cfrac nicefrac sfrac xfrac", "overline": "dot",
        "binom": "dbinom tbinom", "le": "leq leqslant", "ne": "neq",
        "ge": "geq geqslant", "emptyset": "varnothing O", "cdot": "ast bullet", "phi": "varphi",
        "circ": "degree", "cup": "union", "{": "lbrace", "}": "rbrace", "ldots": "dots",
    }.items() for name in names.split()
} | {
    "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "lvert": "|", "rvert": "|",
    "vert": "|", "mid": "|", "lt": "<", "gt": ">", "%": "%", "land": ",", "lor": ",", "colon": ":",
    "div": "/", "cr": "\\\\", "langle": "(", "rangle": ")", "R": "(-\\infty,\\infty)",
}  # fmt: skip
_SPELLED = {
    "all real numbers": "(-\\infty,\\infty)", "all reals": "(-\\infty,\\infty)",
    "no solution": "\\emptyset", "no solutions": "\\emptyset", "empty set": "\\emptyset",
}  # fmt: skip
_SIGNS = {
    "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ",
    "∩": r"\cap ", "θ": r"\theta ", "±": r"\pm ", "∈": r"\in ", "ℝ": r"(-\infty,\infty)",
    "∅": r"\emptyset ", "×": r"\times ", "°": r"^\circ ", "∨": ",", "∧": ",", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "φ": r"\phi ", "σ": r"\sigma ", "ω": r"\omega ",
}  # fmt: skip
_MATRICES = word_set(
    "matrix pmatrix bmatrix vmatrix Bmatrix smallmatrix array psmallmatrix bsmallmatrix"
)
_DOUBLED = re.compile(r"(?<!\\)\\\\(?=(?:[a-z]{2,})(?![A-Za-z]))")  # \\frac, from the prompt
_GROUPED = re.compile(r"(?<![\d.])(\d{1,3})((?:(?:,\\!|\{,\}|\\,|\\!|\\ |~|\\;|')\d{3})+)(?!\d)")
_ROOT = re.compile(r"(?:√|(?<![\\A-Za-z])sqrt(?=\())\s*(\d+|[A-Za-z]|\{[^{}]*\}|\([^()]*\))")
_ALIGNED = re.compile(r"\\(?:begin|end)\s*\{(?:aligned|align\*?|gathered|split|equation\*?)\}")
_INTRODUCED = re.compile(r"^\\text ?\{[^{}]*\b(?:is|are|equals)[ :]*\} ?(?=\S)")
_OUTWARD = re.compile(r"^\s*(?:\\left)?([\][])([^][()]*,[^][()]*?)(?:\\right)?([\][])\s*$")
"""An interval as it is written in France: ]0, 1]."""
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|[A-Za-z]+|\d+|.", re.DOTALL)
_ARGUMENTS = [
    (re.compile(r"\\(frac|binom)\s*(\d)\s*(\d)(?!\d)"), r"\\\1{\2}{\3}"),
    (re.compile(r"\\(frac|binom)\s*([A-Za-z])\s*([\dA-Za-z])"), r"\\\1{\2}{\3}"),
    (re.compile(r"\\(frac|binom)\s*([\dA-Za-z])\s*\{"), r"\\\1{\2}{"),
    (re.compile(r"(\\(?:frac|binom)\s*\{[^{}]*\})\s*([\dA-Za-z])"), r"\1{\2}"),
    (re.compile(r"\\sqrt\s*([\dA-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))|\\circ(?![a-z])\s*$"), ""),
]


def tidy(latex: str) -> str:
    """One way of writing each thing: no sizing, spacing, colour or font, braces complete.

    Text that a limit cut off ("(3,4", "\\frac{1}{2") is closed; a surplus closer is dropped.
    """
    text = re.sub(r"^ ?([-+]) ", r"\1", re.sub(r"\s+", " ", latex))
    text = _ALIGNED.sub("", unmarked(plain_text(text))).replace("&=", "=")
    text = re.sub(r"\((\d+)\) ?_", r"\1_", text)
    text = re.sub(r"(?<=[\w)}])\s?\*\*\s?(?=[\w({])", "^", text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d{1,2}(?!\d))", ".", text)
    text = re.sub(r"(?<![\\A-Za-z])(frac|sqrt)(?=\s?\{)", r"\\\1", text)
    text = _DOUBLED.sub(r"\\", text)
    text = _ROOT.sub(lambda m: r"\sqrt{" + m[1].strip("(){}") + "}", text)
    if not text.isascii():
        text = "".join(_SIGNS.get(char, char) for char in text)
    text = re.sub(r"(\\\\)\s*\[-?[\d.]+\s?(?:pt|em|ex|mm|cm)\]", r"\1", text)
    text = _OUTWARD.sub(lambda m: "(["[m[1] == "["] + m[2] + ")]"[m[3] == "]"], text)
    text = _GROUPED.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), text)
    text = re.sub(r"\\mathbb\s*(?:\{\s*R\s*\}|R)", r"\\R ", re.sub(r"\\?[$€£¥₹¢]", "", text))
    text = _Rewriter(text.replace(":=", "=")).text()
    for pattern, replacement in _ARGUMENTS:
        text = pattern.sub(replacement, text)
    text = re.sub(r"\s+", " ", _balance(text)).strip(" :;,`\"'").rstrip(" .\\").lstrip(" =~")
    text = _INTRODUCED.sub("", _unwrap(text))
    exact, _, rounded = text.replace("\\sim", "\\approx").partition("\\approx")
    text = (exact.strip() or rounded.strip()) if "\\approx" in text or "\\sim" in text else text
    return _SPELLED.get(re.sub(r"\\text ?|[{}]", "", text).strip().lower(), text)


class _Rewriter:
    """One pass over the tokens of an answer, with its commands renamed, dropped or unwrapped."""

    def __init__(self, text: str) -> None:
        self.parts = _TOKEN.findall(text)
        self.partner = _partners(self.parts)
        self.dropped: set[int] = set()
        self.groups: list[int] = []
        self.out: list[str] = []

    def text(self) -> str:
        index = 0
        while index < len(self.parts):
            part = self.parts[index]
            if index in self.dropped:
                pass
            elif part.startswith("\\"):
                index = self._command(part[1:], index)
            else:
                self._plain(part)
            index += 1
        return "".join(self.out)

    def _plain(self, part: str) -> None:
        if part == "{":
            self.groups.append(len(self.out))
        elif part == "}" and self.groups:
            self.groups.pop()
        self.out.append(_WORDS.get(part, part))

    def _command(self, name: str, index: int) -> int:
        """Write a command; the index of the last token it used."""
        start = index + 1 + (self.parts[index + 1 : index + 2] == [" "])
        end = self.partner.get(start)
        inside = "".join(self.parts[start + 1 : end]).strip() if end else ""
        if name in _DROPPED or name in _SPACES:
            self.out.append("" if name == "!" else " ")
        elif name in _COLOURS and end:
            return end
        elif name in _UNWRAPPED or (name in _TEXTS and _is_math(inside)):
            self.dropped |= {start, end} if end else set()
        elif name in _TEXTS and end:
            joins = inside.strip(" ,") in ("and", "or")
            if _LETTERS.fullmatch(inside):
                self.out.append(re.sub(r"[\s,;]+(?:and|or)?[\s,;]*", ",", inside))
                return end
            if inside.strip() == "to":
                self.out.append(":")
                return end
            self.out.append("," if joins else f"\\text{{{inside}}}")
            return end
        elif name in ("begin", "end") and end and inside in _MATRICES:
            return self._matrix(name, end)
        elif name in ("over", "choose"):
            self._infix("\\frac{" if name == "over" else "\\binom{")
        else:
            self.out.append(_RENAMED.get(name, "\\" + name))
        return index

    def _matrix(self, name: str, index: int) -> int:
        """Any matrix environment is "matrix"; the columns of an array ("{cc}") go."""
        self.out.append(f"\\{name}{{matrix}}")
        columns = self.partner.get(index + 1)
        if name != "begin" or not columns:
            return index
        letters = "".join(self.parts[index + 2 : columns])
        return index if re.sub(r"[lcr| ]", "", letters) else columns

    def _infix(self, command: str) -> None:
        """ "{1 \\over 2}" as a command with two arguments; the group closes the second."""
        if self.groups:
            self.out[self.groups[-1]] = command
        else:
            self.out.insert(0, command)  # a missing brace is closed at the end
        self.out.append("}{")


def _is_math(inside: str) -> bool:
    """Whether the argument of a text command is a numeral or one letter rather than words."""
    return "\\frac" in inside or bool(re.fullmatch(r"[-+]?[\d.,/ ]*\d|[A-Za-z]", inside))


def _partners(parts: list[str]) -> dict[int, int]:
    """Index of the closing brace for every opening one."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for index, part in enumerate(parts):
        if part == "{":
            opened.append(index)
        elif part == "}" and opened:
            found[opened.pop()] = index
    return found


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
    text = text.strip()
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


_MATRIX = re.compile(r"\\begin\{matrix\}(.*)\\end\{matrix\}", re.DOTALL)
# A unit in \\text{}, a word of four letters or a known symbol; "3 xy" is a product.
_UNIT = re.compile(
    r"(?P<value>.*(?:[\d})\]]|\\pi)) ?"
    r"(?:\\text ?\{ ?(?P<wrapped>[^{}]*[A-Za-z]{2}[^{}]*|[A-Za-z]+/[A-Za-z^\d]+|[mgLs])\}"
    r"|(?<= )(?P<word>[A-Za-z]{4,}(?: [A-Za-z]+)*)"
    r"|(?P<symbol>cm|mm|km|ft|mph|kg|lb|hr|min|sec|m/s|km/h)) ?(?P<power>\^ ?\{?[23]\}?)?"
)
_WHOLE_TEXT = re.compile(r"(?:\\text\s*\{[^{}]*\}\s*)+|(?=.*[A-Za-z]{2})[A-Za-z][A-Za-z' -]{2,}")


def shape(latex: str) -> Shape:
    """Take a tidied answer apart."""
    text = latex
    unit = ""
    found = _UNIT.fullmatch(text)
    if found and not found["value"].endswith("\\end{matrix}"):
        power = re.sub(r"\D", "", found["power"] or "")
        words = found["wrapped"] or found["word"] or found["symbol"]
        first, _, rest = words.strip().partition(" ")
        if first in CHANGED or first in OPERATORS or first == "factorial":
            return Shape("text", latex)
        if first in SCALES or first in PLURAL_PARTS:  # "2 \\text{ dozen eggs}"
            text, words = f"{found['value'].strip()} {first}", rest
            return Shape("number", text, parse_quantity(text), _unit_name(words, power))
        unit = _unit_name(words, power)
        text = found["value"].strip()
    number = plain_number(text)
    if number is not None:
        return Shape("number", text, number, unit)
    if _WHOLE_TEXT.fullmatch(latex.strip(" ()")):
        words = re.sub(r"\\text|[{}]", " ", latex)
        read = statement(words) if re.match(r"\s*[\d.]", words) else parse_quantity(words)
        if isinstance(read, Quantity):
            return Shape("number", latex, replace(read, unit=""))
        return Shape("text", latex)
    inside = text[1:-1].strip() if text[:1] in ("(", "[") and _closing(text, 0) >= 0 else text
    matrix = _MATRIX.fullmatch(inside)
    if matrix and "\\begin" not in matrix[1]:
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


_LETTERS = re.compile(r"\s*[A-Z](?:\s*[,;]\s*(?:and|or)?\s*[A-Z]|\s+(?:and|or)\s+[A-Z])+\s*")
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\overline ?\{(\d{1,20})\}")


def _repeated(match: re.Match[str]) -> str:
    """A repeating decimal ("0.8\\overline{3}") as a fraction."""
    whole, fixed, period = match.groups()
    top = int(whole + fixed + period) - int(whole + fixed or 0)
    return f"\\frac{{{top}}}{{{(10 ** len(period) - 1) * 10 ** len(fixed)}}}"


def plain_number(text: str) -> Quantity | None:
    """A number in figures or as arithmetic of such, perhaps with a percent sign."""
    text = _REPEATING.sub(_repeated, text.replace("\\%", "%"))
    if re.search(
        r"[A-Za-z]", re.sub(r"\\(?:frac|times|cdot|div)(?![a-z])|\d[eE][-+]?\d", "", text)
    ):
        return None
    return parse_quantity(text, formula=True)


def _unit_name(words: str, power: str) -> str:
    """A unit in one spelling ("square inches", 2 -> "in2"); the dummy unit "units" is none."""
    name = words.strip(" .").lower().replace(".", "")
    bare = re.sub(r"^(?:square|sq|cubic) ", "", name)
    power = power or ("" if bare == name else "3" if name.startswith("cubic") else "2")
    unit = unit_of(bare)
    if unit:
        return f"{UNITS[unit]}{power}"
    singular = bare.removesuffix("s") if len(bare) > 2 else bare
    return ("" if singular in ("degree", "unit") else singular) + power
