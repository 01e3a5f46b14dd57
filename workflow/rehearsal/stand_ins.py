"""The stand-ins of a rehearsal: tokenizers, models, text and items, all made here.

Text is the documentation of installed packages, weights are random, and benchmark items are
invented: nothing is downloaded, and nothing of a real benchmark is copied. Files lie as on the hub:
weights as shards of safetensors in bfloat16, data sets in the files and fields of the originals.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import OPTConfig, OPTForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from eval.fewshot.analogues import write_analogues
from eval.math.datasets import DATASETS
from eval.math.problems import items
from tad.data.corpora import documents
from tad.data.prepare import END_OF_TEXT, train_tokenizer
from tad.experiment.config import Suite
from tad.experiment.schema import Corpus, InstructionSource
from tad.models.architectures import architecture_config, new_model
from tad.records import write_bytes, write_json_lines
from workflow.rehearsal.scale import (
    EXAMPLES,
    ITEMS,
    StandIn,
    models,
    source_of,
    stand_in_folder,
)
from workflow.rehearsal.sizes import TokenizerSizes, published, tokenizer_sizes

PACKAGES = {
    "math": ["networkx", "scipy"],
    "general": ["matplotlib", "datasets", "accelerate", "huggingface_hub", "transformers"],
}
"""What the text of a corpus is the documentation of; any other name than math is general."""

CHARACTERS = 6
"""A token of the largest tokenizer here has fewer."""
TAUGHT = 300_000
"""Characters that a tokenizer is trained on."""
SPREAD = 0.25
"""Standard deviation of random weights: logits of about 1, so that some tokens are likelier."""
SHARD = "200KB"
FILES = 2
"""Files a corpus, so that more than one is read."""


class Text:
    """Documentation as far as it is needed, read once."""

    def __init__(self) -> None:
        self._sources: dict[str, Iterator[str]] = {}
        self._read: dict[str, list[str]] = {}

    def documents(self, corpus: str, characters: int) -> list[str]:
        """Documents of at least so many characters in all, or all that there are."""
        kind = corpus if corpus in PACKAGES else "general"
        if kind not in self._sources:
            fields = {"tokens": 1, "validation_tokens": 1, "packages": PACKAGES[kind]}
            self._sources[kind] = documents(Corpus(source="installed-docs", **fields))
            self._read[kind] = []
        found = self._read[kind]
        total = sum(map(len, found))
        while total < characters and (text := next(self._sources[kind], None)) is not None:
            found.append(text)
            total += len(text)
        return found


def make(suite: Suite, small: Suite, folder: Path) -> None:
    """All stand-ins of ``suite`` below ``folder``, in the sizes that its miniature has."""
    text, tokenizers = Text(), _Tokenizers()
    made = set()
    for _, model in models(suite):
        tokenizer = tokenizers.make(model.source, model.shape.vocab_size, text)
        _write_model(model, tokenizer, Path(stand_in_folder(folder, model.source)))
        made.add(model.source)
    for entry in suite.tokenizers.values():
        source = source_of(entry)
        if source and source not in made:
            tokenizer = tokenizers.make(source, None, text)
            tokenizer.save_pretrained(stand_in_folder(folder, source))
    kinds = published()["files"]
    for name, corpus in suite.corpora.items():
        if corpus.source == "hub":
            _write_corpus(name, small.corpora[name], kinds.get(corpus.id), text)
    for name, entry in suite.instructions.items():
        for was, source in zip(entry.sources, small.instructions[name].sources, strict=True):
            _write_instructions(source, kinds.get(source_of(was)))
    if small.evaluation.fewshot:
        root = Path(stand_in_folder(folder, "fewshot"))
        write_analogues(text.documents("general", 300_000), root, items=ITEMS)
    if small.evaluation.math:
        for name in DATASETS:
            path = Path(small.evaluation.math.data) / f"{name}.jsonl"
            write_json_lines(path, items(name, "test", ITEMS))


# --- Tokenizers and models -----------------------------------------------------------------------


class _Tokenizers:
    """Byte-level BPE, one a published vocabulary; models that share one share its ids."""

    def __init__(self) -> None:
        self._bases: dict[str, str] = {}

    def make(self, source: str, rows: int | None, text: Text) -> PreTrainedTokenizerFast:
        """The stand-in of a source's tokenizer."""
        sizes = tokenizer_sizes(source, rows)
        if sizes.base not in self._bases:
            self._bases[sizes.base] = self._base(sizes, text)
        backend = Tokenizer.from_str(self._bases[sizes.base])
        own = [f"<|added_{number}|>" for number in range(sizes.added)]
        if sizes.own_eos:
            own[0] = END_OF_TEXT
        backend.add_special_tokens([AddedToken(token, special=True) for token in own])
        if sizes.begins:
            token = (sizes.bos, backend.token_to_id(sizes.bos))
            backend.post_processor = TemplateProcessing(
                single=f"{sizes.bos} $A", pair=f"{sizes.bos} $A $B", special_tokens=[token]
            )
        eos = own[0] if sizes.own_eos else sizes.eos
        named = {"eos_token": eos} if sizes.names_eos else {}
        return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=sizes.bos, **named)

    def _base(self, sizes: TokenizerSizes, text: Text) -> str:
        """The vocabulary proper, trained on a part of the text that its name chooses."""
        separate = sizes.bos is not None and sizes.bos != sizes.eos
        texts = text.documents("general", 4 * TAUGHT)
        draw = random.Random(sizes.base)
        texts = draw.sample(texts, len(texts))
        part, total = [], 0
        for each in texts:
            part.append(each)
            total += len(each)
            if total > TAUGHT:
                break
        sums = [f"{question} {answer}" for question, answer in _sums(sizes.base, 200)]
        trained = train_tokenizer([*part, *sums], sizes.tokens - separate)
        backend = trained.backend_tokenizer.to_str().replace(END_OF_TEXT, sizes.eos)
        whole = Tokenizer.from_str(backend)
        if separate:
            whole.add_special_tokens([AddedToken(sizes.bos, special=True)])
        return whole.to_str()


