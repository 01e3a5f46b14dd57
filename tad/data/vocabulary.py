"""What two tokenizers share (Phi-3 has 32,064 rows, Llama 32,000), and how a text begins in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tad.command import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class VocabularyError(UserError, ValueError):
    """Two tokenizers that do not agree on their common ids: their logits cannot be compared."""


def bos_tokens(tokenizer: Any) -> list[int]:
    """What a tokenizer's own template puts before every text: its BOS token, or nothing.

    The one rule for packed documents, instructions and prompts. ``tokenizer`` is one of
    transformers or of tokenizers.
    """
    if hasattr(tokenizer, "encode_batch_fast"):
        encoding = tokenizer.encode("a")
        ids, special = encoding.ids, encoding.special_tokens_mask
    else:
        encoded = tokenizer("a", return_special_tokens_mask=True)
        ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    return ids[: special.index(0)]


def document_start(bos: Sequence[int], eos_id: int) -> list[int]:
    """What stands before a packed document: the BOS token, unless it is the end-of-text token
    (OPT), which the document before has written."""
    return [] if list(bos) == [eos_id] else list(bos)


def size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the largest id: the rows that an embedding must have."""
    return max(tokenizer.get_vocab().values()) + 1


def same_ids(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> bool:
    """Whether every id of ``ours`` stands for the same string in ``theirs``."""
    known = theirs.get_vocab()
    return all(known.get(token) == index for token, index in ours.get_vocab().items())


def check_tokenizer(ours: PreTrainedTokenizerBase, source: str) -> None:
    """Raises VocabularyError where the tokenizer of the model ``source`` has other ids."""
    from tad.models.loading import load_tokenizer

    if not same_ids(ours, load_tokenizer(source)):
        raise VocabularyError(
            f"{source}: its tokenizer numbers tokens otherwise than the one of the data, so its "
            "embeddings stand for other tokens; start from a model of the same tokenizer"
        )


def shared_vocabulary(
    teacher: PreTrainedTokenizerBase,
    student: PreTrainedTokenizerBase,
    teacher_rows: int,
    student_rows: int,
) -> int:
    """Number of leading ids that the losses compare, given the rows of both output matrices.

    All ids below it stand for the same string in both tokenizers, or for none in either (rows
    that only pad the matrix). Raises VocabularyError if an id that both tokenizers define stands
    for different strings.
    """
    rows = min(teacher_rows, student_rows)
    theirs = {index: token for token, index in teacher.get_vocab().items()}
    ours = {index: token for token, index in student.get_vocab().items()}
    for index in range(rows):
        if theirs.get(index) == ours.get(index):
            continue
        if index in theirs and index in ours:
            raise VocabularyError(
                f"token {index} is {theirs[index]!r} to the teacher and {ours[index]!r} to the "
                f"student (vocabularies of {len(theirs)} and {len(ours)}): divergences need one "
                "vocabulary, so choose a pair that shares its tokenizer"
            )
        return index
    return rows
