"""Tail-aware distillation of a LoRA student: adapters on q and v, gradient checkpointing.

    pip install peft
    python examples/lora.py

The teacher is frozen anyway; of the student only the adapters are trained and saved. Adapters on
the output head, or `modules_to_save=["lm_head"]`, work too.
"""

import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
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


def student() -> PeftModel:
    """The model with adapters of rank 8."""
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=8,
        lora_alpha=16,
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj"],
    )
    return get_peft_model(model(2, 32, seed=1), lora)


def data(rows: int) -> list[dict[str, torch.Tensor]]:
    """Sequences that count upwards."""
    start = torch.randint(
        VOCABULARY - CONTEXT, (rows, 1), generator=torch.Generator().manual_seed(2)
    )
    tokens = start + torch.arange(CONTEXT)
    return [{"input_ids": row, "labels": row} for row in tokens]


def main(steps: int = 20) -> tuple[PeftModel, list[dict[str, float]]]:
    """Train, and return the student and what the Trainer logged."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = TADTrainer(
            model=student(),
            teacher=model(4, 64, seed=0),
            k=10,
            beta=2.0,
            train_dataset=data(160),
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=8,
                gradient_checkpointing=True,
                max_steps=steps,
                learning_rate=3e-2,  # 1e-4 to 1e-3 for real models
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=not torch.cuda.is_available(),
            ),
        )
        trainer.train()
        trainer.model.save_pretrained(folder)  # the adapters alone
        return trainer.model, trainer.state.log_history


if __name__ == "__main__":
    main()
