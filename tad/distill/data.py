"""From a file, a folder, a glob or a hub id to rows of tokens to train on and to measure on.

Which form the data has is read from its fields: ``text`` is packed into rows of the context's
length, ``messages`` and ``prompt`` with ``response`` or ``completion`` are a row each, of which
only what the assistant says is learnt. Whether a document is held out is decided by a hash of its
text (of its prompt, where it has one), so the same text never stands on both sides.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tad.command import optional
from tad.data.files import SUFFIXES, json_rows, matched_files, text_documents
from tad.data.hub import hub_rows
from tad.data.packing import DataError, validation_limit
from tad.data.tokenizing import document_hash
from tad.data.vocabulary import bos_tokens, document_start
from tad.distill.arguments import Settings

IGNORE = -100
ANSWERS = ("response", "completion")


@dataclass(frozen=True)
class Rows:
    """Rows of tokens as a map-style dataset (``tad.data.instruct.collate`` makes batches).

    Row i is ``input_ids`` and ``labels``, both (N,) int64, N at most ``context``: labels[t] is the
    token that position t predicts, -100 where it is not ``learnt``. ``tokens`` and ``learnt`` are
    (T,), ``starts`` and ``ends`` (rows,) places in them.
    """

    tokens: np.ndarray
    learnt: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    context: int

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        place = slice(int(self.starts[row]), int(self.ends[row]))
        ids = torch.from_numpy(self.tokens[place].astype(np.int64))
        labels = ids[1:].masked_fill(torch.from_numpy(~self.learnt[place][1:]), IGNORE)
        return {"input_ids": ids[:-1], "labels": labels}

    @property
    def vocab_size(self) -> int:
        """How many embeddings the rows need: more than their largest token."""
        return int(self.tokens.max()) + 1

    @property
    def mean_tokens(self) -> float:
        """Tokens a row, as the model reads them."""
        return float((self.ends - self.starts - 1).mean())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a row depends on."""
        digest = hashlib.sha256()
        for part in (self.tokens, self.learnt, self.starts, self.ends):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def evenly(self, count: int) -> Rows:
        """At most ``count`` rows, evenly spaced."""
        kept = [i * len(self) // count for i in range(count)] if count < len(self) else slice(None)
        return Rows(self.tokens, self.learnt, self.starts[kept], self.ends[kept], self.context)


@dataclass
class _Side:
    """The documents of one side of the split as they come."""

    parts: list[np.ndarray] = field(default_factory=list)
    learnt: list[np.ndarray] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, key: int, ids: np.ndarray, learnt: np.ndarray) -> None:
        self.parts.append(ids)
        self.learnt.append(learnt)
        self.hashes.append(key)
        self.size += len(ids)

    def move_first(self, other: _Side) -> None:
        """What has the smallest hash goes to ``other``: which that is depends on texts alone."""
        smallest = min(self.hashes)
        for place in [i for i, key in enumerate(self.hashes) if key == smallest][::-1]:
            taken = self.hashes.pop(place), self.parts.pop(place), self.learnt.pop(place)
            self.size -= len(taken[1])
            other.add(*taken)

    def count(self, context: int, *, packed: bool) -> int:
        """How many rows ``rows`` gives."""
        return max(0, self.size - 1) // context if packed else len(self.parts)

    def rows(self, context: int, *, packed: bool) -> Rows:
        tokens, learnt = np.concatenate(self.parts), np.concatenate(self.learnt)
        if packed:
            count = max(1, self.count(context, packed=True))
            starts = np.arange(count, dtype=np.int64) * context
            ends = np.minimum(starts + context + 1, len(tokens))
        else:
            ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)
            starts = ends - np.array([len(part) for part in self.parts], dtype=np.int64)
        return Rows(tokens, learnt, starts, ends, context)


@dataclass(frozen=True)
class Data:
    """Rows to train on, rows to measure on, and what the report says of them."""

    train: Rows
    held_out: Rows
    record: dict[str, Any]


