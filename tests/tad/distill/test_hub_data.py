"""`tad distill --data HUB_ID`, as typed, against a stand-in of the hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tad.records import read_json

from ..data.hub_stand_in import ID, Hub
from ..data.test_hub import hub
from .conftest import SMALL, jsonl

__all__ = ["hub"]


def distill(hub: Hub, folder: Path, **options: object) -> tuple[int, str]:
    """Exit code of a small ``tad distill`` that asks ``hub``, and what it said."""
    given = SMALL | {f"--{key}": str(value) for key, value in options.items()}
    done = subprocess.run(
        [sys.executable, "-m", "tad", "distill", *(x for pair in given.items() for x in pair)],
        cwd=folder, env=hub.environment(folder), capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_hub_set_distils_as_the_same_rows_in_a_file(hub, teacher, tmp_path):
    code, said = distill(hub, tmp_path, teacher=teacher, data=ID, out="hub")
    assert code == 0, said
    read = [path for path in hub.sent if path.endswith(".parquet")]
    assert read and len(read) < 6, "only the shards that the tokens ask for"
    tables = [pq.read_table(pa.BufferReader(hub.files[path])) for path in read]
    texts = [text for table in tables for text in table["text"].to_pylist()]
    local = jsonl(tmp_path / "local.jsonl", [{"text": text} for text in texts])
    code, said = distill(hub, tmp_path, teacher=teacher, data=local, out="file")
    assert code == 0, said
    ours, theirs = (read_json(tmp_path / out / "report.json") for out in ("hub", "file"))
    assert ID in (tmp_path / "hub" / "report.md").read_text()
    assert ours["students"][0]["held_out"] == theirs["students"][0]["held_out"]


def test_what_the_hub_lacks_is_one_line(hub, teacher, tmp_path):
    code, said = distill(hub, tmp_path, teacher=teacher, data="somebody/else", out="out")
    assert code == 2 and "somebody/else" in said.splitlines()[-1], said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "report.json").exists()
