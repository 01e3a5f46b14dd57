"""Records: whole or not at all, and faults in one line with file and key."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import pytest

from tad.records import (
    RecordError,
    matching,
    read_json,
    read_json_lines,
    write_json,
    write_json_lines,
)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"kl": math.nan}, "kl"),
        ({"a": {"b": [0.0, {"c": -math.inf}]}}, "a.b.1.c"),
        ([1, 2, math.inf], "2"),
    ],
)
def test_what_is_not_finite_is_named_and_leaves_the_old_record(tmp_path, value, key):
    path = tmp_path / "record.json"
    write_json(path, {"kl": 1.0})
    with pytest.raises(RecordError, match=f"record.json: not written, as {key} is not finite"):
        write_json(path, value)
    with pytest.raises(RecordError, match=key):
        write_json_lines(path, [{"fine": 1}, value])
    assert read_json(path) == {"kl": 1.0}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff{}", b"[" * 100_000, b"[1]", b"null", b"3"])
def test_broken_records_are_told(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="record.json") as error:
        read_json(path)
    assert "\n" not in str(error.value)
    assert matching(path, {}) is None


def test_lines_folders_and_missing_files(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, [{"a": 1}, {"a": 2}])
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text(path.read_text() + "{")
    with pytest.raises(RecordError, match="rows.jsonl:3: not valid JSON"):
        read_json_lines(path)
    for read in (read_json, read_json_lines):
        with pytest.raises(RecordError, match="no readable record"):
            read(tmp_path)
        with pytest.raises(RecordError, match="none.json: no such record; make it with"):
            read(tmp_path / "none.json")


def test_a_missing_key_is_told_at_any_depth(tmp_path):
    path = tmp_path / "math.json"
    write_json(path, {"datasets": [{"gsm8k": {"items": 3}}]})
    found = read_json(path)
    for lacks in (lambda: found["average"], lambda: found["datasets"][0]["gsm8k"]["strict"]):
        with pytest.raises(RecordError, match=r"math.json: has no key '(average|strict)'; delete"):
            lacks()
    assert found.get("average") is None and "average" not in found
    assert pickle.loads(pickle.dumps(found)) == {"datasets": [{"gsm8k": {"items": 3}}]}


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"kl": 1.0})
    code = (
        "import resource, signal; from tad.records import write_json\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "from tad.command import exit_code\n"
        f"raise SystemExit(exit_code('x', lambda: write_json({str(path)!r}, list(range(99)))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{path}: not written (File too large); make room" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]
    assert read_json(path) == {"kl": 1.0}


def test_a_record_that_has_the_wanted_values(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"a": [1], "b": {"c": 2}, "d": 3})
    assert matching(path, {"a": [1], "b": {"c": 2}})["d"] == 3
    assert matching(path, {"a": [1], "b": {"c": 3}}) is None
    assert matching(path, {"e": None}) is None
    write_json(path, [1])
    assert matching(path, {}) is None
