"""YAML files: numbers as people write them, keys given twice, and what is no mapping."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from tad.experiment.yaml_file import ConfigError, read_yaml

CONFIG = Path(__file__).parents[3] / "config"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("2E4", 2e4),
        ("-3e+2", -300.0),
        ("1_000e1", 10_000.0),
        ("5.e-1", 0.5),
        ("1.5e-4", 1.5e-4),
        (".inf", math.inf),
        ("7", 7),
        ("1e", "1e"),
        ("e3", "e3"),
        ("1e-3b", "1e-3b"),
        ("'1e-3'", "1e-3"),
        ("955k", "955k"),
        ("2.5t", "2.5t"),
    ],
)
def test_numbers_are_read_as_they_are_written(tmp_path, written, value):
    (tmp_path / "x.yaml").write_text(f"a: {written}\nb: [{written}]\n")
    found = read_yaml(tmp_path / "x.yaml")
    assert found == {"a": value, "b": [value]} and type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: stands in line 1 and again in line 3"),
        ("a:\n  b: 1\n  c: {d: 1}\n  b: 1\n", "b: stands in line 2 and again in line 4"),
        ("a: {x: 1, y: 2, x: 1}\n", "x: stands in line 1 and again in line 1"),
        ("a: [{x: 1}, {y: 2, y: 3}]\n", "y: stands in line 1"),
        ("a: [\n", "not valid YAML"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("- a\n- b\n", "must be a YAML mapping, found list"),
        ("", "must be a YAML mapping, found NoneType"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_what_is_refused_is_told_in_one_line(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_yaml(tmp_path / "x.yaml")
    assert str(error.value).startswith(f"{tmp_path}/x.yaml: ") and "\n" not in str(error.value)


def test_merged_and_repeated_keys_of_different_mappings_are_none_given_twice(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "base: &base {a: 1, b: 2}\nmine: {<<: *base, a: 3}\nother: {a: 4}\n"
    )
    assert read_yaml(tmp_path / "x.yaml")["mine"] == {"a": 3, "b": 2}


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="x.yaml: not valid YAML"):
        read_yaml(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match=r"y.yaml: no such file \(in that folder: x.yaml\)"):
        read_yaml(tmp_path / "y.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_the_projects_own_files_read_as_ever(path):
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))
