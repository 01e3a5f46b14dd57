"""Few-shot accuracy on eight multiple-choice tasks by lm-eval (Tables 1, 2, 4 and 6).

    tad eval fewshot --suite paper --model DIR --out fewshot.json
    tad eval fewshot --suite paper --model DIR --local storycloze=FOLDER
    tad eval fewshot --suite smoke --analogues FOLDER --model DIR1 DIR2 ...

Any number of models in one process, since loading lm-eval takes longer than a tiny model's suite.
Each model's results are written as soon as they are complete, by default into its own folder:
``fewshot.json``, and ``fewshot.items.jsonl.gz`` with what became of every item, for paired tests.
An interrupted suite goes on with the tasks that are missing; a finished one is not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import io
import json
import logging
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.fewshot.tasks import (
    FEWSHOT_SEED,
    FewshotError,
    SuiteSpec,
    TaskSpec,
    build_task,
    load_suite_spec,
    sources_of,
)
from tad.command import command_line, exit_code

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

HUB = "hub:"
"""Prefix that makes a --model a hub id, so that a mistyped folder is never looked up there."""

LONG_TASK = 2000
"""Requests from which on a task shows lm-eval's own progress bar too."""


class Suite:
    """The tasks of a suite, built once and run on any number of models.

    ``local`` maps tasks to folders of JSONL files in the hub's field names, ``analogues`` is the
    folder of an analogue suite, ``limit`` takes the first items of each task only. Raises
    FewshotError.
    """

    def __init__(
        self,
        name: str,
        *,
        local: Mapping[str, str | Path] | None = None,
        analogues: str | Path | None = None,
        shots: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.spec: SuiteSpec = load_suite_spec(name, shots=shots)
        self.limit = limit
        folders = sources_of(self.spec, local=local or {}, analogues=analogues)
        self.tasks: dict[str, ConfigurableTask] = {}
        self.prompts: dict[str, str] = {}
        self.requests: dict[str, int] = {}
        with _quiet():
            for task in self.spec.tasks:
                built = build_task(task, folders[task.name])
                built.build_all_requests(limit=limit)
                self.tasks[task.name] = built
                self.prompts[task.name] = _prompt_hash(built)
                self.requests[task.name] = len(built.instances)

    def job(self, task: TaskSpec, model_fingerprint: str) -> str:
        """What a task's result depends on; a stored result of another job is not used."""
        from tad.records import fingerprint

        parts = {
            "suite": self.spec.name,
            "task": asdict(task),
            "prompts": self.prompts[task.name],
            "version": self.tasks[task.name].VERSION,
            "lm_eval": metadata.version("lm_eval"),
            "model": model_fingerprint,
        }
        return fingerprint(parts)

    def run(self, lm: HFLM, task: TaskSpec) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One task on one model: its record, and one row an item."""
        from lm_eval.evaluator import evaluate

        built = self.tasks[task.name]
        built.set_fewshot_seed(seed=FEWSHOT_SEED)  # else each model would get other examples
        loud = sys.stderr.isatty() and self.requests[task.name] > LONG_TASK
        with contextlib.nullcontext() if loud else _quiet(), _count_truncated() as truncated:
            found = evaluate(
                lm,
                {"tasks": {task.lm_eval: built}, "groups": {}},
                limit=self.limit,
                bootstrap_iters=1,  # means have an error in closed form; 0 would leave it out
            )
        if _prompt_hash(built) != self.prompts[task.name]:
            raise FewshotError(f"{task.name}: prompts changed from one model to the next")
        scores = found["results"][task.lm_eval]
        samples = found["samples"][task.lm_eval]
        metrics = samples[0]["metrics"]
        record = {
            "lm_eval_task": task.lm_eval,
            "metric": task.metric,
            "accuracy": scores[f"{task.metric},none"],
            "stderr": scores[f"{task.metric}_stderr,none"],
            "n": len(samples),
            "options": task.options,
            "shots": task.shots,
            "task_version": built.VERSION,
            "prompt_hash": self.prompts[task.name],
            "truncated_requests": truncated[0],
            "all_metrics": {name: scores[f"{name},none"] for name in metrics},
        }
        rows = [
            {
                "task": task.name,
                "item": sample["doc_id"],
                "doc_hash": sample["doc_hash"],
                "correct": int(sample[task.metric]),
                **{name: int(sample[name]) for name in metrics},
            }
            for sample in samples
        ]
        return record, sorted(rows, key=lambda row: row["item"])


def evaluate_models(
    suite: Suite,
    models: Sequence[str],
    outs: Sequence[str | Path],
    *,
    batch_size: int = 32,
    dtype: str | None = None,
    device: str | None = None,
    force: bool = False,
) -> None:
    """Run the suite on each model and write each result as soon as it is complete.

    ``outs`` are the JSON files. Finished results of the same job are kept unless ``force``; of an
    unfinished one, the tasks that are there. Raises FewshotError for a model that is not there,
    before any is run.
    """
    from tqdm import tqdm

    fingerprints = [_model_fingerprint(model) for model in models]
    total = len(models) * len(suite.spec.tasks)
    with tqdm(total=total, unit="task", disable=None) as bar:
        for model, out, print_ in zip(models, map(Path, outs), fingerprints, strict=True):
            bar.set_description(model[-40:])
            jobs = {task.name: suite.job(task, print_) for task in suite.spec.tasks}
            if not force and _finished(out, jobs):
                bar.update(len(jobs))
                continue
            partial = out.with_name(f".{out.stem}.partial")
            if force:
                shutil.rmtree(partial, ignore_errors=True)
            lm = None
            for task in suite.spec.tasks:
                bar.set_postfix_str(task.name)
                if _read_partial(partial, task.name, jobs[task.name]) is None:
                    lm = lm or load_model(model, batch_size, dtype, device)
                    record, rows = suite.run(lm, task)
                    record["dtype"] = str(lm.model.dtype).removeprefix("torch.")
                    _write_partial(partial, task.name, jobs[task.name], record, rows)
                bar.update()
            _finish(suite, model, out, partial, jobs)
            del lm
            gc.collect()  # models hold reference cycles, and the next one needs the memory


def load_model(model: str, batch_size: int, dtype: str | None, device: str | None) -> HFLM:
    """The model as lm-eval takes it; float32 on a CPU, as stored on a GPU, unless ``dtype``."""
    import torch
    from lm_eval.models.huggingface import HFLM

    from tad.models.loading import choose_attention

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("float32" if device == "cpu" else "auto")
    name = model.removeprefix(HUB)
    try:
        with _quiet():
            lm = HFLM(
                pretrained=name,
                dtype=dtype,
                batch_size=batch_size,
                device=device,
                use_safetensors=True,
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FewshotError(f"model {model}: cannot be loaded ({reason})") from None
    choose_attention(lm.model, training=False)  # Gemma2's soft-capping needs the right one
    return lm


def items_path(out: str | Path) -> Path:
    """Where the items of a result lie: ``fewshot.items.jsonl.gz`` beside ``fewshot.json``."""
    out = Path(out)
    return out.with_name(f"{out.stem}.items.jsonl.gz")


def check_model(model: str) -> None:
    """Raise FewshotError for a folder that holds no model."""
    if not model.startswith(HUB) and not (Path(model) / "config.json").is_file():
        raise FewshotError(
            f"model {model}: no such model (config.json is missing); for one of the hub write "
            f"{HUB}ID"
        )


def _model_fingerprint(model: str) -> str:
    """sha256 of the files that decide a model's answers; the id of one on the hub."""
    check_model(model)
    if model.startswith(HUB):
        return model
    folder = Path(model)
    files = [folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("tokenizer*.json")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode())
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _prompt_hash(task: ConfigurableTask) -> str:
    """sha256 of every context, continuation and right answer, in order: equal only for the same
    items, prompt and shots."""
    digest = hashlib.sha256()
    for instance in task.instances:
        asked = [*instance.args, task.doc_to_target(instance.doc)]
        digest.update(json.dumps(asked, default=str).encode())
    return digest.hexdigest()


# --- Files ---------------------------------------------------------------------------------------


def _finished(out: Path, jobs: Mapping[str, str]) -> bool:
    if not (out.is_file() and items_path(out).is_file()):
        return False
    from tad.records import RecordError, read_json

    try:
        return read_json(out).get("jobs") == dict(jobs)
    except RecordError:
        return False


def _write_partial(
    folder: Path, task: str, job: str, record: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    from tad.records import write_json

    write_json(folder / f"{task}.json", {"job": job, "record": record, "rows": rows})


def _read_partial(folder: Path, task: str, job: str) -> dict[str, Any] | None:
    """What is stored of a task, None if that is nothing, or of another job."""
    path = folder / f"{task}.json"
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    return stored if stored["job"] == job else None


def _finish(suite: Suite, model: str, out: Path, partial: Path, jobs: Mapping[str, str]) -> None:
    """Join the tasks of a model, items first, so that the JSON means that all is there."""
    from tad.records import provenance, write_gzip, write_json

    stored = {name: _read_partial(partial, name, job) for name, job in jobs.items()}
    rows = [row for part in stored.values() for row in part["rows"]]
    write_gzip(items_path(out), "".join(json.dumps(row) + "\n" for row in rows))
    tasks = {name: part["record"] for name, part in stored.items()}
    record = {
        "metric": "fewshot",
        "unit": "fraction",
        "suite": suite.spec.name,
        "analogue": suite.spec.analogue,
        "limit": suite.limit,
        "model": model,
        "lm_eval": metadata.version("lm_eval"),
        "average": statistics.fmean(task["accuracy"] for task in tasks.values()),
        "tasks": tasks,
        "items": items_path(out).name,
        "jobs": dict(jobs),
        **provenance(),
    }
    write_json(out, record)
    shutil.rmtree(partial)


# --- Noise ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and notes out of the log; errors still raise."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _count_truncated() -> Iterator[list[int]]:
    """How many requests lm-eval cut to the model's length: it only says so in its log."""
    count = [0]

    class Counter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            count[0] += "Truncating" in str(record.msg)
            return record.levelno >= logging.ERROR

    logger = logging.getLogger("lm_eval.models.huggingface")
    level, counter = logger.level, Counter()
    logger.setLevel(logging.WARNING)
    logger.addFilter(counter)
    try:
        yield count
    finally:
        logger.removeFilter(counter)
        logger.setLevel(level)


# --- Command line --------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when every result is written, 2 for bad input (one line on stderr)."""
    parser = command_line("eval fewshot", __doc__)
    parser.add_argument("--model", nargs="+", required=True, help=f"folders, or {HUB}ID")
    parser.add_argument("--suite", required=True, help="paper, mini or smoke")
    parser.add_argument("--out", nargs="+", help="JSON, one a model (default: in its folder)")
    parser.add_argument(
        "--local", nargs="+", default=[], metavar="TASK=FOLDER", help="JSONL instead of the hub"
    )
    parser.add_argument("--analogues", help="folder made by eval.fewshot.analogues (mini, smoke)")
    parser.add_argument("--shots", type=int, help="instead of those in eval/tasks/suites.yaml")
    parser.add_argument("--limit", type=int, help="only the first items of each task")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dtype", help="float32, bfloat16, ... (default: float32 on a CPU)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: cuda if there is one)")
    parser.add_argument("--force", action="store_true", help="do finished results again")
    options = parser.parse_args(arguments)
    return exit_code("eval fewshot", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    outs = options.out or [_default_out(model) for model in options.model]
    if len(outs) != len(options.model):
        raise FewshotError(f"{len(options.model)} models need as many --out, got {len(outs)}")
    for model in options.model:
        check_model(model)
    suite = Suite(
        options.suite,
        local=_pairs(options.local),
        analogues=options.analogues,
        shots=options.shots,
        limit=options.limit,
    )
    evaluate_models(
        suite,
        options.model,
        outs,
        batch_size=options.batch_size,
        dtype=options.dtype,
        device=options.device,
        force=options.force,
    )


def _default_out(model: str) -> str:
    if model.startswith(HUB):
        raise FewshotError(f"{model}: give --out, a hub model has no folder of its own")
    return str(Path(model) / "fewshot.json")


def _pairs(values: Sequence[str]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    if "" in pairs.values():
        raise FewshotError(f"--local takes TASK=FOLDER, got {' '.join(values)}")
    return pairs
