"""tad.data.packing: the packed files hold exactly the chosen documents, or there are none."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from tad.data import packing, tokenizing
from tad.data.packing import PackedTokens, pack, read_manifest, validation_limit
from tad.data.prepare import END_OF_TEXT
from tad.data.tokenizing import DataError, TextEncoder, document_hash
from tad.experiment.schema import Corpus

from ..made_up_text import ANY_TEXT, make_encoder, nonsense, read_split

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> TextEncoder:
    return make_encoder(tmp_path_factory.mktemp("tokenizer"))


def corpus(tokens: int = 1, validation_tokens: int = 1, fraction: float = 0.2, seed: int = 0):
    return Corpus(
        source="local", path="made-up", tokens=tokens, validation_tokens=validation_tokens,
        validation_fraction=fraction, seed=seed,
    )  # fmt: skip


def split_tokens(texts, encoder: TextEncoder, fraction: float = 0.2) -> dict[str, dict[str, list]]:
    """The splits by an implementation of their own: {split: {text: token ids}}."""
    splits: dict[str, dict[str, list]] = {"train": {}, "validation": {}}
    for text in texts:
        digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
        share = int.from_bytes(digest, "little") / 2**64
        ids = encoder.backend.encode(text, add_special_tokens=False).ids
        splits["validation" if share < fraction else "train"][text] = ids
    return splits


def total(split: dict[str, list]) -> int:
    """Tokens of a split, an end of text after every document."""
    return sum(len(ids) + 1 for ids in split.values())


def packed(texts, encoder, settings: Corpus, folder: Path) -> dict:
    return pack(iter(texts), encoder, "made-up", settings, folder, sources={})


# --- What is in the files ------------------------------------------------------------------------

property_test = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(texts=st.lists(ANY_TEXT, min_size=2, max_size=25), seed=st.integers(0, 3))
@property_test
def test_full_budget_packs_every_document_once(encoder, tmp_path, texts, seed):
    splits = split_tokens(texts, encoder, 0.4)
    assume(all(splits.values()))
    limits = corpus(total(splits["train"]), total(splits["validation"]), 0.4, seed)
    manifest = packed(texts, encoder, limits, tmp_path)
    for split, documents in splits.items():
        pieces = read_split(tmp_path, split, encoder.eos_id)
        assert pieces.pop() == []  # nothing after the last end of text
        decoded = [encoder.backend.decode(ids, skip_special_tokens=False) for ids in pieces]
        assert sorted(decoded) == sorted(documents)
        assert manifest[split]["documents"] == manifest["documents"][split] == len(documents)
    assert manifest["documents"]["seen"] == len(texts)
    assert manifest["documents"]["duplicates"] == len(texts) - len(set(texts))


@given(share=st.floats(0.01, 1), seed=st.integers(0, 3))
@property_test
def test_any_budget_is_met_exactly_by_whole_documents_but_for_the_last(
    encoder, tmp_path, share, seed
):
    texts = nonsense(60)
    splits = split_tokens(texts, encoder)
    budgets = {split: max(1, int(share * total(part))) for split, part in splits.items()}
    limits = corpus(budgets["train"], budgets["validation"], seed=seed)
    manifest = packed(texts, encoder, limits, tmp_path)
    for split, budget in budgets.items():
        assert (tmp_path / f"{split}.bin").stat().st_size == 2 * budget
        assert manifest[split]["tokens"] == budget
        *whole, last = read_split(tmp_path, split, encoder.eos_id)
        assert all(ids in splits[split].values() for ids in whole)
        assert len({tuple(ids) for ids in whole}) == len(whole)
        assert any(ids[: len(last)] == last for ids in splits[split].values() if ids not in whole) \
            or not last  # fmt: skip
        assert manifest[split]["documents"] == len(whole) + bool(last)


def test_no_document_is_in_both_splits_or_twice(encoder, tmp_path):
    texts = nonsense(100) * 3
    splits = split_tokens(texts, encoder)
    packed(texts, encoder, corpus(*map(total, splits.values())), tmp_path)
    both = {s: [tuple(x) for x in read_split(tmp_path, s, 0)[:-1]] for s in packing.SPLITS}
    assert not set(both["train"]) & set(both["validation"])
    assert len(both["train"] + both["validation"]) == 100
    assert 5 <= len(both["validation"]) <= 40  # 20 of 100 expected


def files(folder: Path) -> list[bytes]:
    return [(folder / f"{split}.bin").read_bytes() for split in packing.SPLITS]


@pytest.mark.parametrize("bos", [1, 0])
def test_documents_begin_with_bos_unless_it_is_the_end_of_text(encoder, tmp_path, bos):
    texts = nonsense(40)
    marked = dataclasses.replace(encoder, bos=(bos,))  # id 0 is the end of text
    written = 1 if bos else 0
    expected = [
        [bos] * written + encoder.encode(text)
        for text in texts
        if document_hash(text) >= validation_limit(0.2)
    ]
    budget = sum(len(ids) + 1 for ids in expected)
    manifest = pack(texts, marked, "x", corpus(budget), tmp_path, sources={})
    assert manifest["bos"] == bool(written)
    *documents, last = read_split(tmp_path, "train", encoder.eos_id)
    assert last == [] and sorted(documents) == sorted(expected)


def test_the_seed_alone_decides_the_order(encoder, tmp_path, monkeypatch):
    texts = nonsense(100)
    limits = corpus(600, 100)
    first = packed(texts, encoder, limits, tmp_path / "a")
    assert packed(texts, encoder, limits, tmp_path / "b") == first
    assert files(tmp_path / "a") == files(tmp_path / "b")
    monkeypatch.setattr(tokenizing, "BATCH_CHARACTERS", 50)
    shuffled = packed(texts[::-1], encoder, limits, tmp_path / "c")  # in another order of files
    assert files(tmp_path / "c") == files(tmp_path / "a")
    assert shuffled["fingerprint"] == first["fingerprint"]
    other = packed(texts, encoder, corpus(600, 100, seed=1), tmp_path / "d")
    assert files(tmp_path / "d") != files(tmp_path / "a")
    assert other["fingerprint"] != first["fingerprint"]


def test_a_larger_budget_begins_with_the_smaller_one(encoder, tmp_path):
    packed(nonsense(100), encoder, corpus(200, 50), tmp_path / "a")
    packed(nonsense(100), encoder, corpus(900, 90), tmp_path / "b")
    for small, large in zip(files(tmp_path / "a"), files(tmp_path / "b"), strict=True):
        assert large[: len(small)] == small


def test_a_sample_is_not_the_head_of_the_source(encoder, tmp_path):
    texts = nonsense(400)
    packed(texts, encoder, corpus(1500, 100), tmp_path)
    place = {tuple(encoder.backend.encode(text).ids): n for n, text in enumerate(texts)}
    places = [place[tuple(ids)] for ids in read_split(tmp_path, "train", 0)[:-1]]
    assert places != sorted(places)
    assert min(places) < 100 and max(places) > 300


def wide_encoder(vocab_size: int) -> TextEncoder:
    vocabulary = {f"w{number}": number for number in range(vocab_size)}
    backend = Backend(models.WordLevel(vocabulary, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TextEncoder(
        name="words", backend=backend, vocab_size=vocab_size, eos_token="w0", eos_id=0, sha256=""
    )


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_the_dtype_fits_the_vocabulary(tmp_path, vocab_size, dtype):
    largest = vocab_size - 1
    texts = [f"w{largest} w{number}" for number in range(1, 40)]
    assert packed(texts, wide_encoder(vocab_size), corpus(30, 3), tmp_path)["dtype"] == dtype
    row = PackedTokens(tmp_path, "train", 8)[0]
    assert row["input_ids"].max() == largest


def test_manifest_says_what_is_there(encoder, tmp_path):
    limits = corpus(500, 60)
    packed(nonsense(100), encoder, limits, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["corpus"] == {"name": "made-up", **limits.model_dump()}
    assert manifest["tokenizer"] == {
        "name": "bpe", "sha256": encoder.sha256, "vocab_size": 320,
        "eos_token": END_OF_TEXT, "eos_id": 0,
    }  # fmt: skip
    for split in packing.SPLITS:
        content = (tmp_path / f"{split}.bin").read_bytes()
        assert manifest[split]["sha256"] == hashlib.sha256(content).hexdigest()


def test_fingerprint_follows_the_content_not_the_names(encoder, tmp_path):
    first = packed(nonsense(100), encoder, corpus(500, 60), tmp_path / "a")["fingerprint"]
    moved = pack(
        nonsense(100), encoder, "renamed", corpus(500, 60), tmp_path / "b", sources={"x": 1}
    )
    assert moved["fingerprint"] == first
    changed = nonsense(99) + ["the last one is another."]
    assert packed(changed, encoder, corpus(500, 60), tmp_path / "c")["fingerprint"] != first


# --- What is refused, and what is left behind ----------------------------------------------------


def test_budgets_larger_than_the_corpus_say_how_much_there_is(encoder, tmp_path):
    texts = nonsense(100)
    have = {split: total(part) for split, part in split_tokens(texts, encoder).items()}
    packed(texts, encoder, corpus(have["train"], have["validation"]), tmp_path)
    with pytest.raises(
        DataError,
        match=(
            rf"corpora.made-up.tokens: {have['train'] + 1}: the train split has {have['train']} to"
            r"kens in \d+ different documents; lower tokens to at most that$"
        ),
    ):
        packed(texts, encoder, corpus(have["train"] + 1), tmp_path)
    with pytest.raises(
        DataError,
        match=(
            rf"corpora.made-up.validation_tokens: 99999: .* {have['validation']} tokens in .*lower "
            "validation_tokens to at most that or raise its validation_fraction"
        ),
    ):
        packed(texts, encoder, corpus(100, 99_999), tmp_path)


def test_empty_splits(encoder, tmp_path):
    hashes = sorted((document_hash(text), text) for text in nonsense(50))
    share = 2**-64 * hashes[0][0]
    with pytest.raises(DataError, match="none of 50 documents falls into the validation split; ra"):
        packed([text for _, text in hashes], encoder, corpus(fraction=share / 2), tmp_path)
    few = [text for value, text in hashes if value < validation_limit(0.4)]
    with pytest.raises(DataError, match=rf"none of {len(few)} documents falls into the train spli"):
        packed(few, encoder, corpus(fraction=0.4), tmp_path)
    with pytest.raises(DataError, match="no document has a token"):
        packed([], encoder, corpus(), tmp_path)


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock", ".partial"}


def test_a_failure_leaves_nothing_and_spares_what_was_there(encoder, tmp_path):
    def broken():
        yield from nonsense(20)
        raise RuntimeError("the source fails")

    with pytest.raises(RuntimeError):
        packed(broken(), encoder, corpus(100, 10), tmp_path)
    assert visible(tmp_path) == set()
    packed(nonsense(100), encoder, corpus(500, 60), tmp_path)
    before = files(tmp_path)
    with pytest.raises(RuntimeError):
        packed(broken(), encoder, corpus(100, 10), tmp_path)
    assert visible(tmp_path) == {"train.bin", "validation.bin", "manifest.json"}
    assert files(tmp_path) == before and len(PackedTokens(tmp_path, "train", 8)) == 62


def test_remains_of_a_killed_process_are_cleared(encoder, tmp_path):
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "tokens").write_bytes(b"x" * 100)
    packed(nonsense(100), encoder, corpus(500, 60), tmp_path)
    assert visible(tmp_path) == {"train.bin", "validation.bin", "manifest.json"}


def test_the_manifest_comes_last(encoder, tmp_path, monkeypatch):
    packed(nonsense(100), encoder, corpus(500, 60), tmp_path)

    write_json = packing.records.write_json

    def killed(path, content):
        if path.name == "manifest.json":
            raise KeyboardInterrupt
        write_json(path, content)

    monkeypatch.setattr(packing.records, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        packed(nonsense(100, seed=1), encoder, corpus(500, 60), tmp_path)
    with pytest.raises(DataError, match="manifest.json: missing"):  # never the old one on new files
        PackedTokens(tmp_path, "train", 8)


def test_two_processes_do_not_pack_to_one_folder(encoder, tmp_path):
    with (tmp_path / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is at it"):
            packed(nonsense(100), encoder, corpus(500, 60), tmp_path)
    packed(nonsense(100), encoder, corpus(500, 60), tmp_path)


# --- Rows ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(encoder, tmp_path) -> Path:
    packed(nonsense(100), encoder, corpus(501, 65), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("context", "rows"), [(1, 500), (10, 50), (32, 15), (100, 5), (250, 2), (251, 1), (500, 1)]
)
def test_rows_are_the_tokens_and_their_successors(folder, context, rows):
    tokens = np.fromfile(folder / "train.bin", dtype="<u2").astype(np.int64)
    dataset = PackedTokens(folder, "train", context)
    assert len(dataset) == rows
    for number, row in zip(range(rows), dataset, strict=True):
        start = number * context
        assert row["input_ids"].dtype == row["labels"].dtype == torch.int64
        assert row["input_ids"].tolist() == tokens[start : start + context].tolist()
        assert row["labels"].tolist() == tokens[start + 1 : start + context + 1].tolist()
    assert dataset[-1]["labels"].tolist() == dataset[rows - 1]["labels"].tolist()
    for outside in (rows, -rows - 1):
        with pytest.raises(IndexError):
            dataset[outside]


def test_rows_know_their_data(folder):
    dataset = PackedTokens(folder, "validation", 8)
    assert (dataset.vocab_size, dataset.eos_id) == (320, 0)
    assert dataset.fingerprint == read_manifest(folder)["fingerprint"]
    assert len(PackedTokens(folder, "validation", 8, fingerprint=dataset.fingerprint)) == 8


def test_a_worker_process_gets_the_path_not_the_tokens(folder):
    dataset = PackedTokens(folder, "train", 10)
    message = pickle.dumps(dataset)
    assert len(message) < 1000  # the tokens are 1,002 bytes
    assert torch.equal(pickle.loads(message)[7]["labels"], dataset[7]["labels"])
    batches = torch.utils.data.DataLoader(dataset, batch_size=25)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(25, 10), (25, 10)]


def test_rows_are_copies_that_may_be_written_to(folder):
    dataset = PackedTokens(folder, "train", 10)
    before = dataset[0]["input_ids"].clone()
    dataset[0]["input_ids"].fill_(-1)
    assert torch.equal(dataset[0]["input_ids"], before)


def test_torch_is_loaded_only_for_rows(folder):
    code = (
        "import sys; from tad.data.packing import PackedTokens; import tad.data.prepare; "
        f"print(len(PackedTokens({str(folder)!r}, 'train', 10)), "
        "[name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout.strip() == "50 []"


def test_faults_of_a_packed_folder(folder, tmp_path_factory):
    def refused(message, split="train", context=8, change=None, **keys):
        copy = tmp_path_factory.mktemp("copy") / "data"
        shutil.copytree(folder, copy)
        if change:
            change(copy)
        with pytest.raises(DataError, match=message) as caught:
            PackedTokens(copy, split, context, **keys)
        assert "\n" not in str(caught.value)

    def cut(copy):
        (copy / "train.bin").write_bytes((copy / "train.bin").read_bytes()[:-2])

    def edit(copy):
        path = copy / "manifest.json"
        path.write_text(path.read_text().replace('"dtype": "uint16"', '"dtype": "uint8"'))

    refused(
        r"manifest.json: missing; make it with: tad data pack",
        change=shutil.rmtree,
    )
    refused("manifest.json: damaged", change=lambda copy: (copy / "manifest.json").write_text("{"))
    refused("manifest.json: damaged", change=lambda copy: (copy / "manifest.json").write_text("{}"))
    refused("fingerprint does not fit its parts", change=edit)
    refused("train.bin: missing, must be 1002", change=lambda copy: (copy / "train.bin").unlink())
    refused(r"train.bin: 1000 bytes, must be 1002 bytes by its manifest", change=cut)
    refused("fingerprint is .*, expected 0123: these are other data", fingerprint="0123")
    refused(r"split 'test' is unknown \(allowed: train, validation\)", split="test")
    refused("context=501: train.bin has 501 tokens.* from 1 to 500", context=501)
    refused("context=65: validation.bin has 65 tokens", split="validation", context=65)
    refused("context=0", context=0)


# --- What a source holds -------------------------------------------------------------------------


def test_a_budget_beyond_what_the_source_holds_is_clipped_and_told(encoder, tmp_path):
    splits = split_tokens(nonsense(100), encoder)
    have = total(splits["train"])
    holds = int(have * 0.95 / 0.8)  # the tokenizer at hand makes a little more of it
    limits = corpus(10**6).model_copy(update={"holds": holds})
    manifest = packed(nonsense(100), encoder, limits, tmp_path)
    assert manifest["train"]["tokens"] == limits.train_tokens == int(holds * 0.8)
    assert manifest["train"]["asked"] == 10**6
    assert manifest["corpus"]["holds"] == holds
    assert read_manifest(tmp_path) == manifest
    whole = packed(nonsense(100), encoder, corpus(have), tmp_path / "b")
    assert "asked" not in whole["train"] and "holds" not in whole["corpus"]


def test_a_source_that_holds_less_than_it_says_is_refused(encoder, tmp_path):
    texts = nonsense(100)
    limits = corpus(10**6).model_copy(update={"holds": 10**5})
    with pytest.raises(DataError, match=r"corpora.made-up.holds: 100000: .*lower holds to") as e:
        packed(texts, encoder, limits, tmp_path)
    cure = int(re.search(r"at most (\d+)$", str(e.value))[1])
    packed(texts, encoder, limits.model_copy(update={"holds": cure}), tmp_path)
