"""Data of a suite: tokenizers and packed corpora, by name.

    tad data tokenizer --config config/smoke.yaml --tokenizer phi
    tad data pack --config config/smoke.yaml --corpus general --tokenizer phi
    tad data show --config config/smoke.yaml --corpus general --tokenizer phi

In: a scale file, and the sources that its ``corpora:`` name. Out: the folders
``work/{scale}/tokenizers/NAME/`` and ``work/{scale}/data/CORPUS/TOKENIZER/`` (train.bin,
validation.bin, manifest.json). What is there from the same configuration and sources is left alone,
unless ``--force``; a pack that was interrupted goes on where it was.
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
from tqdm import tqdm

from tad.command import command_line, exit_code
from tad.data import corpora
from tad.data.packing import BUDGETS, lock, open_tokens, pack_parts, read_manifest, validation_limit
from tad.data.tokenizing import DataError, TextEncoder, document_hash, usable_cores
from tad.data.vocabulary import bos_tokens
from tad.experiment.config import Suite, open_scale, scale_options
from tad.experiment.layout import Layout
from tad.experiment.schema import Corpus, Tokenizer
from tad.models.packages import packaged_tokenizer, save_whole
from tad.records import matching, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
"""End-of-text and padding token of the tokenizers that are trained here; its id is 0."""

TRAINING_CHARACTERS = 100_000_000
"""A tokenizer is trained on at most this much text, in equal shares of its corpora."""


# --- Tokenizers ----------------------------------------------------------------------------------


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer (every text has tokens, and they decode to it exactly).

    END_OF_TEXT is id 0, the 256 bytes follow, then the merges in order. The same texts, in any
    order, give the same tokenizer. Raises DataError where they are too few for ``vocab_size``.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() < vocab_size:
        raise DataError(
            f"vocab_size: {vocab_size}: the text has only {backend.get_vocab_size()} different "
            "tokens; lower vocab_size to at most that, or train on more text"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def load_encoder(name: str, folder: Path) -> TextEncoder:
    """The tokenizer of a folder in the transformers layout, without importing transformers.

    Special tokens that are spelled out in a text are encoded as the text they are. Raises
    DataError for a folder that holds no tokenizer, or one without an end-of-text token.
    """
    from tokenizers import Tokenizer as Backend

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{path}: missing; make it with: tad data tokenizer --tokenizer {name}")
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        eos = config.get("eos_token")
        eos = eos["content"] if isinstance(eos, dict) else eos
        backend = Backend.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        reason = " ".join(str(error).split())
        raise DataError(f"{folder}: damaged tokenizer ({reason}); make it anew") from None
    eos_id = backend.token_to_id(eos) if eos else None
    if eos_id is None:
        raise DataError(f"{folder}: end-of-text token {eos!r} is not in the vocabulary")
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return TextEncoder(
        name=name,
        backend=backend,
        vocab_size=max(backend.get_vocab(with_added_tokens=True).values()) + 1,
        eos_token=eos,
        eos_id=eos_id,
        sha256=_sha256(path),
        bos=tuple(bos_tokens(backend)),
    )


def make_tokenizer(suite: Suite, name: str, layout: Layout, *, force: bool = False) -> str:
    """Train or fetch a tokenizer of the suite into ``layout.tokenizer(name)``; returns a report.

    Nothing is done where it is there already, from the same configuration and sources. Raises
    DataError, CorpusError.
    """
    spec = _entry(suite.tokenizers, "tokenizer", name)
    folder = layout.tokenizer(name)
    recipe: dict[str, Any] = {"tokenizer": {"name": name, **spec.model_dump()}, "corpora": {}}
    for corpus_name in spec.corpora:
        corpus = suite.corpora[corpus_name]
        # What does not change what it is trained on; of a hub set the seed does.
        unused = BUDGETS if corpus.source == "hub" else BUDGETS | {"seed"}
        recipe["corpora"][corpus_name] = {
            **corpus.model_dump(exclude=unused),
            "sources": corpora.describe(corpus),
        }
    if not force and _finished_tokenizer(folder, recipe):
        return f"{folder}: already there, from this configuration (--force makes it anew)"
    if spec.vocab_size is None:
        tokenizer = _fetch(name, spec)
    else:
        with _bar(f"tokenizer {name}") as bar:
            sources = {name: entry["sources"] for name, entry in recipe["corpora"].items()}
            texts = _training_texts(suite, spec, layout, sources, bar)
            try:
                tokenizer = train_tokenizer(texts, spec.vocab_size)
            except DataError as error:
                raise DataError(f"tokenizers.{name}.{error}") from None
    save_whole(folder, tokenizer)
    encoder = load_encoder(name, folder)
    write_json(folder / "manifest.json", {**recipe, **encoder.describe()})
    return f"{folder}: {encoder.vocab_size} tokens, end of text {encoder.eos_token!r}"


def _finished_tokenizer(folder: Path, recipe: dict[str, Any]) -> bool:
    manifest, path = matching(folder / "manifest.json", recipe), folder / "tokenizer.json"
    return manifest is not None and path.is_file() and manifest.get("sha256") == _sha256(path)


def _training_texts(
    suite: Suite, spec: Tokenizer, layout: Layout, sources: dict[str, Any], bar: tqdm
) -> Iterator[str]:
    share = TRAINING_CHARACTERS // len(spec.corpora)
    for name in spec.corpora:
        corpus = suite.corpora[name]
        limit = validation_limit(corpus.validation_fraction)
        left = share
        for text in _documents(name, corpus, layout, sources[name], bar):
            if document_hash(text) >= limit:
                yield text[:left]
                left -= len(text)
            if left <= 0:
                break


def _fetch(name: str, spec: Tokenizer) -> PreTrainedTokenizerBase:
    from tad.models.loading import ModelError, load_tokenizer

    source = spec.package or spec.hub or spec.path
    try:
        if spec.package is not None:
            tokenizer = packaged_tokenizer(spec.package, spec.hub)
        else:
            tokenizer = load_tokenizer(source)
    except ModelError as error:
        raise DataError(f"tokenizers.{name}: {error}") from None
    if not tokenizer.is_fast:
        raise DataError(f"tokenizers.{name}: {source!r} has no tokenizer.json (fast tokenizer)")
    if tokenizer.eos_token is None:
        raise DataError(f"tokenizers.{name}: {source!r} names no eos_token to end documents with")
    return tokenizer


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- Corpora -------------------------------------------------------------------------------------


def make_corpus(
    suite: Suite, name: str, tokenizer: str, layout: Layout,
    *, force: bool = False, processes: int | None = None,
) -> str:  # fmt: skip
    """Pack a corpus of the suite into ``layout.tokens(name, tokenizer)``; returns a report.

    Nothing is done where it is there already, from the same configuration, sources and tokenizer.
    A large corpus is tokenized by ``processes`` (default: one a core), which changes no byte.
    Raises DataError, CorpusError.
    """
    corpus = _entry(suite.corpora, "corpus", name)
    _entry(suite.tokenizers, "tokenizer", tokenizer)
    encoder = load_encoder(tokenizer, layout.tokenizer(tokenizer))
    folder = layout.tokens(name, tokenizer)
    parts = {part: suite.corpora[part] for part in (name, *corpus.also)}
    sources = {part: corpora.describe(entry) for part, entry in parts.items()}
    recipe = {
        "corpus": {"name": name, **corpus.model_dump()},
        "sources": sources if corpus.also else sources[name],
        "tokenizer": encoder.describe(),
        "bos": bool(encoder.start),
    }
    if not force and _finished_corpus(folder, recipe):
        return f"{folder}: already there, from this configuration (--force makes it anew)"
    with _bar(f"{name} for {tokenizer}") as bar:
        # Mixed in proportion to their size, several corpora have to be read to their ends.
        whole = corpus.source != "hub" or bool(corpus.also)
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts if force else ():
            _shards(folder, part).unlink(missing_ok=True)
        pieces = [
            piece
            for part, entry in parts.items()
            for piece in _pieces(part, entry, layout, sources[part], bar, folder)
        ]
        manifest = pack_parts(
            pieces, encoder, name, corpus, folder, sources=recipe["sources"], whole=whole,
            processes=processes or usable_cores(), fresh=force, bar=bar,
        )  # fmt: skip
    for part in parts:
        _shards(folder, part).unlink(missing_ok=True)
    return f"{folder}: {_in_words(manifest)}"


def _finished_corpus(folder: Path, recipe: dict[str, Any]) -> bool:
    try:
        manifest = read_manifest(folder)
        for split in ("train", "validation"):
            open_tokens(folder, split, manifest)
    except DataError:
        return False
    return all(manifest.get(key, False) == value for key, value in recipe.items())


def _pieces(
    name: str, corpus: Corpus, layout: Layout, sources: dict[str, Any], bar: tqdm, folder: Path
) -> list[corpora.Part]:
    """``corpora.parts``, and ``_documents`` where those are kept."""
    if corpus.source != "installed-docs":
        return corpora.parts(corpus, bar, listing=_shards(folder, name))

    def read(scratch: Path) -> Iterator[str]:
        return _documents(name, corpus, layout, sources, bar)

    return [corpora.Part(name=name, source=corpora.source(corpus), documents=read)]


def _shards(folder: Path, name: str) -> Path:
    """Where the shards of a hub set are listed until it is packed: an interrupted pack goes on
    with the same ones, whatever the hub has by then."""
    return folder / f".shards-{name}.json"


def _documents(
    name: str, corpus: Corpus, layout: Layout, sources: dict[str, Any], bar: tqdm
) -> Iterator[str]:
    """``corpora.documents``, kept in a file where reading the source takes long for little text.

    Parsing the installed packages takes a minute for some 20 MB of text, and every tokenizer's
    pack would do it again. The file's first line says what it was made from, the reading code
    included; anything else there, and it is made anew.
    """
    if corpus.source != "installed-docs":
        yield from corpora.documents(corpus, bar)
        return
    path = layout.root / "data" / name / "documents.jsonl"
    code = hashlib.sha256(Path(corpora.__file__).read_bytes()).hexdigest()
    key = {"packages": corpus.packages, "sources": sources, "code": code}
    first = json.dumps(key) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_name(".documents.lock"), "documents", wait=True):
        if not _starts_with(path, first):
            partial = path.with_name(".documents.partial")
            with partial.open("w", encoding="utf-8") as out:
                out.write(first)
                for text in corpora.documents(corpus, bar):
                    out.write(json.dumps(text, ensure_ascii=False) + "\n")
            os.replace(partial, path)
    with path.open(encoding="utf-8", newline="\n") as lines:
        next(lines)
        yield from map(json.loads, lines)


def _starts_with(path: Path, line: str) -> bool:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            return next(lines, "") == line
    except OSError:
        return False


def show(suite: Suite, name: str, tokenizer: str, layout: Layout) -> str:
    """A packed corpus in words, with the beginnings of the first documents of each split."""
    _entry(suite.corpora, "corpus", name)
    _entry(suite.tokenizers, "tokenizer", tokenizer)
    folder = layout.tokens(name, tokenizer)
    manifest = read_manifest(folder)
    encoder = load_encoder(tokenizer, layout.tokenizer(tokenizer))
    lines = [f"{folder}: {_in_words(manifest)}"]
    for split in ("train", "validation"):
        head = np.asarray(open_tokens(folder, split, manifest)[:20_000])
        ends = np.flatnonzero(head == encoder.eos_id)
        pieces = [piece for piece in np.split(head, ends[:3] + 1) if len(piece)]
        for number, document in enumerate(pieces[:3], start=1):
            text = encoder.backend.decode(document.tolist(), skip_special_tokens=True)
            lines.append(f"--- {split} document {number} ({len(document)} tokens)")
            lines.append(text if len(text) <= 600 else f"{text[:600]} [...]")
    return "\n".join(lines)


def _in_words(manifest: dict[str, Any]) -> str:
    tokenizer, documents = manifest["tokenizer"], manifest["documents"]
    splits = [
        f"{split} {manifest[split]['tokens']:,} tokens from {manifest[split]['documents']:,} of "
        f"{documents[split]:,} documents"
        for split in ("train", "validation")
    ]
    return (
        f"corpus {manifest['corpus']['name']} ({manifest['corpus']['source']}) in tokens of "
        f"{tokenizer['name']} ({tokenizer['vocab_size']:,} tokens, stored as {manifest['dtype']}): "
        f"{'; '.join(splits)}; {documents['seen']:,} documents read, {documents['duplicates']:,} "
        f"of them duplicates; fingerprint {manifest['fingerprint'][:16]}"
    )


# --- Command line --------------------------------------------------------------------------------


def _entry(entries: dict[str, Any], kind: str, name: str) -> Any:
    if name not in entries:
        raise DataError(f"{kind} {name!r} is not in the suite (allowed: {', '.join(entries)})")
    return entries[name]


def _bar(title: str) -> tqdm:
    """Shown after some seconds; seldom renewed where it goes to a log file."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(desc=title, unit="B", unit_scale=True, delay=3, mininterval=interval)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when done, 2 for bad input."""
    parser = command_line("data", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in {
        "tokenizer": "train or fetch a tokenizer",
        "pack": "sample, tokenize and pack a corpus",
        "show": "describe a packed corpus and print its first documents",
    }.items():
        sub = commands.add_parser(command, help=text, description=text)
        scale_options(sub)
        sub.add_argument("--tokenizer", required=True, help="name under tokenizers: in the config")
        if command != "tokenizer":
            sub.add_argument("--corpus", required=True, help="name under corpora: in the config")
        if command != "show":
            sub.add_argument("--force", action="store_true", help="redo a finished result")
        if command == "pack":
            text = "that tokenize a large corpus (default: one a core); changes no byte"
            sub.add_argument("--processes", type=_positive, help=text)
    options = vars(parser.parse_args(arguments))
    job = {"tokenizer": make_tokenizer, "pack": make_corpus, "show": show}[options.pop("command")]

    def run() -> None:
        suite = open_scale(options.pop("config"), options.pop("overrides"))
        names = [options.pop(key) for key in ("corpus", "tokenizer") if key in options]
        print(job(suite, *names, Layout.work(suite.scale), **options))

    return exit_code("data", run)
