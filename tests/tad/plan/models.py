"""Real models of any family in sizes that a plan can be held against."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, TrainingArguments

from tad.data.instruct import collate
from tad.experiment.schema import Shape
from tad.models.architectures import architecture_config, new_model
from tad.models.loading import attention_implementation
from tad.plan.memory import Built
from tad.train.memory import StepMemory
from tad.train.trainer import DistillationTrainer


def built(family: str, *, wide: bool = False, vocabulary: int = 2048, tied: bool = False) -> Built:
    """A student, or a ``wide`` teacher."""
    heads = 6 if wide else 4
    shape = Shape(
        hidden_size=40 * heads,
        layers=3,
        heads=heads,
        kv_heads=heads if family == "phi" else 2,
        head_dim=40,
        intermediate_size=640 if wide else 400,
        vocab_size=vocabulary,
        tied=tied,
    )
    return Built(family, shape)


def made(model: Built, context: int) -> PreTrainedModel:
    """With the attention that training on a CPU chooses, and windows that do not bind."""
    config = architecture_config(model.family, model.shape, max_positions=4 * context)
    found = new_model(config, seed=0)
    found.set_attn_implementation(attention_implementation(config, "cpu", True))
    return found


class Rows(Dataset):
    """Full rows of random tokens."""

    def __init__(self, count: int, context: int, vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(0, vocabulary, (count, context + 1), generator=generator)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index, :-1], "labels": self.tokens[index, 1:]}


def trainer(
    student: Built,
    teacher: Built | None,
    folder,
    *,
    micro: int,
    context: int,
    method: str = "vanilla_kd",
    accumulate: int = 1,
    half: bool = False,
    checkpointing: bool = False,
    freeze: bool = False,
    memory: StepMemory | None = None,
    steps: int = 2,
) -> DistillationTrainer:
    """A trainer of real models, which measures its second step if ``memory`` is given."""
    model = made(student, context)
    if freeze:
        model.get_input_embeddings().weight.requires_grad_(False)
    other = None if teacher is None else made(teacher, context)
    if half and other is not None:
        other = other.bfloat16()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        gradient_checkpointing=checkpointing,
        use_cpu=True,
        bf16=half,
        optim="adamw_torch",
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    vocabulary = student.shape.vocab_size
    return DistillationTrainer(
        model=model,
        args=arguments,
        train_dataset=Rows(steps * micro * accumulate, context, vocabulary),
        eval_dataset=Rows(micro, context, vocabulary),
        data_collator=collate,
        teacher=other,
        method=method,
        callbacks=[memory] if memory else None,
    )
