"""Tail-aware distillation in a Trainer: yours, and that of this project's own experiments.

    class Trainer(TADMixin, transformers.Trainer): ...
    class Trainer(TADMixin, trl.SFTTrainer): ...
    Trainer(model=student, teacher=teacher, k=10, beta=2.0, args=args, train_dataset=data).train()

Shapes: B sequences, N tokens, H width of hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from tad.command import UserError
from tad.divergences import IGNORE, hidden_cosine
from tad.fused import Head, distillation_loss, token_losses
from tad.fused.head import post_processing
from tad.fused.states import InsteadOfLogits, instead_of_both_logits, instead_of_logits
from tad.methods import ROWS, Method, Scope
from tad.train import ranks
from tad.train.step_scale import StepScale, both_sums

NOT_FOR_MODELS = ("labels", "shift_labels", "teacher_states")
IGNORED_OPTIONS = {"label_smoothing_factor": (0, 0.0, None), "loss_type": ("nll", None)}
"""Options of a trainer that change a loss which this one replaces, and the values that do not."""


class TrainerError(UserError, ValueError):
    """A trainer that cannot distil as it is asked to; the message names the argument."""


class NonFiniteLossError(UserError, RuntimeError):
    """The loss became NaN or infinite; training stopped before the optimizer used it."""


class TADMixin:
    """Replaces the loss of a transformers `Trainer`, or of TRL's `SFTTrainer`, by CLM + divergence.

    Takes the arguments of the trainer that it is mixed into, and by name:

    `teacher`: a causal language model that has the student's tokens, or a folder or hub id of one
    (None is possible for a `method` without a divergence). It is frozen, put in evaluation mode
    and moved to the device, or sharded with the student (FSDP2). One that is already wrapped or
    sharded (FSDP, DeepSpeed) stays as it is. `method` is a name, id or row of `tad.methods`, whose
    parameters are arguments too (`k`, `beta`), or a function of your own with its `scope`, whose
    parameters are a dict `parameters`. The weights of a method (`vanilla_kd-w5`, `kd_only`)
    multiply `clm_weight` and `divergence_weight`. These, `temperature`, `vocab_size`,
    `memory_budget_mb`, `compiled`: as in `tad.fused.distillation_loss`. `hidden_cosine` adds
    1 - cosine of the last hidden states of both (Section 3.2.2). `per_document`: take beta(X) over
    the documents of a packed row, which begin where `position_ids` is 0, instead of over rows.

    A batch that has `teacher_states` (B, N, H), what the teacher gives to its output head
    (`tad.fused.last_states`), is not passed through the teacher.

    The labels are those of the Trainer: unshifted, -100 where a token is not to be learnt. CLM and
    divergence both count the positions whose next token has a label. Terms are normalised by the
    valid tokens of the whole optimizer step, over accumulated micro-batches and ranks, and logged
    as `clm`, `divergence`, `cosine` and `router` (a mixture of experts' own loss), in nats a
    token and before their weights, next to `loss`. Training stops with NonFiniteLossError before a
    step would use a loss that is NaN or infinite. Evaluation gives sums over all tokens by their
    number, whatever the batch size and the ranks: `eval_nll`, `eval_kl` (forward KL) and
    `eval_loss`, their sum (Eq. 1), which is the same measure for every method.

    Raises TrainerError for a teacher that is missing, not a causal language model or shares
    parameters with the student, an option of the trainer that this loss would ignore, and
    `nn.DataParallel`; HeadError for a model whose logits `tad.fused.Head` cannot give; MethodError.
    """

    # The Trainer would otherwise divide by the number of accumulated micro-batches once more.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        teacher: nn.Module | str | None,
        method: str | Method | Callable[..., Tensor] = "tad",
        parameters: dict[str, float] | None = None,
        scope: Scope = "sequence",
        temperature: float = 1.0,
        clm_weight: float = 1.0,
        divergence_weight: float = 1.0,
        hidden_cosine: bool = False,
        per_document: bool = False,
        vocab_size: int | None = None,
        memory_budget_mb: float = 256.0,
        compiled: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if not callable(method):
            known = {key for row in ROWS.values() for key in row.parameters}
            given = {key: kwargs.pop(key) for key in known & set(kwargs)}
            method, parameters = Method.of_loss(method, **(parameters or {}) | given), None
            clm_weight *= method.weights[0]
            divergence_weight *= method.weights[1]
        if kwargs.get("compute_loss_func") is not None:
            raise TrainerError("compute_loss_func: has no effect on this loss; leave it out")
        if hasattr(kwargs.get("model"), "_orig_mod"):
            raise TrainerError("model is compiled: pass it as it was, and args.torch_compile=True")
        super().__init__(*args, **kwargs)
        ranks.keep_float32(self.accelerator)
        for name, harmless in IGNORED_OPTIONS.items():
            if getattr(self.args, name, None) not in harmless:
                value = getattr(self.args, name)
                raise TrainerError(f"{name}={value!r}: has no effect on this loss; leave it out")
        if self.args.n_gpu > 1:
            raise TrainerError(f"{self.args.n_gpu} GPUs in one process: start one process per GPU")
        self.method = method
        self.hidden_cosine = hidden_cosine and self._needs_teacher
        self.per_document = per_document
        self.vocab_size = vocab_size
        self.weights = {"clm": clm_weight, "divergence": divergence_weight}
        self.loss_options = {
            # Without its weights, which are in those below.
            "method": method if callable(method) else replace(method, shared_values=()),
            "scope": scope,
            "temperature": temperature,
            "clm_weight": clm_weight,
            "divergence_weight": divergence_weight,
            "memory_budget_mb": memory_budget_mb,
            "compiled": compiled,
            **(parameters or {}),
        }
        _check_head(self.model, "student")
        self.teacher = self.prepare_teacher(teacher)
        self._scale = None
        if isinstance(method, Method) and method.matched_to is not None:
            add = partial(self.accelerator.reduce, reduction="sum")
            self._scale = StepScale(method, self._both_sums, add, self.args.world_size)
        self._sums: dict[str, Tensor] = {}
        self.add_callback(_StopIfNotFinite(self))

    @property
    def _needs_teacher(self) -> bool:
        """Whether training, and not only evaluation, runs the teacher."""
        return not isinstance(self.method, Method) or self.method.row.needs_teacher

    def prepare_teacher(self, teacher: nn.Module | str | None) -> nn.Module | None:
        """Freeze the teacher and bring it where the student is; override for other engines."""
        if teacher is None:
            if self._needs_teacher:
                raise TrainerError(f"teacher is None: method {self.method} needs one")
            return None
        if isinstance(teacher, str):
            from tad.models.loading import load_model

            teacher = load_model(teacher, training=False)
        _check_head(teacher, "teacher")
        own = {id(parameter) for parameter in self.model.parameters()}
        if any(id(parameter) in own for parameter in teacher.parameters()):
            raise TrainerError("teacher shares parameters with the student: pass a copy of its own")
        if self.hidden_cosine:
            _check_widths(self.model.config, teacher.config)
        teacher.requires_grad_(False).eval()
        placed = hasattr(teacher, "hf_device_map") or hasattr(teacher, "_hf_hook")
        if placed or self.accelerator.unwrap_model(teacher) is not teacher:
            return teacher
        if self.accelerator.is_fsdp2:
            return ranks.shard_frozen(teacher, self.accelerator)
        return self.accelerator.prepare_model(teacher, device_placement=True, evaluation_mode=True)

    def targets(self, inputs: dict[str, Any]) -> Tensor:
        """The token that each position predicts, (B, N); -100 where there is none to learn."""
        if "shift_labels" in inputs:
            targets = inputs["shift_labels"]
        elif "labels" in inputs:
            targets = F.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORE)
        else:
            raise TrainerError(
                f"a batch has no labels (it has {', '.join(inputs)}): use a collator that gives "
                "them, DataCollatorForLanguageModeling(tokenizer, mlm=False) for example"
            )
        mask = inputs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.shape == targets.shape:
            # With padding on the left, the last pad would otherwise predict the first token.
            targets = targets.masked_fill(mask == 0, IGNORE)
        return targets

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The micro-batches of one optimizer step, and how many positions of theirs count."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._scale is not None:
            self._scale.begin(batches)
        count = sum(((self.targets(x) != IGNORE).sum() for x in batches), torch.tensor(0))
        if self.args.average_tokens_across_devices:
            return batches, self.accelerator.reduce(count.to(device), reduction="sum")
        return batches, count.to(device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Loss of a micro-batch by the valid tokens of its step (by default its own)."""
        targets = self.targets(inputs)
        valid = (targets != IGNORE).sum()
        items = valid if num_items_in_batch is None else num_items_in_batch
        # At least 1: a step without a valid token has the loss 0, with a graph, on every rank.
        items = torch.as_tensor(items, device=targets.device).clamp(min=1)
        terms = self.loss_terms(model, inputs, targets, items)
        weights = {name: self.weights.get(name, 1.0) for name in terms}
        loss = sum(weight * terms[name] for name, weight in weights.items() if weight)
        if model.training:
            for name, value in (terms | {"loss": loss}).items():
                self._sums[name] = self._sums.get(name, 0) + value.detach() * items
            self._sums["tokens"] = self._sums.get("tokens", 0) + valid
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # The items are those of all ranks, and the gradients are averaged over the ranks.
            loss = loss * self.accelerator.num_processes
        if not return_outputs:
            return loss
        with torch.no_grad():
            return loss, model(**_forward(inputs))

    def loss_terms(
        self, model: nn.Module, inputs: dict[str, Any], targets: Tensor, items: Tensor
    ) -> dict[str, Tensor]:
        """The terms of the loss of a micro-batch by name, before ``weights``, by ``items``."""
        mask = targets != IGNORE
        options = self._options(inputs)

        def losses(
            states: Tensor, head: Head, other: Tensor | None, other_head: Head | None
        ) -> dict[str, Tensor]:
            given = states, head, other, other_head, targets, mask
            scale = 1.0 if self._scale is None else float(self._scale.of(given, options))
            changed = {"clm_items": items, "divergence_items": items}
            changed["divergence_weight"] = scale * options["divergence_weight"]
            found = distillation_loss(*given, **options | changed)
            terms = {"clm": found.clm}
            if other is not None:
                terms["divergence"] = scale * found.divergence
            if self.hidden_cosine:
                terms["cosine"] = hidden_cosine(states, other, mask).sum() / items
            return terms

        found = self._instead_of_logits(model, inputs, losses, self._needs_teacher)
        return self.with_router(found, mask, items)

    @staticmethod
    def with_router(found: InsteadOfLogits, mask: Tensor, items: Tensor) -> dict[str, Tensor]:
        """The terms, and a mixture of experts' own loss by the share of the step's tokens."""
        terms, extra = found
        return terms if extra is None else terms | {"router": extra * (mask.sum() / items)}

    def _options(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The options of the loss for a batch."""
        options = dict(self.loss_options)
        if self.per_document:
            options["segment_ids"] = _documents(inputs)
        if self._needs_teacher:
            options["vocab_size"] = self.vocab_size
        return options

    @torch.no_grad()
    def _both_sums(self, inputs: dict[str, Any]) -> Tensor:
        """What ``StepScale`` asks of a micro-batch before the step."""
        inputs = self._prepare_inputs(inputs)
        targets, options = self.targets(inputs), self._options(inputs)
        states = targets, targets != IGNORE

        def sums(*given: Any) -> Tensor:
            return both_sums(self.method, (*given, *states), options)

        return self._instead_of_logits(self.model_wrapped, inputs, sums, True).value

    def _instead_of_logits(
        self, model: nn.Module, inputs: dict[str, Any], function: Callable, with_teacher: bool
    ) -> InsteadOfLogits:
        teacher = self._with_inner(self.teacher) if with_teacher else None
        student = self._with_inner(model)
        if teacher is not None and "teacher_states" in inputs:
            known = inputs["teacher_states"], Head.of(teacher[1])
            return instead_of_logits(
                *student, _forward(inputs), lambda *own: function(*own, *known)
            )
        return instead_of_both_logits(student, teacher, _forward(inputs), function)

    def _with_inner(self, wrapper: nn.Module) -> tuple[nn.Module, nn.Module]:
        """A model as it is called, and the causal language model in it."""
        return wrapper, self.accelerator.unwrap_model(wrapper, keep_torch_compile=False)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds every loss term, in nats a token over the steps since the last log, to its loss.

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
        super().log(logs, *args, **kwargs)

    # --- Evaluation --------------------------------------------------------------------------

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The Trainer's, with losses per token; logits only where metrics of them are asked for."""
        output = EvalLoopOutput(None, None, {}, 0)
        if prediction_loss_only is None:
            prediction_loss_only = self.args.prediction_loss_only
        if not prediction_loss_only:
            output = super().evaluation_loop(
                dataloader, description, False, ignore_keys, metric_key_prefix
            )
        metrics, sequences = self._held_out(dataloader, metric_key_prefix)
        return output._replace(metrics=output.metrics | metrics, num_samples=sequences)

    @torch.no_grad()
    def _held_out(self, dataloader: Any, prefix: str) -> tuple[dict[str, float], int]:
        """Means per valid token of NLL and, with a teacher, of KL and their sum; and sequences."""
        model = self.model_wrapped if self.is_in_train else self.model
        training, sums, sequences = model.training, 0.0, 0
        model.eval()
        self.callback_handler.eval_dataloader = dataloader
        for batch in dataloader:
            rows = self._token_sums(model, self._prepare_inputs(batch))
            # Rows that fill up the last batch of a rank are those of others: they are taken out.
            rows = self.accelerator.gather_for_metrics(rows)
            sums, sequences = sums + rows.sum(0), sequences + len(rows)
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )
        model.train(training)
        count, nll, kl = sums.tolist() if sequences else (0.0, 0.0, 0.0)
        if not count:
            raise TrainerError("the evaluation set has no valid token; check its labels")
        metrics = {f"{prefix}_nll": nll / count}
        if self.teacher is not None:
            metrics[f"{prefix}_kl"] = kl / count
        metrics[f"{prefix}_loss"] = (nll + kl) / count
        return metrics, sequences

    def _token_sums(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """(B, 3): valid tokens, sum of NLL and sum of KL of each sequence."""
        targets = self.targets(inputs)
        mask, budget = targets != IGNORE, self.loss_options["memory_budget_mb"]

        def losses(
            states: Tensor, head: Head, other: Tensor | None, other_head: Head | None
        ) -> list[Tensor]:
            given = states, head, other, other_head, targets, mask
            if other is None:
                return list(token_losses(*given, method="clm", memory_budget_mb=budget))
            both = {"vocab_size": self.vocab_size, "memory_budget_mb": budget}
            nll, kl = token_losses(*given, method="vanilla_kd", **both)
            if self.vocab_size not in (None, len(head.weight)):
                nll, _ = token_losses(*given, method="clm", memory_budget_mb=budget)
            return [nll, kl]

        found, _ = self._instead_of_logits(model, inputs, losses, self.teacher is not None)
        return torch.stack([x.double().sum(-1) for x in (mask, *found)], dim=1)

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


def _check_head(model: nn.Module, whose: str) -> None:
    if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
        raise TrainerError(
            f"{whose} is {type(model).__name__}, which has no output head: load it with "
            "AutoModelForCausalLM"
        )
    post_processing(model)


def _check_widths(student: Any, teacher: Any) -> None:
    if student.hidden_size != teacher.hidden_size:
        raise TrainerError(
            f"the cosine term compares hidden states of one width; the student has "
            f"{student.hidden_size}, the teacher {teacher.hidden_size}: set hidden_cosine: false"
        )


def _forward(inputs: dict[str, Any]) -> dict[str, Any]:
    """What the models are called with."""
    kept = {name: x for name, x in inputs.items() if name not in NOT_FOR_MODELS}
    return kept | {"use_cache": False}


def _documents(inputs: dict[str, Any]) -> Tensor:
    """Number of the document of each position in packed rows, (B, N)."""
    if "position_ids" not in inputs:
        raise TrainerError(
            "per_document needs position_ids that begin at 0 with each document: use a collator "
            "that gives them (DataCollatorWithFlattening, or padding_free in TRL)"
        )
    return (inputs["position_ids"] == 0).cumsum(-1)


class _StopIfNotFinite(TrainerCallback):
    """Raises before the optimizer would put a NaN into the weights, on all ranks at once."""

    def __init__(self, trainer: TADMixin) -> None:
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
