"""The common ids of two tokenizers, or a refusal that names the first disagreement."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tad.data.vocabulary import VocabularyError, shared_vocabulary


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
