"""Evaluate models on the math data sets by few-shot chain of thought and greedy decoding.

tad eval math --model DIR --suite paper --data FOLDER --out math.json
tad eval math --model DIR --suite smoke --out math.json          (generated analogues, CPU)

Several models and outputs may be given; they share one process. Beside OUT a folder OUT_items
keeps every generation with both verdicts, one compressed JSON-lines file a data set; an
interrupted evaluation goes on from the last finished batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from pathlib import Path
from typing import Any

from eval.math.answers.equivalence import GradingError
from eval.math.answers.verdict import self_test
from eval.math.datasets import DATASETS, STOP, DataError
from eval.math.prompts import PromptError
from eval.math.suites import SUITES, Suite, Task, load_tasks


def evaluate(
    model: str | Path,
    tasks: list[Task],
    out: Path,
    *,
    suite_name: str,
    suite: Suite,
    engine: str = "auto",
    device: str | None = None,
) -> dict[str, Any]:
    """Generate, grade in both modes, keep every item, and write the record ``out``.

    Returns the record: per data set the accuracies (percent, one decimal) and counts, their
    unweighted averages over the rounded values as the paper forms them, and what was run.
    """
    from eval.math.results import (
        dataset_record,
        evaluate_task,
        grader_versions,
        model_fingerprint,
    )
    from tad.records import provenance, write_json

    started = time.monotonic()
    folder = out.with_name(f"{out.stem}_items")
    generator = _Lazy(model, engine, suite.batch_size, device)
    identity = model_fingerprint(model)
    results = {}
    for task in tasks:
        rows = evaluate_task(task, generator, folder, identity=identity)
        results[task.dataset.name] = dataset_record(task, rows)
    record = {
        "suite": suite_name,
        "analogue": suite.analogue,
        "settings": dataclasses.asdict(suite) | {"stop": list(STOP), "decoding": "greedy"},
        "datasets": results,
        "average": {
            mode: round(
                sum(entry[mode]["accuracy"] for entry in results.values()) / len(results), 2
            )
            for mode in ("strict", "compat")
        },
        "items": folder.name,
        "seconds": round(time.monotonic() - started, 2),
        "provenance": provenance() | {"grader": grader_versions()},
    }
    write_json(out, record)
    return record


class _Lazy:
    """Loads the model at the first use: a finished evaluation is read back without it."""

    def __init__(self, model: str | Path, engine: str, batch_size: int, device: str | None) -> None:
        self.arguments = (model, engine, batch_size, device)
        self.loaded: Any = None

    def __call__(self) -> Any:
        if self.loaded is None:
            from eval.math.generate import load_engine

            model, engine, batch_size, device = self.arguments
            self.loaded = load_engine(model, engine, batch_size=batch_size, device=device)
        return self.loaded


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tad eval math", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--model", nargs="+", required=True, help="folder (or hub id) in the transformers layout")
    add("--out", nargs="+", type=Path, required=True, help="record to write, one a model")
    add("--suite", choices=SUITES, required=True)
    add("--data", type=Path, help="folder of NAME.jsonl; without it the hub, or generated items")
    add("--prompts", type=Path, help="folder of exemplar files (cot/gsm8k.md, ...)")
    add("--datasets", nargs="+", metavar="NAME", help=f"some of: {', '.join(DATASETS)}")
    add("--shots", type=int, help="exemplars a prompt")
    add("--limit", type=int, help="first items of each data set")
    add("--max-new-tokens", type=int, help="cap of an answer in tokens")
    add("--batch-size", type=int, help="prompts generated at once")
    add("--engine", choices=("auto", "transformers", "vllm"), default="auto")
    add("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if len(given.model) != len(given.out):
        parser.error(f"{len(given.model)} models but {len(given.out)} outputs: give one each")
    for name, least in (("shots", 0), ("limit", 1), ("max_new_tokens", 1), ("batch_size", 1)):
        value = getattr(given, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} {value}: must be at least {least}")
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    changes = {
        name: getattr(given, name)
        for name in ("shots", "limit", "max_new_tokens", "batch_size")
        if getattr(given, name) is not None
    }
    suite = dataclasses.replace(SUITES[given.suite], **changes)
    try:
        self_test()
        tasks = load_tasks(suite, names=given.datasets, data=given.data, prompts=given.prompts)
        for model, out in zip(given.model, given.out, strict=True):
            record = evaluate(
                model, tasks, out,
                suite_name=given.suite, suite=suite, engine=given.engine, device=given.device,
            )  # fmt: skip
            print(summary(record, out))
    except (DataError, PromptError, GradingError, ValueError, ImportError) as error:
        print(f"eval.math: error: {error}", file=sys.stderr)
        return 2
    return 0


def summary(record: dict[str, Any], out: Path) -> str:
    """A small table of a record for the terminal."""
    kind = "analogues" if record["analogue"] else "data sets"
    lines = [f"{out} ({record['suite']}, {kind})", f"{'':10}{'items':>7}{'compat':>8}{'strict':>8}"]
    for entry in record["datasets"].values():
        accuracies = f"{entry['compat']['accuracy']:8.1f}{entry['strict']['accuracy']:8.1f}"
        lines.append(f"{entry['column']:10}{entry['items']:7}{accuracies}")
    average = record["average"]
    lines.append(f"{'average':17}{average['compat']:8.1f}{average['strict']:8.1f}")
    return "\n".join(lines)
