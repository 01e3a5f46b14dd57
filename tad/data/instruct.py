"""Instruction data of the supervised stage: questions with answers to rows of tokens.

    tad instruct --config config/smoke.yaml --data instruct --tokenizer llama

In: a scale file, and the sources that its ``instructions:`` name, whose fields are named there:
Orca-Math has question and answer, Camel-AI math message_1 and message_2. Out:
``work/{scale}/data/instruct/llama/{train,validation}.parquet`` and ``manifest.json``. Only the
response is learnt: labels of the prompt are -100, so that CLM, divergence and beta(X) are taken
over response tokens alone (Section 3.4).
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tad import records
from tad.command import UserError, command_line, exit_code, optional
from tad.data.files import json_rows
from tad.data.hub import hub_rows
from tad.data.packing import SPLITS, DataError, PackedTokens, TextEncoder, lock
from tad.data.prepare import load_encoder
from tad.experiment.config import ConfigError, Suite, open_scale, scale_options
from tad.experiment.layout import Layout
from tad.experiment.schema import InstructionSource

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

KIND = "instructions"
"""What the manifest of such a folder says, to be told from a packed corpus."""


class InstructionError(UserError, ValueError):
    """Instruction data that is missing, of another form, or too little; the message says which."""


# --- Reading the sources -------------------------------------------------------------------------


def examples(source: InstructionSource) -> Iterator[tuple[str, str]]:
    """(question, answer) of every row, stripped but for ``plain``. Raises UserError."""
    if source.path is None:
        rows = hub_rows(source.hub or "", None, source.split)
    elif Path(source.path).is_file():
        rows = json_rows(Path(source.path))
    else:
        raise InstructionError(f"{source.path}: no such file (relative to {Path.cwd()})")
    for where, row in rows:
        if not isinstance(row, dict):
            raise InstructionError(f"{where}: {type(row).__name__} found, must be an object")
        pair = row.get(source.question), row.get(source.answer)
        for field, value in zip((source.question, source.answer), pair, strict=True):
            if not isinstance(value, str) or not value.strip():
                found = ", ".join(map(str, row)) or "none"
                raise InstructionError(
                    f"{where}: field {field!r} holds no text; set question and answer to two of "
                    f"the fields found: {found}"
                )
        yield pair if source.layout == "plain" else (pair[0].strip(), pair[1].strip())


# --- From text to tokens -------------------------------------------------------------------------


def tokenize(
    question: str,
    answer: str,
    layout: str,
    encoder: TextEncoder,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[list[int], int]:
    """Token ids of an example, end-of-text token included, and where the response begins.

    Prompt and response are tokenized apart, as at evaluation the prompt stands alone. Special
    tokens that either spells out stay text. Raises InstructionError for a chat template that does
    not take them.
    """
    if layout == "chat":
        head, tail = _chat(question, answer, encoder, tokenizer)
    else:
        if layout == "question":
            question, answer = f"Question: {question}\nAnswer:", f" {answer}"
        head, tail = [*encoder.bos, *encoder.encode(question)], encoder.encode(answer)
    if tail[-1:] != [encoder.eos_id]:
        tail.append(encoder.eos_id)
    return [*head, *tail], len(head)


_QUESTION, _ANSWER = "\ufdd0", "\ufdd1"
"""Stand for the texts while a chat template is filled in; no text has these characters."""


def _chat(
    question: str, answer: str, encoder: TextEncoder, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """Prompt and response by the tokenizer's chat template, which brings its own BOS.

    What the template writes after an answer, its end-of-turn token, is part of the response: a
    model that never learns it does not stop.
    """
    prompt, lead, ending = _template(tokenizer)

    def control(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    if control(question) == encoder.encode(question):
        head = control(prompt.replace(_QUESTION, question))
    else:  # it spells out a special token, which only stays text on its own
        before, _, after = prompt.partition(_QUESTION)
        head = [*control(before), *encoder.encode(question), *control(after)]
    return head, [*encoder.encode(lead + answer), *control(ending)]


def _template(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, str]:
    """A chat template as the prompt, and what stands before and after the answer."""
    if tokenizer.chat_template is None:
        raise InstructionError("layout: chat: the student's tokenizer has no chat template")
    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    fill = functools.partial(tokenizer.apply_chat_template, tokenize=False)
    try:
        prompt, whole = fill(turns[:1], add_generation_prompt=True), fill(turns)
    except Exception as error:  # whatever a template raises
        raise InstructionError(f"layout: chat: {type(error).__name__}: {error}") from None
    before, found, ending = whole.partition(_ANSWER)
    if not found or _QUESTION not in prompt:
        raise InstructionError("layout: chat: the chat template leaves out a turn's text")
    lead = before[len(prompt) :] if before.startswith(prompt) else ""
    return prompt, lead, ending.rstrip()


# --- Writing -------------------------------------------------------------------------------------


def make_instructions(
    suite: Suite, name: str, tokenizer: str, layout: Layout, *, force: bool = False
) -> str:
    """Write the instruction data ``name`` in tokens of a tokenizer; returns a report.

    The examples are the first of all different questions in the order of a seeded hash: validation
    first, then training. Those longer than the stage's context are left out and counted. Nothing
    is done where it is there already, from the same configuration. Raises UserError.
    """
    if name not in suite.instructions:
        known = ", ".join(suite.instructions) or "none"
        raise ConfigError(f"instructions {name!r} is not in the suite (allowed: {known})")
    spec, context = suite.instructions[name], suite.stages["supervised"].context
    folder = layout.tokens(name, tokenizer)
    encoder = load_encoder(tokenizer, layout.tokenizer(tokenizer))
    recipe = {"kind": KIND, "instructions": spec.model_dump(), "context": context}
    recipe["tokenizer"] = {
        "name": tokenizer, "sha256": encoder.sha256, "vocab_size": encoder.vocab_size,
        "eos_id": encoder.eos_id,
    }  # fmt: skip
    if not force and _finished(folder, recipe):
        return f"{folder}: already there, from this configuration (--force makes it anew)"
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock", "instructions"):
        rows, too_long = _chosen(suite, name, encoder, layout.tokenizer(tokenizer))
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
    files = all((folder / f"{split}.parquet").is_file() for split in SPLITS)
    return files and records.matching(folder / "manifest.json", recipe) is not None


def _chosen(
    suite: Suite, name: str, encoder: TextEncoder, tokenizer_folder: Path
) -> tuple[list[tuple[list[int], int]], int]:
    """The tokenized examples, validation first, and how many were too long."""
    from tqdm import tqdm

    from tad.models.loading import load_tokenizer

    spec, context = suite.instructions[name], suite.stages["supervised"].context
    texts: dict[bytes, tuple[str, str, str]] = {}
    for source in spec.sources:
        for pair in examples(source):
            key = hashlib.blake2b(f"{spec.seed}\0{pair[0]}".encode(), digest_size=16).digest()
            texts.setdefault(key, (*pair, source.layout))
    tokenizer = load_tokenizer(str(tokenizer_folder))
    wanted, rows, too_long = spec.examples + spec.validation_examples, [], 0
    for key in tqdm(sorted(texts), desc=name, unit="example", disable=not sys.stderr.isatty()):
        ids, start = tokenize(*texts[key], encoder, tokenizer)
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
    arrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
    ids = arrow.array([ids for ids, _ in rows], arrow.list_(arrow.int32()))
    starts = arrow.array([start for _, start in rows], arrow.int32())
    buffer = io.BytesIO()
    parquet.write_table(arrow.table({"input_ids": ids, "response_start": starts}), buffer)
    records.write_bytes(path, buffer.getvalue())
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
    Raises InstructionError for missing or damaged data, and a context that its examples exceed.
    """

    def __init__(self, folder: str | Path, split: str, context: int) -> None:
        arrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
        self.folder, self.split, self.context = Path(folder), split, context
        manifest = records.read_json(self.folder / "manifest.json")
        if context < manifest["context"]:
            raise InstructionError(f"{folder}: made for context {manifest['context']}, not less")
        self.fingerprint: str = manifest["fingerprint"]
        self.vocab_size: int = manifest["tokenizer"]["vocab_size"]
        self.eos_id: int = manifest["tokenizer"]["eos_id"]
        self.mean_tokens: float = manifest[split]["tokens"] / manifest[split]["examples"]
        path = self.folder / f"{split}.parquet"
        try:
            table = parquet.read_table(path)
        except (OSError, arrow.ArrowException) as error:
            state = f"damaged ({' '.join(str(error).split())})" if path.is_file() else "missing"
            raise InstructionError(f"{path}: {state}; make it with tad instruct --force") from None
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
        raise DataError(f"{path}: missing; make it with tad data pack, or tad instruct")
    if records.read_json(path).get("kind") == KIND:
        return InstructionRows(folder, split, context)
    return PackedTokens(folder, split, context)


