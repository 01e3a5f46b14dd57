"""Tail-aware distillation with TRL's SFTTrainer: mix TADMixin in, name a teacher.

    pip install trl
    python examples/trl_sft.py

The SFTTrainer prepares the dataset and masks the prompts; only the loss is replaced. With packing
that gives position ids (`packing=True, padding_free=True` and flash attention), `per_document=True`
takes beta(X) over documents instead of packed rows.
"""

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from tad import TADMixin

WORDS = ["<end>", "<unknown>", *(str(number) for number in range(200)), "+", "="]


class TADSFTTrainer(TADMixin, SFTTrainer):
    """The mixin comes first."""


def tokenizer() -> PreTrainedTokenizerFast:
    """A tiny stand-in. Yours: AutoTokenizer.from_pretrained(...), of both models."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")


def model(layers: int, hidden: int, seed: int) -> LlamaForCausalLM:
    """A tiny stand-in. Yours: AutoModelForCausalLM.from_pretrained(...)."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config)


def data(rows: int) -> Dataset:
    """Sums, as prompt and completion: only the completion is learnt."""
    pairs = [(i * 7 % 97, i * 13 % 89) for i in range(rows)]
    return Dataset.from_list(
        [{"prompt": f"{a} + {b} =", "completion": f" {a + b} <end>"} for a, b in pairs]
    )


def main(steps: int = 20) -> list[dict[str, float]]:
    """Train and return what the trainer logged."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = TADSFTTrainer(
            model=model(2, 32, seed=1),
            teacher=model(4, 64, seed=0),
            k=10,
            beta=2.0,
            processing_class=tokenizer(),
            train_dataset=data(160),
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=8,
                max_steps=steps,
                learning_rate=3e-3,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=not torch.cuda.is_available(),
                bf16=torch.cuda.is_available(),
            ),
        )
        trainer.train()
        return trainer.state.log_history


if __name__ == "__main__":
    main()
