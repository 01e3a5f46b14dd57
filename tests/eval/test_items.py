"""Items of data sets: what is wrong with a line, and where."""

from __future__ import annotations

import json

import pytest

from eval.items import ItemError, read_items


def test_items_are_read_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": "one\u2028two"}, {"text": "three", "more": None}]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert read_items(path, ("text",)) == rows


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "a.jsonl: no items"),
        (b'{"text": "a"}\n{"text": \n', "a.jsonl:2: not valid JSON"),
        (b"[1]\n", "a.jsonl:1: must be a JSON object"),
        (b'{"texts": "a"}', "a.jsonl:1: no field 'text'"),
        (b'{"text": null}', "a.jsonl:1: no field 'text'"),
        (b"\xff\xfe", "a.jsonl: cannot be read"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, fault):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ItemError, match=fault) as caught:
        read_items(path, ("text",))
    assert "\n" not in str(caught.value)
    with pytest.raises(ItemError, match=r"no such file; it holds JSON lines with the fields text"):
        read_items(tmp_path / "b.jsonl", ("text",))
