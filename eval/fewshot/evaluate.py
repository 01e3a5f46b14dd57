"""Few-shot accuracy on multiple-choice tasks by lm-eval (Tables 1, 2, 4 and 6).

    tad eval fewshot --suite paper --model DIR --out fewshot.json
    tad eval fewshot --suite paper --model DIR --local storycloze=FOLDER
    tad eval fewshot --suite smoke --analogues work/smoke/analogues/general --model DIR1 DIR2

In: model folders (or hub:ID), any number in one process, since loading lm-eval takes longer than a
tiny model's suite; items from the hub, from local JSONL, or analogues. Out, as soon as a model is
complete and by default in its own folder: ``fewshot.json``, and ``fewshot.items.jsonl.gz`` with
what became of every item, for paired tests. An interrupted suite goes on with the tasks that are
missing; a finished one is not done again.

Beside the accuracy stands the *margin*: log p(right option) less the highest of the others, in nats
a character of the option, which tells models apart long before their accuracies do.
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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.fewshot.build import FEWSHOT_SEED, build_task, sources_of
from eval.fewshot.tasks import SUITES, FewshotError, TaskSpec, suite_tasks
from eval.options import at_least, device_of, outputs
from tad.command import command_line, exit_code
from tad.models.fingerprint import model_fingerprint
from tad.records import (
    RecordError,
    fingerprint,
    provenance,
    read_json,
    write_gzip,
    write_json,
)

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

    from eval.fewshot.model import CountingModel

HUB = "hub:"
"""Prefix that makes a --model a hub id, so that a mistyped folder is never looked up there."""

LONG_TASK = 2000
"""Requests from which on a task shows lm-eval's own progress bar too."""


@dataclass(frozen=True)
class FewshotSetup:
    """How models are run; ``dtype`` "auto" is the stored one. All but ``batch_size`` decides."""

    dtype: str
    device: str
    batch_size: int = 32

    @classmethod
    def of(
        cls, dtype: str | None = None, device: str | None = None, batch_size: int = 32
    ) -> FewshotSetup:
        """Float32 on a CPU and as stored on a GPU, unless ``dtype``. Raises OptionError."""
        device = device_of(device)
        return cls(dtype or ("float32" if device == "cpu" else "auto"), device, batch_size)


