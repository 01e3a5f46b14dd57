"""Offline analogues of the few-shot tasks, made from held-out text.

    tad eval analogues --data work/smoke/data/general/phi --tokenizer work/smoke/tokenizers/phi \\
        --out work/smoke/analogues --items 48

In: a packed corpus and the tokenizer it was packed by. Out: ``OUT/TASK/SPLIT.jsonl`` for every task
whose file names a maker, and ``OUT/manifest.json``. An analogue has its original's output type,
number of options and metric, and is written in the field names of the original's dataset, so that
lm-eval's own task scores it: only the text is another. The right answer is what the document says;
the wrong ones come from elsewhere, or have words exchanged. They measure language modelling in the
original's format, not common sense: results say "analogue".
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.fewshot.tasks import TaskSpec, all_tasks
from eval.fewshot.text import Passage, Vocabulary, content_positions, passages_of
from eval.options import at_least, writable
from tad.command import UserError, command_line, exit_code

Item = dict[str, Any]
Window = tuple[int, tuple[str, ...]]
"""A document's number and neighbouring sentences of it."""

LETTERS = "ABCD"
TRAIN_ITEMS = 8
"""Items to draw few-shot examples from, besides those that are scored."""


class AnalogueError(UserError, ValueError):
    """Too little text, or none; the message says how much there is."""


class Text:
    """The held-out text as the makers below see it."""

    def __init__(self, documents: Sequence[str]) -> None:
        self.passages: list[Passage] = passages_of(documents)
        self.sentences = [(p.document, s) for p in self.passages for s in p.sentences]
        self.vocabulary = Vocabulary(sentence for _, sentence in self.sentences)

    def elsewhere(self, document: int, like: str, count: int, rng: random.Random) -> list[str]:
        """``count`` sentences of other documents, the nearest in length of a random draw.

        Length-matched, because accuracy without normalisation would favour the shortest.
        """
        pool = [s for d, s in self.sentences if d != document and s != like]
        drawn = rng.sample(pool, min(len(pool), 20 * count))
        return _distinct(sorted(drawn, key=lambda s: abs(len(s) - len(like))), count)

    def exchanged(
        self, sentence: str, words: int, count: int, rng: random.Random
    ) -> list[str] | None:
        """``count`` different sentences like this one but for ``words`` content words, each
        exchanged for one as frequent; None where it has too few."""
        own = sentence.split()
        places = content_positions(own)
        if len(places) < words:
            return None
        found: dict[str, None] = {}
        for _ in range(4 * count):
            changed = list(own)
            for place in rng.sample(places, words):
                changed[place] = self.vocabulary.stand_in(own[place], rng) or own[place]
            if changed != own:
                found[" ".join(changed)] = None
            if len(found) == count:
                return list(found)
        return None


def _distinct(sentences: Sequence[str], count: int) -> list[str]:
    found = list(dict.fromkeys(sentences))[:count]
    if len(found) < count:
        raise AnalogueError(f"only {len(found)} other sentences to choose from, {count} needed")
    return found


def _shuffled(right: str, wrong: Sequence[str], rng: random.Random) -> tuple[list[str], int]:
    """Options in random order and the index of the right one."""
    options = [right, *wrong]
    rng.shuffle(options)
    return options, options.index(right)


# --- Makers: neighbouring sentences -> an item in the original's field names, or None -------------


def hellaswag(text: Text, window: Window, rng: random.Random) -> Item | None:
    """Which of four endings continues a sentence that was begun."""
    document, (before, sentence) = window
    words = sentence.split()
    if len(words) < 6:
        return None
    cut = rng.randint(2, len(words) - 3)
    ending = " ".join(words[cut:])
    others = text.elsewhere(document, sentence, 3, rng)
    wrong = [" ".join(s.split()[-(len(words) - cut) :]) for s in others]
    endings, label = _shuffled(ending, wrong, rng)
    if len(set(endings)) < 4:
        return None
    begun = " ".join(words[:cut])
    return {
        "ind": document,
        "activity_label": "Text",
        "ctx_a": before,
        "ctx_b": begun,
        "ctx": f"{before} {begun}",
        "endings": endings,
        "source_id": f"document~{document}",
        "split": "val",
        "split_type": "indomain",
        "label": str(label),
    }


