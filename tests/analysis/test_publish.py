"""Published files are those that their manifest names."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from analysis.publish import PublishError, main, publish, published
from analysis.resampled import fewshot_items
from tad.experiment.config import load_suite
from workflow.items import DESIGN, all_records

from .conftest import CONFIG
from .test_provenance import CLEAN, DIRTY, OTHER, records


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_published_files_are_those_of_their_manifest(scale):
    root = CONFIG.parent / "results" / scale
    expected = json.loads((root / "manifest.json").read_text())["files"]
    found = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in expected}
    assert found == expected


ITEM = {"task": "piqa", "item": 3, "doc_hash": "0123456789abcdef", "correct": 1, "margin": 0.25}


def test_of_what_there_are_hundreds_only_what_is_read_is_kept(tmp_path):
    items, curve = tmp_path / "fewshot.items.jsonl.gz", tmp_path / "train.jsonl"
    items.write_bytes(gzip.compress(json.dumps(ITEM).encode()))
    kept = json.loads(gzip.decompress(published(items)))
    assert kept == {"task": "piqa", "item": 3, "doc_hash": "012", "correct": 1}
    whole = fewshot_items(tmp_path)
    items.write_bytes(published(items))
    [ours], [theirs] = fewshot_items(tmp_path).values(), whole.values()
    assert ours.key == theirs.key, "the same resamples, so that a clone redraws the same verdicts"
    curve.write_text(json.dumps({"step": 1, "loss": 1.23456789, "grad_norm": 2.0}) + "\n")
    assert json.loads(published(curve)) == {"step": 1, "loss": 1.23456789}
    other = tmp_path / "heldout.json"
    other.write_text('{"metrics": {"nll": 1.23456789012}}')
    assert published(other) == other.read_bytes()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the configuration of the smoke scale, of whose records there will be all."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "config"
    config.mkdir()
    for name in ("smoke.yaml", "experiments.yaml"):
        (config / name).write_bytes((CONFIG / name).read_bytes())
    suite, root = load_suite(config / "smoke.yaml"), tmp_path / "work" / "smoke"
    for name in all_records(suite):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
        if str(name).endswith(".items.jsonl.gz"):
            (root / name).write_bytes(gzip.compress(json.dumps(ITEM).encode()))

    def made_by(*git):
        records(root, suite, git)
        return tmp_path / "results" / "smoke" / "manifest.json"

    return made_by


def test_records_of_one_clean_commit_are_taken(project):
    manifest = project(CLEAN)
    publish("smoke")
    content = json.loads(manifest.read_text())
    design = hashlib.sha256((CONFIG.parent / DESIGN).read_bytes()).hexdigest()
    assert content["config"]["claims.yaml"] == design and "fault" not in content


@pytest.mark.parametrize(
    ("git", "told"),
    [
        ((CLEAN, DIRTY), "made with uncommitted changes"),
        ((CLEAN, OTHER), "they come from 2 commits"),
        ((None,), "name no commit"),
    ],
)
def test_others_are_refused_unless_asked_for(project, capsys, git, told):
    manifest = project(*git)
    with pytest.raises(PublishError, match=told):
        publish("smoke")
    assert main(["--scale", "smoke"]) == 2
    error = capsys.readouterr().err
    assert told in error and "--allow-dirty" in error and error.count("\n") == 1
    assert not manifest.exists()
    assert main(["--scale", "smoke", "--allow-dirty"]) == 0
    assert told in json.loads(manifest.read_text())["fault"]
