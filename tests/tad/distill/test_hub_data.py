"""`tad distill --data HUB_ID`, as typed, against a stand-in of the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tad.records import read_json

from ..data.hub_stand_in import ID, Hub, serving
from ..data.test_hub import content
from .conftest import SMALL, jsonl

REPOSITORY = Path(__file__).parents[3]


def distill(folder: Path, hub_url: str, **options: object) -> tuple[int, str]:
    """Exit code of a small ``tad distill`` that asks ``hub_url``, and what it said."""
    given = SMALL | {f"--{key}": str(value) for key, value in options.items()}
    done = subprocess.run(
        [sys.executable, "-m", "tad", "distill", *(x for pair in given.items() for x in pair)],
        cwd=folder, capture_output=True, text=True, timeout=240, check=False,
        env={
            **{k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"},
            "PYTHONPATH": str(REPOSITORY), "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": hub_url, "HF_HUB_DISABLE_TELEMETRY": "1",
        },
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def hub():
    with serving(Hub(content())) as hub:
        yield hub


def test_a_hub_set_distils_as_the_same_rows_in_a_file(hub, teacher, tmp_path):
    code, said = distill(tmp_path, hub.url, teacher=teacher, data=ID, out="hub")
    assert code == 0, said
    read = [path for path in hub.sent if path.endswith(".parquet")]
    assert read and len(read) < 6, "only the shards that the tokens ask for"
    tables = [pq.read_table(pa.BufferReader(hub.files[path])) for path in read]
    texts = [text for table in tables for text in table["text"].to_pylist()]
    local = jsonl(tmp_path / "local.jsonl", [{"text": text} for text in texts])
    code, said = distill(tmp_path, hub.url, teacher=teacher, data=local, out="file")
    assert code == 0, said
    ours, theirs = (read_json(tmp_path / out / "report.json") for out in ("hub", "file"))
    assert ID in (tmp_path / "hub" / "report.md").read_text()
    assert ours["students"][0]["held_out"] == theirs["students"][0]["held_out"]


def test_what_the_hub_lacks_is_one_line(hub, teacher, tmp_path):
    code, said = distill(tmp_path, hub.url, teacher=teacher, data="somebody/else", out="out")
    assert code == 2 and "somebody/else" in said.splitlines()[-1], said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "report.json").exists()
