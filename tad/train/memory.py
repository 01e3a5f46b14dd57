"""What a training step allocates: the most that is held at once beyond what was held before it.

The memory of the process says little about a method: on small models most of it is libraries.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

MEASURED_STEP = 2
"""Of those that a process makes: the first one also makes the optimizer's state."""


class StepMemory(TrainerCallback):
    """Measures one step, forward to update, of this rank; ``peak`` is in bytes, None before it.

    On a GPU by torch's own statistics, on a CPU by the allocations that its profiler reports. What
    is computed stays the same; the step takes longer on a CPU.
    """

    def __init__(self) -> None:
        self.peak: int | None = None
        self.peak_before = 0
        """The GPU's peak until the measured step, whose statistics begin anew."""
        self._steps = 0
        self._profile: torch.profiler.profile | None = None
        self._held = 0

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._steps += 1
        if self._steps != MEASURED_STEP:
            return
        if args.device.type == "cuda":
            self.peak_before = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self._held = torch.cuda.memory_allocated()
        else:
            kinds = [torch.profiler.ProfilerActivity.CPU]
            self._profile = torch.profiler.profile(activities=kinds, profile_memory=True)
            self._profile.start()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if self._steps != MEASURED_STEP or self.peak is not None:
            return
        if self._profile is None:
            self.peak = torch.cuda.max_memory_allocated() - self._held
            return
        self._profile.stop()
        self.peak = peak_of(self._profile)
        self._profile = None


def peak_of(profile: torch.profiler.profile) -> int:
    """The most bytes held at once beyond those at the start, of a finished CPU profile."""
    events = profile.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda each: each[0]):
        held += change
        peak = max(peak, held)
    return peak
