"""Imports of the analysis go one way, and it knows no pair, model or list of methods."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from analysis.results import PROJECT
from tad.methods import ROWS

ORDER = (
    {"kinds"},
    {"results", "writing", "figures.style"},
    {"paired", "names", "telling", "provenance"},
    {"resampled"},
    {"scaling_law"},
    {"reported"},
    {"notes", "telling"},
    {"tables", "figures"},
    {"claims"},
    {"controls"},
    {"report"},
    {"publish"},
)
"""What may import what stands before it, lowest first."""

FILES = sorted((PROJECT / "analysis").rglob("*.py"))


def level(module: str) -> int:
    """Where a module of the analysis stands in ORDER; the most exact name counts."""
    found = [
        (len(name), at)
        for at, names in enumerate(ORDER)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(found)[1]


def name_of(path: Path) -> str:
    parts = path.relative_to(PROJECT / "analysis").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> set[str]:
    """Modules that a file imports at its top, as they are called below the project."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inside = {
                n for n in names if PROJECT.joinpath(*n.split(".")).with_suffix(".py").exists()
            }
            found |= inside or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_point_down(path):
    module = name_of(path)
    for other in imported(path):
        if other.startswith("analysis.") and not module.endswith("__main__"):
            below = other.removeprefix("analysis.")
            assert level(below) <= level(module), f"{module} imports {other}"
        assert not other.startswith("eval") or other == "eval.calibration.sums"
        assert other.partition(".")[0] not in ("torch", "transformers", "lm_eval", "matplotlib")


def test_imports_hold_no_circle():
    graph = {f"analysis.{name_of(path)}": imported(path) for path in FILES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_pair_model_or_checkpoint_is_named(path):
    experiments = yaml.safe_load((PROJECT / "config" / "experiments.yaml").read_text())
    ids = [*experiments["pairs"], *experiments["models"], *experiments["references"]]
    assert not [each for each in ids if each in path.read_text()]
    assert not re.search("qwen|phi-?[23]|gemma|llama-?2|tinyllama", path.read_text(), re.I)


@pytest.mark.parametrize(
    "folder",
    ["", "writing", "tables", "figures", "claims", "controls", "report", "scaling_law", "reported"],
)
def test_folders_and_files_are_small(folder):
    files = list((PROJECT / "analysis" / folder).glob("*.py"))
    assert len(files) <= 12
    assert all(len(path.read_text().splitlines()) <= 500 for path in files)


def test_methods_are_compared_by_their_rows():
    """Names of methods stand in the claims that are about them, not in conditions."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                values = [getattr(each, "value", None) for each in (node.left, *node.comparators)]
                named = [value for value in values if isinstance(value, str) and value in ROWS]
                about = path.parent.name == "reported"  # printed rows, by the CSV's own names
                assert about or not named, f"{path}:{node.lineno}"
