"""tad.data and tad.packing: the packed files hold exactly the chosen documents, or nothing."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import itertools
import json
import pickle
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tad import corpora, data, packing
from tad.config import Corpus
from tad.data import END_OF_TEXT, DataError, PackedTokens, load_encoder, main, train_tokenizer
from tad.packing import TextEncoder, document_hash, pack, read_manifest, validation_limit

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY.parent / "shared" / "data" / "corpora"
WORDS = ["the", "loss", "of", "a", "model", "tail", "mass", "teacher", "student", "learns", "token"]
WORDS += ["every", "from", "in", "this", "distribution", "gradient", "vocabulary", "sentence"]
any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def nonsense(documents: int, seed: int = 0) -> list[str]:
    """Different sentences of 5 to 40 words."""
    rng = random.Random(seed)
    return [
        f"{' '.join(rng.choices(WORDS, k=rng.randint(5, 40)))} {seed}-{number}."
        for number in range(documents)
    ]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(nonsense(200), 320).save_pretrained(folder)
    return load_encoder("bpe", folder)


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


def read_split(folder: Path, split: str, eos: int) -> list[list[int]]:
    """The token lists between the end-of-text tokens; the last may be a cut one, or empty."""
    dtype = "<u2" if read_manifest(folder)["dtype"] == "uint16" else "<u4"
    tokens = np.fromfile(folder / f"{split}.bin", dtype=dtype).tolist()
    pieces: list[list[int]] = [[]]
    for token in tokens:
        if token == eos:
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces


# --- Tokenizers ----------------------------------------------------------------------------------


def test_trained_tokenizer_loads_as_a_transformers_one(tmp_path):
    made = train_tokenizer(nonsense(200), 320)
    assert {Path(name).name for name in made.save_pretrained(tmp_path)} >= {
        "tokenizer.json",
        "tokenizer_config.json",
    }
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert len(loaded) == 320
    assert loaded.eos_token == loaded.pad_token == END_OF_TEXT == "<|endoftext|>"
    assert loaded.eos_token_id == loaded.pad_token_id == 0
    assert (
        loaded("the loss of a teacher")["input_ids"] == made("the loss of a teacher")["input_ids"]
    )


def test_training_learns_frequent_words():
    # 1 + 256 tokens, then t-h, th-e, space-c, space c-a, space ca-t in some order
    backend = train_tokenizer(["the cat"] * 9, 262).backend_tokenizer
    assert backend.encode("the cat").tokens == ["the", "Ġcat"]
    assert len(backend.encode("tac").ids) == 3


def test_the_order_of_texts_does_not_change_a_tokenizer():
    texts = nonsense(200)
    first = train_tokenizer(texts, 320).backend_tokenizer.to_str()
    assert train_tokenizer(texts[::-1], 320).backend_tokenizer.to_str() == first
    assert train_tokenizer(nonsense(200, seed=1), 320).backend_tokenizer.to_str() != first


def test_too_little_text_for_the_vocabulary():
    with pytest.raises(DataError, match=r"vocab_size: 5000: the text has only \d+ .*lower"):
        train_tokenizer(nonsense(5), 5000)


@given(text=any_text)
@settings(max_examples=100, deadline=None)
def test_any_text_decodes_to_itself(encoder, text):
    ids = encoder.backend.encode(text).ids
    assert encoder.backend.decode(ids, skip_special_tokens=False) == text


def test_an_end_of_text_token_spelled_out_in_a_text_is_text(encoder):
    ids = encoder.backend.encode(f"the {END_OF_TEXT} of").ids
    assert encoder.eos_id not in ids
    assert encoder.backend.decode(ids) == f"the {END_OF_TEXT} of"


def test_folder_without_tokenizer_or_without_end_of_text(tmp_path):
    with pytest.raises(DataError, match="tokenizer.json: missing; make it with: python -m tad.dat"):
        load_encoder("bpe", tmp_path)
    train_tokenizer(nonsense(200), 320).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "</s>"}))
    with pytest.raises(DataError, match="end-of-text token '</s>' is not in the vocabulary"):
        load_encoder("bpe", tmp_path)
    spelled = {**config, "eos_token": {"content": END_OF_TEXT}}  # how older files write it
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(spelled))
    assert load_encoder("bpe", tmp_path).eos_id == 0


# --- Packing: what is in the files ---------------------------------------------------------------

property_test = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(texts=st.lists(any_text, min_size=2, max_size=25), seed=st.integers(0, 3))
@property_test
def test_full_budget_packs_every_document_once(encoder, tmp_path, texts, seed):
    splits = split_tokens(texts, encoder, 0.4)
    if not all(splits.values()):
        return
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


def test_the_seed_alone_decides_the_order(encoder, tmp_path, monkeypatch):
    texts = nonsense(100)
    limits = corpus(600, 100)
    first = packed(texts, encoder, limits, tmp_path / "a")
    assert packed(texts, encoder, limits, tmp_path / "b") == first
    assert files(tmp_path / "a") == files(tmp_path / "b")
    monkeypatch.setattr(packing, "BATCH_CHARACTERS", 50)
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


# --- Packing: what is refused, and what is left behind -------------------------------------------


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
    return {path.name for path in folder.iterdir()} - {".lock"}


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

    def killed(path, content):
        raise KeyboardInterrupt

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
        "import sys; from tad.data import PackedTokens; "
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

    refused(r"manifest.json: missing; make it with: python -m tad.data pack", change=shutil.rmtree)
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


# --- Suites and the command line -----------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a small suite, which is the working folder."""
    shutil.copy(REPOSITORY / "config" / "experiments.yaml", tmp_path)
    texts = nonsense(300)
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "general.jsonl").write_text("".join(lines[:200]))
    (tmp_path / "math.jsonl").write_text("".join(lines[200:]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_suite(tmp_path)
    return tmp_path


def local(name: str, **keys) -> dict:
    budgets = {"tokens": 1000, "validation_tokens": 300, "validation_fraction": 0.2}
    return {"source": "local", "path": f"{name}.jsonl", **budgets, **keys}


def write_suite(folder: Path, **sections) -> None:
    suite = {
        "scale": "tiny",
        "seeds": [0],
        "select": {"items": [], "pairs": [], "methods": []},
        "corpora": {"general": local("general"), "math": local("math")},
        "tokenizers": {"bpe": {"vocab_size": 300, "corpora": ["general", "math"]}},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**suite, **sections}))


