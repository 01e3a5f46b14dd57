"""The list of claims: the paper's, and those of a user's own methods."""

from __future__ import annotations

import pytest

from analysis.claims.judge import judge
from analysis.claims.listed import CLAIMS, KD, OURS, PAPER, own_claims
from analysis.claims.statistics import SUPPORTED
from tad.methods import ROWS, register

from ..invented import KL_TRUTH, suite_of, write_records


def test_the_list_is_complete_and_names_what_it_needs():
    assert len(CLAIMS) >= 20
    assert len({entry.id for entry in CLAIMS}) == len(CLAIMS)
    assert all(entry.section and entry.statement and entry.needs for entry in CLAIMS)


@pytest.fixture
def own_method(monkeypatch):
    """A user's method with held-out KL below that of Vanilla KD, in the item ``heldout``."""
    monkeypatch.setitem(ROWS, "my_kl", ROWS[KD])
    del ROWS["my_kl"]
    register("my_kl", "tad.divergences:forward_kl", label="Mine")
    monkeypatch.setitem(KL_TRUTH, "my_kl", 0.2)
    yield "my_kl"
    del ROWS["my_kl"]


def test_a_method_of_the_user_is_judged_apart(tmp_path, own_method):
    suite = suite_of()
    plain, _ = judge(suite, write_records(tmp_path / "plain", suite))
    items = dict(suite.items)
    methods = [*items["heldout"].methods, own_method]
    items["heldout"] = items["heldout"].model_copy(update={"methods": methods})
    select = suite.select.model_copy(update={"methods": [*suite.select.methods, own_method]})
    suite = suite.model_copy(update={"items": items, "select": select})
    [claim] = own_claims(suite)
    assert claim.section == "not of the paper" and "Mine ends" in claim.statement
    judged, _ = judge(suite, write_records(tmp_path / "own", suite))
    assert [e.claim.id for e in judged if e not in plain][-1] == "own-my_kl"
    assert judged[-1].verdict == SUPPORTED and judged[-1].claim.family == OURS
    tested = [[e.tested for e in found if e.claim.family == PAPER] for found in (plain, judged)]
    assert tested[0] == tested[1], "the paper's claims are corrected for among themselves"