def winogrande(text: Text, window: Window, rng: random.Random) -> Item | None:
    """Which of two words fits a gap, by the likelihood of what follows it."""
    words = window[1][0].split()
    places = [i for i in content_positions(words) if 3 <= i <= len(words) - 4]
    if not places:
        return None
    place = rng.choice(places)
    other = text.vocabulary.stand_in(words[place], rng)
    if other is None:
        return None
    options, answer = _shuffled(words[place], [other], rng)
    sentence = " ".join([*words[:place], "_", *words[place + 1 :]])
    return {
        "sentence": sentence,
        "option1": options[0],
        "option2": options[1],
        "answer": str(answer + 1),
    }


def openbookqa(text: Text, window: Window, rng: random.Random) -> Item | None:
    """Which of four short endings closes a sentence."""
    document, (sentence,) = window
    words = sentence.rstrip(".!?").split()
    size = rng.randint(1, 3)
    if len(words) < size + 4:
        return None
    others = text.elsewhere(document, sentence, 6, rng)
    endings = [" ".join(s.rstrip(".!?").split()[-size:]) for s in others]
    right = " ".join(words[-size:])
    wrong = [ending for ending in dict.fromkeys(endings) if ending != right][:3]
    if len(wrong) < 3:
        return None
    item = _lettered(right, wrong, rng)
    return {"id": _identity(sentence), "question_stem": " ".join(words[:-size]), **item}


def arc_easy(text: Text, window: Window, rng: random.Random) -> Item | None:
    """Which of four sentences comes next; the wrong ones have three words exchanged."""
    _, (question, answer) = window
    wrong = text.exchanged(answer, 3, 3, rng)
    return _science(question, answer, wrong, rng)


def arc_challenge(text: Text, window: Window, rng: random.Random) -> Item | None:
    """As ``arc_easy``, but the wrong sentences have a single word exchanged."""
    _, (question, answer) = window
    wrong = text.exchanged(answer, 1, 3, rng)
    return _science(question, answer, wrong, rng)


def piqa(text: Text, window: Window, rng: random.Random) -> Item | None:
    """Which of two sentences comes next; the wrong one has two words exchanged."""
    _, (goal, solution) = window
    wrong = text.exchanged(solution, 2, 1, rng)
    if wrong is None:
        return None
    solutions, label = _shuffled(solution, wrong, rng)
    return {"goal": goal, "sol1": solutions[0], "sol2": solutions[1], "label": label}


def siqa(text: Text, window: Window, rng: random.Random) -> Item | None:
    """Which of three sentences follows two others; the wrong ones have two words exchanged."""
    _, (first, second, answer) = window
    wrong = text.exchanged(answer, 2, 2, rng)
    if wrong is None:
        return None
    options, label = _shuffled(answer, wrong, rng)
    return {
        "context": f"{first} {second}",
        "question": "What comes next?",
        "answerA": options[0],
        "answerB": options[1],
        "answerC": options[2],
        "label": str(label + 1),
    }


def storycloze(text: Text, window: Window, rng: random.Random) -> Item | None:
    """Which of two sentences ends a passage of four."""
    document, (*opening, ending) = window
    endings, right = _shuffled(ending, text.elsewhere(document, ending, 1, rng), rng)
    return {
        "story_id": _identity(opening[0]),
        **{f"input_sentence_{i}": sentence for i, sentence in enumerate(opening, start=1)},
        "sentence_quiz1": endings[0],
        "sentence_quiz2": endings[1],
        "answer_right_ending": right + 1,
    }


def _science(
    question: str, answer: str, wrong: Sequence[str] | None, rng: random.Random
) -> Item | None:
    """An item of ARC, if there are wrong options."""
    if wrong is None:
        return None
    return {"id": _identity(question), "question": question, **_lettered(answer, wrong, rng)}


def _lettered(right: str, wrong: Sequence[str], rng: random.Random) -> Item:
    """ARC's and OpenBookQA's way of giving four options."""
    options, label = _shuffled(right, wrong, rng)
    choices = {"text": options, "label": list(LETTERS)}
    return {"choices": choices, "answerKey": LETTERS[label]}


def _identity(sentence: str) -> str:
    return hashlib.sha256(sentence.encode()).hexdigest()[:12]


# --- Items ---------------------------------------------------------------------------------------


