"""Common ids of two tokenizers, or a refusal; the beginning of a text in one."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from tad.data.vocabulary import (
    VocabularyError,
    bos_tokens,
    check_tokenizer,
    document_start,
    shared_vocabulary,
)


def tokenizer(*tokens: str) -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=tokens[0]))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_padding_rows_of_both_models_are_shared():
    same = tokenizer("a", "b", "c")
    assert shared_vocabulary(same, same, 8, 6) == 6


def test_tokens_that_only_one_side_has_end_the_common_part():
    teacher, student = tokenizer("a", "b", "c", "<extra>"), tokenizer("a", "b", "c")
    assert shared_vocabulary(teacher, student, 8, 3) == 3
    assert shared_vocabulary(teacher, student, 8, 8) == 3


def test_a_different_string_under_one_id_is_refused():
    with pytest.raises(VocabularyError, match="token 1 is 'b' to the teacher and 'x'"):
        shared_vocabulary(tokenizer("a", "b", "c"), tokenizer("a", "x", "c"), 3, 3)


@pytest.mark.parametrize(
    ("template", "begins"),
    [("$A", []), ("b $A", [1]), ("b $A c", [1]), ("b c $A", [1, 2]), ("$A c", [])],
)
def test_what_a_template_puts_before_a_text(template, begins):
    made = tokenizer("a", "b", "c")
    special = [(token, made.get_vocab()[token]) for token in "bc"]
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=special
    )
    assert bos_tokens(made) == bos_tokens(made.backend_tokenizer) == begins
    assert document_start(begins, eos_id=2) == begins
    assert document_start(begins, eos_id=1) == ([] if begins == [1] else begins)


def test_a_start_of_another_tokenizer_is_refused(tmp_path):
    ours = tokenizer("a", "b", "c")
    tokenizer("a", "b", "c", "d").save_pretrained(tmp_path / "more")
    tokenizer("a", "c", "b").save_pretrained(tmp_path / "other")
    check_tokenizer(ours, str(tmp_path / "more"))
    with pytest.raises(VocabularyError, match="other: its tokenizer numbers tokens otherwise"):
        check_tokenizer(ours, str(tmp_path / "other"))
