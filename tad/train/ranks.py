"""One training on several ranks (processes of torchrun, one a GPU), sharded over them or not.

The batch of a step is the same on any number of ranks, and so are the numbers, to rounding. With
``sharding: fsdp`` (FSDP2, by accelerate) each rank keeps a part of every weight, gradient and
optimizer state, and gathers a layer while it runs.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedType,
    FullyShardedDataParallelPlugin,
    broadcast_object_list,
)
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import Trainer

from tad.command import UserError

T = TypeVar("T")


class RanksError(UserError, ValueError):
    """A number of ranks that a training cannot have; the message names the numbers that it can."""


def count() -> int:
    """How many ranks torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the rank that writes files."""
    return int(os.environ.get("RANK", "0")) == 0


def on_cpus() -> bool:
    """Whether torchrun has started ranks on CPUs, which accelerate has to be told."""
    return "LOCAL_RANK" in os.environ and not torch.cuda.is_available()


def join() -> None:
    """Meet the other ranks, if there are any; only the first one logs from here on.

    Raises RanksError for more ranks than GPUs on this machine.
    """
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > gpus > 0:
        raise RanksError(
            f"{here} ranks on a machine with {gpus} GPUs: start at most {gpus} "
            f"(snakemake --resources gpu={gpus})"
        )
    if "LOCAL_RANK" in os.environ:
        state = PartialState(cpu=on_cpus())
        atexit.register(state.destroy_process_group)  # its threads can abort a process that ends
    if not is_first():
        logging.getLogger("tad").setLevel(logging.WARNING)


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` returns on the first rank, on every rank: for what may change files."""
    if count() == 1:
        return make()
    return broadcast_object_list([make() if is_first() else None])[0]


def wait() -> None:
    """Return when all ranks are here."""
    if count() > 1:
        PartialState().wait_for_everyone()


def shares(batch_size: int, micro_batch_size: int) -> tuple[int, int]:
    """Sequences that pass through a model at once on each rank, and how often in a step.

    Raises RanksError where a batch cannot be dealt out to the ranks in equal parts.
    """

    def fits(ranks: int) -> bool:
        return not batch_size % (ranks * min(micro_batch_size, max(batch_size // ranks, 1)))

    ranks = count()
    if not fits(ranks):
        known = ", ".join(str(other) for other in range(1, 2 * ranks) if fits(other))
        raise RanksError(
            f"batch_size={batch_size} is no multiple of {ranks} ranks x "
            f"micro_batch_size={micro_batch_size}: start another number of them ({known}), or "
            "change micro_batch_size"
        )
    micro = min(micro_batch_size, batch_size // ranks)
    return micro, batch_size // (micro * ranks)


# --- FSDP2 ---------------------------------------------------------------------------------------


def training_arguments(sharding: str) -> dict[str, Any]:
    """Arguments of ``TrainingArguments``. Checkpoints are written in parts, one a rank.

    Raises RanksError for one process without torchrun, which has no ranks to shard over.
    """
    if sharding == "none":
        return {}
    if "LOCAL_RANK" not in os.environ:
        raise RanksError(
            "sharding: fsdp needs ranks: start with `torchrun --standalone --nproc-per-node GPUS "
            "-m tad ...`, or set sharding: none"
        )
    return {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}


def shard_on_cpus(accelerator: Accelerator, plugin: dict[str, Any] | None) -> None:
    """Let CPUs shard as well, if ``plugin``, the arguments of accelerate's, asks for it.

    accelerate 1.15 looks at the plugin on GPUs only (``AcceleratorState``): on CPUs it would train
    by DDP without a word. All that follows from its state works on both.
    """
    state = accelerator.state
    if plugin is None or state.distributed_type != DistributedType.MULTI_CPU:
        return
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**plugin)
    if state.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
    state.distributed_type = DistributedType.FSDP
    PartialState().distributed_type = DistributedType.FSDP


def keep_float32(accelerator: Accelerator) -> None:
    """Keep in float32 what a forward of FSDP2 returns, here the loss, and the sums of gradients.

    accelerate's policy for mixed precision rounds both to half precision, where DDP does not.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = plugin and plugin.mixed_precision_policy
    if isinstance(policy, MixedPrecisionPolicy):
        plugin.mixed_precision_policy = replace(
            policy, reduce_dtype=torch.float32, output_dtype=None
        )


def shard_frozen(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Shard a model that only runs forward over the ranks, a layer at a time; in place.

    ``Accelerator.prepare`` takes one model, with its optimizer, and so not a teacher.
    """
    if isinstance(model, FSDPModule):
        return model
    plugin = accelerator.state.fsdp_plugin
    names = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    for module in (*layers, model):  # what is in no layer, the head as well, goes with the model
        fully_shard(
            module,
            mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
            offload_policy=plugin.cpu_offload,
            reshard_after_forward=True,
        )
    return model


def save_model(trainer: Trainer, folder: str) -> None:
    """Save the model whole, as one without ranks is saved; every rank takes part.

    The Trainer's own leaves the parts of FSDP2 as they are, or writes a tied head a second time.
    """
    if not trainer.accelerator.is_fsdp2:
        trainer.save_model(folder)
        return
    weights = trainer.accelerator.get_state_dict(trainer.model)  # nothing but on the first rank
    if is_first():
        for tied in trainer.model.all_tied_weights_keys:
            weights.pop(tied, None)
        trainer.model.save_pretrained(folder, state_dict=weights)
