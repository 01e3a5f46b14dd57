"""Begin a suite of your own: a folder of configuration over the smoke scale.

    tad new mylab

Writes ``mylab/mine.yaml`` with a model, a pair, a corpus, a few-shot task and a divergence to
change, and what they name beside it; put your text into ``mylab/text``. Then

    make reproduce SCALE=mylab/mine.yaml

runs it into ``work/mine``: every table, figure and claim that its items allow.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tad.command import PROJECT, UserError, command_line, exit_code
from tad.records import write_text

TEMPLATE = PROJECT / "config" / "new"
"""What is written, with FOLDER, NAME, MODULE and SCHEMA for what they are there."""


class NewError(UserError, ValueError):
    """A folder or name that cannot be taken; the message names another way."""


def new(folder: str, name: str = "mine") -> Path:
    """Write the folder; returns its scale file. Raises NewError, and writes nothing, where the
    folder, the results of a scale of that name, or such a scale is there."""
    path = Path(folder) / f"{name}.yaml"
    parts = Path(folder).parts
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise NewError(f"--name {name}: use lower-case letters, digits, '_', '-'")
    if Path(folder).is_absolute() or not all(part.isidentifier() for part in parts):
        cure = "name a folder below this one that Python can import: letters, digits, '_'"
        raise NewError(f"{folder}: {cure}")
    for taken in (Path(folder), Path("work") / name, PROJECT / "config" / f"{name}.yaml"):
        if taken.exists():
            raise NewError(f"{taken}: is there already; take another folder, or --name OTHER")
    if not TEMPLATE.is_dir():
        raise NewError(f"{TEMPLATE}: is not there; work in a clone of the project")
    (Path(folder) / "text").mkdir(parents=True)
    values = {
        "FOLDER": Path(folder).as_posix(),
        "NAME": name,
        "MODULE": ".".join(parts),
        "SCHEMA": os.path.relpath(PROJECT / "config" / "schema.json", folder),
    }
    for source in sorted(p for p in TEMPLATE.rglob("*") if p.suffix in (".yaml", ".py", ".jsonl")):
        text = source.read_text(encoding="utf-8")
        for word, value in values.items():
            text = text.replace(word, value)
        target = path if source.name == "mine.yaml" else Path(folder) / source.relative_to(TEMPLATE)
        write_text(target, text)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the folder is written, 2 for one that cannot be."""
    parser = command_line("new", __doc__)
    parser.add_argument("folder", help="folder to make, below the one you work in")
    parser.add_argument("--name", default="mine", help="of the scale and its file (mine)")
    options = parser.parse_args(arguments)

    def job() -> None:
        path = new(options.folder, options.name)
        print(f"{path}: put text into {path.parent / 'text'}, then: make reproduce SCALE={path}")

    return exit_code("new", job)
