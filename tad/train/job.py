"""One training job, from a resolved spec to a finished folder: shared by distill and pretrain.

What a user is owed here: a job that was killed goes on where it stopped and ends in the same bits;
the folder of a finished job appears whole, ``manifest.json`` last; a finished job is not redone.
On several ranks (``tad.train.ranks``) the first one writes, and all take part in the rest.
"""

from __future__ import annotations

import logging
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from tad.data.instruct import InstructionRows, Numbered, collate, open_rows
from tad.data.packing import PackedTokens, training_rows
from tad.experiment.layout import MODEL_FILES
from tad.experiment.specs import Optimisation, PretrainSpec, RunSpec
from tad.records import fingerprint, provenance, read_json, write_json, write_json_lines
from tad.train import ranks, states
from tad.train.checkpoints import CheckpointFolder
from tad.train.memory import StepMemory
from tad.train.trainer import DistillationTrainer

LOG_POINTS = 100
"""Lines of ``train.jsonl`` besides the held-out points."""

log = logging.getLogger(__name__)


def run_job(
    spec: RunSpec | PretrainSpec,
    *,
    out: Path,
    checkpoints: Path,
    force: bool,
    tokenizer: PreTrainedTokenizerBase,
    build: Callable[[], tuple[PreTrainedModel, dict[str, Any]]],
    trainer_class: Callable[..., DistillationTrainer],
    skip_sequences: int = 0,
    train_rows: Callable[[], tuple[Dataset, str]] | None = None,
    states_folder: str | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Train what ``build`` returns (a model, and further arguments of ``trainer_class``).

    ``train_rows`` gives other sequences to train on than the corpus, in training order, and a
    fingerprint of them. ``states_folder`` has the teacher's states on the corpus
    (``tad.train.states``); where it lacks them, or on several ranks, the teacher runs. The manifest
    tells ``overrides`` of the configuration that the spec was made with.

    ``out`` receives the model, ``train.jsonl`` and ``manifest.json``; ``checkpoints`` holds what an
    interrupted job resumes from, on any number of ranks. A job that is finished is left alone,
    unless ``force`` asks to train it again from the start. Raises BusyError if another process
    trains the same job, RanksError for ranks that it cannot be dealt out to, ShardingError, and
    NonFiniteLossError, keeping the last checkpoint.
    """
    ranks.join()
    values = spec.optimisation
    train = open_rows(spec.data, "train", values.context)
    held_out = open_rows(spec.data, "validation", values.context)
    rows, print_of_rows = train_rows() if train_rows else (None, None)
    job = fingerprint({"spec": spec.model_dump(), "data": train.fingerprint, "rows": print_of_rows})
    start = time.monotonic()
    with CheckpointFolder(checkpoints, job, values.sharding) as folder:
        if force:
            folder.remove()
        elif ranks.from_first(lambda: _finished(out / "manifest.json", job)):
            log.info("%s: finished already; --force trains it again", out)
            return
        model, extra = build()
        if values.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        resume = folder.latest()
        log.info("%s: %s", out, f"resuming from {resume.name}" if resume else "starting")
        rows = rows or training_order(train, values, skip_sequences)
        rows, states_seconds = _with_states(rows, states_folder, spec, train.fingerprint)
        if values.packed:
            rows, extra = Numbered(rows), extra | {"per_document": True}
        history = _History(out / "train.jsonl", step_tokens(train, values))
        memory = StepMemory()
        trainer = trainer_class(
            model=model,
            args=_arguments(values, folder.path, fresh=resume is None),
            train_dataset=rows,
            eval_dataset=_evenly(held_out, values.evaluation_sequences),
            data_collator=collate,
            memory_budget_mb=values.memory_budget_mb,
            compiled=values.compiled,
            callbacks=[history, folder.callback(), memory],
            **extra,
        )
        _hold_held_out_states(trainer, values.memory_budget_mb * 1e6)
        _show_progress(trainer)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        history.write(trainer.state)
        _save(trainer, tokenizer, out)
        if trainer.is_world_process_zero():
            manifest = {
                "fingerprint": job,
                "spec": spec.model_dump(),
                "overrides": list(overrides),
                "data_fingerprint": train.fingerprint,
                "rows_fingerprint": print_of_rows,
                "tokens": values.steps * step_tokens(train, values),
                "epochs": values.steps * values.batch_size / len(train),
                "parameters": sum(p.numel() for p in model.parameters()),
                "trainable_parameters": sum(
                    p.numel() for p in model.parameters() if p.requires_grad
                ),
                "wall_seconds": round(time.monotonic() - start, 3),
                "states_seconds": round(states_seconds, 3),
                "resumed_from_step": int(resume.name.split("-")[1]) if resume else 0,
                "ranks": ranks.count(),
                "sharding": values.sharding,
                "gradient_checkpointing": values.gradient_checkpointing,
                "peak_memory_bytes": max(_peak_memory(), memory.peak_before),
                "step_memory_bytes": memory.peak,
                **provenance(),
            }
            write_json(out / "manifest.json", manifest)
            folder.remove()


def step_tokens(data: PackedTokens | InstructionRows, values: Optimisation) -> int:
    """Tokens of an optimizer step; the mean over all rows where those differ in length."""
    return round(values.batch_size * getattr(data, "mean_tokens", values.context))


def _finished(manifest: Path, job: str) -> bool:
    return manifest.is_file() and read_json(manifest)["fingerprint"] == job


def training_order(data: Dataset, values: Optimisation, skip: int = 0) -> Dataset:
    """The sequences in training order: every pass is a new permutation drawn from the seed.

    The order is fixed here and read sequentially, so that it does not depend on how the Trainer
    shuffles or on where a run was resumed. ``skip`` leading sequences were seen by an earlier job.
    """
    rows = training_rows(len(data), skip + values.steps * values.batch_size, values.seed)
    return Subset(data, rows[skip:].tolist())


def _evenly(data: PackedTokens | InstructionRows, count: int) -> Dataset:
    """``count`` sequences spread evenly over the validation split, the same for every run."""
    count = min(count, len(data))
    return Subset(data, [index * len(data) // count for index in range(count)])


def _with_states(
    rows: Dataset, folder: str | None, spec: RunSpec | PretrainSpec, data: str
) -> tuple[Dataset, float]:
    """``rows`` with the teacher's states where they are stored, and the seconds those took."""
    values = spec.optimisation
    if folder is None or ranks.count() > 1:
        return rows, 0.0
    size, _ = ranks.shares(values.batch_size, values.micro_batch_size)
    wanted = states.identity(spec.teacher, data, values.context, size, values.seed)
    found = states.stored(Path(folder), rows, wanted)
    log.info("%s: %s", folder, "the teacher's states are read" if found else "the teacher runs")
    return found or (rows, 0.0)


def _hold_held_out_states(trainer: DistillationTrainer, limit: float) -> None:
    """Run the teacher over the held-out sequences once for all evaluations, if they are few."""
    if trainer.teacher is not None and ranks.count() == 1:
        inner = trainer.accelerator.unwrap_model(trainer.teacher)
        size = trainer.args.per_device_eval_batch_size
        rows = trainer.eval_dataset
        trainer.eval_dataset = states.held_in_memory(trainer.teacher, inner, rows, size, limit)


def _arguments(values: Optimisation, folder: Path, *, fresh: bool) -> TrainingArguments:
    micro, accumulated = ranks.shares(values.batch_size, values.micro_batch_size)
    cuda = torch.cuda.is_available()
    logging_steps = max(1, values.steps // LOG_POINTS)
    # Saving between two log points would lose the sums of the steps since the first of them.
    save_steps = max(1, round(values.checkpoint_every_steps / logging_steps)) * logging_steps
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=values.steps,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=accumulated,
        learning_rate=values.learning_rate,
        weight_decay=values.weight_decay,
        max_grad_norm=values.max_grad_norm,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(
            values.schedule, values.schedule
        ),
        warmup_steps=round(values.warmup_fraction * values.steps),
        optim="adamw_torch_fused" if cuda else "adamw_torch",
        use_cpu=ranks.on_cpus(),
        ddp_find_unused_parameters=False,
        bf16=cuda and torch.cuda.is_bf16_supported(),
        seed=values.seed,
        train_sampling_strategy="sequential",
        eval_strategy="steps",
        eval_steps=max(1, values.steps // values.evaluations),
        # A resumed run has its first point already, in the history that the checkpoint keeps.
        eval_on_start=fresh,
        logging_steps=logging_steps,
        logging_nan_inf_filter=False,
        save_steps=save_steps,
        save_total_limit=2,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=not sys.stderr.isatty(),
        **ranks.training_arguments(values.sharding),
    )


class _History(TrainerCallback):
    """Keeps ``train.jsonl`` up to date: one line a log point, with the tokens seen by then."""

    def __init__(self, path: Path, step_tokens: int) -> None:
        self.path = path
        self.step_tokens = step_tokens
        self.began = time.monotonic()
        self.first_step: int | None = None

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if self.first_step is None:
            self.began, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        # The entry is part of the state that checkpoints keep: a resumed run has all its lines.
        entry = state.log_history[-1]
        entry["tokens"] = state.global_step * self.step_tokens
        if "loss" in entry and self.first_step is not None:
            done = (state.global_step - self.first_step) * self.step_tokens
            entry["tokens_per_second"] = round(done / (time.monotonic() - self.began), 1)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        self.write(state)
        values = {k: v for k, v in state.log_history[-1].items() if k.startswith("eval_")}
        shown = "  ".join(f"{name[5:]} {value:.4f}" for name, value in values.items())
        log.info("step %d of %d  held-out %s", state.global_step, state.max_steps, shown)

    def write(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            write_json_lines(self.path, [x for x in state.log_history if "train_loss" not in x])


def _show_progress(trainer: DistillationTrainer) -> None:
    """A bare progress bar on a terminal; the Trainer would also print every log entry."""
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_BarOnly)


class _BarOnly(ProgressCallback):
    def on_log(self, *args: object, **kwargs: object) -> None:
        pass


def _save(trainer: DistillationTrainer, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """The final model in the transformers layout, each file moved into place when complete."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".saving-") as temporary:
        ranks.save_model(trainer, temporary)
        if not trainer.is_world_process_zero():
            return
        tokenizer.save_pretrained(temporary)
        # Larger models are saved in shards with an index beside them; those move along.
        names = {path.name for path in Path(temporary).iterdir()} - {"training_args.bin"}
        for name in sorted(names, key=lambda n: (n == MODEL_FILES[0], n)):
            shutil.move(Path(temporary) / name, out / name)


def _peak_memory() -> int:
    """Peak memory in bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
