"""A plan as a page of HTML that needs no network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence

from analysis.writing.render import page as html_page
from tad.plan.facts import GIB
from tad.plan.plan import Plan
from workflow.plan.pace import Pace
from workflow.plan.rows import (
    PARTS,
    Line,
    assumptions,
    by_target,
    consents,
    fits,
    lines,
    settings,
    settings_text,
    shortages,
    totals,
)

COLOURS = dict(
    zip(PARTS, ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"), strict=True)
)
"""Of Okabe and Ito (2008), as all figures."""

STYLE = """body {max-width: 92em; margin: 0 auto; padding: 1em 2em}
h2 {border-bottom: 2px solid #333; margin-top: 2em}
.bar {position: relative; width: 22em; height: 1.1em; background: #eee}
.bar i {position: absolute; top: 0; bottom: 0}
.bar b {position: absolute; top: -2px; bottom: -2px; border-left: 2px solid #000}
.key i {display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em}
td.wide {white-space: normal; max-width: 60em}
tr.no td {color: #b00020; font-weight: bold}
li {margin: .2em 0}
"""


def page(plans: Sequence[Plan], pace: Pace | None, *, targets: bool) -> str:
    """The page of a plan on the first machine; of the others, what fits."""
    plan = plans[0]
    title = f"Plan of scale {plan.suite.scale} on {plan.on}"
    parts = [f"<h1>{html.escape(title)}</h1>", _alert(plan)]
    parts.append(_table(None, ((name, text) for name, text in totals(plan, pace)), wide=True))
    parts += _list("Tokens", shortages(plan))
    parts += _list("Consents to give on the hub before anything is loaded", consents(plan))
    head = ("pair", *(str(each.on) for each in plans))
    parts += ["<h2>What fits</h2>", _table(head, fits(plans), left=len(head))]
    if changes := settings_text(plan):
        parts += _list(f"To fit {plan.on}, write into your file", changes, code=True)
    parts += ["<h2>Memory of the trainings</h2>", _key(plan), _bars(plan)]
    parts += ["<h2>Jobs</h2>", _jobs(plan)]
    if targets:
        parts += ["<h2>Each target alone</h2>", "<p>They share jobs.</p>"]
        parts.append(_table(("target", "GPU hours", "days"), by_target(plan)))
    parts += ["<h2>Downloads</h2>", _downloads(plan)]
    parts += _list("What this rests on", assumptions(plan))
    return html_page(title, "\n".join(parts), STYLE)


def _alert(plan: Plan) -> str:
    found = [f"{len(plan.misfits)} jobs do not fit"] if plan.misfits else []
    if changes := settings(plan):
        found.append(f"{', '.join(changes)}: fits with other settings than the configuration's")
    found += [
        f"corpus {each.corpus}: holds less than is asked" for each in plan.tokens if each.short
    ]
    return f'<p class="alert">{html.escape("; ".join(found))}</p>' if found else ""


def _list(title: str, texts: Sequence[str], *, code: bool = False) -> list[str]:
    if not texts:
        return []
    tag = "code" if code else "span"
    items = "".join(f"<li><{tag}>{html.escape(text)}</{tag}></li>" for text in texts)
    return [f"<h2>{html.escape(title)}</h2>", f"<ul>{items}</ul>"]


def _table(
    head: Sequence[str] | None,
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    wide: bool = False,
) -> str:
    def cells(row: Sequence[str], tag: str) -> Iterator[str]:
        for at, text in enumerate(row):
            kind = "word wide" if wide and at else "word" if at < left else ""
            yield f'<{tag} class="{kind}">{html.escape(text)}</{tag}>'

    found = [f"<tr>{''.join(cells(head, 'th'))}</tr>"] if head else []
    found += [f"<tr>{''.join(cells(row, 'td'))}</tr>" for row in rows]
    return f'<div class="box"><table>{"".join(found)}</table></div>'


def _key(plan: Plan) -> str:
    marks = "".join(f'<i style="background:{COLOURS[part]}"></i>{part}' for part in PARTS[:-1])
    room = f"{plan.on.room / GIB:.0f} of {plan.on.gpu.memory_gb:.0f} GiB"
    return (
        f'<p class="key">On each GPU, at the fullest moment of a step:{marks}. The black mark is '
        f"what can be filled, {room}.</p>"
    )


def _trainings(plan: Plan) -> list[Line]:
    """The fullest training of each stage and pair, of each way that they run."""
    found: dict[tuple, Line] = {}
    for line in lines(plan):
        if line.first.job.kind == "distill":
            run, shown = line.first.job.run, line.first.fit or line.first.nearest
            key = (run.stage, run.pair, shown.gpus, line.way)
            known = found.get(key)
            peak = (known.first.fit or known.first.nearest).memory.peak if known else 0.0
            if shown.memory.peak > peak:
                found[key] = line
    return list(found.values())


def _bars(plan: Plan) -> str:
    whole = max(plan.on.gpu.memory_gb * GIB, 1.0)
    rows = []
    for line in _trainings(plan):
        shown = line.first.fit or line.first.nearest
        left, pieces = 0.0, ""
        for part in PARTS[:-1]:
            width = 100 * getattr(shown.memory, part) / whole
            pieces += (
                f'<i style="left:{min(left, 100):.2f}%;width:{max(min(width, 100 - left), 0):.2f}%;'
                f'background:{COLOURS[part]}" title="{part} {line.memory(part)} GiB"></i>'
            )
            left += width
        mark = f'<b style="left:{100 * plan.on.memory:.1f}%"></b>'
        numbers = "".join(f"<td>{line.memory(part)}</td>" for part in ("peak", *PARTS))
        state = "" if line.first.fit else ' class="no"'
        rows.append(
            f'<tr{state}><td class="word">{html.escape(line.title)}</td>'
            f"<td>{shown.gpus}</td>"
            f'<td class="word">{html.escape(line.way)}</td>'
            f'<td><div class="bar">{pieces}{mark}</div></td>{numbers}</tr>'
        )
    names = ("run", "GPUs", "how", "GiB a GPU", "peak", *PARTS)
    head = "".join(
        f'<th class="{"word" if at in (0, 2) else ""}">{name}</th>' for at, name in enumerate(names)
    )
    return f'<div class="box"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _jobs(plan: Plan) -> str:
    head = ("job", "of", "how", "GPUs", "jobs", "FLOPs of one", "hours of one", "GPU hours", "peak")
    return _table(head, map(_cells, lines(plan)), left=3)


def _cells(line: Line) -> tuple[str, ...]:
    first, count = line.first, len(line.jobs)
    work = f"{first.work.total:.2e}" if first.work.total else ""
    spent = f"{count * first.gpu_hours:,.1f}" if first.gpus else ""
    hours, peak = f"{first.hours:.1f}", line.memory("peak")
    gpus = str(first.gpus or "")
    return (first.job.kind, line.title, line.way, gpus, str(count), work, hours, spent, peak)


def _downloads(plan: Plan) -> str:
    rows = []
    models = {each.name for each in plan.downloads if each.kind == "model"}
    for each in plan.downloads:
        if each.kind == "tokenizer" and each.name in models:
            continue
        size = "?" if each.gigabytes is None else f"{each.gigabytes:.1f}"
        asks = {True: "consent", False: "", None: "not known"}[each.gated]
        rows.append((each.kind, each.name, each.licence or "not known", asks, size))
    return _table(("kind", "id", "licence", "asks for", "GB"), rows, left=4)
