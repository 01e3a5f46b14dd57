"""Train one student with a progress bar, checkpoints, and a history of what was measured."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging

from tad.data.instruct import collate
from tad.distill.arguments import ArgumentError, Settings
from tad.distill.data import Data
from tad.distill.models import Models, merged
from tad.distill.states import Known
from tad.methods import Method
from tad.records import write_json_lines
from tad.train.checkpoints import CheckpointFolder
from tad.train.trainer import DistillationTrainer

LOG_POINTS = 100
CHECKPOINTS = 20
LOGS = "TENSORBOARD_LOGGING_DIR"


def steps_of(settings: Settings, method: Method, data: Data, tokens: float) -> int:
    """Whole optimizer steps that fit ``tokens`` times the budget of the method, at least one."""
    step = settings.batch_size * data.train.mean_tokens
    return max(1, int(tokens * method.shared["x"] / step))


def train(
    settings: Settings,
    method: Method,
    models: Models,
    data: Data,
    known: Known,
    *,
    steps: int,
    job: str,
    out: Path,
    work: Path,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train the student of a method; returns it, adapters merged, and what it cost.

    ``job`` identifies all that decides the result: a checkpoint in ``work`` of another job is not
    resumed. ``out`` receives ``train.jsonl`` on the way. Raises UserError.
    """
    with CheckpointFolder(work, job) as folder:
        resume = folder.latest()
        student = models.student()
        history = _History(out / "train.jsonl", settings.batch_size * data.train.mean_tokens, out)
        count = steps * settings.batch_size
        source = known if method.row.needs_teacher else Known(known.held_out)
        trainer = DistillationTrainer(
            model=student,
            teacher=models.teacher,
            method=method.loss,
            temperature=settings.temperature,
            hidden_cosine=settings.cosine and method.row.cosine,
            vocab_size=models.shared,
            args=_arguments(settings, method, models, steps, folder.path, fresh=resume is None),
            train_dataset=source.training(data.train, count, settings.seed),
            eval_dataset=known.held_out,
            data_collator=collate,
            callbacks=[history, folder.callback()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        reset_peak_memory()
        try:
            with _logs_in(out):
                trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        finally:
            history.close()
        history.write(trainer.state)
        _bare(trainer, trainer.teacher)
        cost = {
            "steps": steps,
            "tokens": round(steps * history.step_tokens),
            "epochs": count / len(data.train),
            "seconds": round(history.seconds + source.seconds * min(count, len(data.train)), 1),
            "peak_memory_bytes": peak_memory(),
            "resumed_from_step": int(resume.name.split("-")[1]) if resume else 0,
        }
        return merged(_bare(trainer, trainer.model)), cost


def _bare(trainer: DistillationTrainer, model: nn.Module) -> nn.Module:
    """The model without the autocast that a trainer puts around it, to be used again."""
    return trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)


@contextlib.contextmanager
def _logs_in(out: Path) -> Iterator[None]:
    """TensorBoard's files in ``out/logs``, unless the user's variable names another folder; by
    default they would be beside the checkpoints, and go with them."""
    if LOGS in os.environ:
        yield
        return
    os.environ[LOGS] = str(out / "logs")
    try:
        yield
    finally:
        del os.environ[LOGS]


def check_reports(names: tuple[str, ...]) -> None:
    """Raise ArgumentError for a logger that transformers does not have, or not installed."""
    known = get_available_reporting_integrations()
    for name in names:
        if name not in known:
            have = ", ".join(known) or "none"
            raise ArgumentError(
                f"--report-to {name}: not installed, or unknown (installed: {have})"
            )


def _arguments(
    settings: Settings, method: Method, models: Models, steps: int, folder: Path, *, fresh: bool
) -> TrainingArguments:
    logging_steps = max(1, steps // LOG_POINTS)
    # Saving between two log points would lose the sums of the steps since the first of them.
    save_steps = max(1, round(steps / CHECKPOINTS / logging_steps)) * logging_steps
    return TrainingArguments(
        output_dir=str(folder),
        run_name=f"{settings.out.name}-{method}",
        max_steps=steps,
        per_device_train_batch_size=settings.micro_batch_size,
        per_device_eval_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        learning_rate=settings.learning_rate * method.shared["r"],
        weight_decay=settings.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * steps),
        optim="adamw_torch_fused" if models.device == "cuda" else "adamw_torch",
        bf16=models.dtype == torch.bfloat16,
        use_cpu=models.device == "cpu",
        seed=settings.seed,
        train_sampling_strategy="sequential",
        eval_strategy="steps",
        eval_steps=-(-steps // settings.evaluations),
        # A resumed run has its first point already, in the history that the checkpoint keeps.
        eval_on_start=fresh,
        logging_steps=logging_steps,
        logging_nan_inf_filter=False,
        save_steps=save_steps,
        save_total_limit=2,
        dataloader_pin_memory=models.device == "cuda",
        remove_unused_columns=False,
        report_to=list(settings.report_to),
        disable_tqdm=True,
    )


class _History(TrainerCallback):
    """A bar of tokens with the time left, and ``train.jsonl``: loss, held-out NLL and KL."""

    def __init__(self, path: Path, step_tokens: float, out: Path) -> None:
        self.path, self.step_tokens, self.name = path, step_tokens, out.name
        self.before, self.began, self.seconds = 0.0, time.monotonic(), 0.0
        self.bar: tqdm | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What a run that was stopped had spent is in its history, up to its last checkpoint."""
        spent = [entry["seconds"] for entry in state.log_history if "seconds" in entry]
        self.before, self.began = max(spent, default=0.0), time.monotonic()
        done = state.global_step * self.step_tokens
        self.bar = tqdm(
            total=round(state.max_steps * self.step_tokens), initial=round(done), unit="tok",
            unit_scale=True, desc=self.name, disable=not sys.stderr.isatty(),
        )  # fmt: skip

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.seconds = self.before + time.monotonic() - self.began
        if self.bar is not None:
            self.bar.update(round(state.global_step * self.step_tokens) - self.bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        entry = state.log_history[-1]
        entry["tokens"] = round(state.global_step * self.step_tokens)
        entry["seconds"] = round(self.before + time.monotonic() - self.began, 3)
        if self.bar is not None and "loss" in entry:
            self.bar.set_postfix(loss=f"{entry['loss']:.3f}", refresh=False)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.write(state)
        entry, line = state.log_history[-1], ""
        if state.global_step:
            rate = entry["seconds"] / state.global_step
            left = (state.max_steps - state.global_step) * rate
            line = f"  {self.step_tokens / rate:,.0f} tokens/s, {_clock(left)} left"
        tqdm.write(
            f"{self.name}: {entry['tokens']:,} tokens  held-out KL {entry['eval_kl']:.4f}  "
            f"NLL {entry['eval_nll']:.4f}{line}",
            file=sys.stderr,
        )

    def write(self, state: TrainerState) -> None:
        """The history as it is now."""
        write_json_lines(self.path, [x for x in state.log_history if "train_loss" not in x])

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def save(model: nn.Module, tokenizer: Any, out: Path) -> None:
    """Model and tokenizer in the transformers layout, each file moved into place when complete."""
    out.mkdir(parents=True, exist_ok=True)
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=out, prefix=".saving-") as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for path in sorted(Path(temporary).iterdir()):
            shutil.move(path, out / path.name)


def reset_peak_memory() -> None:
    """Count peak memory anew, where the system lets us."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak is of all so far
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Peak memory in bytes since ``reset_peak_memory``: of the GPU if any, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
