"""Write requirements.lock and environment.yml from the packages of the running environment.

``make lock`` runs this in a fresh environment that was installed from pyproject.toml.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

LOCK_HEADER = """\
# Every package of the environment, exactly: what `make setup` installs and what the figures in
# README.md were measured with. Made anew by `make lock` from the ranges in pyproject.toml.
"""
CONDA_HEADER = """\
# The environment for conda users: `conda env create -f environment.yml && conda activate tad`, then
# `pip install --no-deps -e .`. Python and pip come from conda, the packages from the versions of
# requirements.lock (tests/test_environment.py holds the two together).
name: tad
channels: [conda-forge, nodefaults]
dependencies:
  - python =3.11
  - pip
  - pip:
"""
NOT_LOCKED = {"tad", "pip", "setuptools", "wheel"}


def normal(name: str) -> str:
    """A package name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Public version of every installed package, by normal name."""
    found = {normal(d.metadata["Name"]): d.version for d in metadata.distributions()}
    # A local build label such as +cpu names one index's file; the public version is meant.
    return {n: v.partition("+")[0] for n, v in sorted(found.items()) if n not in NOT_LOCKED}


def direct(project: dict) -> list[str]:
    """Names that pyproject.toml asks for: the package's, the suite's and those for development."""
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["suite"] + extras["dev"]
    return [normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in wanted]


def main() -> None:
    """Write both files into the current folder, which must be the project's."""
    versions = installed()
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    lines = [f"{name}=={version}\n" for name, version in versions.items()]
    Path("requirements.lock").write_text(LOCK_HEADER + "".join(lines))
    lines = [f"      - {name}=={versions[name]}\n" for name in direct(project)]
    Path("environment.yml").write_text(CONDA_HEADER + "".join(lines))


if __name__ == "__main__":
    main()
