"""pyproject.toml (ranges), requirements.lock (exact) and environment.yml (conda) must agree."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned(lines: list[str]) -> dict[str, str]:
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in requirements:
        assert [s.operator for s in requirement.specifier] == ["=="], f"{requirement} is no pin"
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in requirements}


def wanted() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [Requirement(line) for line in PROJECT["dependencies"] + extras["suite"] + extras["dev"]]


def extras_of(name: str) -> list[str]:
    return PROJECT["optional-dependencies"][name]


LOCK = pinned((ROOT / "requirements.lock").read_text().splitlines())


def test_lock_meets_every_range():
    for requirement in wanted():
        version = LOCK[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} is locked at {version}"


def test_conda_environment_lists_the_direct_packages_at_the_locked_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    names = {canonicalize_name(requirement.name) for requirement in wanted()}
    assert pinned(pip) == {name: LOCK[name] for name in names}


def test_conda_python_is_one_that_the_project_supports():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(e for e in environment["dependencies"] if str(e).startswith("python"))
    assert python.partition("=")[2] + ".0" in SpecifierSet(PROJECT["requires-python"])


def test_what_smollm_needs_is_locked_beside_the_rest():
    lock = pinned((ROOT / "requirements-smollm.lock").read_text().splitlines())
    extra = {canonicalize_name(r.name): r for r in map(Requirement, extras_of("smollm"))}
    assert lock.keys() == extra.keys() and not lock.keys() & LOCK.keys()
    for name, requirement in extra.items():
        assert lock[name] in requirement.specifier, f"{requirement} is locked at {lock[name]}"


def test_flash_attention_is_an_extra_and_not_locked():
    assert any("flash-attn" in line for line in PROJECT["optional-dependencies"]["gpu"])
    assert "flash-attn" not in LOCK


def test_the_package_alone_needs_nothing_of_the_suite():
    """Every module is imported, and a corpus asks for what is missing, with all of it hidden."""
    modules = {"antlr4-python3-runtime": "antlr4", "markdown-it-py": "markdown_it"}
    extras = PROJECT["optional-dependencies"]
    names = [Requirement(line).name for line in extras["suite"] + extras["dev"]]
    hidden = [modules.get(name, name.replace("-", "_")) for name in names]
    code = f"""
import importlib, pkgutil, sys
for name in {hidden!r}:
    sys.modules[name] = None
import tad
for module in pkgutil.walk_packages(tad.__path__, "tad."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from tad.cli import main
assert main(["--help"]) == 0
from tad.command import UserError, optional
try:
    optional("datasets")
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("datasets is not installed: pip install 'tad[suite]'\n")


def test_only_the_package_is_installed():
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert found["packages"]["find"]["include"] == ["tad*"]