class FewshotSuite:
    """The tasks of a suite, built once and run on any number of models.

    ``local`` maps tasks to folders of JSONL files in the hub's field names, ``analogues`` is the
    folder of an analogue suite, ``limit`` takes the first items of each task only, ``shots``
    replaces that of every task, ``tasks`` is a folder of more task files. Raises FewshotError,
    ItemError.
    """

    def __init__(
        self,
        name: str,
        *,
        local: Mapping[str, str | Path] | None = None,
        analogues: str | Path | None = None,
        shots: int | None = None,
        limit: int | None = None,
        tasks: str | Path | None = None,
    ) -> None:
        self.name, self.limit = name, limit
        self.specs = suite_tasks(name, tasks)
        self.shots = {spec.name: spec.shots if shots is None else shots for spec in self.specs}
        self.folders = sources_of(name, self.specs, local=local or {}, analogues=analogues)
        with _quiet():
            self.tasks: dict[str, ConfigurableTask] = {
                spec.name: build_task(spec, self.folders[spec.name], self.shots[spec.name], limit)
                for spec in self.specs
            }
        self.prompts = {name: _prompt_hash(task) for name, task in self.tasks.items()}

    def job(self, spec: TaskSpec, model: str, setup: FewshotSetup) -> str:
        """What a task's result depends on; a stored result of another job is not used.

        ``model`` is its fingerprint.
        """
        parts = {
            "suite": self.name,
            # Where the items are changes nothing; what they are is in the prompts.
            "task": {k: v for k, v in asdict(spec).items() if k != "data"},
            "shots": self.shots[spec.name],
            "limit": self.limit,
            "prompts": self.prompts[spec.name],
            "version": self.tasks[spec.name].VERSION,
            "lm_eval": metadata.version("lm_eval"),
            "model": model,
            "dtype": setup.dtype,
            "device": setup.device.partition(":")[0],
        }
        return fingerprint(parts)

    def run(self, lm: CountingModel, spec: TaskSpec) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One task on one model: its record, and one row an item. Raises FewshotError."""
        from lm_eval.evaluator import evaluate

        from eval.fewshot.model import UnscorableError

        task = self.tasks[spec.name]
        task.set_fewshot_seed(seed=FEWSHOT_SEED)  # else each model would get other examples
        lm.reset()
        try:
            with _quiet(bars=sys.stderr.isatty() and len(task.instances) > LONG_TASK):
                found = evaluate(
                    lm,
                    {"tasks": {spec.lm_eval: task}, "groups": {}},
                    limit=self.limit,
                    bootstrap_iters=1,  # means have an error in closed form; 0 would leave it out
                )
        except UnscorableError as error:
            raise FewshotError(self._unscorable(spec, *error.args)) from None
        if _prompt_hash(task) != self.prompts[spec.name]:
            raise FewshotError(f"{spec.name}: prompts changed from one model to the next")
        scores = found["results"][spec.lm_eval]
        samples = found["samples"][spec.lm_eval]
        metrics = samples[0]["metrics"]
        rights = [right_option(task, sample["doc"]) for sample in samples]
        options = [len(sample["filtered_resps"]) for sample in samples]
        margins = [
            margin(spec.metric, sample, task.doc_to_choice(sample["doc"]), right)
            for sample, right in zip(samples, rights, strict=True)
        ]
        record = {
            "column": spec.column,
            "lm_eval_task": spec.lm_eval,
            "metric": spec.metric,
            "accuracy": scores[f"{spec.metric},none"],
            "stderr": scores[f"{spec.metric}_stderr,none"],
            "margin": statistics.fmean(margins),
            "margin_stderr": _standard_error(margins),
            "chance": statistics.fmean(1 / count for count in options),
            "commonest": Counter(rights).most_common(1)[0][1] / len(rights),
            "n": len(samples),
            "options": spec.options,
            "shots": self.shots[spec.name],
            "task_version": task.VERSION,
            "prompt_hash": self.prompts[spec.name],
            "requests": len(task.instances),
            "truncated_requests": lm.truncated,
            "bos_requests": lm.bos,
            "all_metrics": {name: scores[f"{name},none"] for name in metrics},
            "dtype": str(lm.model.dtype).removeprefix("torch."),
        }
        rows = [
            {
                "task": spec.name,
                "item": sample["doc_id"],
                "doc_hash": sample["doc_hash"],
                "correct": int(sample[spec.metric]),
                **{name: int(sample[name]) for name in metrics},
                "margin": round(gap, 6),
            }
            for sample, gap in zip(samples, margins, strict=True)
        ]
        return record, sorted(rows, key=lambda row: row["item"])

    def _unscorable(self, spec: TaskSpec, asked: tuple[str, str], tokens: int, most: int) -> str:
        """The message for a request that cannot be scored: (context, option), its tokens."""
        folder = self.folders[spec.name]
        where = f"{folder}/{spec.scored}.jsonl" if folder else f"{spec.name} of the hub"
        items = [i.doc_id for i in self.tasks[spec.name].instances if tuple(i.args) == tuple(asked)]
        return (
            f"{where}: item {items[0] + 1}: an option of {tokens} tokens, and the model takes 1 to "
            f"{most}: {asked[1].strip()[:40]!r}"
        )


def right_option(task: ConfigurableTask, doc: Mapping[str, Any]) -> int:
    """Which option of an item is right, from 0, as lm-eval itself finds it."""
    right = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    return right if isinstance(right, int) else task.doc_to_choice(doc).index(right)


def margin(metric: str, sample: Mapping[str, Any], choices: Sequence[str], right: int) -> float:
    """log p(right option) less the highest of the others, in nats a character.

    Above 0 where ``metric`` counts the item as right: acc_norm compares log p a character, acc
    log p as it is, and that difference is then divided by the characters that were scored.
    ``sample`` is lm-eval's: ``filtered_resps``, (log p, greedy) an option, and ``arguments``,
    (context, text that is scored) an option.
    """
    scores = [log_p for log_p, _ in sample["filtered_resps"]]
    if normalised := metric == "acc_norm":
        scores = [score / len(choice) for score, choice in zip(scores, choices, strict=True)]
    gap = scores[right] - max(score for i, score in enumerate(scores) if i != right)
    return gap if normalised else gap / len(sample["arguments"][right][1].strip())


def _standard_error(values: Sequence[float]) -> float:
    """Of a mean; 0 for one value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def evaluate_models(
    suite: FewshotSuite,
    models: Sequence[str],
    outs: Sequence[str | Path],
    setup: FewshotSetup,
    *,
    force: bool = False,
) -> None:
    """Run the suite on each model and write each result as soon as it is complete.

    ``outs`` are the JSON files. Finished results of the same job are kept unless ``force``; of an
    unfinished one, the tasks that are there. Raises FewshotError for a model that is not there,
    before any is run.
    """
    from tqdm import tqdm

    known = [_identity(model) for model in models]
    total = len(models) * len(suite.specs)
    with tqdm(total=total, unit="task", disable=None) as bar:
        for model, out, identity in zip(models, map(Path, outs), known, strict=True):
            bar.set_description(model[-40:])
            jobs = {spec.name: suite.job(spec, identity, setup) for spec in suite.specs}
            if not force and _finished(out, jobs):
                bar.update(len(jobs))
                continue
            partial = out.with_name(f".{out.stem}.partial")
            if force:
                shutil.rmtree(partial, ignore_errors=True)
            lm = None
            for spec in suite.specs:
                bar.set_postfix_str(spec.name)
                if _read_partial(partial, spec.name, jobs[spec.name]) is None:
                    lm = lm or load_model(model, setup)
                    record, rows = suite.run(lm, spec)
                    content = {"job": jobs[spec.name], "record": record, "rows": rows}
                    write_json(partial / f"{spec.name}.json", content)
                bar.update()
            _finish(suite, model, out, partial, jobs, setup)
            del lm
            gc.collect()  # models hold reference cycles, and the next one needs the memory


