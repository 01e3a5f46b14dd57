"""The checklists of CONTRIBUTING.md, each performed as it is written in a copy of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, TINY, Project, write_corpus

PAGE = REPOSITORY / "CONTRIBUTING.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
HEAD = re.compile(r"#\s*(?P<file>[\w./-]+)(?:, before \"(?P<before>.*)\")?")
TRAINED = ("Add a divergence", "Try a divergence without touching the project", "Add a pair")
"""Those whose last command trains; the others are run dry."""


@dataclass(frozen=True)
class Checklist:
    """A section of the page: its blocks as (language, text)."""

    title: str
    blocks: tuple[tuple[str, str], ...]

    @property
    def commands(self) -> list[str]:
        return [line for kind, text in self.blocks if kind == "sh" for line in text.splitlines()]


def checklists() -> list[Checklist]:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [
        Checklist(text.splitlines()[0], tuple(BLOCK.findall(text)))
        for text in sections
        if "```sh" in text
    ]


def merged(old: object, new: object) -> object:
    """Mappings key by key, lists one after the other; anything else is replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: merged(old.get(k), v) for k, v in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        return old + [value for value in new if value not in old]
    return new


def perform(block: str, kind: str, folder: Path) -> None:
    """Do to the copy what a block says."""
    head, _, body = block.partition("\n")
    found = HEAD.match(head)
    assert found, f"a block must name its file in its first line: {head}"
    path = folder / found["file"]
    if kind == "yaml" and path.name in ("experiments.yaml", "smoke.yaml"):
        text = yaml.safe_dump(merged(yaml.safe_load(path.read_text()), yaml.safe_load(body)))
        path.write_text(text)
    elif found["before"]:
        lines = path.read_text().split("\n")
        (place,) = [i for i, line in enumerate(lines) if found["before"] in line]
        path.write_text("\n".join([*lines[:place], body.rstrip("\n"), *lines[place:]]))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() + "\n\n" if path.is_file() else ""
        path.write_text(before + body)


@pytest.fixture
def copy(taught: Project, tmp_path: Path) -> Project:
    """The project with a smoke scale of two steps, its data and its teacher made."""
    folder = tmp_path / "project"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in files.stdout.split("\n"):
        if name and not name.startswith(("results/", "tests/")) and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "results" / "reported", folder / "results" / "reported")
    write_corpus(folder / "corpus.jsonl")
    scale = {**TINY, "scale": "smoke", "warm_jobs": True}
    scale["pairs"] = {k: {**v, "tokens": {"scratch": 256}} for k, v in TINY["pairs"].items()}
    scale["select"] = {**TINY["select"], "items": ["heldout", "table2"], "methods": ["vanilla_kd"]}
    (folder / "config/smoke.yaml").write_text(yaml.safe_dump(scale))
    shutil.copytree(taught.work, folder / "work" / "smoke")
    project = Project(folder)
    project.environment["PYTHONPATH"] = str(folder)
    return project


def cases() -> list:
    """All of them; of those that train, the quick suite has the first."""
    slow = pytest.mark.slow
    return [
        pytest.param(c, id=c.title.replace(" ", "-"), marks=slow if c.title in TRAINED[1:] else ())
        for c in checklists()
    ]


@pytest.mark.parametrize("checklist", cases())
def test_a_checklist_works_as_written(checklist, copy):
    teacher = copy.work.with_name("smoke") / "models/qwen1.5-1.8b/final/manifest.json"
    assert teacher.is_file()
    for kind, block in checklist.blocks:
        if kind != "sh":
            perform(block, kind, copy.folder)
    made = "work/smoke/models/qwen1.5-1.8b/final/manifest.json"
    touch = f"snakemake --touch --cores 1 --config scale=smoke -- {made}"
    if any("scale=smoke" in line for line in checklist.commands):
        copy.run(["bash", "-c", touch])
    trained = checklist.title in TRAINED
    drawn = [line for line in checklist.commands if line.startswith("snakemake --config")]
    assert trained == bool(drawn)
    for line in checklist.commands:
        done = copy.run(["bash", "-c", line.replace("snakemake", "snakemake --cores 2", 1)])
        if "-n" in line.split():
            assert "Job stats" in done.stdout, done.stdout
    if trained:
        table = (copy.folder / "work/smoke/tables/heldout.md").read_text()
        added = {"Add a pair": "tiny"}.get(checklist.title, "(")
        assert added in table, table


def test_every_kind_of_extension_has_a_checklist():
    titles = {checklist.title for checklist in checklists()}
    wanted = ("divergence", "pair", "model", "few-shot task", "math set", "table", "scale")
    for kind in wanted:
        assert any(kind in title for title in titles), kind
