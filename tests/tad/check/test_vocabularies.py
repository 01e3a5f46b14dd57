"""Tokenizers of data, teacher and student: what fits, and the first token that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tad.check import vocabularies
from tad.check.wanted import wanted
from tests.tad.check.made import tokenizer
from tests.tad.check.test_wanted import suite_of

DATA = "TinyLlama/TinyLlama-1.1B-intermediate-step-1195k-token-2.5T"
TEACHER = "microsoft/Phi-3-mini-4k-instruct"
STUDENT = "TinyLlama/TinyLlama-1.1B-intermediate-step-480k-1T"
MERGES = [("t", "h"), ("h", "e"), ("1", "0")]
ABOUT = "pairs.phi3-4b_tinyllama"


@pytest.fixture
def told(tmp_path):
    """A function (tokenizer by hub id) -> lines, for a pair that starts from a checkpoint."""

    def tell(made: dict, *overrides: str) -> list[str]:
        suite = suite_of(
            "paper",
            "select.items=[table6]",
            "select.pairs=[phi3-4b_tinyllama]",
            "select.methods=[vanilla_kd]",
            *overrides,
        )
        folders: dict[str, Path] = {}
        for number, (name, one) in enumerate(made.items()):
            folders[name] = tmp_path / str(number)
            one.save_pretrained(folders[name])
        found = vocabularies.compare(suite, wanted(suite), folders.get)
        return [finding.line() for finding in found if "2t" not in finding.found]

    return tell


def three(**others) -> dict:
    """The same tokenizer for all, but for ``others``."""
    same = {"data": tokenizer(), "teacher": tokenizer(), "student": tokenizer()} | others
    return {DATA: same["data"], TEACHER: same["teacher"], STUDENT: same["student"]}


def test_one_vocabulary(told):
    more = tokenizer("<|more|> <|still|>")
    lines = told(three(teacher=more))
    assert lines[0] == "ok       tokenizers.llama: 257 tokens, ends texts by <end>"
    assert lines[1].startswith(f"ok       {ABOUT}: tokenizers of the data ({DATA}) and the teacher")
    assert "agree on ids 0 to 256, and on the" in lines[1]
    assert lines[2].startswith("ok") and "student tinyllama-1.1b/1t" in lines[2]
    assert len(lines) == 3


def test_a_teacher_that_numbers_a_token_otherwise(told):
    line = told(three(data=tokenizer("cat dog"), teacher=tokenizer("dog cat")))[1]
    assert line.startswith(f"failure  {ABOUT}")
    assert "token 257 is 'cat' to the one and 'dog' to the other; choose a pair that" in line


def test_a_student_must_know_every_token_of_the_data(told):
    line = told(three(data=tokenizer("cat"), teacher=tokenizer("cat")))[2]
    assert line.startswith("failure") and "student tinyllama-1.1b/1t" in line
    assert "token 257 is 'cat' to the one and none to the other" in line


def test_the_same_ids_in_another_order_of_merges(told):
    ours, theirs = tokenizer(merges=MERGES), tokenizer(merges=MERGES[::-1])
    assert ours.get_vocab() == theirs.get_vocab()
    line = told(three(data=ours, teacher=theirs, student=ours))[1]
    assert line.startswith(f"warning  {ABOUT}")
    # "The tail of a distribution": of "The", "h" and "e" meet in both; in "the" they do not.
    assert "its token" in line and "is 'th' to the data and 't' to the teacher" in line


def test_more_tokens_than_embeddings(told):
    small = "models.phi3-4b.shape.vocab_size=200"
    line = told(three(), small)[1]
    assert line.startswith(f"failure  {ABOUT}: the teacher phi3-4b/final has 200 embeddings")


def test_text_that_cannot_be_ended(told):
    lines = told(three(data=tokenizer(eos=None), teacher=tokenizer(eos=None)))
    assert lines[0].startswith("failure  tokenizers.llama: names no eos_token")


def test_what_cannot_be_had_is_told_once(told):
    found = three()
    del found[DATA]
    lines = told(found)
    assert len(lines) == 1
    assert lines[0].startswith("warning  pairs: tokenizers of data and models not compared")
    assert "phi3-4b_tinyllama" in lines[0]


def test_a_damaged_tokenizer_is_named(told, tmp_path):
    suite = suite_of("paper", "select.items=[figure2]", "select.pairs=[phi2_1b]")
    (tmp_path / "tokenizer.json").write_text("{")
    found = vocabularies.compare(suite, wanted(suite), lambda place: tmp_path)
    assert found[0].level == "failure" and "tokenizers.phi: its tokenizer cannot" in found[0].line()


def test_the_reference_of_miniplm_has_a_tokenizer_of_its_own(tmp_path):
    suite = suite_of(
        "paper",
        "select.items=[table4]",
        "select.pairs=[phi2_1b]",
        "select.methods=[miniplm]",
    )
    tokenizer().save_pretrained(tmp_path / "phi")
    tokenizer("other words", eos=None).save_pretrained(tmp_path / "opt")
    folders = {"microsoft/phi-2": tmp_path / "phi", "facebook/opt-125m": tmp_path / "opt"}
    need = wanted(suite)
    assert vocabularies.used(suite, need) == list(folders)
    lines = [finding.line() for finding in vocabularies.compare(suite, need, folders.get)]
    assert lines[-1].startswith("failure  models.opt-125m: MiniPLM's reference has no end-of-text")
    tokenizer("other words").save_pretrained(tmp_path / "opt")
    found = vocabularies.compare(suite, need, folders.get)
    assert [finding.level for finding in found] == ["ok", "ok", "ok"]


def test_tokenizers_trained_here():
    assert vocabularies.meetings(suite_of("smoke")) == []
    two = suite_of(
        "smoke",
        "select.items=[table6]",
        "select.pairs=[phi3-4b_tinyllama]",
        "models.phi3-4b.tokenizer=phi",
    )
    found = vocabularies.compare(two, wanted(two), lambda place: None)
    assert found[0].level == "failure"
    assert "the data are in tokens of llama and the teacher" in found[0].found
