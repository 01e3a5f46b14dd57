"""Generated word problems in the shapes of the math data sets, with step-by-step solutions.

    tad eval problems --out work/smoke/problems --train 4000 --test 100 --seed 0

Out: ``OUT/NAME.jsonl`` (test items with the real set's fields), ``OUT/train/NAME.jsonl`` (the
same), ``OUT/instruct.jsonl`` (prompt, response and what they are made of, all data sets mixed),
``OUT/text.jsonl`` (other training problems as text to pre-train on) and ``OUT/manifest.json``.
Train and test never share a problem, nor in the harder sets its numbers in the same story: a hash
of its key decides which side a problem belongs to. The problems are simple so that a small model
can learn them; they stand in for the real sets where there is no network, and are called analogues
wherever shown.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from eval.math.datasets import DATASETS
from eval.math.prompts import training_pair
from eval.math.sets import STOP, Problem
from eval.options import OptionError, at_least, writable
from tad.command import command_line, exit_code
from tad.records import write_json, write_json_lines

Split = Literal["train", "test"]

TEST_SHARE = 0.2
"""Share of all possible problems that belongs to the test side."""

GENERATED = {name: dataset for name, dataset in DATASETS.items() if dataset.analogue}
"""The data sets that problems can be drawn for."""


def side(key: str) -> Split:
    """Which split a problem belongs to, by its key alone: the same for every seed and count."""
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "test" if draw < TEST_SHARE else "train"


def problems(
    name: str, split: Split, count: int, *, seed: int = 0, largest: int = 20
) -> Iterator[Problem]:
    """``count`` different problems of a data set and split, the same for the same arguments.

    ``largest`` bounds the numbers. Raises OptionError for an unknown name, a bound below 5 (there
    must be five different options), or where there are not that many different problems.
    """
    if name not in GENERATED:
        raise OptionError(f"data set {name!r}: must be one of {', '.join(GENERATED)}")
    at_least(5, largest=largest)
    dataset = GENERATED[name]
    rng = random.Random(f"{name}/{split}/{seed}/{largest}")
    seen: set[str] = set()
    misses = 0
    while len(seen) < count:
        problem = dataset.analogue(rng, largest)
        text = dataset.question(problem.item)
        if side(problem.key) != split or text in seen:
            misses += 1
            if misses > 50 * count + 5_000:
                raise OptionError(
                    f"{name}: only {len(seen)} different {split} problems with numbers up to "
                    f"{largest} found, {count} asked for; raise --largest"
                )
            continue
        seen.add(text)
        yield problem


def items(name: str, split: Split, count: int, **options: int) -> list[dict[str, Any]]:
    """Items of a data set with its fields and ``idx``; see ``problems``."""
    drawn = problems(name, split, count, **options)
    return [{**problem.item, "idx": index} for index, problem in enumerate(drawn)]


def instructions(count: int, *, seed: int = 0, largest: int = 20) -> list[dict[str, str]]:
    """{question, answer, source, prompt, response} of ``count`` training problems of each set.

    The question is what the prompt asks (``Dataset.ask``), the answer the solution; source is
    "analogue/NAME". Prompt and response are both laid out as they are evaluated.
    """
    rows = []
    for name, dataset in GENERATED.items():
        for problem in problems(name, "train", count, seed=seed, largest=largest):
            row = {
                "question": dataset.ask(problem.item),
                "answer": problem.solution,
                "source": f"analogue/{name}",
            }
            prompt, response = training_pair(row)
            rows.append({**row, "prompt": prompt, "response": response})
    random.Random(seed).shuffle(rows)
    return rows


def write(folder: Path, *, train: int, test: int, seed: int = 0, largest: int = 20) -> None:
    """Write test items, training items and the instruction data; see the module's docstring."""
    options = {"seed": seed, "largest": largest}
    for name in GENERATED:
        write_json_lines(folder / f"{name}.jsonl", items(name, "test", test, **options))
        write_json_lines(folder / "train" / f"{name}.jsonl", items(name, "train", train, **options))
    write_json_lines(folder / "instruct.jsonl", instructions(train, **options))
    # Another seed: what is pre-trained on is not what the supervised stage repeats.
    rows = instructions(train, seed=seed + 1, largest=largest)
    write_json_lines(
        folder / "text.jsonl", [{"text": row["prompt"] + row["response"]} for row in rows]
    )
    about = {"kind": "analogue", "train": train, "test": test, **options, "stop": list(STOP)}
    write_json(folder / "manifest.json", about)  # last: its presence says that all is there


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all is written, 2 for bad input (one line on stderr)."""
    parser = command_line("eval problems", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--train", type=int, default=2000, help="training problems a data set")
    parser.add_argument("--test", type=int, default=100, help="test problems a data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=20, help="largest number in a problem")
    options = parser.parse_args(arguments)

    def make() -> None:
        given = vars(options)
        at_least(1, train=options.train, test=options.test)
        folder = given.pop("out")
        writable(folder / "manifest.json")
        write(folder, **given)

    return exit_code("eval problems", make)
