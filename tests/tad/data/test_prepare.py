"""tad data: tokenizers and corpora of a suite, by name, and their command line."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tad.data import corpora
from tad.data import prepare as data
from tad.data.packing import SPLITS, PackedTokens, read_manifest, validation_limit
from tad.data.prepare import END_OF_TEXT, load_encoder, main, train_tokenizer
from tad.data.tokenizing import DataError, TextEncoder, document_hash
from tad.experiment.schema import Corpus

from ..made_up_text import ANY_TEXT, make_encoder, nonsense, read_split

REPOSITORY = Path(__file__).parents[3]
SAMPLES = REPOSITORY.parent / "shared" / "data" / "corpora"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> TextEncoder:
    return make_encoder(tmp_path_factory.mktemp("tokenizer"))


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


@given(text=ANY_TEXT)
@settings(max_examples=100, deadline=None)
def test_ANY_TEXT_decodes_to_itself(encoder, text):
    ids = encoder.backend.encode(text).ids
    assert encoder.backend.decode(ids, skip_special_tokens=False) == text


def test_an_end_of_text_token_spelled_out_in_a_text_is_text(encoder):
    ids = encoder.backend.encode(f"the {END_OF_TEXT} of").ids
    assert encoder.eos_id not in ids
    assert encoder.backend.decode(ids) == f"the {END_OF_TEXT} of"


def test_folder_without_tokenizer_or_without_end_of_text(tmp_path):
    with pytest.raises(DataError, match="tokenizer.json: missing; make it with: tad data"):
        load_encoder("bpe", tmp_path)
    train_tokenizer(nonsense(200), 320).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "</s>"}))
    with pytest.raises(DataError, match="end-of-text token '</s>' is not in the vocabulary"):
        load_encoder("bpe", tmp_path)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        whole = (tmp_path / name).read_text()
        (tmp_path / name).write_text(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="damaged tokenizer"):
            load_encoder("bpe", tmp_path)
        (tmp_path / name).write_text(whole)
    spelled = {**config, "eos_token": {"content": END_OF_TEXT}}  # how older files write it
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(spelled))
    assert load_encoder("bpe", tmp_path).eos_id == 0


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
    assert out == "" and err.count("\n") == 1 and err.startswith("tad data: ")
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
        "tokenizers.bpe: somebody/nothing: no such folder, not downloaded",
        error(capsys, "tokenizer"),
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
        assert f"tad data {command} --config config/smoke.yaml" in out


def test_as_a_command(project):
    command = [sys.executable, "-m", "tad", "data", "pack", "--config", "tiny.yaml"]
    done = subprocess.run(
        [*command, "--corpus", "general", "--tokenizer", "bpe"],
        cwd=project, env={"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("tad data: ") and done.stderr.count("\n") == 1


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
    for split in SPLITS:
        *whole, last = read_split(folder, split, encoder.eos_id)
        decoded = [encoder.backend.decode(ids) for ids in whole]
        assert len(decoded) >= 3 and set(decoded) <= texts
        assert any(
            text.encode().startswith(encoder.backend.decode(last).encode()[:-3]) for text in texts
        )
