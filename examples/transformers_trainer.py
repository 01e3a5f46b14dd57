"""Tail-aware distillation with the stock transformers Trainer: mix TADMixin in, name a teacher.

    python examples/transformers_trainer.py
    torchrun --nproc-per-node 2 examples/transformers_trainer.py

Accumulation, mixed precision, DDP, checkpoints and evaluation are the Trainer's. Labels are what
the Trainer always gets: the input ids, with -100 where nothing is to be learnt.
"""

import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from tad import TADMixin

VOCABULARY, CONTEXT = 512, 32


class TADTrainer(TADMixin, Trainer):
    """The mixin comes first."""


def model(layers: int, hidden: int, seed: int) -> LlamaForCausalLM:
    """A tiny stand-in. Yours: AutoModelForCausalLM.from_pretrained(...)."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config)


def data(rows: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Sequences that count upwards, after a prompt of 8 tokens, of which nothing is learnt."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY - CONTEXT, (rows, 1), generator=generator)
    tokens = tokens + torch.arange(CONTEXT)
    labels = tokens.clone()
    labels[:, :8] = -100
    return [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]


def main(steps: int = 20) -> list[dict[str, float]]:
    """Train, evaluate, and return what the Trainer logged."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = TADTrainer(
            model=model(2, 32, seed=1),
            teacher=model(4, 64, seed=0),
            k=10,
            beta=2.0,
            train_dataset=data(160, seed=2),
            eval_dataset=data(16, seed=3),
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=4,
                gradient_accumulation_steps=2,
                max_steps=steps,
                learning_rate=3e-3,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=not torch.cuda.is_available(),
            ),
        )
        trainer.train()
        print(trainer.evaluate())
        return trainer.state.log_history


if __name__ == "__main__":
    main()
