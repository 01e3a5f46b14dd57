"""tad.data.tokenizing: whatever the processes and interruptions, the same bytes; flat in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tad.data import packing, tokenizing
from tad.data.corpora import CorpusError, Part
from tad.data.packing import pack_parts
from tad.data.prepare import END_OF_TEXT
from tad.data.tokenizing import TextEncoder
from tad.experiment.schema import Corpus

from ..made_up_text import make_encoder, nonsense

REPOSITORY = Path(__file__).parents[3]
CORPUS = Corpus(
    source="local", path="made-up", tokens=3000, validation_tokens=400, validation_fraction=0.2
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> TextEncoder:
    return make_encoder(tmp_path_factory.mktemp("tokenizer"))


class Source:
    """Five parts of 60 documents; ``failing`` raises after some documents of a part."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.failing: int | None = None

    def parts(self, names: str = "abcde") -> list[Part]:
        return [self.part(name, number) for number, name in enumerate(names)]

    def part(self, name: str, number: int) -> Part:
        def documents(folder: Path):
            self.read.append(name)
            for count, text in enumerate(nonsense(60, seed=ord(name))):
                if self.failing == number and count == 30:
                    raise KeyboardInterrupt
                yield text

        return Part(name=name, source="made-up", documents=documents, facts={"name": name})


def packed(source: Source, encoder, folder: Path, **options) -> tuple[bytes, ...]:
    pack_parts(
        options.pop("parts", source.parts()), encoder, "x", options.pop("corpus", CORPUS), folder,
        sources={}, **options,
    )  # fmt: skip
    return result(folder)


def result(folder: Path) -> tuple[bytes, ...]:
    names = ("train.bin", "validation.bin", "manifest.json")
    return tuple((folder / name).read_bytes() for name in names)


@pytest.mark.parametrize("failing", range(5))
def test_an_interrupted_pack_goes_on_with_its_part_to_the_same_bytes(
    encoder, tmp_path, failing, monkeypatch
):
    monkeypatch.setattr(tokenizing, "BATCH_CHARACTERS", 500)
    expected = packed(Source(), encoder, tmp_path / "whole")
    source = Source()
    source.failing = failing
    with pytest.raises(KeyboardInterrupt):
        packed(source, encoder, tmp_path / "x")
    # What a kill leaves behind the last complete part is cut off.
    with (tmp_path / "x" / ".partial" / "tokens").open("ab") as tokens:
        tokens.write(b"half a batch")
    source.failing = None
    assert packed(source, encoder, tmp_path / "x") == expected
    assert "".join(source.read) == "abcde"[: failing + 1] + "abcde"[failing:]


def test_parts_of_other_names_are_read_anew(encoder, tmp_path):
    source = Source()
    source.failing = 3
    with pytest.raises(KeyboardInterrupt):
        packed(source, encoder, tmp_path / "x")
    source.failing, source.read = None, []
    found = packed(source, encoder, tmp_path / "x", parts=source.parts("abfde"))
    assert "".join(source.read) == "fde"
    assert found == packed(Source(), encoder, tmp_path / "y", parts=source.parts("abfde"))


def test_another_source_tokenizer_or_the_wish_for_it_begins_afresh(encoder, tmp_path):
    for change in ({"corpus": CORPUS.model_copy(update={"text_field": "body"})}, {"fresh": True}):
        source = Source()
        source.failing = 2
        with pytest.raises(KeyboardInterrupt):
            packed(source, encoder, tmp_path / "x")
        source.failing, source.read = None, []
        packed(source, encoder, tmp_path / "x", **change)
        assert "".join(source.read) == "abcde"


def test_the_first_parts_that_hold_the_budget_are_enough_unless_all_are_asked_for(
    encoder, tmp_path
):
    some, every = Source(), Source()
    packed(some, encoder, tmp_path / "some", whole=False)
    packed(every, encoder, tmp_path / "every")
    assert every.read == list("abcde") and some.read == list("abcde")[: len(some.read)]
    manifest = json.loads((tmp_path / "some" / "manifest.json").read_text())
    assert [shard["name"] for shard in manifest["shards"]] == some.read
    assert manifest["shards_in_all"] == 5
    # Not before both splits have enough, duplicates not counted.
    last = "".join(some.read)
    assert 1 < len(last) < 5
    twice = some.parts(last[:-1] * 2 + last[-1])
    some.read = []
    with pytest.raises(packing.DataError, match="lower tokens to at most"):
        packed(some, encoder, tmp_path / "twice", whole=False, parts=twice[:-1])
    packed(some, encoder, tmp_path / "twice", whole=False, parts=twice)
    assert some.read[-1] == last[-1]


def test_the_number_of_processes_changes_no_byte(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "BATCH_CHARACTERS", 700)
    special = [f"Say {END_OF_TEXT} aloud.", "größer \u2028 \U0001f600"]
    source = Source()
    parts = [*source.parts(), Part(name="s", source="made-up", documents=lambda x: iter(special))]
    expected = packed(source, encoder, tmp_path / "1", parts=parts)
    assert packed(source, encoder, tmp_path / "2", parts=parts, processes=2) == expected
    monkeypatch.setattr(tokenizing, "POOL_AFTER", 5000)  # a pool from the middle of a part on
    for processes in (2, 3):
        folder = tmp_path / f"pool{processes}"
        assert packed(source, encoder, folder, parts=parts, processes=processes) == expected


def test_what_the_source_raises_comes_through_a_pool(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizing, "POOL_AFTER", 0)

    def broken(folder: Path):
        yield from nonsense(50)
        raise CorpusError("a.jsonl: line 51: not valid JSON")

    part = Part(name="x", source="made-up", documents=broken)
    with pytest.raises(CorpusError, match="line 51"):
        packed(Source(), encoder, tmp_path, parts=[part], processes=2)


def test_one_of_several_sources_without_text_is_named(encoder, tmp_path):
    empty = Part(name="e", source="empty.jsonl", documents=lambda folder: iter(()))
    with pytest.raises(CorpusError, match="^empty.jsonl: no document with text in it"):
        packed(Source(), encoder, tmp_path, parts=[*Source().parts(), empty])


PEAK = """
import resource, sys
from pathlib import Path
from tad.data.corpora import Part
from tad.data.packing import pack_parts
from tad.data.prepare import load_encoder
from tad.experiment.schema import Corpus
from tests.tad.made_up_text import nonsense

def documents(folder):
    some = nonsense(2000)
    for number in range(int(sys.argv[1])):
        yield f"{some[number % 2000]} {some[number * 7 % 2000]} {number}"

corpus = Corpus(source="local", path="x", tokens=10_000, validation_tokens=1000)
part = Part(name="x", source="x", documents=documents)
encoder = load_encoder("bpe", Path(sys.argv[2]))
pack_parts([part], encoder, "x", corpus, Path(sys.argv[3]), sources={})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    make_encoder(tmp_path)

    def peak(documents: int) -> int:
        arguments = [str(documents), str(tmp_path), str(tmp_path / str(documents))]
        return int(subprocess.run(
            [sys.executable, "-c", PEAK, *arguments], cwd=REPOSITORY, check=True,
            capture_output=True, text=True,
        ).stdout)  # fmt: skip

    # 2 and 8 MB of text: 6 MB more as text, 4 as tokens, and over a hundred as the lists
    # of the tokenizer. The index takes some 60 bytes a document.
    small, large = peak(6_500), peak(26_000)
    assert large - small < 4e6, (small, large)
