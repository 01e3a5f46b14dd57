"""Items of an evaluation on disk: written as they are generated, graded, compressed, summed up."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import astuple
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.math import answers
from eval.math.answers.verdict import MODES, grade
from eval.math.generate import MathSetup, fit
from eval.math.tasks import Task
from tad.data.vocabulary import bos_tokens
from tad.records import RecordError, fingerprint, read_json, write_gzip, write_json

Row = dict[str, Any]

ANSWER = ("generation", "tokens", "truncated", "shots", "bos")
"""What is kept of an answer until it is graded."""

GRADERS = ("sympy", "math-verify", "latex2sympy2_extended", "antlr4-python3-runtime", "word2number")


def evaluate_task(
    task: Task, generator: Callable[[], Any], folder: Path, *, identity: str, setup: MathSetup
) -> list[Row]:
    """The graded rows of a task, from disk as far as they are there.

    ``generator`` loads the model when called; ``identity`` is the model's fingerprint. Answers of
    another model, setup, prompt or data are not used; those of another grader are graded anew.
    """
    name = task.dataset.name
    key = fingerprint([
        identity, astuple(setup), name, list(task.prompt.exemplars), task.prompt.layout,
        task.max_new_tokens, list(task.dataset.stop),
        [[case.idx, case.question, case.gold] for case in task.cases],
    ])  # fmt: skip
    finished = folder / f"{name}.jsonl.gz"
    partial = folder / f"{name}.partial.jsonl"
    known = _index(folder)
    if known.get(name) == [key, grader()] and finished.is_file():
        return read_items(finished)
    if known.get(name, [None])[0] == key and finished.is_file():
        answered = dict(enumerate(read_items(finished)))
    else:
        answered = _read_partial(partial, key)
    if len(answered) < len(task.cases):
        _generate(task, generator(), partial, key, answered)
    rows = [_graded(task, position, answered[position]) for position in range(len(task.cases))]
    write_items(finished, rows)
    write_json(folder / "index.json", {**known, name: [key, grader()]})
    partial.unlink(missing_ok=True)
    return rows


def _index(folder: Path) -> dict[str, list[str]]:
    """Of each finished data set the keys of its answers and of its verdicts."""
    try:
        found = read_json(folder / "index.json")
    except RecordError:
        return {}
    return {name: keys for name, keys in found.items() if isinstance(keys, list)}


def _read_partial(path: Path, key: str) -> dict[int, Row]:
    """Answers by position from an unfinished run of the same key; a torn last line is dropped."""
    if not path.is_file():
        return {}
    header, *lines = path.read_text(encoding="utf-8").split("\n")
    try:
        if json.loads(header) != {"key": key}:
            return {}
    except ValueError:
        return {}
    answered = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        answered[row.pop("position")] = row
    return answered


def _generate(task: Task, engine: Any, partial: Path, key: str, answered: dict[int, Row]) -> None:
    """Answer what is left, appending each answer to the partial file as its batch finishes."""
    from tqdm import tqdm

    partial.parent.mkdir(parents=True, exist_ok=True)
    bos = next(iter(bos_tokens(engine.tokenizer)), None)
    left = [position for position in range(len(task.cases)) if position not in answered]
    fitted = {
        position: fit(task.prompt, task.cases[position].question, engine.tokenizer,
                      engine.context, task.max_new_tokens)
        for position in left
    }  # fmt: skip
    asked = [position for position in left if fitted[position] is not None]
    bar = tqdm(total=len(left), desc=task.dataset.name, unit="item", disable=None)
    # Rewritten, not appended to: a torn last line of an interrupted run must not swallow a row.
    with partial.open("w", encoding="utf-8") as file, bar:

        def keep(position: int, row: Row) -> None:
            answered[position] = row
            file.write(json.dumps({"position": position, **row}) + "\n")

        file.write(json.dumps({"key": key}) + "\n")
        for position, row in list(answered.items()):
            keep(position, row)
        for position in left:
            if fitted[position] is None:
                keep(position, {"generation": "", "tokens": 0, "truncated": True, "shots": None,
                                "bos": None})  # fmt: skip
                bar.update()
        prompts = [fitted[position] for position in asked]
        for index, answer in engine.generate(prompts, task.dataset.stop):
            keep(asked[index], {
                "generation": answer.text, "tokens": answer.tokens,
                "truncated": answer.truncated, "shots": prompts[index].shots,
                "bos": bos is not None and prompts[index].ids[0] == bos,
            })  # fmt: skip
            file.flush()
            bar.update()


def _graded(task: Task, position: int, answer: Row) -> Row:
    """A complete row: the item, the answer, and under each mode its prediction and verdict."""
    case = task.cases[position]
    row = {"dataset": task.dataset.name, "idx": case.idx, "question": case.question,
           "gold": case.gold, **{name: answer[name] for name in ANSWER}}  # fmt: skip
    for mode in MODES:
        verdict = grade(task.dataset.name, answer["generation"], case.gold, mode)
        row[mode] = {"prediction": verdict.prediction, "correct": verdict.correct}
        if verdict.event:
            row[mode]["event"] = verdict.event
        if verdict.refused:
            row[mode]["refused"] = True
    return row


def write_items(path: Path, rows: list[Row]) -> None:
    """Write rows as compressed JSON lines, atomically and with the same bytes for the same rows."""
    write_gzip(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_items(path: Path) -> list[Row]:
    """Rows of a file that ``write_items`` wrote."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def dataset_record(task: Task, rows: list[Row]) -> dict[str, Any]:
    """Accuracies of one data set in percent, with standard error over items, and what stands out.

    ``chance`` is what choosing at random gives, ``commonest`` always giving the commonest answer.
    ``differ`` counts items on which the two modes disagree, ``unanswered`` those without a
    prediction, ``refused`` those whose answer is stated but is no single value or letter (strict),
    ``fewer_shots`` those whose prompt lost exemplars to the context, ``too_long``
    those whose bare question did not fit (graded wrong), ``bos_prompts`` the prompts that begin
    with the BOS token of the tokenizer's template. ``right`` has a letter an item, 1 where it is
    right, and ``items_hash`` is equal only for the same items: models are compared item by item.
    """
    count = len(rows)
    record: dict[str, Any] = {
        "column": task.dataset.column,
        "items": count,
        "shots": len(task.prompt.exemplars),
        "exemplars": task.prompt.source,
        "chance": round(task.chance(), 1),
        "commonest": round(task.commonest(), 1),
        "items_hash": fingerprint([[row["idx"], row["question"], row["gold"]] for row in rows]),
    }
    for mode in MODES:
        correct = sum(row[mode]["correct"] for row in rows)
        share = correct / count
        record[mode] = {
            "accuracy": round(100 * share, 1),
            "correct": correct,
            "right": "".join("01"[row[mode]["correct"]] for row in rows),
            "standard_error": round(100 * math.sqrt(share * (1 - share) / count), 2),
            "unanswered": sum(row[mode]["prediction"] is None for row in rows),
            "events": sum("event" in row[mode] for row in rows),
        }
    return record | {
        "differ": sum(row["strict"]["correct"] != row["compat"]["correct"] for row in rows),
        "truncated": sum(row["truncated"] for row in rows),
        "refused": sum("refused" in row["strict"] for row in rows),
        "fewer_shots": sum(
            row["shots"] is not None and row["shots"] < record["shots"] for row in rows
        ),
        "too_long": sum(row["shots"] is None for row in rows),
        "bos_prompts": sum(bool(row["bos"]) for row in rows),
        "tokens_an_answer": round(sum(row["tokens"] for row in rows) / count, 1),
    }


@cache
def grader() -> str:
    """What verdicts depend on besides the answer: our code and the packages under it, hashed."""
    files = sorted(Path(answers.__file__).parent.rglob("*.py"))
    code = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
    return fingerprint([code, grader_versions()])


def grader_versions() -> dict[str, str]:
    """Versions of the packages that verdicts depend on."""
    return {name: version(name) for name in GRADERS}
