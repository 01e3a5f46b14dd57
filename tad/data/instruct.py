"""Instruction data of the supervised stage: questions with answers to rows of tokens.

    tad instruct --config config/smoke.yaml --data instruct --tokenizer llama

Writes ``work/{scale}/data/instruct/llama/{train,validation}.parquet`` and ``manifest.json``. Only
the response is learnt: labels of the prompt are -100, so that CLM, divergence and beta(X) are taken
over response tokens alone (Section 3.4). The fields of a source are named in the configuration:
Orca-Math has question and answer, Camel-AI math message_1 and message_2.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tad import records
from tad.command import UserError, command_line, exit_code
from tad.data.packing import SPLITS, DataError, PackedTokens, lock
from tad.experiment.config import ConfigError, Suite, load_suite
from tad.experiment.layout import Layout
from tad.experiment.schema import Instructions, InstructionSource

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

KIND = "instructions"
"""What the manifest of such a folder says, to be told from a packed corpus."""


class InstructionError(UserError, ValueError):
    """Instruction data that is missing, of another form, or too little; the message says which."""


# --- Reading the sources -------------------------------------------------------------------------


def examples(source: InstructionSource) -> Iterator[tuple[str, str]]:
    """(question, answer) of every row of a source, stripped. Raises InstructionError."""
    where = source.hub or source.path or ""
    for number, row in enumerate(_rows(source), start=1):
        values = []
        for field in (source.question, source.answer):
            value = row.get(field)
            if not isinstance(value, str) or not value.strip():
                found = ", ".join(map(str, row)) or "none"
                raise InstructionError(
                    f"{where}: row {number}: field {field!r} holds no text; set question and "
                    f"answer to two of the fields found: {found}"
                )
            values.append(value if source.layout == "plain" else value.strip())
        yield values[0], values[1]


def _rows(source: InstructionSource) -> Iterator[dict[str, Any]]:
    """Rows of a dataset as they arrive. Code that comes with a dataset is never run."""
    import datasets

    datasets.disable_progress_bars()
    try:
        if source.path is not None:
            if not Path(source.path).is_file():
                raise InstructionError(f"{source.path}: no such file (relative to {Path.cwd()})")
            yield from datasets.load_dataset(
                "json", data_files=source.path, split="train", streaming=True
            )
        else:
            yield from datasets.load_dataset(source.hub, split=source.split, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, InstructionError):
            raise
        reason = " ".join(str(error.__cause__ or error).split())
        where = source.path or f"{source.hub}, split {source.split}"
        raise InstructionError(f"{where}: cannot be read ({reason[:300]})") from None


def prompt_and_response(
    question: str, answer: str, source: InstructionSource, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str]:
    """The text of an example in the layout of its source, split where the response begins."""
    if source.layout == "plain":
        return question, answer
    if source.layout == "question":
        return f"Question: {question}\nAnswer:", f" {answer}"
    if tokenizer.chat_template is None:
        raise InstructionError("layout: chat: the student's tokenizer has no chat template")
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return prompt, answer


def tokenize(
    prompt: str, response: str, tokenizer: PreTrainedTokenizerBase, *, chat: bool = False
) -> tuple[list[int], int]:
    """Token ids of an example, end-of-text token included, and where the response begins.

    Prompt and response are tokenized apart, as at evaluation the prompt stands alone. A chat
    template brings its own special tokens.
    """
    head = tokenizer(prompt, add_special_tokens=not chat)["input_ids"]
    tail = tokenizer(response, add_special_tokens=False)["input_ids"]
    return [*head, *tail, tokenizer.eos_token_id], len(head)


# --- Writing -------------------------------------------------------------------------------------


def make_instructions(
    suite: Suite, name: str, tokenizer: str, layout: Layout, *, force: bool = False
) -> str:
    """Write the instruction data ``name`` in tokens of a tokenizer; returns a report.

    The examples are the first of all different questions in the order of a seeded hash: validation
    first, then training. Those longer than the stage's context are left out and counted. Nothing
    is done where it is there already, from the same configuration. Raises InstructionError,
    ConfigError.
    """
    from tad.models.loading import load_tokenizer

    if name not in suite.instructions:
        known = ", ".join(suite.instructions) or "none"
        raise ConfigError(f"instructions {name!r} is not in the suite (allowed: {known})")
    spec, context = suite.instructions[name], suite.stages["supervised"].context
    folder, path = layout.tokens(name, tokenizer), layout.tokenizer(tokenizer)
    backend = load_tokenizer(str(path))
    digest = hashlib.sha256((path / "tokenizer.json").read_bytes()).hexdigest()
    recipe = {"kind": KIND, "instructions": spec.model_dump(), "context": context}
    recipe["tokenizer"] = {
        "name": tokenizer, "sha256": digest, "vocab_size": len(backend),
        "eos_id": backend.eos_token_id,
    }  # fmt: skip
    if not force and _finished(folder, recipe):
        return f"{folder}: already there, from this configuration (--force makes it anew)"
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock", "instructions"):
        rows, too_long = _chosen(spec, backend, context, name)
        manifest: dict[str, Any] = {**recipe, "too_long": too_long}
        (folder / "manifest.json").unlink(missing_ok=True)
        cut = spec.validation_examples
        for split, part in (("train", rows[cut:]), ("validation", rows[:cut])):
            manifest[split] = _write(folder / f"{split}.parquet", part)
        manifest["fingerprint"] = records.fingerprint(manifest)
        records.write_json(folder / "manifest.json", manifest)
    train = manifest["train"]
    return (
        f"{folder}: {train['examples']:,} examples to train on, {train['tokens']:,} tokens, of "
        f"them {train['response_tokens']:,} of responses; {too_long:,} were too long"
    )


def _finished(folder: Path, recipe: dict[str, Any]) -> bool:
    try:
        manifest = records.read_json(folder / "manifest.json")
    except records.RecordError:
        return False
    files = all((folder / f"{split}.parquet").is_file() for split in SPLITS)
    return files and all(manifest.get(key) == value for key, value in recipe.items())


def _chosen(
    spec: Instructions, tokenizer: PreTrainedTokenizerBase, context: int, name: str
) -> tuple[list[tuple[list[int], int]], int]:
    """The tokenized examples, validation first, and how many were too long."""
    from tqdm import tqdm

    texts: dict[bytes, tuple[str, str, bool]] = {}
    for source in spec.sources:
        for question, answer in examples(source):
            key = hashlib.blake2b(f"{spec.seed}\0{question}".encode(), digest_size=16).digest()
            pair = prompt_and_response(question, answer, source, tokenizer)
            texts.setdefault(key, (*pair, source.layout == "chat"))
    wanted, rows, too_long = spec.examples + spec.validation_examples, [], 0
    for key in tqdm(sorted(texts), desc=name, unit="example", disable=not sys.stderr.isatty()):
        prompt, response, chat = texts[key]
        ids, start = tokenize(prompt, response, tokenizer, chat=chat)
        if len(ids) > context + 1:
            too_long += 1
            continue
        rows.append((ids, start))
        if len(rows) == wanted:
            return rows, too_long
    raise InstructionError(
        f"instructions.{name}: {len(rows)} examples of at most {context} tokens ({too_long} are "
        f"longer), and {wanted} are asked for: lower examples, or name more sources"
    )


def _write(path: Path, rows: list[tuple[list[int], int]]) -> dict[str, Any]:
    """Write a split whole or not at all; returns what the manifest says of it."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(
        {
            "input_ids": pyarrow.array([ids for ids, _ in rows], pyarrow.list_(pyarrow.int32())),
            "response_start": pyarrow.array([start for _, start in rows], pyarrow.int32()),
        }
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pyarrow.parquet.write_table(table, temporary)
    os.replace(temporary, path)
    return {
        "examples": len(rows),
        "tokens": sum(len(ids) for ids, _ in rows),
        "response_tokens": sum(len(ids) - start for ids, start in rows),
        "sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


# --- Reading -------------------------------------------------------------------------------------


class InstructionRows:
    """Examples of one split as a map-style dataset, of different lengths (see ``collate``).

    Row i is ``input_ids`` and ``labels``, both (N,) int64, N one less than the example's tokens:
    labels[t] is the token that position t predicts where that is of the response, else -100.
    Raises InstructionError for missing data, and for a context that its examples exceed.
    """

    def __init__(self, folder: str | Path, split: str, context: int) -> None:
        import pyarrow.parquet

        self.folder, self.split, self.context = Path(folder), split, context
        manifest = records.read_json(self.folder / "manifest.json")
        if context < manifest["context"]:
            raise InstructionError(f"{folder}: made for context {manifest['context']}, not less")
        self.fingerprint: str = manifest["fingerprint"]
        self.vocab_size: int = manifest["tokenizer"]["vocab_size"]
        self.eos_id: int = manifest["tokenizer"]["eos_id"]
        self.mean_tokens: float = manifest[split]["tokens"] / manifest[split]["examples"]
        path = self.folder / f"{split}.parquet"
        if not path.is_file():
            raise InstructionError(f"{path}: missing; make it with tad instruct --force")
        table = pyarrow.parquet.read_table(path)
        ids = table["input_ids"].combine_chunks()
        self._ids, self._offsets = ids.values.to_numpy(), ids.offsets.to_numpy()
        self._starts = table["response_start"].to_numpy()

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        import torch

        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        ids = self._ids[self._offsets[row] : self._offsets[row + 1]].astype(np.int64)
        labels = ids[1:].copy()
        labels[: self._starts[row] - 1] = -100
        return {"input_ids": torch.from_numpy(ids[:-1].copy()), "labels": torch.from_numpy(labels)}


def open_rows(folder: str | Path, split: str, context: int) -> PackedTokens | InstructionRows:
    """The rows of a folder, packed text or instructions. Raises DataError, InstructionError."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise DataError(f"{path}: missing; make it with tad data pack, or tad.data.instruct")
    if records.read_json(path).get("kind") == KIND:
        return InstructionRows(folder, split, context)
    return PackedTokens(folder, split, context)


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch of rows, (B, N), the shorter padded on the right with id 0 and label -100.

    Attention is causal and padding counts for nothing, so that no mask is needed.
    """
    from torch.nn.utils.rnn import pad_sequence

    return {
        name: pad_sequence([row[name] for row in rows], batch_first=True, padding_value=fill)
        for name, fill in (("input_ids", 0), ("labels", -100))
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the data is there, 2 for bad input."""
    parser = command_line("instruct", __doc__)
    parser.add_argument("--config", required=True, help="scale file, such as config/smoke.yaml")
    parser.add_argument("--data", required=True, help="name under instructions: in the config")
    parser.add_argument("--tokenizer", required=True, help="name under tokenizers: in the config")
    parser.add_argument("--force", action="store_true", help="redo a finished result")
    options = parser.parse_args(arguments)

    def job() -> None:
        suite = load_suite(options.config)
        layout = Layout.work(suite.scale)
        arguments = options.data, options.tokenizer, layout
        print(make_instructions(suite, *arguments, force=options.force))

    return exit_code("instruct", job)