def run(command: str, *more: str, corpus: str | None = None, tokenizer: str = "bpe") -> int:
    names = ["--corpus", corpus] if corpus else []
    return main([command, "--config", "tiny.yaml", "--tokenizer", tokenizer, *names, *more])


def error(capsys, *arguments, **names) -> str:
    capsys.readouterr()
    assert run(*arguments, **names) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("tad.data: ")
    return err


def test_from_text_to_rows(project, capsys):
    assert run("tokenizer") == 0
    assert AutoTokenizer.from_pretrained("work/tiny/tokenizers/bpe").eos_token_id == 0
    assert run("pack", corpus="general") == 0
    assert len(PackedTokens("work/tiny/data/general/bpe", "train", 16)) == 62
    capsys.readouterr()
    assert run("show", corpus="general") == 0
    out = capsys.readouterr().out
    assert "train 1,000 tokens from" in out and "200 documents read, 0 of them duplicates" in out
    shown = re.findall(r"^--- (train|validation) document \d \(\d+ tokens\)\n(.+)$", out, re.M)
    assert [split for split, _ in shown] == ["train"] * 3 + ["validation"] * 3
    assert {text for _, text in shown} < set(nonsense(300)[:200])


def test_finished_results_are_not_made_again(project, capsys):
    assert run("tokenizer") == run("pack", corpus="general") == 0
    made = [Path("work/tiny") / name for name in (
        "tokenizers/bpe/tokenizer.json", "data/general/bpe/train.bin"
    )]  # fmt: skip
    inodes = [path.stat().st_ino for path in made]
    capsys.readouterr()
    assert run("tokenizer") == run("pack", corpus="general") == 0
    assert capsys.readouterr().out.count("already there, from this configuration") == 2
    assert [path.stat().st_ino for path in made] == inodes
    assert run("tokenizer", "--force") == run("pack", "--force", corpus="general") == 0
    assert all(a != b.stat().st_ino for a, b in zip(inodes, made, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda: write_suite(
            Path(), corpora={"general": local("general", seed=1), "math": local("math")}
        ),
        lambda: Path("general.jsonl").write_text(Path("general.jsonl").read_text() * 2),
        lambda: Path("work/tiny/data/general/bpe/train.bin").write_bytes(b""),
        lambda: Path("work/tiny/data/general/bpe/manifest.json").write_text("{}"),
        lambda: train_tokenizer(nonsense(300), 310).save_pretrained("work/tiny/tokenizers/bpe"),
    ],
    ids=["config", "source", "cut file", "bad manifest", "tokenizer"],
)
def test_a_change_makes_a_corpus_anew(project, capsys, change):
    assert run("tokenizer") == run("pack", corpus="general") == 0
    change()
    capsys.readouterr()
    assert run("pack", corpus="general") == 0
    assert "already there" not in capsys.readouterr().out


