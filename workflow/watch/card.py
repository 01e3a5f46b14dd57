"""The card of a finished scale: verdicts, TAD against its controls, time, machine, commit."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

from tad.experiment.config import Suite
from tad.records import RecordError, read_json
from workflow.watch.jobs import duration, jobs

MOST = 6
"""Controls of a pair that the card has room for."""


def card(suite: Suite, root: Path) -> str:
    """The lines; what there are no records or tables for is left out."""
    lines = [f"scale {suite.scale}: {len(suite.runs())} runs"]
    lines += _claims(root) + _controls(root) + _made_by(suite, root)
    lines.append(f"tables: {root}/tables/   figures: {root}/figures/")
    if (report := root / "report.html").is_file():
        lines.append(f"report: {report}")
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _claims(root: Path) -> list[str]:
    counts = Counter(row["verdict"] for row in _rows(root / "tables" / "claims.csv"))
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return [f"claims: {told}"] if counts else []


def _controls(root: Path) -> list[str]:
    """Held-out KL less that of TAD: above 0 where TAD is better."""
    pairs: defaultdict[str, list[str]] = defaultdict(list)
    for row in _rows(root / "tables" / "controls.csv"):
        if row.get("effect"):
            low, high = row.get("low"), row.get("high")
            interval = f" [{float(low):+.1f}, {float(high):+.1f}]" if low and high else ""
            pairs[row["pair"]].append(f"{row['method']} {float(row['effect']):+.1f}%{interval}")
    head = "held-out KL less that of TAD (above 0: TAD is better), "
    return [
        f"{head}{pair}: {', '.join(found[:MOST])}{' ...' if len(found) > MOST else ''}"
        for pair, found in pairs.items()
    ]


def _made_by(suite: Suite, root: Path) -> list[str]:
    seconds = sum(job.seconds or 0 for job in jobs(suite, root))
    commits, machines = set(), set()
    for run in suite.runs():
        try:
            made = read_json(root / "runs" / str(run) / "manifest.json")
        except RecordError:
            continue
        git, host = made.get("git"), made.get("host") or {}
        dirty = " with changes" if git and git["dirty"] else ""
        commits.add(f"{git['commit'][:9]}{dirty}" if git else "no checkout")
        machines.add(f"{host.get('gpu') or host.get('cpu')}, {host.get('cores')} cores")
    time = [f"time: {duration(seconds)} of jobs"] if seconds else []
    if not commits:
        return time
    several = " (several: make the scale again from one)" if len(commits) > 1 else ""
    return [
        *time,
        f"machine: {'; '.join(sorted(machines))}",
        f"commit: {', '.join(sorted(commits))}{several}",
    ]
