"""YAML as this project reads it: a mapping, no key twice, and 1e-3 is a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tad.command import UserError


class ConfigError(UserError, ValueError):
    """A wrong configuration; the message is one line with file, key, value and what is allowed."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes ``1e-3`` for a string, as it has no point, and the last of equal keys."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in first:
                raise ConfigError(
                    f"{key.value}: stands in line {first[name]} and again in line {line}; take "
                    "one out"
                )
            first[name] = line
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str | Path) -> Any:
    """What a text says. Raises ConfigError, which begins with ``where``, for no YAML."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (yaml.YAMLError, TypeError) as error:  # TypeError: a list as key
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError for anything else, and for a repeated key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        there = ", ".join(sorted(other.name for other in path.parent.glob("*.yaml"))) or "none"
        raise ConfigError(f"{path}: no such file (in that folder: {there})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    data = parse_yaml(text, path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a YAML mapping, found {type(data).__name__}")
    return data
