"""Keep the records of a finished scale in the repository, with its tables and figures.

    python -m analysis.publish --scale smoke

Copies every record that the scale's tables, figures and claims are made of, and what they are, from
``work/SCALE`` to ``results/SCALE``; no weights. ``make figures`` redraws from them. No rule of the
DAG writes to ``results``, so that a result is replaced by this command alone.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from tad.command import UserError, command_line, exit_code
from tad.config import load_suite
from tad.inventory import all_records
from tad.records import provenance, write_json

PICTURES = ("*.png", "*.csv")
"""Of a figure the picture and its numbers; the PDF is redrawn."""


class PublishError(UserError, ValueError):
    """A scale that is not finished; the message names what is missing."""


def publish(scale: str, config: str | None = None, root: Path = Path()) -> Path:
    """Copy a scale's records, tables and figures; returns the folder. Raises PublishError.

    The new folder replaces the old one only when it is complete. ``manifest.json`` holds the hash
    of every file, and of the configuration that they belong to.
    """
    path = Path(config or root / "config" / f"{scale}.yaml")
    suite = load_suite(path)
    source, target = root / "work" / suite.scale, root / "results" / suite.scale
    files = [Path(name) for name in all_records(suite)]
    missing = [name for name in files if not (source / name).is_file()]
    if missing:
        raise PublishError(
            f"{source / missing[0]}: missing, with {len(missing) - 1} more of {len(files)}; finish "
            f"the scale first: make reproduce SCALE={scale}"
        )
    for folder, patterns in (("tables", ("*",)), ("figures", PICTURES)):
        found = [p for pattern in patterns for p in (source / folder).glob(pattern)]
        files += sorted(p.relative_to(source) for p in found)
    made_by = provenance()  # before anything is written here, which would make the tree "dirty"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{scale}-") as temporary:
        new = Path(temporary) / "new"
        hashes = {}
        for name in files:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, new / name)
            hashes[name.as_posix()] = hashlib.sha256((new / name).read_bytes()).hexdigest()
        configuration = [path, path.parent / "experiments.yaml"]
        write_json(
            new / "manifest.json",
            {
                "scale": suite.scale,
                "config": {
                    p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in configuration
                },
                "files": hashes,
                **made_by,
            },
        )
        if target.exists():
            target.rename(Path(temporary) / "old")
        new.rename(target)
    return target


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all is copied, 2 for a scale that is not finished."""
    parser = command_line("analysis.publish", __doc__)
    parser.add_argument("--scale", required=True, help="smoke, mini or paper")
    parser.add_argument("--config", help="scale file (default: config/SCALE.yaml)")
    options = parser.parse_args(arguments)

    def job() -> None:
        print(f"{publish(options.scale, options.config)}: published")

    return exit_code("analysis.publish", job)


if __name__ == "__main__":
    sys.exit(main())