class Numbered:
    """Rows that number their positions, (N,) ``position_ids`` from 0: ``collate`` packs them."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        import torch

        row = self.rows[index]
        return row | {"position_ids": torch.arange(len(row["input_ids"]))}


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch of rows, (B, N), the shorter padded on the right with label -100, and 0 elsewhere.

    Attention is causal and padding counts for nothing, so that no mask is needed. Rows that number
    their positions (``Numbered``) become one, (1, sum of N), end to end: transformers takes a
    position that does not follow the one before for a new example, which sees nothing of the
    others (SDPA and eager by a mask, flash attention by lengths, which it does for a single row
    alone).
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    if "position_ids" in rows[0]:
        return {name: torch.cat([row[name] for row in rows])[None] for name in rows[0]}
    return {
        name: pad_sequence(
            [row[name] for row in rows],
            batch_first=True,
            padding_value=-100 if name == "labels" else 0,
        )
        for name in rows[0]
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the data is there, 2 for bad input."""
    parser = command_line("instruct", __doc__)
    scale_options(parser)
    parser.add_argument("--data", required=True, help="name under instructions: in the config")
    parser.add_argument("--tokenizer", required=True, help="name under tokenizers: in the config")
    parser.add_argument("--force", action="store_true", help="redo a finished result")
    options = parser.parse_args(arguments)

    def job() -> None:
        suite = open_scale(options.config, options.overrides)
        names = options.data, options.tokenizer, Layout.work(suite.scale)
        print(make_instructions(suite, *names, force=options.force))

    return exit_code("instruct", job)
