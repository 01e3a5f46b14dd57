"""Distillation on top of the transformers ``Trainer``: Eq. 1 and Eq. 4 for every logit method.

The Trainer keeps the loop, accumulation, checkpoints, DDP and FSDP; this file says what is
optimised and what is logged. Batches hold ``input_ids`` and ``labels``, both (B, N), where
``labels[b, t]`` is the token that position t predicts and -100 marks a position that counts for
nothing. B sequences, N tokens, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tad import divergences
from tad.command import UserError
from tad.divergences import IGNORE
from tad.fused import Head, distillation_loss
from tad.fused.states import instead_of_both_logits
from tad.methods import Method

DKD_BETA = 8.0
"""Weight of the non-target term in Zhao et al. (2022)."""


class NonFiniteLossError(UserError, RuntimeError):
    """The loss became NaN or infinite; training stopped before the optimizer used it."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised: CLM + divergence (+ cosine of last hidden states, Section 3.2.2).

    ``method`` is one of LOGIT_METHODS; ``clm`` leaves the divergence out. Raises ValueError for
    other methods, and for a temperature that is not positive.
    """

    method: Method
    temperature: float = 1.0
    hidden_cosine: bool = False

    def __post_init__(self) -> None:
        if self.method.name not in LOGIT_METHODS:
            raise ValueError(
                f"method {self.method} has no loss on logits (those have: "
                f"{', '.join(LOGIT_METHODS)})"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature {self.temperature} must be positive")

    @property
    def needs_teacher(self) -> bool:
        """Whether training, and not only evaluation, runs the teacher."""
        return self.method.name != "clm"

    def divergence(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Divergence of each token, logits (B, N, V) -> (B, N), in nats; 0 where masked."""
        mask, kwargs = labels != IGNORE, {"temperature": self.temperature}
        if self.method.name == "vanilla_kd":
            return divergences.forward_kl(student, teacher, mask=mask, **kwargs)
        if self.method.name == "rkl":
            return divergences.reverse_kl(student, teacher, mask=mask, **kwargs)
        if self.method.name == "dkd":
            return divergences.decoupled(student, teacher, labels, mask=mask, **kwargs)
        k, beta = self.method["k"], self.method.beta
        return divergences.tail_aware(student, teacher, k=k, beta=beta, mask=mask, **kwargs)


