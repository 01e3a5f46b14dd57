"""Items of data sets: JSON lines whose faults are told by file, line and field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tad.command import UserError


class ItemError(UserError, ValueError):
    """Items that are missing or not of the form that is needed; one line naming file and line."""


def read_items(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The items of a file of JSON lines, each with all ``fields``, none of them null.

    Raises ItemError for a missing or empty file and for a line that is no such item.
    """
    needed = f"JSON lines with the fields {', '.join(fields)}"
    if not path.is_file():
        raise ItemError(f"{path}: no such file; it holds {needed}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ItemError(f"{path}: cannot be read ({error})") from None
    items = []
    for number, line in enumerate(text.split("\n"), start=1):  # texts hold other separators
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise ItemError(f"{path}:{number}: not valid JSON ({error})") from None
        if not isinstance(item, dict):
            raise ItemError(f"{path}:{number}: must be a JSON object")
        missing = [name for name in fields if item.get(name) is None]
        if missing:
            raise ItemError(f"{path}:{number}: no field {missing[0]!r}; needed are {needed}")
        items.append(item)
    if not items:
        raise ItemError(f"{path}: no items")
    return items
