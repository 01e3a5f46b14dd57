"""The schema for editors is what the models say, and fits the files that there are."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tad.experiment.json_schema import json_schema
from tad.experiment.yaml_file import read_yaml

CONFIG = Path(__file__).parents[3] / "config"
SCALES = [path for path in CONFIG.glob("*.yaml") if path.name != "claims.yaml"]
FILES = sorted([*SCALES, CONFIG / "new" / "mine.yaml"])


def test_the_file_is_what_is_generated():
    written = json.loads((CONFIG / "schema.json").read_text())
    assert written == json_schema(), "run make schema"
    jsonschema.Draft202012Validator.check_schema(written)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_fits_every_file_and_each_names_it(path):
    jsonschema.validate(read_yaml(path), json_schema())
    assert path.read_text().startswith("# yaml-language-server: $schema=")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sedes": [0]},
        {"seeds": [-1]},
        {"stages": {"scratch": {"learning_rte": 1e-3}}},
        {"stages": {"scrach": {}}},
        {"pairs": {"a": {"tokens": {"scratch": "many"}}}},
        {"evaluation": {"fewshot": {"suite": "hard"}}},
    ],
)
def test_a_fault_is_seen(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json_schema())


def test_a_part_is_enough_and_null_takes_out():
    part = {"extends": "smoke", "items": {"table1": None}, "models": {"a": {"corpus": None}}}
    jsonschema.validate(part, json_schema())
