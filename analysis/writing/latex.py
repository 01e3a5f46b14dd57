r"""A table as LaTeX that fits a paper of two columns, needing the packages booktabs and array.

A table that is narrow enough stands in one column (``table``), others across both (``table*``).
First columns that say the same in row after row, as the pair does, become headings between rows.
Columns of words are broken into lines where the numbers need the room; where numbers alone are too
wide, they are divided into tabulars one below the other; and rows beyond a page go into floats that
continue the first. Widths are estimated from the letters, of Computer Modern in ``\footnotesize``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from analysis.writing.render import Table

COLUMN, TEXT = 215.0, 445.0
r"""Widths in points that a table may have: a little less than the narrowest ``\columnwidth`` and
``\textwidth`` in common use (219 and 455 of ACL; article has 230 and 470, ICML 234 and 488)."""

HEIGHT = 450.0
"""Points of rows and notes in one float; the lowest page in common use has 510 (article)."""

FONT, LINE, GAP = 8.0, 10.0, 6.0
r"""Points of the font, of a line and between columns (twice ``\tabcolsep``)."""

WORDS = 0.45
"""Of the width, the most that columns of words take where numbers are divided."""

EMS = (
    (0.31, " ijl.,:;'|!"),
    (0.43, "()[]tfrs-–"),
    (0.53, "0123456789acegoyz"),
    (0.90, "mwMWQOH%@"),
    (0.82, "ABCDEFGKLNPRSTUVXYZ±×≤≥=<>+−→&∞"),
)
"""Widths of letters in the font's size; any other is 0.58."""

BOLD = 1.16

SHARE = 0.6
"""Power of its natural width by which a column of words has a share of the room."""

REPEATS = 2.5
"""Rows that stand under one heading on average, at least."""