def load_model(model: str, setup: FewshotSetup) -> CountingModel:
    """The model as lm-eval takes it. Raises ModelError."""
    from eval.fewshot.model import CountingModel
    from tad.models import loading

    source = model.removeprefix(HUB)
    tokenizer = loading.load_tokenizer(source)
    loaded = loading.load_model(
        source, training=False, dtype=setup.dtype, vocab_size=tokenizer.vocab_size
    )
    with _quiet():
        return CountingModel(
            pretrained=loaded.to(setup.device), tokenizer=tokenizer, batch_size=setup.batch_size
        )


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


def _identity(model: str) -> str:
    check_model(model)
    return model_fingerprint(model.removeprefix(HUB))


def _prompt_hash(task: ConfigurableTask) -> str:
    """sha256 of every context, continuation and right answer, in order: equal only for the same
    items, prompt and shots."""
    digest = hashlib.sha256()
    for instance in task.instances:
        asked = [*instance.args, task.doc_to_target(instance.doc)]
        digest.update(json.dumps(asked, default=str).encode())
    return digest.hexdigest()


# --- Files ---------------------------------------------------------------------------------------


def _stored(path: Path) -> dict[str, Any]:
    """A record that is there and whole, else nothing."""
    try:
        found = read_json(path)
    except (OSError, RecordError):
        return {}
    return found if isinstance(found, dict) else {}


def _finished(out: Path, jobs: Mapping[str, str]) -> bool:
    return items_path(out).is_file() and _stored(out).get("jobs") == dict(jobs)


def _read_partial(folder: Path, task: str, job: str) -> dict[str, Any] | None:
    """What is stored of a task, None if that is nothing, or of another job."""
    stored = _stored(folder / f"{task}.json")
    return stored if stored.get("job") == job else None


def _finish(
    suite: FewshotSuite,
    model: str,
    out: Path,
    partial: Path,
    jobs: Mapping[str, str],
    setup: FewshotSetup,
) -> None:
    """Join the tasks of a model, items first, so that the JSON means that all is there."""
    stored = {name: _read_partial(partial, name, job) for name, job in jobs.items()}
    rows = [row for part in stored.values() for row in part["rows"]]
    write_gzip(items_path(out), "".join(json.dumps(row) + "\n" for row in rows))
    tasks = {name: part["record"] for name, part in stored.items()}
    record = {
        "metric": "fewshot",
        "unit": "fraction",
        "suite": suite.name,
        "analogue": SUITES[suite.name],
        "limit": suite.limit,
        "model": model,
        "lm_eval": metadata.version("lm_eval"),
        "device": setup.device,
        "average": statistics.fmean(task["accuracy"] for task in tasks.values()),
        "avg_margin": statistics.fmean(task["margin"] for task in tasks.values()),
        "tasks": tasks,
        "items": items_path(out).name,
        "jobs": dict(jobs),
        **provenance(),
    }
    write_json(out, record)
    shutil.rmtree(partial)


@contextlib.contextmanager
def _quiet(*, bars: bool = False) -> Iterator[None]:
    """Keep the libraries' notes, and unless ``bars`` their progress, out of the log."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.ExitStack() as stack:
            if not bars:
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            yield
    finally:
        logger.setLevel(level)


# --- Command line --------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when every result is written, 2 for bad input (one line on stderr)."""
    parser = command_line("eval fewshot", __doc__)
    parser.add_argument("--model", nargs="+", required=True, help=f"folders, or {HUB}ID")
    parser.add_argument("--suite", required=True, help=", ".join(SUITES))
    parser.add_argument("--out", nargs="+", help="JSON, one a model (default: in its folder)")
    parser.add_argument(
        "--local", nargs="+", default=[], metavar="TASK=FOLDER", help="JSONL instead of the hub"
    )
    parser.add_argument("--analogues", help="folder made by tad eval analogues (mini, smoke)")
    parser.add_argument("--tasks", help="folder of task files of your own, beside the suite's")
    parser.add_argument("--shots", type=int, help="instead of those in the tasks' files")
    parser.add_argument("--limit", type=int, help="only the first items of each task")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16", "auto"],
        help="default: float32 on a CPU, as stored (auto) on a GPU",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, ... (default: cuda if there is one)")
    parser.add_argument("--force", action="store_true", help="do finished results again")
    options = parser.parse_args(arguments)
    return exit_code("eval fewshot", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    at_least(0, shots=options.shots)
    at_least(1, limit=options.limit, batch_size=options.batch_size)
    for model in options.model:
        check_model(model)
    outs = outputs(options.model, options.out, "fewshot.json")
    setup = FewshotSetup.of(options.dtype, options.device, options.batch_size)
    local = dict(value.partition("=")[::2] for value in options.local)
    if "" in local.values():
        raise FewshotError(f"--local takes TASK=FOLDER, got {' '.join(options.local)}")
    suite = FewshotSuite(
        options.suite,
        local=local,
        analogues=options.analogues,
        shots=options.shots,
        limit=options.limit,
        tasks=options.tasks,
    )
    evaluate_models(suite, options.model, outs, setup, force=options.force)
