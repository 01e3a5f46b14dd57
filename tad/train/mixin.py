"""Tail-aware distillation in a Trainer that you already have.

    class Trainer(TADMixin, transformers.Trainer): ...
    class Trainer(TADMixin, trl.SFTTrainer): ...
    Trainer(model=student, teacher=teacher, k=10, beta=2.0, args=args, train_dataset=data).train()

`tad.train.trainer` is the trainer of this suite; this is for other people's. Shapes: B sequences,
N tokens, H width of hidden states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tad.divergences import IGNORE
from tad.fused import LossTerms, distillation_loss
from tad.fused.states import instead_of_both_logits


class TADMixin:
    """Replaces the loss of a transformers `Trainer`, or of TRL's `SFTTrainer`, by CLM + divergence.

    Takes the arguments of the trainer that it is mixed into, and by name:

    `teacher`: a causal language model that has the student's tokens. It is frozen, put in
    evaluation mode and moved to the device. One that is already wrapped or sharded (FSDP,
    DeepSpeed) stays as it is. `method`, `k`, `beta`, `temperature`, `clm_weight`,
    `divergence_weight`, `vocab_size`, `memory_budget_mb`: as in `tad.fused.loss.distillation_loss`.
    `per_document`: take beta(X) over the documents of a packed row, which begin where
    `position_ids` is 0, instead of over rows.

    The labels are those of the Trainer: unshifted, -100 where a token is not to be learnt. CLM and
    divergence both count the positions whose next token has a label. They are normalised by the
    valid tokens of the whole optimizer step, over accumulated micro-batches and ranks, and logged
    as `clm` and `divergence`, in nats a token, next to `loss`.

    Raises ValueError for a missing teacher, one that shares parameters with the student, or a
    trainer that replicates the model over several GPUs in one process (`nn.DataParallel`).
    """

    # The Trainer would otherwise divide by the number of accumulated micro-batches once more.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        teacher: nn.Module,
        method: str = "tad",
        k: int = 10,
        beta: float = 2.0,
        temperature: float = 1.0,
        clm_weight: float = 1.0,
        divergence_weight: float = 1.0,
        per_document: bool = False,
        vocab_size: int | None = None,
        memory_budget_mb: float = 256.0,
        **kwargs: Any,
    ) -> None:
        if method not in METHODS or method == "clm":
            known = ", ".join(name for name in METHODS if name != "clm")
            raise ValueError(f"method is {method!r}: choose one of {known}")
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(f"{self.args.n_gpu} GPUs in one process: start one process per GPU")
        self.teacher = self.prepare_teacher(teacher)
        self.per_document = per_document
        self.loss_options = {
            "method": method,
            "k": k,
            "beta": beta,
            "temperature": temperature,
            "clm_weight": clm_weight,
            "divergence_weight": divergence_weight,
            "vocab_size": vocab_size,
            "memory_budget_mb": memory_budget_mb,
        }
        self._sums: dict[str, dict[str, Tensor]] = {"train": {}, "eval": {}}

    def prepare_teacher(self, teacher: nn.Module) -> nn.Module:
        """Freeze the teacher and bring it where the student is; override for other engines."""
        own = {id(parameter) for parameter in self.model.parameters()}
        if any(id(parameter) in own for parameter in teacher.parameters()):
            raise ValueError("teacher shares parameters with the student: pass a copy of its own")
        teacher.requires_grad_(False).eval()
        if self.accelerator.unwrap_model(teacher) is not teacher:
            return teacher
        return self.accelerator.prepare_model(teacher, device_placement=True, evaluation_mode=True)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The micro-batches of one optimizer step, and how many positions of theirs count."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = sum(((_targets(x) != IGNORE).sum() for x in batches), torch.tensor(0)).to(device)
        if self.args.average_tokens_across_devices:
            count = self.accelerator.reduce(count, reduction="sum")
        return batches, count

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Loss of a micro-batch by the valid tokens of its step (by default its own)."""
        forward = {name: x for name, x in inputs.items() if name not in ("labels", "shift_labels")}
        forward["use_cache"] = False
        targets = _targets(inputs)
        segments = _documents(inputs) if self.per_document else None
        items = (targets != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch

        def losses(*states_and_heads: Any) -> LossTerms:
            return distillation_loss(
                *states_and_heads,
                targets,
                targets != IGNORE,
                segment_ids=segments,
                clm_items=items,
                divergence_items=items,
                **self.loss_options,
            )

        unwrap = self.accelerator.unwrap_model
        pair = (model, unwrap(model)), (self.teacher, unwrap(self.teacher))
        terms = instead_of_both_logits(*pair, forward, losses)
        self._remember(terms)
        loss = terms.total
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # The items are those of all ranks, and the gradients are averaged over the ranks.
            loss = loss * self.accelerator.num_processes
        if not return_outputs:
            return loss
        with torch.no_grad():
            return loss, model(**forward)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Loss per valid token of an evaluation batch; logits (B, N, V) only where asked for."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            if prediction_loss_only:
                return self.compute_loss(model, inputs).detach(), None, None
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss.detach(), outputs.logits, inputs.get("labels")

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the terms, in nats a token, to a log of training or evaluation losses."""
        evaluated = [x.removesuffix("loss") for x in logs if x.endswith("_loss")]
        prefixes = {"train": [""] if "loss" in logs else []}
        prefixes["eval"] = [prefix for prefix in evaluated if prefix != "train_"]
        for mode, found in prefixes.items():
            if not found or not self._sums[mode]:
                continue
            sums = {k: self.accelerator.reduce(v, "sum") for k, v in self._sums[mode].items()}
            self._sums[mode] = {}
            for name in ("clm", "divergence"):
                count = max(int(sums[f"{name}_count"]), 1)
                logs[f"{found[0]}{name}"] = sums[f"{name}_sum"].item() / count
        super().log(logs, *args, **kwargs)

    def _remember(self, terms: LossTerms) -> None:
        """Add up the terms since the last log, without waiting for the device."""
        sums = self._sums["train" if self.model.training else "eval"]
        for name in ("clm_sum", "divergence_sum", "clm_count", "divergence_count"):
            value = getattr(terms, name).detach()
            sums[name] = sums[name] + value if name in sums else value


def _targets(inputs: dict[str, Any]) -> Tensor:
    """The token that each position predicts, (B, N); -100 where there is none to learn."""
    if "shift_labels" in inputs:
        targets = inputs["shift_labels"]
    else:
        targets = F.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORE)
    mask = inputs.get("attention_mask")
    if mask is not None and mask.shape == targets.shape:
        # With padding on the left, the last pad would otherwise predict the first token.
        targets = targets.masked_fill(mask == 0, IGNORE)
    return targets


def _documents(inputs: dict[str, Any]) -> Tensor:
    """Number of the document of each position in packed rows, (B, N)."""
    if "position_ids" not in inputs:
        raise ValueError(
            "per_document needs position_ids that begin at 0 with each document: use a collator "
            "that gives them (DataCollatorWithFlattening, or padding_free in TRL)"
        )
    return (inputs["position_ids"] == 0).cumsum(-1)
