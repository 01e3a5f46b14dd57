"""Few-shot prompts: exemplars, three newlines apart, then the question with an open answer.

Exemplars are those of the data set's module, a folder of prompt files in the reference harness's
layout (``cot/gsm8k.md``, ``cot/minerva_math.md``, ``cot/mathqa.md``, ``cot/mmlu_stem.md``) taken as
they stand, or pairs of a training split.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from eval.items import ItemError
from eval.math.datasets import DATASETS, Dataset, find
from eval.math.sets import Layout

SEPARATOR = "\n\n\n"

_LABELS: dict[Layout, tuple[str, str]] = {
    "question": ("Question: ", "\nAnswer:"),
    "problem": ("Problem:\n", "\nSolution:"),
}
_ANSWER_GAP: dict[Layout, str] = {"question": " ", "problem": "\n"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Exemplars as text, and how a question is laid out behind them. ``source`` says whose."""

    exemplars: tuple[str, ...]
    layout: Layout
    source: str

    def text(self, question: str, shots: int | None = None) -> str:
        """The prompt of one question, with the last ``shots`` exemplars (None: all of them).

        No space follows the last label: the tokenizers put it into the answer's first token.
        """
        kept = self.exemplars if shots is None else self.exemplars[len(self.exemplars) - shots :]
        return SEPARATOR.join([*kept, ask(self.layout, question)])


def ask(layout: Layout, question: str) -> str:
    """A question with its labels and an open answer."""
    before, after = _LABELS[layout]
    return f"{before}{question}{after}"


def exemplar(layout: Layout, question: str, answer: str) -> str:
    """A question with its labels and its answer."""
    return ask(layout, question.strip()) + _ANSWER_GAP[layout] + answer.strip()


def training_pair(row: dict[str, str]) -> tuple[str, str]:
    """(prompt, response) of an instruction {question, answer, source}, laid out as it is evaluated.

    ``source`` "analogue/NAME" has the layout of the data set NAME; all others are questions.
    Only the response counts in the loss of the supervised stage; add the end-of-text token to it.
    """
    _, _, name = row.get("source", "").partition("/")
    layout = DATASETS[name].layout if name in DATASETS else "question"
    return ask(layout, row["question"].strip()), _ANSWER_GAP[layout] + row["answer"].strip()


def load_prompt(
    dataset: Dataset,
    *,
    folder: Path | None = None,
    train: Iterable[tuple[str, str]] | None = None,
    shots: int | None = None,
) -> Prompt:
    """The prompt of a data set: from a folder, from (question, answer) pairs, or its own set.

    ``shots`` None means the data set's number. Raises ItemError for a missing or empty file or
    fewer exemplars than asked for.
    """
    wanted = dataset.shots if shots is None else shots
    if wanted == 0:
        return Prompt((), dataset.layout, "none")
    if folder is not None:
        stems = (dataset.name, dataset.exemplars.file)
        path = find(folder, [f"{base}{stem}.md" for stem in stems for base in ("", "cot/")])
        texts = path.read_text(encoding="utf-8").strip().split(SEPARATOR)
        source = path.name
    else:
        pairs = dataset.exemplars.pairs() if train is None else train
        texts = [exemplar(dataset.layout, *pair) for pair in pairs]
        source = dataset.exemplars.source if train is None else "train split"
    texts = [text.strip() for text in texts if text.strip()]
    if len(texts) < wanted:
        raise ItemError(f"{dataset.name}: {source} holds {len(texts)} exemplars, not {wanted}")
    return Prompt(tuple(texts[:wanted]), dataset.layout, source)
