"""A few steps of a tiny pair on the ranks that started this: worker OUT SHARDING DEVICE.

OUT receives the student, as the trainer saves it. Started by `benchmarks.checks.several`.
"""

from __future__ import annotations

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from tad.train import ranks
from tad.train.trainer import DistillationTrainer

BATCH, STEPS, VOCABULARY, CONTEXT = 8, 4, 64, 24


def llama(seed: int, layers: int) -> LlamaForCausalLM:
    """A tiny model; teacher and student differ in their depth."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=2,
            initializer_range=0.2,
        )
    )


def rows() -> list[dict[str, torch.Tensor]]:
    """Sequences of very different numbers of tokens that count, so that ranks have unequal ones."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (BATCH * STEPS, CONTEXT + 1), generator=generator)
    found = []
    for index, row in enumerate(ids):
        labels = row[1:].clone()
        labels[(1, CONTEXT, 2, 9)[index % 4] :] = -100
        found.append({"input_ids": row[:-1], "labels": labels})
    return found


def main(out: str, sharding: str, device: str) -> None:
    """Train, and save on the first rank."""
    ranks.join()
    world = ranks.count()
    more = {"ddp_backend": "gloo"} if device == "cpu" and world > 1 else {}
    more |= ranks.training_arguments(sharding)
    trainer = DistillationTrainer(
        model=llama(1, 2),
        teacher=llama(2, 3),
        method="tad-k5-b2",
        train_dataset=rows(),
        args=TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=BATCH // (2 * world),
            gradient_accumulation_steps=2,
            max_steps=STEPS,
            learning_rate=0.1,
            optim="sgd",
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            save_strategy="no",
            logging_steps=1,
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
            use_cpu=device == "cpu",
            **more,
        ),
    )
    trainer.train()
    assert trainer.accelerator.is_fsdp2 == (sharding != "none"), "trained otherwise than asked"
    ranks.save_model(trainer, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
