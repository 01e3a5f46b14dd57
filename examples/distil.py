"""Your own teacher, student and text in one command, called from Python as the shell calls it.

    python examples/distil.py

What it makes is the folder of `tad distill`: a model that `from_pretrained` loads, report.md,
report.png, a model card. docs/distil.md tells the rest.
"""

import json
import random
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tad.cli import main as tad
from tad.data.prepare import train_tokenizer

WORDS = ["the", "loss", "of", "a", "model", "is", "small", "teacher", "and", "student", "agree"]


def texts(count: int) -> list[str]:
    """Sentences of words in random order. Yours: a folder of .txt, .jsonl or .parquet files."""
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 30))) + f" {i}." for i in range(count)]


def save_teacher(folder: Path, documents: list[str]) -> None:
    """A tiny stand-in with its tokenizer. Yours: a folder or a hub id."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    train_tokenizer(documents, 300).save_pretrained(folder)


def main(tokens: str = "8k") -> dict:
    """Distil, and return what report.json holds."""
    with tempfile.TemporaryDirectory() as name:
        folder, documents = Path(name), texts(300)
        save_teacher(folder / "teacher", documents)
        lines = [json.dumps({"text": text}) + "\n" for text in documents]
        (folder / "texts.jsonl").write_text("".join(lines))
        words = f"--student half --tokens {tokens} --context 32 --batch-size 8 --baselines clm"
        paths = {"--teacher": "teacher", "--data": "texts.jsonl", "--out": "distilled"}
        given = [part for key, value in paths.items() for part in (key, str(folder / value))]
        code = tad(["distill", *given, *words.split(), "--learning-rate", "3e-3"])
        if code:
            raise SystemExit(code)
        print((folder / "distilled" / "report.md").read_text())
        return json.loads((folder / "distilled" / "report.json").read_text())


if __name__ == "__main__":
    main()
