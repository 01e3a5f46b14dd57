"""pyproject.toml (ranges), requirements.lock (exact) and environment.yml (conda) must agree."""

from __future__ import annotations

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
    return [Requirement(line) for line in PROJECT["dependencies"] + extras["dev"]]


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


def test_flash_attention_is_an_extra_and_not_locked():
    assert any("flash-attn" in line for line in PROJECT["optional-dependencies"]["gpu"])
    assert "flash-attn" not in LOCK
