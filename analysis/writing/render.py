"""A table as people read it: Markdown, a page of HTML and LaTeX beside the CSV of its numbers."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.results import write_numbers
from analysis.writing.latex import latex
from tad.methods import ROWS, Method
from tad.records import write_text

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
{style}</style>{body}</html>
"""
STYLE = """body {font: 15px/1.5 system-ui, sans-serif; margin: 2em}
table {border-collapse: collapse}
th, td {padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top}
th {border-bottom: 2px solid #333; vertical-align: bottom}
.box {overflow-x: auto; font-size: 14px}
.word {text-align: left}
td.long {min-width: 12em}
.dense {font-size: 12.5px}
.dense th, .dense td {padding: .2em .4em}
.dense td.long {min-width: 6.5em}
tr.block td {border-top: 2px solid #999}
p.alert {color: #C00000; font-weight: bold}
caption, p {text-align: left; max-width: 60em; padding-bottom: .8em}
"""
"""Rules that all pages share. Cells are broken into lines where a table would be wider than the
screen; a box of its own scrolls what cannot be."""

LONG = 40
"""Letters beyond which a cell of words is broken into lines."""

DENSE = 11
"""Columns beyond which all words are broken, so that a table fits a screen of 1,280 points."""


def page(title: str, body: str, style: str = "") -> str:
    """A page of HTML around a body; ``style`` is added to the rules that all pages share."""
    return _PAGE.format(title=html.escape(title), body=body, style=STYLE + style)


def body_of(text: str) -> str:
    """What ``page`` was given as body."""
    return text.partition("</style>")[2].rpartition("</html>")[0]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text, in reading order.

    The first ``left`` columns are words, the rest numbers. ``bold`` holds (row, column) of the
    cells to mark; a rule is drawn above each row whose number is in ``blocks``. ``alert`` is what a
    reader has to know first, in red on a page. ``aside`` names columns that a printed page has no
    room for.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    left: int = 1
    bold: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    blocks: frozenset[int] = field(default_factory=frozenset)
    alert: str = ""
    aside: Sequence[str] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{self.title}: {len(row)} cells under {len(self.header)} headers")

    def write(self, folder: Path, name: str, numbers: pd.DataFrame) -> None:
        """Write ``{folder}/{name}.{csv,md,html,tex}``; ``numbers`` is what the CSV holds."""
        write_numbers(numbers, folder / f"{name}.csv")
        write_text(folder / f"{name}.md", self.markdown())
        write_text(folder / f"{name}.html", self.page())
        write_text(folder / f"{name}.tex", latex(self, name))

    def markdown(self) -> str:
        """Title, table and notes."""
        lines = [list(self.header), ["---"] * self.left + ["---:"] * (len(self.header) - self.left)]
        for number, row in enumerate(self.rows):
            cells = [cell.replace("|", "\\|") for cell in row]
            marked = [(number, column) in self.bold for column in range(len(row))]
            lines.append([f"**{c}**" if b else c for c, b in zip(cells, marked, strict=True)])
        lines[0] = [cell.replace("|", "\\|") for cell in lines[0]]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        notes = "".join(f"\n{note}\n" for note in self.notes)
        alert = f"**{self.alert}**\n\n" if self.alert else ""
        return f"# {self.title}\n\n{alert}{table}{notes}"

    def page(self) -> str:
        """A page of its own."""

        def line(cells: Sequence[str], tag: str, number: int = -1) -> str:
            texts = [html.escape(cell) for cell in cells]
            found = ""
            for column, text in enumerate(texts):
                marked = f"<b>{text}</b>" if (number, column) in self.bold else text
                found += f"<{tag}{kinds[column]}>{marked}</{tag}>"
            block = ' class="block"' if number in self.blocks else ""
            return f"<tr{block}>{found}</tr>\n"

        kinds = [
            ' class="word long"' if any(len(row[at]) > LONG for row in self.rows)
            else ' class="word"' if at < self.left else ""
            for at in range(len(self.header))
        ]  # fmt: skip
        body = line(self.header, "th")
        body += "".join(line(row, "td", number) for number, row in enumerate(self.rows))
        title = f"<caption>{html.escape(self.title)}</caption>"
        dense = ' class="dense"' if len(self.header) > DENSE else ""
        body = f'<div class="box"><table{dense}>{title}{body}</table></div>'
        body += "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        if self.alert:
            body = f'<p class="alert">{html.escape(self.alert)}</p>{body}'
        return page(self.title, body)


def blocks(keys: Sequence[object]) -> frozenset[int]:
    """The rows whose key is another than that of the row above: where ``Table`` draws a rule."""
    return frozenset(at for at in range(1, len(keys)) if keys[at] != keys[at - 1])


def is_control(row: str) -> bool:
    """Whether a row is a control: a method's id, or what stands in its place, which is none."""
    return row.partition("-")[0] in ROWS and Method.parse(row).control


def controls_last(frame: pd.DataFrame, by: Sequence[str]) -> tuple[pd.DataFrame, frozenset[int]]:
    """A frame with a column ``method``, its controls after the paper's rows within each group of
    ``by`` (columns), and the rows above which a rule is drawn: a group's first, and its controls'.
    """
    groups = list(zip(*(frame[name] for name in by), strict=True))
    first = {group: at for at, group in reversed(list(enumerate(groups)))}
    keys = [(first[g], is_control(m)) for g, m in zip(groups, frame["method"], strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return frame.iloc[order], blocks([keys[at] for at in order])


def control_note(rows: Iterable[str]) -> list[str]:
    """The note below a table with controls: which rows they are; nothing where there are none."""
    names = ", ".join(Method.parse(row).label for row in dict.fromkeys(rows) if is_control(row))
    told = f"In a block of their own, controls of ours that the paper does not have: {names}."
    return [told] if names else []


def plus_minus(mean: float, half: float, decimals: int) -> str:
    """``0.83 ± 0.01``; the mean alone where one seed gives no interval; a dash for no value.

    Never ``± 0.00``: a half-width that rounds to it is ``< 0.01``, and none at all is that of seeds
    with one value, which leaves open how far others would be.
    """
    if mean != mean:
        return "–"
    value = f"{mean:.{decimals}f}"
    if half != half:
        return value
    if abs(half) < 1e-12 * max(1.0, abs(mean)):
        return f"{value} (equal)"
    least = 10.0**-decimals
    return f"{value} ± {half:.{decimals}f}" if half >= least / 2 else f"{value} ± <{least:g}"
