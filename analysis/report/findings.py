"""The findings of a scale as one page: verdicts, claims, controls, then every figure and table.

    tad report --root work/mini

Writes ``{root}/findings.html`` from what was drawn below the root (``make reproduce`` does both).
The page holds its pictures itself, so that it can be sent and read anywhere; in results/ it shows
those beside it, which are kept there already. It has no scripts.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.claims.judge import FAMILIES, VERDICTS
from analysis.claims.statistics import HERE
from analysis.provenance import alert, states
from analysis.results import PROJECT, draw_command
from analysis.writing.render import body_of, page
from tad.command import UserError
from tad.experiment.config import Suite
from tad.records import write_text
from workflow.items import FINDINGS, all_records, drawn

CAPTIONS = PROJECT / "workflow" / "report"
FIRST = ("forest_primary", "controls", "figure1", "forest_exploratory")
"""Figures that the page opens on, after the verdicts, as far as a scale has them."""

STYLE = """body {max-width: 76em; margin: 0 auto; padding: 1em 2em}
h1 {margin: .5em 0 0}
h2 {border-bottom: 2px solid #333; margin-top: 2em}
h3 {margin: 1.5em 0 .5em}
h3 small {font-weight: normal; font-size: .75em}
nav ul {list-style: none; padding: 0}
img {max-width: min(100%, 60em); height: auto; display: block}
section > p {font-size: .9em; color: #333; margin: .3em 0; padding: 0}
#verdicts td {text-align: center}
#verdicts td.word {text-align: left}
"""


class FindingsError(UserError, ValueError):
    """A table or figure that the page shows and that is not drawn."""


class Shown(NamedTuple):
    """One table (HTML) or figure (PNG) of the page."""

    path: Path
    label: str
    caption: str
    category: str

    @property
    def anchor(self) -> str:
        """Its id on the page; a table and a figure may share a name."""
        return f"{self.path.parent.name[:-1]}-{self.path.stem}"


def write(suite: Suite, root: Path) -> None:
    """Write the page of a root. Raises FindingsError where a table or figure is not drawn."""
    write_text(root / FINDINGS.files[0], findings(suite, root))


def findings(suite: Suite, root: Path) -> str:
    """The page as text."""
    entries = list(shown(suite, root))
    by_name = {entry.path.stem: entry for entry in entries if entry.path.suffix == ".png"}
    first = [by_name[name] for name in FIRST if name in by_name]
    rest = [entry for entry in entries if entry not in first]
    categories = dict.fromkeys(entry.category for entry in rest)
    title = f"Findings at scale {suite.scale}"
    parts = [
        f"<header><h1>{html.escape(title)}</h1>{_made_of(suite, root)}</header>",
        verdicts(root),
        _contents(first, rest, categories),
        *(_section(entry, root) for entry in first),
    ]
    for category in categories:
        parts.append(f"<h2>{html.escape(category)}</h2>")
        parts += [_section(entry, root) for entry in rest if entry.category == category]
    return page(title, "\n".join(parts), STYLE)


def shown(suite: Suite, root: Path) -> Iterator[Shown]:
    """What the page shows, in the order of workflow/items.py."""
    for _, each in drawn(suite):
        for file, text in each.outputs(suite).items():
            if text:
                caption = (CAPTIONS / f"{text[1]}.rst").read_text(encoding="utf-8")
                yield Shown(root / file, text[0], caption, each.category)


def verdicts(root: Path) -> str:
    """How many claims of each family have which verdict, as a table of HTML."""
    claims = pd.read_csv(_content(root / "tables" / "claims.csv"))
    seen = set(claims["verdict"])
    names = [name for name in VERDICTS if name in seen or name not in HERE.values()]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *names))
    lines = []
    for family in FAMILIES:
        own = claims[claims["family"] == family]["verdict"]
        cells = "".join(f"<td>{(own == name).sum() or ''}</td>" for name in names)
        lines.append(f'<tr><td class="word">{html.escape(family)}</td>{cells}</tr>')
    caption = f"<caption>Verdicts on {len(claims)} claims</caption>"
    return (
        f'<section id="verdicts"><div class="box"><table>{caption}<tr>{head}</tr>\n'
        + "\n".join(lines)
        + '</table></div><p>What a verdict means stands below the <a href="#table-claims">table '
        "of claims</a>.</p></section>"
    )


def _made_of(suite: Suite, root: Path) -> str:
    """Which records, and where more is known of how they were made."""
    found = states(root, all_records(suite))
    commits = sorted({commit[:12] for commit, _ in found if commit})
    made = f"{found.total():,} records of {len(suite.runs())} runs, commit {', '.join(commits)}."
    where = '<a href="report.html">report.html</a> (rules, times and code of every step)'
    if _published(root):
        where = '<a href="manifest.json">manifest.json</a> (hashes, versions, machine)'
    told = alert(suite, root)
    red = f'<p class="alert">{html.escape(told)}</p>' if told else ""
    return f"{red}<p>{html.escape(made)} How they were made: {where}.</p>"


def _contents(first: Sequence[Shown], rest: Sequence[Shown], categories: Sequence[str]) -> str:
    """Links to all that is on the page."""

    def line(name: str, entries: Sequence[Shown]) -> str:
        links = " · ".join(f'<a href="#{e.anchor}">{html.escape(e.label)}</a>' for e in entries)
        return f"<li><b>{html.escape(name)}</b>: {links}</li>"

    lines = [line("Findings", first)]
    lines += [line(name, [e for e in rest if e.category == name]) for name in categories]
    return f"<nav><ul>{''.join(lines)}</ul></nav>"


def _published(root: Path) -> bool:
    """Whether a root is kept with the project: without a workflow, its pictures beside the page."""
    return "results" in root.parts


def _picture(path: Path, root: Path) -> str:
    """Where a page of this root has a picture from."""
    data = _content(path).read_bytes()
    if _published(root):
        return f"{path.parent.name}/{path.name}"
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _section(entry: Shown, root: Path) -> str:
    name = html.escape(entry.label)
    caption = f"<p>{html.escape(' '.join(entry.caption.split()))}</p>"
    others = "".join(
        f' <a href="{entry.path.parent.name}/{entry.path.stem}.{kind}">{kind}</a>'
        for kind in ("csv", "pdf", "md", "tex")
        if entry.path.with_suffix(f".{kind}").is_file()
    )
    if entry.path.suffix == ".png":
        body = f'<img alt="{name}" src="{_picture(entry.path, root)}">'
    else:
        body = body_of(_content(entry.path).read_text(encoding="utf-8"))
    return (
        f'<section id="{entry.anchor}"><h3>{name}<small>{others}</small></h3>\n{body}\n{caption}'
        "</section>"
    )


def _content(path: Path) -> Path:
    """A file that is there. Raises FindingsError."""
    if not path.is_file():
        raise FindingsError(f"{path}: not drawn yet; make it first: snakemake -- tables figures")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when the page is written, 2 where something is not drawn."""
    return draw_command("report", __doc__, arguments, write)