def _write_model(model: StandIn, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Random weights in the transformers layout, the same for the same source."""
    seed = int.from_bytes(hashlib.sha256(model.source.encode()).digest()[:4], "big")
    eos = tokenizer.eos_token_id
    made = _opt(model, seed) if model.family == "opt" else _of_family(model, seed, eos)
    made.config.bos_token_id = tokenizer.bos_token_id
    made.to(torch.bfloat16).save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)


def _of_family(model: StandIn, seed: int, eos: int | None) -> PreTrainedModel:
    config = architecture_config(
        model.family, model.shape, max_positions=model.positions, eos_token_id=eos
    )
    config.initializer_range = SPREAD
    return new_model(config, seed=seed)


def _opt(model: StandIn, seed: int) -> PreTrainedModel:
    """OPT, which is loaded and scored with, but no student is made of."""
    shape = model.shape
    config = OPTConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        word_embed_proj_dim=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.intermediate_size,
        max_position_embeddings=model.positions,
        init_std=SPREAD,
        # As published; Galactica's tokenizer names none of them, but its config.json does.
        pad_token_id=1,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return OPTForCausalLM(config)


# --- Text and instructions -----------------------------------------------------------------------


def _write_corpus(name: str, corpus: Corpus, kind: str | None, text: Text) -> None:
    """JSON lines or parquet, in several files, with more fields than the one that is read."""
    held_out = corpus.validation_tokens / corpus.validation_fraction
    texts = text.documents(name, int(CHARACTERS * (corpus.tokens + 2 * held_out)))
    folder = Path(corpus.id)
    for number in range(FILES):
        rows = [
            {"url": f"https://example.org/{i}", corpus.text_field: each, "metadata": "{}"}
            for i, each in enumerate(texts[number::FILES])
        ]
        place = f"{corpus.split}-{number:05d}-of-{FILES:05d}"
        if kind == "parquet":
            _write_parquet(folder / "data" / f"{place}.parquet", rows)
        else:
            write_json_lines(folder / corpus.split / f"{place}.jsonl", rows)


def _sums(seed: str, count: int) -> list[tuple[str, str]]:
    """Different short questions with answers that end as the graders want."""
    draw = random.Random(seed)
    pairs = draw.sample([(a, b) for a in range(2, 40) for b in range(2, 40)], count)
    return [
        (f"What is {a} plus {b}?", f"{a} + {b} = {a + b}. The answer is {a + b}.") for a, b in pairs
    ]


def _write_instructions(source: InstructionSource, kind: str | None) -> None:
    """JSON lines, parquet, or as Camel-AI has it a JSON file a problem in an archive."""
    folder = Path(source.hub)
    rows = [
        {"topic": "sums", source.question: question, source.answer: answer}
        for question, answer in _sums(folder.name, 4 * (EXAMPLES + ITEMS))
    ]
    place = f"{source.split}-00000-of-00001"
    if kind == "parquet":
        _write_parquet(folder / "data" / f"{place}.parquet", rows)
    elif kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for number, row in enumerate(rows):
                entry = zipfile.ZipInfo(f"math/{number:03d}.json")  # of a fixed date
                archive.writestr(entry, json.dumps(row, indent=4))
        write_bytes(folder / f"{folder.name}.zip", buffer.getvalue())
    else:
        write_json_lines(folder / f"{place}.jsonl", rows)


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
    write_bytes(path, buffer.getvalue())
