"""Few-shot prompts: exemplars, three newlines apart, then the question with an open answer.

GSM8K and its relatives use the eight chain-of-thought exemplars that lm-eval ships, MATH the four
Minerva ones, both read from the installed package; MathQA and SAT use exemplars written here
(``exemplars/*.yaml``). A folder of prompt files in the reference harness's layout
(``cot/gsm8k.md``, ``cot/minerva_math.md``, ``cot/mathqa.md``, ``cot/mmlu_stem.md``) replaces them
as it stands; a training split may supply exemplars instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from eval.math.datasets import DATASETS, Dataset, Layout

SEPARATOR = "\n\n\n"

_LABELS: dict[Layout, tuple[str, str]] = {
    "question": ("Question: ", "\nAnswer:"),
    "problem": ("Problem:\n", "\nSolution:"),
}
_ANSWER_GAP: dict[Layout, str] = {"question": " ", "problem": "\n"}

_REFERENCE_FILES = {"sat_math": "mmlu_stem"}
"""Exemplar sets whose file has another name in the reference harness's folder."""


class PromptError(ValueError):
    """Exemplars that are missing or empty; the message names the file."""


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

    ``shots`` None means the data set's number. Raises PromptError for a missing or empty file or
    fewer exemplars than asked for.
    """
    wanted = dataset.shots if shots is None else shots
    if wanted == 0:
        return Prompt((), dataset.layout, "none")
    if folder is not None:
        path = _find(dataset, folder)
        texts = path.read_text(encoding="utf-8").strip().split(SEPARATOR)
        source = path.name
    else:
        pairs = _own(dataset.exemplars) if train is None else list(train)
        texts = [exemplar(dataset.layout, *pair) for pair in pairs]
        source = "train split" if train is not None else _SOURCES[dataset.exemplars]
    texts = [text.strip() for text in texts if text.strip()]
    if len(texts) < wanted:
        raise PromptError(f"{dataset.name}: {source} holds {len(texts)} exemplars, not {wanted}")
    return Prompt(tuple(texts[:wanted]), dataset.layout, source)


def _find(dataset: Dataset, folder: Path) -> Path:
    name = _REFERENCE_FILES.get(dataset.exemplars, dataset.exemplars)
    candidates = [
        base / f"{stem}.md" for stem in (dataset.name, name) for base in (folder, folder / "cot")
    ]
    for path in candidates:
        if path.is_file():
            return path
    raise PromptError(f"{folder}: holds no {name}.md (nor cot/{name}.md) for {dataset.name}")


_SOURCES = {
    "gsm8k": "lm-eval gsm8k_cot",
    "minerva_math": "lm-eval minerva_math",
    "mathqa": "exemplars/mathqa.yaml",
    "sat_math": "exemplars/sat_math.yaml",
}


def _own(name: str) -> list[tuple[str, str]]:
    """(question, answer) pairs of a named set, read where they are kept."""
    import yaml

    if name == "minerva_math":
        from lm_eval.tasks.minerva_math.utils import list_fewshot_samples

        return [(doc["problem"], doc["solution"]) for doc in list_fewshot_samples()]
    if name == "gsm8k":
        # find_spec instead of an import: one YAML file is needed, not two seconds of lm-eval.
        from importlib.util import find_spec

        package = Path(find_spec("lm_eval").origin).parent
        task = yaml.safe_load((package / "tasks" / "gsm8k" / "gsm8k-cot.yaml").read_text("utf-8"))
        return [(doc["question"], doc["target"]) for doc in task["fewshot_config"]["samples"]]
    path = Path(__file__).parent / "exemplars" / f"{name}.yaml"
    return [(doc["question"], doc["answer"]) for doc in yaml.safe_load(path.read_text("utf-8"))]
