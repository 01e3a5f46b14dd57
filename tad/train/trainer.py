"""The trainer of this project's experiments: ``TADMixin`` on batches whose labels are shifted.

Batches hold ``input_ids`` and ``labels``, both (B, N), where ``labels[b, t]`` is the token that
position t predicts and -100 marks a position that counts for nothing.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Trainer

from tad.train import ranks
from tad.train.mixin import TADMixin

SPEED = ("_runtime", "_samples_per_second", "_steps_per_second")


class DistillationTrainer(TADMixin, Trainer):
    """TADMixin and the transformers ``Trainer``; ``vocab_size`` is what both models share."""

    def create_accelerator_and_postprocess(self) -> None:
        """The Trainer's, and FSDP2 on CPUs too."""
        super().create_accelerator_and_postprocess()
        ranks.shard_on_cpus(self.accelerator, self.args.fsdp_plugin_args)
        self.is_fsdp_enabled = getattr(self.accelerator.state, "fsdp_plugin", None) is not None

    def targets(self, inputs: dict[str, Any]) -> Tensor:
        """The labels as they are, (B, N)."""
        return inputs["labels"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs no times of evaluations, so that the history of a run is the same each time."""
        kept = {name: value for name, value in logs.items() if not name.endswith(SPEED)}
        super().log(kept, *args, **kwargs)
