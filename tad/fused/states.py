"""A function of a model's last hidden states, computed inside the model's own forward.

The fused losses need the states that the output head would be given, and the head. Taken there,
DDP, FSDP and DeepSpeed see an ordinary forward. B sequences, N tokens, H width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tad.fused.head import Head


def instead_of_logits(
    wrapper: nn.Module,
    model: nn.Module,
    inputs: dict[str, Any],
    function: Callable[[Tensor, Head], Any],
) -> Any:
    """Run `wrapper(**inputs)` and return function(last hidden states, head) instead of logits.

    The function is called where `model`, the causal language model inside `wrapper`, would
    multiply the states (B, N, H) by its head, with exactly those states. So it runs inside the
    forward of DDP, FSDP or DeepSpeed: their hooks see it, and sharded weights are gathered.
    Calling parts of the unwrapped model instead leaves DDP's gradients unaveraged.
    """
    head = model.get_output_embeddings()
    forward = model.forward
    results = []

    def head_forward(states: Tensor) -> Tensor:
        results.append(function(states, Head.of(model)))
        return states[..., :1]  # whatever the model still does to its logits, it does to this

    def model_forward(*args: Any, **kwargs: Any) -> Any:
        with _replaced(model, "forward", forward), _replaced(head, "forward", head_forward):
            forward(*args, **kwargs)
        return results.pop()

    with _replaced(model, "forward", model_forward):
        return wrapper(**inputs)


def instead_of_both_logits(
    student: tuple[nn.Module, nn.Module],
    teacher: tuple[nn.Module, nn.Module] | None,
    inputs: dict[str, Any],
    function: Callable[[Tensor, Head, Tensor | None, Head | None], Any],
    teacher_inputs: dict[str, Any] | None = None,
) -> Any:
    """function(student states, its head, teacher states, its head), inside both forwards.

    ``student`` and ``teacher`` are (wrapper, model inside it). The teacher runs without gradient;
    without a teacher, the function gets None for its states and head. ``teacher_inputs`` are the
    teacher's, where they differ.
    """
    enabled = torch.is_grad_enabled()

    def with_student(states: Tensor, head: Head) -> Any:
        if teacher is None:
            return function(states, head, None, None)

        def with_teacher(teacher_states: Tensor, teacher_head: Head) -> Any:
            with torch.set_grad_enabled(enabled):
                return function(states, head, teacher_states, teacher_head)

        with torch.no_grad():
            return instead_of_logits(*teacher, teacher_inputs or inputs, with_teacher)

    return instead_of_logits(*student, inputs, with_student)


@contextmanager
def _replaced(module: nn.Module, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Set an attribute of this instance for a while."""
    before = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)
