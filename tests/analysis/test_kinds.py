"""A value of another type in a record is one line, whichever record and key it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import kinds
from tad.records import RecordError

RESULTS = Path(__file__).parents[2] / "results" / "smoke"
READ = {  # what tables, figures and claims read: each of these must be of its type
    "heldout.json": ["metrics", "metrics.nll", "metrics.nll.mean"],
    "fewshot.json": ["average", "tasks", "tasks.hellaswag", "tasks.hellaswag.accuracy"],
    "math.json": ["average", "average.strict", "datasets", "datasets.gsm8k",
                  "datasets.gsm8k.strict", "datasets.gsm8k.strict.accuracy"],
    "calibration.json": ["full_ece", "bins", "bins.0", "bins.0.mass", "tail_gap"],
    "manifest.json": ["git", "git.commit", "git.dirty", "tokens", "wall_seconds", "spec"],
    "selection.json": ["threshold", "number"],
}  # fmt: skip


def a_record(kind: str) -> dict:
    return json.loads(sorted(RESULTS.glob(f"[rs]*/**/{kind}"))[0].read_text())


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_what_is_committed_is_of_its_types(kind):
    found = sorted(RESULTS.rglob(kind))
    assert found and all(kinds.read_record(path) for path in found)


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in READ for key in READ[kind]])
def test_a_value_of_another_type_names_file_and_key(tmp_path, kind, key):
    record, path = a_record(kind), tmp_path / kind
    *outer, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    holder = record
    for part in outer:
        holder = holder[part]
    before = holder[last]
    number = isinstance(before, int | float) and not isinstance(before, bool)
    others = [x for x in ("three", [], {}, True) if type(x) is not type(before)]
    for value in [*others, *([] if number else [3])]:
        holder[last] = value
        path.write_text(json.dumps(record))
        with pytest.raises(RecordError) as error:
            kinds.read_record(path)
        assert f"{path}: {key} is " in str(error.value), value
        assert "\n" not in str(error.value) and "delete it and rerun" in str(error.value)


def test_a_record_that_holds_nothing_is_damaged(tmp_path):
    from analysis.provenance import states

    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RecordError, match=r"manifest.json: is empty"):
        states(tmp_path, ["manifest.json"])
