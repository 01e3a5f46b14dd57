"""tad.data.hub: shards of a hub set, read to the budget over wires that break, and pinned."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tad.data.prepare import train_tokenizer

from ..made_up_text import nonsense
from .hub_stand_in import ID, REPOSITORY, Hub, serving

SHARDS, ROWS = 6, 60
SMALL_RANGES = """
import sys
from tad.data import hub, prepare
hub.RANGE = 2048
sys.exit(prepare.main(sys.argv[1:]))
"""
SUITE = """
scale: tiny
seeds: [0]
select: {items: [], pairs: [], methods: []}
corpora:
  general:
    {source: hub, id: %s, tokens: %d, validation_tokens: 300, validation_fraction: 0.2, seed: 1}
tokenizers: {bpe: {path: given}}
"""


def parquet(texts: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"number": range(len(texts)), "text": texts}), buffer)
    return buffer.getvalue()


def shard(number: int) -> str:
    return f"data/train-{number:05d}-of-{SHARDS:05d}.parquet"


def content() -> dict[str, bytes]:
    files = {shard(n): parquet(nonsense(ROWS, seed=n)) for n in range(SHARDS)}
    return {"README.md": b"---\nlicense: mit\n---\n", "data/test.parquet": parquet(["no"]), **files}


class Project:
    """A folder with a suite of one hub corpus, and commands that see the stand-in as the hub."""

    def __init__(self, folder: Path, hub: Hub, tokens: int = 5000, id: str = ID) -> None:
        self.folder, self.hub = folder, hub
        self.packed = folder / "work" / "tiny" / "data" / "general" / "bpe"
        (folder / "tiny.yaml").write_text(SUITE % (id, tokens))
        shutil.copy(REPOSITORY / "config" / "experiments.yaml", folder)
        tokenizer = folder / "work" / "tiny" / "tokenizers" / "bpe"
        train_tokenizer(nonsense(200), 320).save_pretrained(tokenizer)

    def pack(self, *more: str) -> tuple[int, str]:
        """Exit code and what it said."""
        names = ("--config", "tiny.yaml", "--corpus", "general", "--tokenizer", "bpe")
        with subprocess.Popen(
            [sys.executable, "-c", SMALL_RANGES, "pack", *names, *more],
            cwd=self.folder, env=self.hub.environment(self.folder), text=True,
            start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            self.hub.victim = process.pid
            said, _ = process.communicate(timeout=300)
        return process.returncode, said

    def result(self) -> tuple[bytes, ...]:
        names = ("train.bin", "validation.bin", "manifest.json")
        return tuple((self.packed / name).read_bytes() for name in names)

    def manifest(self) -> dict:
        return json.loads((self.packed / "manifest.json").read_text())


@pytest.fixture
def hub():
    with serving(Hub(content())) as hub:
        yield hub


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Project, list[str]]:
    """A pack that nothing interrupted, and the shards that it read, in order."""
    with serving(Hub(content())) as hub:
        project = Project(tmp_path_factory.mktemp("whole"), hub)
        code, said = project.pack()
        assert code == 0, said
    return project, [name.partition("@")[2].partition("/")[2] for name in
                     (entry["name"] for entry in project.manifest()["shards"])]  # fmt: skip


def test_shards_are_read_to_the_budget_and_told(whole):
    project, read = whole
    manifest, files = project.manifest(), project.hub.files
    assert 3 <= len(read) < SHARDS == manifest["shards_in_all"]
    assert {path for path in project.hub.sent if path.endswith(".parquet")} == set(read)
    for entry, path in zip(manifest["shards"], read, strict=True):
        sha = hashlib.sha256(files[path]).hexdigest()
        assert entry["name"] == f"hf://datasets/{ID}@{project.hub.commit}/{path}"
        assert (entry["bytes"], entry["rows"]) == (len(files[path]), ROWS)
        assert entry["sha256"] == entry["etag"] == sha
    assert manifest["documents"]["seen"] == ROWS * len(read)
    assert manifest["train"]["tokens"] == 5000
    assert read != sorted(read), "in an order of the seed, not of topics or dates"
    hidden = [path.name for path in project.packed.iterdir() if path.name.startswith(".")]
    assert hidden == [".lock"], "no shard, listing or unfinished file stays"


def test_cut_connections_are_taken_up_where_they_broke(whole, hub, tmp_path):
    other, read = whole
    hub.cut = {read[0]: ["", "close"], read[1]: ["reset"]}
    project = Project(tmp_path, hub)
    code, said = project.pack()
    assert code == 0, said
    assert hub.cut == {read[0]: [], read[1]: []}
    assert project.result() == other.result()
    for path in read[:2]:  # half a range was lost
        assert len(hub.files[path]) < hub.sent[path] <= len(hub.files[path]) + 1024


def test_a_killed_pack_goes_on_with_the_shard_and_the_commit_that_it_was_at(whole, hub, tmp_path):
    other, read = whole
    hub.cut = {read[1]: ["", "kill"]}
    project = Project(tmp_path, hub)
    code, _ = project.pack()
    assert code == -9 and not (project.packed / "manifest.json").exists()
    first = copy.copy(hub.sent)
    assert first[read[0]] == len(hub.files[read[0]]) and read[2] not in first
    hub.commit = "d" * 40  # the set has grown meanwhile
    hub.files["data/train-00006-of-00007.parquet"] = parquet(nonsense(ROWS, seed=9))
    code, said = project.pack()
    assert code == 0, said
    assert project.result() == other.result()
    assert hub.sent[read[0]] == first[read[0]], "a finished shard is not fetched again"
    assert hub.sent[read[1]] <= len(hub.files[read[1]]) + 1024, "nor what there was of the other"


def test_a_larger_budget_after_too_large_a_one_reads_nothing_again(hub, tmp_path):
    code, said = Project(tmp_path, hub, tokens=10**6).pack()
    assert code == 2 and "corpora.general.tokens: 1000000: the train split has" in said
    project = Project(tmp_path, hub, tokens=3500)
    before = copy.copy(hub.sent)
    assert before.keys() >= {shard(n) for n in range(SHARDS)}
    code, said = project.pack()
    assert code == 0, said
    assert hub.sent == before
    assert len(project.manifest()["shards"]) < SHARDS


def test_a_shard_that_is_damaged_on_the_way_is_refused_and_fetched_again(whole, hub, tmp_path):
    other, read = whole
    hub.damaged = {read[0]}
    project = Project(tmp_path, hub)
    code, said = project.pack()
    assert code == 2 and said.splitlines()[-1].startswith("tad data: hf://")
    assert f"{read[0]}: damaged on the way; the same command fetches it again" in said
    hub.damaged = set()
    assert project.pack()[0] == 0
    assert project.result() == other.result()


def test_a_set_that_is_not_there_is_named_in_one_line(hub, tmp_path):
    code, said = Project(tmp_path, hub, id="somebody/nothing").pack()
    assert code == 2
    assert said.count("\n") == 1 and said.startswith("tad data: somebody/nothing: split 'train'")