def test_a_change_makes_a_tokenizer_anew(project, capsys):
    assert run("tokenizer") == 0
    corpora_changed = {"general": local("general", tokens=900, seed=4), "math": local("math")}
    write_suite(project, corpora=corpora_changed)
    assert run("tokenizer") == 0  # budgets and seed do not change what it is trained on
    assert "already there" in capsys.readouterr().out
    write_suite(project, tokenizers={"bpe": {"vocab_size": 310, "corpora": ["general"]}})
    assert run("tokenizer") == 0
    assert "310 tokens" in capsys.readouterr().out
    Path("work/tiny/tokenizers/bpe/tokenizer.json").unlink()
    assert run("tokenizer") == 0
    assert "already there" not in capsys.readouterr().out


def test_a_tokenizer_sees_only_training_documents_and_so_much(project, monkeypatch):
    seen = []

    def spy(texts, vocab_size):
        seen[:] = texts
        return train_tokenizer(seen, vocab_size)

    monkeypatch.setattr(data, "train_tokenizer", spy)
    texts = nonsense(300)
    limit = validation_limit(0.2)
    assert run("tokenizer") == 0
    assert seen == [text for text in texts if document_hash(text) >= limit]
    monkeypatch.setattr(data, "TRAINING_CHARACTERS", 10_000)
    assert run("tokenizer", "--force") == 0
    assert sum(map(len, seen)) == 10_000
    general = list(itertools.takewhile(lambda text: text.endswith("."), seen))
    assert sum(map(len, general)) <= 5_000 and set(general) < set(texts[:200])


def test_path_tokenizer_is_copied_to_the_same_layout(project, capsys):
    original = train_tokenizer(nonsense(100, seed=3), 290)
    original.save_pretrained("given")
    write_suite(project, tokenizers={"bpe": {"path": "given"}})
    assert run("tokenizer") == run("pack", corpus="math") == 0
    copy = AutoTokenizer.from_pretrained("work/tiny/tokenizers/bpe")
    assert copy.get_vocab() == original.get_vocab()
    assert copy("the loss")["input_ids"] == original("the loss")["input_ids"]
    assert read_manifest(Path("work/tiny/data/math/bpe"))["tokenizer"]["vocab_size"] == 290


def test_tokenizers_that_cannot_be_had(project, capsys):
    write_suite(project, tokenizers={"bpe": {"hub": "somebody/nothing"}})
    assert re.search(
        r"tokenizers.bpe: 'somebody/nothing' cannot be loaded", error(capsys, "tokenizer")
    )
    backend = train_tokenizer(nonsense(100), 290).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained("given")
    write_suite(project, tokenizers={"bpe": {"path": "given"}})
    assert "'given' names no eos_token" in error(capsys, "tokenizer")
    write_suite(project, tokenizers={"bpe": {"vocab_size": 9000, "corpora": ["math"]}})
    assert "tokenizers.bpe.vocab_size: 9000: the text has only" in error(capsys, "tokenizer")


