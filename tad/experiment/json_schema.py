"""The JSON schema of configuration files, for editors: completion and faults while one writes.

    python -m tad.experiment.json_schema > config/schema.json      # make schema

Made of the models that check a configuration. A file gives part of one, as others stand below it:
nothing is required, ``extends`` is allowed, and every key may be ``null``, which takes it out.
"""

from __future__ import annotations

import json
from typing import Any

from tad.experiment.config import Suite

TITLE = "tad: a configuration, or a part of one (tad/experiment/schema.py)"


def json_schema() -> dict[str, Any]:
    """The schema as a mapping, draft 2020-12."""
    whole = _partial(Suite.model_json_schema())
    text = "a scale of config/ (smoke), or a file, relative to this one, that this is laid over"
    extends = {"description": text, "type": "string"}
    whole["properties"] = {"extends": extends, **whole["properties"]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": TITLE}
    return head | {key: value for key, value in whole.items() if key != "title"}


def _partial(node: Any, *, names: bool = False) -> Any:
    """A schema that nothing is required in and ``null`` is allowed everywhere.

    ``names`` says that the keys of ``node`` are names of properties or definitions, not keywords.
    """
    if isinstance(node, list):
        return [_partial(value) for value in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {name: _partial(value) for name, value in node.items()}
    kept = {key: value for key, value in node.items() if key not in ("required", "title")}
    for key, value in kept.items():
        kept[key] = _partial(value, names=key in ("properties", "$defs"))
    if "properties" in kept:
        kept["properties"] = {name: _or_null(value) for name, value in kept["properties"].items()}
    if isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = _or_null(kept["additionalProperties"])
    if "minProperties" in kept:
        del kept["minProperties"]
    return kept


def _or_null(value: dict[str, Any]) -> dict[str, Any]:
    null = {"type": "null"}
    if null in value.get("anyOf", []):
        return value
    shown = {key: value[key] for key in ("description", "default") if key in value}
    rest = {key: other for key, other in value.items() if key not in shown}
    return {**shown, "anyOf": [rest, null]}


def main() -> None:
    """Print it."""
    print(json.dumps(json_schema(), indent=1))


if __name__ == "__main__":
    main()
