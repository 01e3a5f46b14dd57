"""Large enough: a guess warns, and only what is certain fails."""

from __future__ import annotations

import pytest

from tad.check.amounts import Amount, amount, enough_examples, enough_text
from tad.check.findings import Seen
from tests.tad.check.test_wanted import suite_of

TOKENS = 5_708_000_000  # corpora.general at paper scale, with its held-out text


def card(**split):
    return {"dataset_info": {"config_name": "default", "splits": [{"name": "train", **split}]}}


@pytest.mark.parametrize(
    ("bytes_of_text", "level"),
    [(TOKENS * 5, "ok"), (TOKENS * 3.5, "warning"), (TOKENS * 2, "failure")],
)
def test_text_by_the_card(bytes_of_text, level):
    suite = suite_of("paper")
    found = amount(Seen(card=card(num_bytes=bytes_of_text)), None, "train")
    (finding,) = enough_text(suite, "general", {"general": found})
    assert finding.level == level and "5.71B asked for" in finding.found
    assert (finding.cure != "") == (level != "ok")


def test_text_by_the_size_of_files():
    plain = amount(Seen(sizes={"a/train.jsonl": 1000, "README.md": 9, "x.png": 9}), None, "train")
    assert (plain.likely, plain.most) == (1000, 1000)
    packed = amount(Seen(sizes={"train.parquet": 1000}), None, "train")
    assert packed.likely < packed.most, "how far it is compressed is not known"
    assert amount(Seen(sizes={"README.md": 9}), None, "train") == Amount()


def test_what_is_not_told_is_not_judged():
    suite = suite_of("paper")
    assert enough_text(suite, "general", {"general": Amount()}) == []
    assert enough_examples(suite, "instruct", [Amount(rows=5), Amount()]) == []


def test_the_card_of_the_right_subset_and_split():
    entries = [
        {"config_name": name, "splits": [{"name": "test", "num_bytes": size, "num_examples": 1}]}
        for name, size in (("a", 10), ("b", 20))
    ]
    seen = Seen(card={"dataset_info": entries}, sizes={"x.jsonl": 7})
    assert amount(seen, "b", "test").likely == 20
    assert amount(seen, None, "test").likely == 7, "which of them is not said"
    assert amount(seen, "b", "train").likely == 7


def test_instructions_are_counted_in_rows():
    suite = suite_of("paper")
    counts = [amount(Seen(card=card(num_examples=n)), None, "train") for n in (200_035, 50_000)]
    (finding,) = enough_examples(suite, "instruct", counts)
    assert finding.level == "ok" and "241,000 asked for, 250,035 rows there" in finding.found
    assert enough_examples(suite, "instruct", counts[:1])[0].level == "failure"
