"""A function of a model's last hidden states, computed inside the model's own forward.

The fused losses need the states that the output head would be given, and the head. Taken there,
DDP, FSDP and DeepSpeed see an ordinary forward. B sequences, N tokens, H width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tad.fused.head import Head, inner_forward, post_processing, replaced_forward


class InsteadOfLogits(NamedTuple):
    """What a forward gave: the function's value, and the model's own extra loss (experts' router).

    ``extra_loss`` is weighted as the model weights it; None where there is none.
    """

    value: Any
    extra_loss: Tensor | None


def last_states(model: nn.Module, **inputs: Any) -> tuple[Tensor, Head]:
    """The states (B, N, H) that a model puts into its output head, and that head.

    Some models scale or normalise states before their head, so ``model.model(x)`` is not the same.
    Raises HeadError as ``Head.of``.
    """
    return instead_of_logits(model, model, inputs, lambda states, head: (states, head)).value


def instead_of_logits(
    wrapper: nn.Module,
    model: nn.Module,
    inputs: dict[str, Any],
    function: Callable[[Tensor, Head], Any],
) -> InsteadOfLogits:
    """Run `wrapper(**inputs)` and return function(last hidden states, head) instead of logits.

    The function is called where `model`, the causal language model inside `wrapper`, would
    multiply the states (B, N, H) by its head, with exactly those states. So it runs inside the
    forward of DDP, FSDP or DeepSpeed: their hooks see it, and sharded weights are gathered.
    Calling parts of the unwrapped model instead leaves DDP's gradients unaveraged.
    """
    post_processing(model)  # before anything is replaced: it may have to run the model
    head = model.get_output_embeddings()
    forward = inner_forward(model)
    results: list[Any] = []

    @torch.compiler.disable
    def head_forward(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        results.append(function(*Head.with_states(model, states)))
        # Whatever the model still does to its logits, it does to this. FSDP2 warns of views.
        return states[..., :1].clone()

    # Dynamo must not trace into this, or it would follow the replacements into the teacher.
    @torch.compiler.disable
    def model_forward(*args: Any, **kwargs: Any) -> InsteadOfLogits:
        with replaced_forward(model, forward), replaced_forward(head, head_forward):
            outputs = forward(*args, **kwargs)
        return InsteadOfLogits(results.pop(), _extra_loss(model, outputs))

    with replaced_forward(model, model_forward):
        return wrapper(**inputs)


def _extra_loss(model: nn.Module, outputs: Any) -> Tensor | None:
    """The router loss of a mixture of experts, if its configuration asks for it."""
    loss = getattr(outputs, "aux_loss", None)
    if not isinstance(loss, Tensor):
        return None
    coefficient = getattr(model.config.get_text_config(), "router_aux_loss_coef", None)
    return loss if coefficient is None else coefficient * loss


def instead_of_both_logits(
    student: tuple[nn.Module, nn.Module],
    teacher: tuple[nn.Module, nn.Module] | None,
    inputs: dict[str, Any],
    function: Callable[[Tensor, Head, Tensor | None, Head | None], Any],
    teacher_inputs: dict[str, Any] | None = None,
) -> InsteadOfLogits:
    """function(student states, its head, teacher states, its head), inside both forwards.

    ``student`` and ``teacher`` are (wrapper, model inside it). The teacher runs without gradient;
    without a teacher, the function gets None for its states and head. ``teacher_inputs`` are the
    teacher's, where they differ. The extra loss is the student's.
    """
    enabled = torch.is_grad_enabled()

    def with_student(states: Tensor, head: Head) -> Any:
        if teacher is None:
            return function(states, head, None, None)

        def with_teacher(teacher_states: Tensor, teacher_head: Head) -> Any:
            with torch.set_grad_enabled(enabled):
                return function(states, head, teacher_states, teacher_head)

        with torch.no_grad():
            return instead_of_logits(*teacher, teacher_inputs or inputs, with_teacher).value

    return instead_of_logits(*student, inputs, with_student)
