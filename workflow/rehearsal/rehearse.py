"""Make a scale of its own that runs every job of a large one in minutes, on a CPU and offline.

    tad rehearse --scale paper --out work/stand-ins
    make reproduce SCALE=work/stand-ins/rehearsal.yaml          (`make rehearsal` does both)

In: a scale whose models are loaded, by its name in config/ or as a file. Out: ``rehearsal.yaml``,
which extends it, and below ``hub/`` a small stand-in of each model, tokenizer, data set and
benchmark that it names. The graph of jobs is the scale's own, so that what would fail in its last
table fails here first. No number of a rehearsal means anything: its weights are random.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from tad.command import PROJECT, command_line, exit_code
from tad.experiment.config import Suite, load_suite
from tad.experiment.layout import Layout
from tad.records import write_text
from workflow.rehearsal.scale import NAME, miniature
from workflow.rehearsal.sizes import RehearsalError

HEAD = "# Made by `tad rehearse`: {scale} in miniature, on stand-ins. No number means anything.\n"


def rehearse(scale: str, folder: Path) -> Path:
    """Write the scale file and all stand-ins; returns the file's path. Raises UserError."""
    path, extends = scale_file(scale, folder)
    suite = load_suite(path)
    if folder.resolve().is_relative_to(Layout.work(NAME).root.resolve()):
        raise RehearsalError(f"--out {folder}: is where the jobs work; choose another folder")
    out = write_scale(suite, extends, folder)
    small = load_suite(out)
    from workflow.rehearsal.stand_ins import make

    make(suite, small, folder)
    return out


def scale_file(scale: str, folder: Path) -> tuple[Path, str]:
    """The file of a scale, and how a file in ``folder`` names it to extend it."""
    if not scale.endswith((".yaml", ".yml")):
        return PROJECT / "config" / f"{scale}.yaml", scale
    return Path(scale), os.path.relpath(scale, folder)


def write_scale(suite: Suite, extends: str, folder: Path) -> Path:
    """Write ``rehearsal.yaml`` alone. Raises RehearsalError."""
    changes: dict[str, Any] = miniature(suite, extends, folder)
    out = folder / f"{NAME}.yaml"
    body = yaml.safe_dump(changes, sort_keys=False, width=100)
    write_text(out, HEAD.format(scale=suite.scale) + body)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all is written, 2 for bad input."""
    parser = command_line("rehearse", __doc__)
    parser.add_argument("--scale", default="paper", help="name in config/, or a file (paper)")
    parser.add_argument("--out", type=Path, default=Path("work/stand-ins"), help="folder to write")
    options = parser.parse_args(arguments)

    def job() -> None:
        path = rehearse(options.scale, options.out)
        print(f"{path}: run it by HF_HUB_OFFLINE=1 make reproduce SCALE={path}")

    return exit_code("rehearse", job)