class DistillationTrainer(Trainer):
    """A Trainer whose loss is an ``Objective`` against a frozen ``teacher``.

    Every term is a sum over valid tokens divided by the number of valid tokens of the whole
    optimizer step, over all accumulated micro-batches and all ranks; a step of 4 x 8 sequences is
    the step of 1 x 32. ``shared_vocabulary`` is the number of leading token ids that both models
    mean the same by (by default the smaller vocabulary); logits beyond it are left out. ``fused``
    takes the losses of ``tad.fused.loss``, which never hold a (B, N, V) tensor, instead of those of
    ``tad.divergences``; the values are the same. Takes all arguments of ``transformers.Trainer``
    besides; raises ValueError if a teacher is needed and missing, or the widths do not allow the
    cosine term.
    """

    # The loss is already divided by the tokens of all accumulated micro-batches; without this the
    # Trainer would divide by the number of micro-batches again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        objective: Objective,
        teacher: PreTrainedModel | None = None,
        shared_vocabulary: int | None = None,
        fused: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if teacher is None and objective.needs_teacher:
            raise ValueError(f"method {objective.method} needs a teacher")
        self.objective = objective
        self.shared_vocabulary = shared_vocabulary
        self.fused = fused
        self.teacher = None
        if teacher is not None:
            if objective.hidden_cosine:
                _check_widths(self.model.config, teacher.config)
            teacher.requires_grad_(False)
            self.teacher = self.accelerator.prepare_model(teacher.eval(), evaluation_mode=True)
        self._sums: dict[str, Tensor] = {}
        self.add_callback(_StopIfNotFinite(self))

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The micro-batches of one step and their number of valid tokens over all ranks.

        Counted here because the Trainer counts ``labels[:, 1:]``, and ours are already shifted.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        valid = sum(((batch["labels"] != IGNORE).sum() for batch in batches), torch.tensor(0))
        return batches, self.accelerator.reduce(valid.to(device), reduction="sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean objective over ``num_items_in_batch`` tokens (by default those of this batch)."""
        labels = inputs["labels"]
        forward = {name: value for name, value in inputs.items() if name != "labels"}
        forward["use_cache"] = False
        count = (labels != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch
        # max(1): a step without a valid token has the loss 0, with a graph, on every rank.
        count = max(int(count), 1)
        terms = (self._fused_terms if self.fused else self._terms)(model, forward, labels, count)
        loss = sum(terms.values())
        for name, value in (terms | {"loss": loss}).items():
            self._sums[name] = self._sums.get(name, 0) + value.detach() * count
        self._sums["tokens"] = self._sums.get("tokens", 0) + (labels != IGNORE).sum()
        # DDP and FSDP average the ranks' gradients, and count is the sum over ranks.
        loss = loss * self.accelerator.num_processes
        return (loss, model(**forward)) if return_outputs else loss

    @property
    def _with_cosine(self) -> bool:
        return self.objective.hidden_cosine and self.objective.needs_teacher

    def _terms(
        self, model: nn.Module, forward: dict[str, Any], labels: Tensor, count: int
    ) -> dict[str, Tensor]:
        """Sums over the valid tokens of this micro-batch by ``count``, by name, in nats."""
        forward = forward | {"output_hidden_states": self._with_cosine}
        student = model(**forward)
        if not self.objective.needs_teacher:
            return {"clm": divergences.causal_lm(student.logits, labels).sum() / count}
        with torch.no_grad():
            teacher = self.teacher(**forward)
        student_logits, teacher_logits = self._shared(student.logits, teacher.logits)
        divergence = self.objective.divergence(student_logits, teacher_logits, labels)
        terms = {
            "clm": divergences.causal_lm(student_logits, labels).sum() / count,
            "divergence": divergence.sum() / count,
        }
        if self._with_cosine:
            states = student.hidden_states[-1], teacher.hidden_states[-1]
            terms["cosine"] = divergences.hidden_cosine(*states, labels != IGNORE).sum() / count
        return terms

    def _fused_terms(
        self, model: nn.Module, forward: dict[str, Any], labels: Tensor, count: int
    ) -> dict[str, Tensor]:
        """The same from last hidden states, a chunk of logits at a time."""
        method, tad = self.objective.method, self.objective.method.name == "tad"

        def losses(
            states: Tensor, head: Head, other: Tensor | None, other_head: Head | None
        ) -> dict[str, Tensor]:
            vocabulary = None
            if other_head is not None:
                sizes = len(head.weight), len(other_head.weight)
                vocabulary = self.shared_vocabulary or min(sizes)
            terms = distillation_loss(
                *(states, head, other, other_head, labels, labels != IGNORE),
                method=method.name,
                k=method["k"] if tad else 1,
                beta=method.beta if tad else DKD_BETA,
                temperature=self.objective.temperature,
                clm_items=count,
                divergence_items=count,
                vocab_size=vocabulary,
            )
            found = {"clm": terms.clm}
            if other is not None:
                found["divergence"] = terms.divergence
            if self._with_cosine:
                cosine = divergences.hidden_cosine(states, other, labels != IGNORE)
                found["cosine"] = cosine.sum() / count
            return found

        unwrap = self.accelerator.unwrap_model
        teacher = None
        if self.objective.needs_teacher:
            teacher = self.teacher, unwrap(self.teacher)
        return instead_of_both_logits((model, unwrap(model)), teacher, forward, losses)

    def _shared(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        size = self.shared_vocabulary or min(student.shape[-1], teacher.shape[-1])
        return student[..., :size], teacher[..., :size]

    @torch.no_grad()
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Held-out means in nats a token: ``nll``, and with a teacher ``kl`` and their sum.

        ``loss`` is Eq. 1 (CLM + KL) for every method, so that methods can be compared by it.
        """
        model = self.model_wrapped if self.is_in_train else self.model
        training = model.training
        model.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        for batch in self.get_eval_dataloader(eval_dataset):
            batch = self._prepare_inputs(batch)
            sums += self.accelerator.gather_for_metrics(self._held_out(model, batch)).sum(0)
        model.train(training)
        count, nll, kl = sums.tolist()
        if not count:
            raise ValueError("the evaluation set has no valid token; check its labels")
        metrics = {f"{metric_key_prefix}_nll": nll / count}
        if self.teacher is not None:
            metrics[f"{metric_key_prefix}_kl"] = kl / count
        metrics[f"{metric_key_prefix}_loss"] = (nll + kl) / count
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _held_out(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """(B, 3): valid tokens, sum of NLL and sum of KL of each sequence."""
        labels = batch["labels"]
        forward = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**forward, use_cache=False).logits
        columns = [(labels != IGNORE).sum(-1), divergences.causal_lm(logits, labels).sum(-1)]
        if self.teacher is None:
            columns.append(torch.zeros_like(columns[1]))
        else:
            pair = self._shared(logits, self.teacher(**forward, use_cache=False).logits)
            columns.append(divergences.forward_kl(*pair, mask=labels != IGNORE).sum(-1))
        return torch.stack([column.double() for column in columns], dim=1)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log every loss term, in nats a token over the steps since the last log, beside the rest.

        The Trainer's own ``loss`` is the sum of micro-batch losses, which is the same number only
        where all steps have equally many tokens.
        """
        if "loss" in logs and self._sums:
            names = sorted(self._sums)
            values = torch.stack([self._sums[name].double() for name in names])
            totals = dict(zip(names, self.accelerator.reduce(values).tolist(), strict=True))
            tokens = max(totals.pop("tokens"), 1)
            logs |= {name: total / tokens for name, total in totals.items()}
            self._sums = {}
        super().log(logs, start_time)


def _check_widths(student: Any, teacher: Any) -> None:
    if student.hidden_size != teacher.hidden_size:
        raise ValueError(
            f"the cosine term compares hidden states of one width; the student has "
            f"{student.hidden_size}, the teacher {teacher.hidden_size}: set hidden_cosine: false"
        )


class _StopIfNotFinite(TrainerCallback):
    """Raises before the optimizer would put a NaN into the weights, on all ranks at once."""

    def __init__(self, trainer: DistillationTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        sums = self.trainer._sums
        # One number per step leaves the device; NaN and infinity survive every sum since the log.
        loss = self.trainer.accelerator.reduce(sums["loss"], reduction="sum").item()
        if not math.isfinite(loss):
            terms = ", ".join(f"{k}={v.item():g}" for k, v in sums.items() if k != "tokens")
            raise NonFiniteLossError(
                f"the loss is not finite at step {state.global_step + 1} (sums: {terms}); the "
                f"last checkpoint in {args.output_dir} is kept. Lower learning_rate, or beta"
            )
