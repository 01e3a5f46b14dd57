"""Which code made the records: one clean commit, or something that a reader has to be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.kinds import read_record
from analysis.writing.render import Table
from tad.experiment.config import Suite
from tad.records import Record, RecordError
from workflow.items import all_records

HOLDERS = ("provenance", "generation")
"""Keys of a record below which its provenance may stand."""

State = tuple[str, bool]
"""A commit ("" where none is recorded) and whether the tree had other changes."""


def states(root: Path, files: Iterable[str | Path]) -> Counter[State]:
    """How many of the JSON records below ``root`` come from each state; those not there count for
    nothing, and files beside a record are its. Raises RecordError for a broken one."""
    paths = [root / name for name in files if str(name).endswith(".json")]
    return Counter(_state(_whole(path)) for path in paths if path.is_file())


def _whole(path: Path) -> Record:
    record = read_record(path)
    if not record:
        raise RecordError(f"{path}: is empty; delete it and rerun")
    return record


def _state(record: dict[str, Any]) -> State:
    holders = [record, *(record.get(key) or {} for key in HOLDERS)]
    git = next((holder["git"] for holder in holders if holder.get("git")), None)
    return (git["commit"], bool(git["dirty"])) if git else ("", True)


def fault(found: Counter[State]) -> str:
    """What is wrong with records of such states, in words; empty for one clean commit."""
    commits = {commit for commit, _ in found if commit}
    unknown = sum(count for (commit, _), count in found.items() if not commit)
    dirty = sum(count for (commit, changed), count in found.items() if commit and changed)
    told = []
    if dirty:
        told.append(f"{dirty} of {found.total()} records were made with uncommitted changes")
    if unknown:
        told.append(f"{unknown} of {found.total()} records name no commit")
    if len(commits) > 1:
        told.append(f"they come from {len(commits)} commits")
    return "; ".join(told)


def alert(suite: Suite, root: Path) -> str:
    """What a reader must know of a scale's records before all else, for the head of a table."""
    found = fault(states(root, all_records(suite)))
    told = f"Not of one clean commit: {found}." if found else ""
    if suite.rehearses:
        made = "made on stand-ins with random weights: no number here means anything."
        return f"A rehearsal of the scale {suite.rehearses}, {made} {told}".strip()
    return told


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table ``provenance``: one row a commit. Raises RecordError for a broken record."""
    found = sorted(states(root, all_records(suite)).items())
    rows = [
        [commit or "unknown", "yes" if changed else "no", str(count)]
        for (commit, changed), count in found
    ]
    Table(
        title=f"What code made the records of scale {suite.scale}",
        header=["Commit", "Uncommitted changes", "Records"],
        rows=rows,
        notes=["Records that stand beside others, as those of items, are counted with them."],
        alert=alert(suite, root),
        left=2,
    ).write(root / "tables", name, pd.DataFrame(rows, columns=["commit", "dirty", "records"]))
