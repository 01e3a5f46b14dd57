"""What code made the records."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from analysis.provenance import alert, fault, states, write
from workflow.items import all_records

from .invented import PAIRS, suite_of

CLEAN = {"commit": "a" * 40, "dirty": False}
DIRTY = CLEAN | {"dirty": True}
OTHER = {"commit": "b" * 40, "dirty": False}


def records(root, suite, git):
    """Every JSON record of a suite, made by the states of ``git`` in turn."""
    names = [name for name in all_records(suite) if name.endswith(".json")]
    for at, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps({"git": git[at % len(git)]}))
    return names


@pytest.fixture
def suite():
    return suite_of(pairs=PAIRS[:1], items=["heldout"])


def test_states_are_read_wherever_a_record_keeps_them(tmp_path):
    held = [{"git": CLEAN}, {"provenance": {"git": DIRTY}}, {"generation": {"git": OTHER}}]
    held.append({"git": None})
    names = [f"{at}.json" for at in range(len(held))]
    for name, record in zip(names, held, strict=True):
        (tmp_path / name).write_text(json.dumps(record))
    found = states(tmp_path, [*names, "9.json", "0.npz"])
    clean, other = CLEAN["commit"], OTHER["commit"]
    assert found == {(clean, False): 1, (clean, True): 1, (other, False): 1, ("", True): 1}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({("a", False): 3}, ""),
        ({("a", False): 3, ("a", True): 1}, "1 of 4 records were made with uncommitted changes"),
        ({("a", False): 3, ("b", False): 1}, "they come from 2 commits"),
        ({("a", False): 3, ("", True): 2}, "2 of 5 records name no commit"),
        ({}, ""),
    ],
)
def test_the_fault_in_words(found, told):
    assert fault(Counter(found)) == told


def test_the_table_and_the_alert_in_red(tmp_path, suite):
    records(tmp_path, suite, [CLEAN, DIRTY])
    write("provenance", suite, tmp_path)
    page = (tmp_path / "tables" / "provenance.html").read_text()
    assert '<p class="alert">Not of one clean commit: ' in page and "#C00000" in page
    assert "**Not of one clean commit" in (tmp_path / "tables" / "provenance.md").read_text()
    records(tmp_path, suite, [CLEAN])
    write("provenance", suite, tmp_path)
    assert '<p class="alert">' not in (tmp_path / "tables" / "provenance.html").read_text()
    assert alert(suite, tmp_path) == ""


def test_a_rehearsal_says_in_red_that_its_numbers_mean_nothing(tmp_path, suite):
    records(tmp_path, suite, [CLEAN])
    told = alert(suite.model_copy(update={"rehearses": "paper"}), tmp_path)
    assert told.startswith("A rehearsal of the scale paper") and "no number" in told
