"""Which token ids two models mean the same by (Phi-3 has 32,064 rows, Llama 32,000)."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from tad.command import UserError


class VocabularyError(UserError, ValueError):
    """Two tokenizers that do not agree on their common ids: their logits cannot be compared."""


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