_WIDTH = {letter: ems for ems, letters in EMS for letter in letters}
_ESCAPED = str.maketrans(
    {letter: rf"\{letter}" for letter in "&%$#_{}"}
    | {letter: f"${letter}$" for letter in "<>|"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$"}
    | {"±": r"$\pm$", "α": r"$\alpha$", "β": r"$\beta$", "δ": r"$\delta$", "→": r"$\to$"}
    | {"≤": r"$\le$", "≥": r"$\ge$", "×": r"$\times$", "∞": r"$\infty$", "…": r"\ldots{}"}
    | {"·": r"$\cdot$", "²": r"$^2$", "Δ": r"$\Delta$"}
)
_UNBROKEN = re.compile(r"\S{30,}")
_NUMBERED = re.compile(r"^(Table|Figure) \d+\. ")


class Column(NamedTuple):
    """A column of the table: its place there, its width in points, and whether lines are broken."""

    at: int
    width: float
    broken: bool


def escaped(text: str) -> str:
    """Text with what LaTeX would misread written so that it prints as it is.

    Words of 30 letters and more, as hashes, may be broken anywhere.
    """
    parts, last = [], 0
    for found in _UNBROKEN.finditer(text):
        pieces = re.findall(".{1,10}", found[0])
        parts += [text[last : found.start()].translate(_ESCAPED)]
        parts += [r"\allowbreak{}".join(piece.translate(_ESCAPED) for piece in pieces)]
        last = found.end()
    return "".join([*parts, text[last:].translate(_ESCAPED)])


def latex(table: Table, name: str) -> str:
    r"""The floats of a table, the first with its caption and ``\label{tab:NAME}``."""
    shown = [at for at, title in enumerate(table.header) if title not in table.aside]
    headings, shown = headed(table, shown)
    natural = {at: natural_width(table, at) for at in shown}
    wide = max([_total(natural.values()), *map(_width, headings)]) > COLUMN
    groups = grouped(table, shown, natural, TEXT if wide else COLUMN)
    notes = [*([table.alert] if table.alert else []), *table.notes]
    if table.aside:
        lost = ", ".join(title for title in table.header if title in table.aside)
        notes.append(f"Columns that stand in the CSV alone: {lost}.")
    floats = []
    for rows, last in _floats(table, groups, headings, notes):
        first = not floats
        caption = rf"\caption{{{escaped(_NUMBERED.sub('', table.title))}}}\label{{tab:{name}}}"
        head = caption if first else rf"Table~\ref{{tab:{name}}}, continued\par\smallskip"
        tabulars = [_tabular(table, group, headings, rows) for group in groups]
        kind = "table*" if wide else "table"
        told = "".join(rf"\par {escaped(note)}" + "\n" for note in notes if last)
        below = f"\\par\\smallskip\n\\begin{{minipage}}{{\\linewidth}}\\raggedright\n{told}"
        floats.append(
            f"\\begin{{{kind}}}[tp]\n\\centering\\footnotesize\\setlength{{\\tabcolsep}}"
            f"{{{GAP / 2:g}pt}}\n{head}\n"
            + "\n\\par\\medskip\n".join(tabulars)
            + (f"\n{below}\\end{{minipage}}" if told else "")
            + f"\n\\end{{{kind}}}\n"
        )
    return "% needs \\usepackage{booktabs,array}\n" + "\n".join(floats)


def headed(table: Table, shown: Sequence[int]) -> tuple[list[str], list[int]]:
    """The heading that each row stands under, "" for none, and the columns that are left.

    An empty cell says what the one above says, but for the first of a block.
    """
    headings = [""] * len(table.rows)
    for at in shown[: max(0, table.left - 1)]:
        found: list[str] = []
        for number, row in enumerate(table.rows):
            same = found and not row[at] and number not in table.blocks
            found.append(found[-1] if same else row[at])
        together = [", ".join(filter(None, pair)) for pair in zip(headings, found, strict=True)]
        changes = 1 + sum(a != b for a, b in itertools.pairwise(together))
        if REPEATS * changes > len(table.rows) or changes == len(table.rows):
            break
        headings, shown = together, [other for other in shown if other != at]
    return headings, list(shown)


def natural_width(table: Table, at: int) -> float:
    """Width of a column without breaks, in points; of numbers the header may be broken."""
    cells = [
        _width(row[at]) * (BOLD if (number, at) in table.bold else 1.0)
        for number, row in enumerate(table.rows)
    ]
    header = table.header[at] if at < table.left else _longest(table.header[at])
    return max([_width(header), *cells])


def grouped(
    table: Table, shown: Sequence[int], natural: dict[int, float], width: float
) -> list[list[Column]]:
    """The columns of each tabular: the words, and as many numbers as there is room for."""
    words = [at for at in shown if at < table.left or _is_text(table, at)]
    numbers = [at for at in shown if at not in words]
    needed = sum(natural[at] + GAP for at in numbers)
    least = {at: _least(table, at) for at in words}
    room = width - needed - GAP * max(len(words) - 1, 0)
    if sum(least.values()) <= room:
        kept = _shared(natural, least, room)
        return [[_column(at, natural, kept) for at in shown]]
    kept = _shared(natural, least, max(WORDS * width, sum(least.values())))
    room = width - sum(kept.values()) - GAP * len(words)
    groups = _filled(numbers, natural, room)
    while room > 0:  # as narrow as that number of groups allows, so that they are alike
        narrower = _filled(numbers, natural, room - GAP)
        if len(narrower) > len(groups):
            break
        groups, room = narrower, room - GAP
    return [[_column(at, natural, kept) for at in shown if at in (*words, *own)] for own in groups]


def _filled(numbers: Sequence[int], natural: dict[int, float], room: float) -> list[list[int]]:
    """Columns in groups, in their order, each as full as ``room`` allows."""
    groups: list[list[int]] = [[]]
    left = room
    for at in numbers:
        if groups[-1] and natural[at] + GAP > left:
            groups.append([])
            left = room
        groups[-1].append(at)
        left -= natural[at] + GAP
    return groups


def _is_text(table: Table, at: int) -> bool:
    """Whether a column beyond the words holds sentences."""
    return any(len(row[at]) > 25 for row in table.rows)


def _column(at: int, natural: dict[int, float], kept: dict[int, float]) -> Column:
    width = kept.get(at, natural[at])
    return Column(at, width, width < natural[at])


def _shared(natural: dict[int, float], least: dict[int, float], room: float) -> dict[int, float]:
    """Widths of columns of words that share ``room``: the narrow ones whole, others by what they
    need, none below its widest word."""
    open_, kept = set(least), {}
    while open_:
        part = (room - sum(kept.values())) / sum(natural[at] ** SHARE for at in open_)
        share = {at: part * natural[at] ** SHARE for at in open_}
        narrow = {at for at in open_ if natural[at] <= share[at]}
        stiff = {at for at in open_ if least[at] > share[at]} if not narrow else set()
        kept |= {at: natural[at] for at in narrow} | {at: least[at] for at in stiff}
        if not narrow and not stiff:
            return kept | share
        open_ -= narrow | stiff
    return kept


def _least(table: Table, at: int) -> float:
    """The widest word of a column."""
    texts = [table.header[at], *(row[at] for row in table.rows)]
    return 1.0 + max(_width(_longest(text)) for text in texts) * (
        BOLD if any(column == at for _, column in table.bold) else 1.0
    )


def _longest(text: str) -> str:
    words = [piece for word in text.split() for piece in re.findall(r"[^-]+-?|-", word)]
    words = [word[:10] if len(word) >= 30 else word for word in words]
    return max(words, key=_width, default="")


def _width(text: str) -> float:
    """Points of a text in one line."""
    return FONT * sum(_WIDTH.get(letter, 0.58) for letter in _tight(text))


def _tight(text: str) -> str:
    return text.replace(" ± ", "±")


def _total(widths) -> float:
    widths = list(widths)
    return sum(widths) + GAP * (len(widths) - 1)


def _floats(
    table: Table,
    groups: Sequence[Sequence[Column]],
    headings: Sequence[str],
    notes: Sequence[str],
) -> Iterator[tuple[range, bool]]:
    """The rows of each float, and whether it is the last."""
    heights = [
        sum(_height(row, group) + LINE * (heading != above) for group in groups)
        for row, heading, above in zip(table.rows, headings, ["", *headings], strict=False)
    ]
    below = LINE * sum(math.ceil(1.1 * _width(note) / TEXT) for note in notes)
    start, used, parts = 0, 0.0, []
    for at, height in enumerate(heights):
        rest = below if at == len(heights) - 1 else 0.0
        if at > start and used + height + rest > HEIGHT:
            parts.append(range(start, at))
            start, used = at, 0.0
        used += height
    parts.append(range(start, len(heights)))
    yield from ((rows, rows is parts[-1]) for rows in parts)


def _height(row: Sequence[str], group: Sequence[Column]) -> float:
    lines = [
        math.ceil(1.25 * _width(row[column.at]) / column.width) for column in group if column.broken
    ]
    return LINE * max([1, *lines])


def _tabular(table: Table, group: Sequence[Column], headings: Sequence[str], rows: range) -> str:
    kinds = [
        rf">{{\raggedright\arraybackslash}}p{{{column.width:.0f}pt}}"
        if column.broken
        else "l" if column.at < table.left else "r"
        for column in group
    ]  # fmt: skip
    lines = [" & ".join(_header(table, column) for column in group) + r" \\", r"\midrule"]
    for number in rows:
        first = number == rows.start
        new = headings[number] != ("" if first else headings[number - 1])
        if (number in table.blocks or new) and not first:
            lines.append(r"\midrule")
        if new and headings[number]:
            heading = rf"\emph{{{escaped(headings[number])}}}"
            lines.append(rf"\multicolumn{{{len(group)}}}{{@{{}}l@{{}}}}{{{heading}}} \\")
        cells = []
        for column in group:
            text = escaped(_tight(table.rows[number][column.at]))
            bold = (number, column.at) in table.bold and text
            cells.append(rf"\textbf{{{text}}}" if bold else text)
        lines.append(" & ".join(cells) + r" \\")
    inner = "\n".join(lines)
    columns = "".join(kinds)
    return (
        f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n{inner}\n\\bottomrule\n"
        "\\end{tabular}"
    )


def _header(table: Table, column: Column) -> str:
    """The header of a column; over numbers it is broken into lines of the column's width."""
    title = table.header[column.at]
    if column.broken or column.at < table.left or _width(title) <= column.width:
        return escaped(title)
    lines: list[str] = []
    for word in title.split():
        if lines and _width(f"{lines[-1]} {word}") <= column.width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    broken = r"\\".join(map(escaped, lines))
    return rf"\shortstack[r]{{{broken}}}"
