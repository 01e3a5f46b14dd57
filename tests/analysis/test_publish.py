"""Published files are those that their manifest names."""

from __future__ import annotations

import hashlib
import json

import pytest

from analysis.publish import PublishError, main, publish
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