def prepare(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> Data:
    """Read, split and tokenize the data of ``settings``.

    Documents that occur twice count once. Reading stops, in the order of the source, when there are
    as many tokens to train on and sequences to measure on as asked for. Raises UserError for data
    that cannot be read, is of another form, or too little to hold out two sequences.
    """
    context = settings.context
    encode = _Encoder(tokenizer, context)
    sides, seen, form = (_Side(), _Side()), set(), None
    limit = validation_limit(settings.held_out)
    for where, row in rows_of(settings.data, settings.split, settings.subset):
        found = form_of(where, row)
        if form not in (None, found):
            raise DataError(f"{where}: has {found}, and rows before it {form}: give one form only")
        form = found
        text, prompt = _content(row, form)
        key, full = document_hash(prompt), sides[0].size > settings.tokens
        side = sides[key < limit]
        if full and sides[1].count(context, packed=form == "text") >= settings.held_out_sequences:
            break
        if full and side is sides[0]:
            continue
        if (whole := document_hash(text)) in seen:
            encode.left_out["said before"] += 1
            continue
        seen.add(whole)
        made = encode(where, row, form)
        if made is not None:
            side.add(key, *made)
    train, held_out = sides
    packed = form == "text"
    while held_out.count(context, packed=packed) < 2 and held_out.size * 3 < train.size:
        train.move_first(held_out)
    if not train.parts or held_out.count(context, packed=packed) < 2:
        count = len(train.parts) + len(held_out.parts)
        raise DataError(
            f"--data {settings.data}: {count} documents with something to learn, too few to hold "
            "out two sequences: give more text, a larger --held-out, or a shorter --context"
        )
    made = [side.rows(context, packed=packed) for side in (train, held_out)]
    record = {
        "form": form,
        "documents": {"train": len(train.parts), "held_out": len(held_out.parts)},
        "tokens": {"train": train.size, "held_out": held_out.size},
        "left_out": {key: count for key, count in encode.left_out.items() if count},
        "shortened": encode.shortened,
    }
    return Data(made[0], made[1].evenly(settings.held_out_sequences), record)


# --- Reading -------------------------------------------------------------------------------------


def rows_of(source: str, split: str, subset: str | None) -> Iterator[tuple[str, Any]]:
    """(place, row) of a file, folder, glob or hub data set. Raises CorpusError, DataError."""
    local = Path(source).exists() or any(sign in source for sign in "*?[")
    if not local and (source.endswith(SUFFIXES) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source)):
        raise DataError(f"--data {source}: no such file or folder (relative to {Path.cwd()})")
    if not local:
        yield from hub_rows(source, subset, split)
        return
    for path in matched_files(source):
        if path.suffix == ".parquet":
            yield from _parquet(path)
        elif path.suffix == ".txt":
            for number, text in enumerate(text_documents(path)):
                yield f"{path}: document {number}", {"text": text}
        else:
            yield from json_rows(path)


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    arrow, parquet = optional("pyarrow"), optional("pyarrow.parquet")
    wanted = {"text", "messages", "prompt", *ANSWERS}
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = [name for name in names if name in wanted] or names
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for row in batch.to_pylist():
                    yield f"{path}: row {number}", row
                    number += 1
    except arrow.ArrowException as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: after row {number}: damaged file ({reason})") from None


def form_of(where: str, row: Any) -> str:
    """``text``, ``messages``, or the fields of prompt and response. Raises DataError."""
    if isinstance(row, dict):
        if isinstance(row.get("messages"), list):
            return "messages"
        for answer in ANSWERS:
            if "prompt" in row and answer in row:
                return f"prompt and {answer}"
        if isinstance(row.get("text"), str):
            return "text"
    found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
    raise DataError(
        f"{where}: holds {found or 'nothing'}; needed is text, messages, or prompt with response "
        "or completion: rename the fields"
    )


def _content(row: dict[str, Any], form: str) -> tuple[str, str]:
    """All of a document as one text, and the part that decides on which side it stands."""
    if form == "text":
        return row["text"], row["text"]
    if form == "messages":
        turns = row["messages"]
        asked = next((i for i, turn in enumerate(turns) if _role(turn) == "assistant"), len(turns))
        return json.dumps(turns, default=str), json.dumps(turns[:asked], default=str)
    prompt, answer = row["prompt"], row[form.removeprefix("prompt and ")]
    return json.dumps([prompt, answer], default=str), json.dumps(prompt, default=str)


def _role(turn: Any) -> str | None:
    return turn.get("role") if isinstance(turn, dict) else None


# --- Tokens --------------------------------------------------------------------------------------


