"""Evaluate models on the math data sets by few-shot chain of thought and greedy decoding.

    tad eval math --model DIR --suite paper --data FOLDER --out math.json
    tad eval math --model DIR --suite smoke --out math.json          (generated analogues, CPU)

In: model folders (or hub ids), which share one process; items from a folder of NAME.jsonl, the hub,
or generated. Out: a record for each model, and beside OUT.json a folder OUT_items with every
generation and both verdicts, one compressed JSON-lines file a data set. An interrupted evaluation
goes on from the last finished batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.math.answers.verdict import MODES, self_test
from eval.math.datasets import DATASETS
from eval.math.generate import ENGINES, MathSetup
from eval.math.sets import STOP
from eval.math.tasks import SUITES, Settings, Task, load_tasks
from eval.options import at_least, outputs
from tad.command import command_line, exit_code, plain_logging
from tad.models.fingerprint import model_fingerprint
from tad.records import provenance, write_json


def evaluate(
    model: str,
    tasks: Sequence[Task],
    out: Path,
    *,
    suite: str,
    settings: Settings,
    setup: MathSetup,
) -> dict[str, Any]:
    """Generate, grade in both modes, keep every item, and write the record ``out``.

    Returns the record: per data set the accuracies (percent, one decimal) and counts, their
    unweighted averages over the rounded values as the paper forms them, and what was run.
    """
    from eval.math.results import dataset_record, evaluate_task, grader_versions

    started = time.monotonic()
    folder = out.with_name(f"{out.stem}_items")
    # Loaded at the first use: a finished evaluation is read back without the model.
    generator = functools.cache(lambda: setup.load(model, settings.batch_size))
    identity = model_fingerprint(model)
    results = {}
    for task in tasks:
        rows = evaluate_task(task, generator, folder, identity=identity, setup=setup)
        results[task.dataset.name] = dataset_record(task, rows)
    record = {
        "suite": suite,
        "analogue": settings.analogue,
        "settings": dataclasses.asdict(settings) | {"stop": list(STOP), "decoding": "greedy"},
        **dataclasses.asdict(setup),
        "datasets": results,
        "average": {
            mode: round(
                sum(entry[mode]["accuracy"] for entry in results.values()) / len(results), 2
            )
            for mode in MODES
        },
        "items": folder.name,
        "seconds": round(time.monotonic() - started, 2),
        "provenance": provenance() | {"grader": grader_versions()},
    }
    write_json(out, record)
    return record


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when every record is written, 2 for bad input (one line on stderr)."""
    parser = command_line("eval math", __doc__)
    add = parser.add_argument
    add("--model", nargs="+", required=True, help="folder (or hub id) in the transformers layout")
    add("--out", nargs="+", required=True, help="record to write, one a model")
    add("--suite", choices=SUITES, required=True)
    add("--data", type=Path, help="folder of NAME.jsonl; without it the hub, or generated items")
    add("--prompts", type=Path, help="folder of exemplar files (cot/gsm8k.md, ...)")
    add("--datasets", nargs="+", metavar="NAME", help=f"some of: {', '.join(DATASETS)}")
    add("--shots", type=int, help="exemplars a prompt")
    add("--limit", type=int, help="first items of each data set")
    add("--max-new-tokens", type=int, help="cap of an answer in tokens")
    add("--batch-size", type=int, help="prompts generated at once")
    add("--engine", choices=ENGINES, default="auto", help="auto: vllm where it is there")
    add("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    options = parser.parse_args(arguments)
    return exit_code("eval math", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    names = [field.name for field in dataclasses.fields(Settings) if field.name != "analogue"]
    changes = {name: value for name in names if (value := getattr(options, name)) is not None}
    for name, value in changes.items():
        at_least(0 if name == "shots" else 1, **{name: value})
    outs = outputs(options.model, options.out, "math.json")
    setup = MathSetup.of(options.engine, options.device)
    plain_logging()
    settings = dataclasses.replace(SUITES[options.suite], **changes)
    self_test()
    tasks = load_tasks(settings, names=options.datasets, data=options.data, prompts=options.prompts)
    for model, out in zip(options.model, outs, strict=True):
        record = evaluate(model, tasks, out, suite=options.suite, settings=settings, setup=setup)
        print(summary(record, out))


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