def make_items(text: Text, task: TaskSpec, count: int, seed: int) -> list[Item]:
    """``count`` different items of a task, the same for the same text and seed.

    Documents take turns, so that long ones do not crowd out the rest. Raises AnalogueError where
    the text gives fewer.
    """
    maker, rng = task.maker(), random.Random(f"{task.name}/{seed}")
    items: dict[str, Item] = {}
    for window in _windows(text, task.sentences, rng):
        item = maker(text, window, rng)
        if item is not None:
            items.setdefault(json.dumps(window[1]), item)
        if len(items) == count:
            return list(items.values())
    raise AnalogueError(
        f"{task.name}: {count} items wanted, {len(items)} can be made from {len(text.sentences)} "
        f"sentences ({len(text.passages)} documents); give more validation text or fewer --items"
    )


def _windows(text: Text, size: int, rng: random.Random) -> Iterator[Window]:
    """Every ``size`` neighbouring sentences, one of each document in turn, in random order."""
    by_document: dict[int, list[Window]] = defaultdict(list)
    for document, sentences in ((p.document, p.sentences) for p in text.passages):
        for start in range(len(sentences) - size + 1):
            by_document[document].append((document, sentences[start : start + size]))
    queues = [by_document[document] for document in sorted(by_document)]
    for queue in queues:
        rng.shuffle(queue)
    while queues:
        rng.shuffle(queues)
        for queue in queues:
            yield queue.pop()
        queues = [queue for queue in queues if queue]


def write_analogues(
    documents: Sequence[str], folder: str | Path, *, items: int, seed: int = 0
) -> None:
    """Write ``folder/{task}/{split}.jsonl`` for every task that has one, ``manifest.json`` last.

    ``items`` a task are scored; TRAIN_ITEMS more serve as few-shot examples. Raises AnalogueError
    where ``documents`` hold too little prose.
    """
    from tad.records import write_json, write_text

    folder = Path(folder)
    if not documents:
        raise AnalogueError("no documents")
    text = Text(documents)
    for task in with_analogues():
        made = make_items(text, task, items + TRAIN_ITEMS, seed)
        for split, part in ((task.scored, made[:items]), (task.examples, made[items:])):
            lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in part)
            write_text(folder / task.name / f"{split}.jsonl", lines)
    digest = hashlib.sha256("\0".join(documents).encode()).hexdigest()
    manifest = {"analogue": True, "seed": seed, "items": items, "documents": len(documents)}
    write_json(folder / "manifest.json", {**manifest, "documents_sha256": digest})


def held_out_documents(data: str | Path, tokenizer: str | Path) -> list[str]:
    """The validation documents of a packed corpus, decoded; the last, cut short, is left out.

    Raises AnalogueError for a corpus packed with another tokenizer.
    """
    import numpy as np

    from tad.data.packing import open_tokens, read_manifest
    from tad.data.prepare import load_encoder

    manifest = read_manifest(Path(data))
    encoder = load_encoder(Path(tokenizer).name, Path(tokenizer))
    if encoder.sha256 != manifest["tokenizer"]["sha256"]:
        raise AnalogueError(f"{data} was packed with another tokenizer than {tokenizer}")
    tokens = open_tokens(Path(data), "validation", manifest)
    ends = np.flatnonzero(tokens == encoder.eos_id)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else []
    pieces = [tokens[a:b].tolist() for a, b in zip(starts, ends, strict=True) if b > a]
    return encoder.backend.decode_batch(pieces)


def with_analogues() -> list[TaskSpec]:
    """The tasks that items can be made for."""
    return [task for task in all_tasks() if task.analogue]


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all is written, 2 for bad input (one line on stderr)."""
    parser = command_line("eval analogues", __doc__)
    parser.add_argument("--data", required=True, help="folder of a packed corpus")
    parser.add_argument("--tokenizer", required=True, help="folder of its tokenizer")
    parser.add_argument("--out", required=True, help="folder to write, one subfolder a task")
    parser.add_argument("--items", type=int, default=48, help="scored items a task (default 48)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def make() -> None:
        at_least(1, items=options.items)
        writable(Path(options.out) / "manifest.json")
        documents = held_out_documents(options.data, options.tokenizer)
        write_analogues(documents, options.out, items=options.items, seed=options.seed)
        print(f"{options.out}: {len(with_analogues())} tasks of {options.items} items")

    return exit_code("eval analogues", make)
