"""Keep the records of a finished scale in the repository, with its tables and figures.

    tad publish --scale smoke
    tad publish --scale smoke --redrawn    # after make figures
    tad publish --scale smoke --allow-dirty    # records of several commits or of uncommitted code

Copies every record that the scale's tables, figures and claims are made of, and what they are, from
``work/SCALE`` to ``results/SCALE``; no weights. ``make figures`` redraws from them. No rule of the
DAG writes to ``results``, so that a result is replaced by this command alone. Records of one clean
commit are taken; others only if asked for, and then the tables that hold them say so in red. Of
few-shot items what pairs them and whether each is right is kept, of curves what is measured.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from analysis.kinds import read_record
from analysis.paired import HASH, read_items
from analysis.provenance import fault, states
from analysis.report import findings
from analysis.results import PROJECT
from tad.command import UserError, command_line, exit_code
from tad.experiment.config import load_suite, scale_options
from tad.experiment.layers import config_files
from tad.records import provenance, read_json, read_json_lines, write_bytes, write_json
from workflow.items import DESIGN, FINDINGS, all_records

PAGE = FINDINGS.files[0]
PICTURES = ("*.png", "*.pdf", "*.csv")
"""Of a figure: to look at, to print, and its numbers."""


SPEED = "tokens_per_second"
ASIDE = ("epoch", "learning_rate", "grad_norm")
"""What a curve logs of its training, and no table or figure shows."""


class PublishError(UserError, ValueError):
    """A scale that is not finished, or not of one clean commit; the message says what is wrong."""


def publish(
    scale: str,
    config: str | None = None,
    root: Path = Path(),
    *,
    overrides: Sequence[str] = (),
    allow_dirty: bool = False,
) -> Path:
    """Copy a scale's records, tables and figures; returns the folder. Raises PublishError.

    The new folder replaces the old one only when it is complete. ``manifest.json`` holds the hash
    of every file, and of the configuration that they belong to; ``fault`` there is what
    ``allow_dirty`` let pass.
    """
    path = Path(config or root / "config" / f"{scale}.yaml")
    suite = load_suite(path, overrides)
    source, target = root / "work" / suite.scale, root / "results" / suite.scale
    files = [Path(name) for name in all_records(suite)]
    missing = [name for name in files if not (source / name).is_file()]
    if missing:
        raise PublishError(
            f"{source / missing[0]}: missing, with {len(missing) - 1} more of {len(files)}; finish "
            f"the scale first: make reproduce SCALE={scale}"
        )
    wrong = fault(states(source, files))
    if wrong and not allow_dirty:
        raise PublishError(
            f"{source}: {wrong}; commit, remove {source} and run the scale again, or publish with "
            "--allow-dirty (make publish ALLOW_DIRTY=1), which the report shows in red"
        )
    files += _drawn(source)
    made_by = provenance()  # before anything is written here, which would make the tree "dirty"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{scale}-") as temporary:
        new = Path(temporary) / "new"
        hashes = {}
        for name in files:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(new / name, published(source / name))
            hashes[name.as_posix()] = _hash(new / name)
        if (source / PAGE).is_file():  # anew, because it says where its records are
            findings.write(suite, new)
            hashes[PAGE] = _hash(new / PAGE)
        configuration = [*config_files(path), PROJECT / DESIGN]
        write_json(
            new / "manifest.json",
            {
                "scale": suite.scale,
                "config": {p.name: _hash(p) for p in configuration},
                "overrides": list(overrides),
                "files": hashes,
                **({"fault": wrong} if wrong else {}),
                **made_by,
            },
        )
        if target.exists():
            target.rename(Path(temporary) / "old")
        new.rename(target)
    return target


def published(path: Path) -> bytes:
    """What is kept of a file: all of most. A scale has hundreds of items and curves; of the first
    is kept what pairs them and whether each is right, of the second what is measured."""
    if path.name == "fewshot.items.jsonl.gz":
        rows = read_items(path)[["task", "item", "doc_hash", "correct"]]
        rows = rows.assign(doc_hash=rows["doc_hash"].str[:HASH])
        text = rows.to_json(orient="records", lines=True)
        return gzip.compress(text.encode(), mtime=0)
    if path.name == "train.jsonl":
        lines = read_json_lines(path)
        kept = [{key: x for key, x in line.items() if key not in ASIDE} for line in lines]
        timed = [line for line in kept if SPEED in line]
        for line in timed[:-1]:  # the last says it
            del line[SPEED]
        return "".join(json.dumps(line) + "\n" for line in kept).encode()
    if path.name == "calibration.json":
        return (json.dumps(read_json(path)) + "\n").encode()  # without the spaces
    return path.read_bytes()


def redrawn(scale: str, root: Path = Path()) -> Path:
    """Take the hashes of tables and figures that ``make figures`` drew anew; returns the folder.

    Records keep theirs, and the manifest keeps who made them and says which code drew. Raises
    PublishError for a scale that is not published.
    """
    target = root / "results" / scale
    if not (target / "manifest.json").is_file():
        raise PublishError(f"{target}: not published; run make publish SCALE={scale} first")
    manifest = read_record(target / "manifest.json")
    records = {
        name: of_file
        for name, of_file in manifest["files"].items()
        if Path(name).parts[0] not in ("tables", "figures", PAGE)
    }
    page = [Path(PAGE)] if (target / PAGE).is_file() else []
    drawn = {name.as_posix(): _hash(target / name) for name in [*_drawn(target), *page]}
    drawn_by = {"drawn_by": provenance()["git"]}
    write_json(target / "manifest.json", manifest | {"files": records | drawn} | drawn_by)
    return target


def _drawn(root: Path) -> list[Path]:
    """Tables and figures below ``root``, relative to it."""
    files = []
    for folder, patterns in (("tables", ("*",)), ("figures", PICTURES)):
        found = [p for pattern in patterns for p in (root / folder).glob(pattern)]
        found = [p for p in found if not p.name.startswith(".")]  # of a write that was killed
        files += sorted(p.relative_to(root) for p in found)
    return files


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all is copied, 2 for a scale that is not finished."""
    parser = command_line("publish", __doc__)
    parser.add_argument("--scale", required=True, help="smoke, mini, paper or a scale file")
    scale_options(parser, required=False)
    parser.add_argument(
        "--redrawn", action="store_true", help="only take up what make figures drew anew"
    )
    parser.add_argument(
        "--allow-dirty", action="store_true", help="records of several commits, or of no clean one"
    )
    options = parser.parse_args(arguments)

    path = Path(options.scale)
    config = options.config or (options.scale if path.suffix == ".yaml" else None)

    def job() -> None:
        if options.redrawn:
            print(f"{redrawn(path.stem)}: hashes of tables and figures taken")
        else:
            folder = publish(
                path.stem, config, overrides=options.overrides, allow_dirty=options.allow_dirty
            )
            print(f"{folder}: published")

    return exit_code("publish", job)
