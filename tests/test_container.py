"""containers/Dockerfile without Docker: it copies what is needed, and runs what make runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "containers" / "Dockerfile"
VENV = "/opt/tad"


def instructions() -> list[tuple[str, str]]:
    """(RUN, its command), ...: comments gone, continued lines joined, blanks single."""
    lines = [x for x in DOCKERFILE.read_text().splitlines() if not x.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in found]


def of(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def copied() -> list[str]:
    """The sources of all COPY."""
    return [source for rest in of("COPY") for source in rest.split()[:-1]]


def commands(text: str) -> list[str]:
    return [part.strip() for part in text.split("&&")]


def test_it_has_only_instructions_that_are_checked_here():
    assert {name for name, _ in instructions()} == {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "CMD"}
    assert instructions()[0][0] == "FROM"


def test_what_it_copies_is_tracked_and_let_through_to_the_builder():
    listed = ["git", "ls-files", "--", *copied()]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name.partition("/")[0] for name in done.stdout.split()}
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    for source in copied():
        assert source in tracked, source
        assert f"!{source}" in ignored, source
    assert "*" in ignored


def test_the_packages_are_installed_by_the_commands_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^\.venv/installed:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    python = re.search(r"^PYTHON \?= (.*)$", makefile, flags=re.MULTILINE)[1]
    wanted = [line.strip() for line in recipe.splitlines() if not line.startswith("\t@")]
    for name, value in (("$(PYTHON)", python), (".venv", VENV), ("$(BIN)", f"{VENV}/bin")):
        wanted = [line.replace(name, value) for line in wanted]
    assert wanted and commands(of("RUN")[-1]) == wanted
    assert of("ENV") == [f"PATH={VENV}/bin:$PATH"]


def test_its_python_is_one_that_the_project_supports_and_that_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = re.search(r"python(3\.\d+) -m venv", of("RUN")[-1])[1]
    assert f"{python}.0" in SpecifierSet(project["requires-python"])
    apt = next(part for part in commands(of("RUN")[0]) if part.startswith("apt-get install"))
    assert {f"python{python}-venv", f"python{python}-dev", "gcc", "git"} <= set(apt.split())


def test_the_clone_is_mounted_where_the_image_expects_it():
    (folder,) = of("WORKDIR")
    text = DOCKERFILE.read_text() + (ROOT / "docs" / "cluster.md").read_text()
    mounts = re.findall(r'--(?:volume|bind) "\$PWD":(\S+)', text)
    assert len(mounts) > 1 and set(mounts) == {folder}
    assert f"safe.directory {folder}" in of("RUN")[0]


@pytest.mark.slow
def test_what_it_copies_is_enough_to_install_the_project(tmp_path):
    pytest.importorskip("setuptools", reason="pip install setuptools (builds the package)")
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / "tad" / source)
        else:
            (tmp_path / "tad").mkdir(exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / "tad")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    made = [*pip, "--target", str(tmp_path / "site"), str(tmp_path / "tad")]
    subprocess.run(made, check=True, timeout=600)
    assert (tmp_path / "site" / "bin" / "tad").is_file()
    files = [path.relative_to(ROOT) for path in (ROOT / "tad").rglob("*.py")]
    assert files and all((tmp_path / "site" / file).is_file() for file in files)