class _Encoder:
    """Tokens of documents, and which of them are learnt; counts what is left out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        import tokenizers

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or tokenizer.eos_token_id is None:
            lack = "end-of-text token" if backend is not None else "fast version (tokenizer.json)"
            raise DataError(f"{tokenizer.name_or_path}: its tokenizer has no {lack}; add one")
        self.plain = tokenizers.Tokenizer.from_str(backend.to_str())
        self.plain.encode_special_tokens = True  # one that a text spells out stays text
        self.plain.no_truncation()
        self.plain.no_padding()
        self.tokenizer, self.context = tokenizer, context
        self.bos, self.eos = bos_tokens(tokenizer), tokenizer.eos_token_id
        self.special = [
            str(token) for token in tokenizer.added_tokens_decoder.values() if token.special
        ]
        self.left_out = {"said before": 0, "nothing to learn": 0, "spells out a special token": 0}
        self.shortened = 0

    def __call__(
        self, where: str, row: dict[str, Any], form: str
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Token ids (N,) and which are learnt (N,); None, counted, where there is nothing."""
        if form == "text":
            ids = self._ids(row["text"].strip())
            if not ids:
                self.left_out["nothing to learn"] += 1
                return None
            ids = [*document_start(self.bos, self.eos), *ids, self.eos]
            return np.array(ids, np.uint32), np.ones(len(ids), bool)
        if form == "messages":
            made = self._chat(where, row["messages"], 0)
        else:
            made = self._answer(where, row["prompt"], row[form.removeprefix("prompt and ")])
        if made is None:
            self.left_out["spells out a special token"] += 1
            return None
        ids, learnt = (np.array(part[: self.context + 1]) for part in made)
        if not learnt[1:].any():
            self.left_out["nothing to learn"] += 1
            return None
        self.shortened += len(made[0]) > len(ids)
        return ids.astype(np.uint32), learnt.astype(bool)

    def _ids(self, text: str) -> list[int]:
        return self.plain.encode(text, add_special_tokens=False).ids

    def _answer(self, where: str, prompt: Any, answer: Any) -> tuple[list, list] | None:
        """A prompt and its response, texts or lists of messages."""
        if isinstance(prompt, list) and isinstance(answer, list):
            return self._chat(where, [*prompt, *answer], len(prompt))
        if not isinstance(prompt, str) or not isinstance(answer, str):
            raise DataError(f"{where}: prompt and response must be texts, or lists of messages")
        head, tail = [*self.bos, *self._ids(prompt)], [*self._ids(answer), self.eos]
        if not answer.strip():
            return head, [False] * len(head)
        return [*head, *tail], [False] * len(head) + [True] * len(tail)

    def _chat(self, where: str, turns: list[Any], first: int) -> tuple[list, list] | None:
        """A chat by the tokenizer's template; learnt is what is said from turn ``first``.

        That is by the assistant, with the end of its turn, as a model that never learns it does not
        stop. A template that rewrites earlier turns leaves the last one to learn.
        """
        for turn in turns:
            if _role(turn) is None or not isinstance(turn.get("content"), str):
                raise DataError(f"{where}: a message needs role and content, both texts")
            if any(token in turn["content"] for token in self.special):
                return None
        says = [i for i in range(first, len(turns)) if _role(turns[i]) == "assistant"]
        if not says:
            return [], []
        text, spans = self._fill(where, turns[: says[-1] + 1]), []
        for i in says:
            prompt = self._fill(where, turns[:i], add_generation_prompt=True)
            whole = self._fill(where, turns[: i + 1])
            if whole.startswith(prompt) and text.startswith(whole.rstrip()):
                spans.append((len(prompt), len(whole.rstrip())))
        if not spans:
            raise DataError(
                f"{where}: the chat template of {self.tokenizer.name_or_path} does not put an "
                "answer after its prompt; use prompt and response instead"
            )
        coded = self.tokenizer(
            text[: spans[-1][1]], add_special_tokens=False, return_offsets_mapping=True
        )
        ids = list(coded["input_ids"])
        learnt = [any(a <= start < b for a, b in spans) for start, _ in coded["offset_mapping"]]
        if ids and self.tokenizer.decode(ids[-1]) not in self.special:
            ids, learnt = [*ids, self.eos], [*learnt, True]
        return ids, learnt

    def _fill(self, where: str, turns: list[Any], **options: Any) -> str:
        if self.tokenizer.chat_template is None:
            raise DataError(
                f"{where}: messages, and the tokenizer of {self.tokenizer.name_or_path} has no "
                "chat template: use a model that chats, or prompt and response"
            )
        try:
            return self.tokenizer.apply_chat_template(turns, tokenize=False, **options)
        except Exception as error:  # whatever a template raises
            reason = " ".join(str(error).split())
            raise DataError(f"{where}: its chat template does not take it ({reason})") from None