def test_errors_are_one_line_and_exit_code_2(project, capsys):
    missing = "tokenizer.json: missing; make it with"
    assert missing in error(capsys, "pack", corpus="general")
    assert run("tokenizer") == 0
    assert "manifest.json: missing" in error(capsys, "show", corpus="general")
    assert "corpus 'x' is not in the suite (allowed: general, math)" in error(
        capsys, "pack", corpus="x"
    )
    assert "tokenizer 'x' is not in the suite (allowed: bpe)" in error(
        capsys, "tokenizer", tokenizer="x"
    )
    write_suite(project, corpora={"general": local("general", tokens=10**6), "math": local("math")})
    assert "corpora.general.tokens: 1000000: the train split has" in error(
        capsys, "pack", corpus="general"
    )
    Path("math.jsonl").write_text('{"body": "x"}\n')
    assert "math.jsonl: line 1: no field 'text'" in error(capsys, "pack", corpus="math")
    Path("math.jsonl").unlink()
    assert "no file matched" in error(capsys, "pack", corpus="math")
    Path("tiny.yaml").write_text("scale: [")
    assert "tiny.yaml: not valid YAML" in error(capsys, "pack", corpus="math")


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for command in ("tokenizer", "pack", "show"):
        assert f"python -m tad.data {command} --config config/smoke.yaml" in out


def test_as_a_command(project):
    command = [sys.executable, "-m", "tad.data", "pack", "--config", "tiny.yaml"]
    done = subprocess.run(
        [*command, "--corpus", "general", "--tokenizer", "bpe"],
        cwd=project, env={"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("tad.data: ") and done.stderr.count("\n") == 1


def test_installed_documentation_is_parsed_once(project, monkeypatch):
    docs = {"source": "installed-docs", "packages": ["tqdm"], "validation_fraction": 0.3}
    docs |= {"tokens": 2000, "validation_tokens": 100}
    write_suite(
        project,
        corpora={"general": docs},
        tokenizers={"bpe": {"vocab_size": 300, "corpora": ["general"]}},
    )
    calls = []
    parse = corpora.docstrings

    def counted(source):
        calls.append(source)
        return parse(source)

    monkeypatch.setattr(corpora, "docstrings", counted)
    assert run("tokenizer") == 0
    parsed = len(calls)
    assert parsed > 10
    assert run("pack", corpus="general") == 0
    assert len(calls) == parsed
    kept = Path("work/tiny/data/general/documents.jsonl")
    kept.write_text("{}\n" + kept.read_text().partition("\n")[2])  # made from something else
    assert run("pack", "--force", corpus="general") == 0
    assert len(calls) == 2 * parsed


# --- Real text -----------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="shared/data/corpora is not beside the project")
def test_real_text_comes_back_from_the_packed_files(project):
    with gzip.open(SAMPLES / "math.jsonl.gz") as lines:
        (project / "real.jsonl").write_bytes(b"".join(itertools.islice(lines, 150)))
    real = local("real", tokens=100_000, validation_tokens=10_000)
    write_suite(
        project,
        corpora={"general": real},
        tokenizers={"bpe": {"vocab_size": 1000, "corpora": ["general"]}},
    )
    assert run("tokenizer") == run("pack", corpus="general") == 0
    encoder = load_encoder("bpe", Path("work/tiny/tokenizers/bpe"))
    texts = set(corpora.documents(Corpus.model_validate(real)))
    folder = Path("work/tiny/data/general/bpe")
    for split in packing.SPLITS:
        *whole, last = read_split(folder, split, encoder.eos_id)
        decoded = [encoder.backend.decode(ids) for ids in whole]
        assert len(decoded) >= 3 and set(decoded) <= texts
        assert any(
            text.encode().startswith(encoder.backend.decode(last).encode()[:-3]) for text in texts
        )
