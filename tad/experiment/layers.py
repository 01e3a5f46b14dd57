"""What a configuration is made of: experiments.yaml, a scale over it, what extends that, overrides.

A scale file (``config/smoke.yaml``) lays its values over the experiments.yaml beside it entry by
entry: a field that it gives replaces the paper's whole. A file that begins with ``extends: smoke``
(a name in config/, or a path relative to the file) is merged into that one key by key at any depth,
and a key that is ``null`` there is taken out; so are overrides, ``stages.scratch.context=64``.
Light to import.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tad.command import PROJECT
from tad.experiment.yaml_file import ConfigError, parse_yaml, read_yaml

EXTENDED = ("models", "pairs", "references", "items")
"""Sections in which a scale may have whole entries that experiments.yaml has not."""


@dataclass(frozen=True)
class Layers:
    """``values`` is all of them merged; ``sources`` what each gives by its name, the last first."""

    values: dict[str, Any]
    sources: dict[str, dict[str, Any]]

    def source(self, keys: Sequence[Any]) -> str:
        """The name of the layer that a key's value is from; the file itself if it is in none."""
        for name, value in self.sources.items():
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                return name
        return next(name for name in self.sources if not name.startswith("-o "))


def read_layers(path: Path, extends: Path | None = None) -> Layers:
    """A file and all below it; ``{scale}`` in a text stands for the scale's name.

    Raises ConfigError, one line, for a file that is missing or no YAML mapping, an entry of another
    section than EXTENDED that experiments.yaml has not, and a file that extends itself.
    """
    values = read_yaml(path)
    if "extends" not in values:
        experiments = path.parent / "experiments.yaml"
        below = read_yaml(experiments)
        return Layers(_laid(below, values, path), {str(path): values, str(experiments): below})
    base = _base(path, values.pop("extends"))
    if base.resolve() == path.resolve() or (extends and base.resolve() == extends.resolve()):
        raise ConfigError(f"{path}: extends: {base} extends this file")
    below = read_layers(base, path)
    merged = merge({k: v for k, v in below.values.items() if k != "scale"}, values)
    return Layers(merged, {str(path): values, **below.sources})


def config_files(path: str | Path) -> list[Path]:
    """The files that a configuration is made of, itself first. Raises ConfigError."""
    return [Path(name) for name in read_layers(Path(path)).sources]


def _base(path: Path, name: Any) -> Path:
    if not isinstance(name, str):
        raise ConfigError(f"{path}: extends: {name!r}: write a scale (smoke) or a path (base.yaml)")
    if name.endswith((".yaml", ".yml")):
        return path.parent / name
    return scale_file(name, f"{path}: extends: {name!r}")


def scale_file(name: str, where: str) -> Path:
    """The file of a scale: of config/ by its name, or the path that is given. Raises ConfigError,
    which begins with ``where`` the name stands."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    others = ("experiments", "claims")
    scales = {p.stem: p for p in (PROJECT / "config").glob("*.yaml") if p.stem not in others}
    if name not in scales:
        raise ConfigError(f"{where} is no scale of config/ {allowed(name, scales)}")
    return scales[name]


def merge(old: Any, new: Any) -> Any:
    """Mappings key by key, ``null`` takes a key out; anything else is replaced."""
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def _laid(experiments: dict, scale: dict, path: Path) -> dict[str, Any]:
    """A scale over experiments.yaml: fields of entries are replaced whole."""
    merged = {**experiments, **{k: v for k, v in scale.items() if k not in experiments}}
    for section in experiments:
        given = scale.get(section) or {}
        if not isinstance(given, dict):
            raise ConfigError(f"{path}: {section}: {given!r} must be a mapping")
        added = [name for name in given if name not in experiments[section]]
        if added and section not in EXTENDED:
            names = allowed(added[0], experiments[section])
            raise ConfigError(f"{path}: {section}.{added[0]}: not in experiments.yaml {names}")
        merged[section] = {
            name: {**entry, **given[name]} if isinstance(given.get(name), dict) else entry
            for name, entry in experiments[section].items()
        } | {name: given[name] for name in added}
    return merged


def overridden(layers: Layers, overrides: Iterable[str], fields: Any) -> Layers:
    """The layers with ``KEY=VALUE`` over them, the value as YAML reads it.

    ``fields(keys)`` are the keys that may stand below ``keys`` besides those that do, None where
    any may. Raises ConfigError for a key that is not there, with the nearest name.
    """
    values, sources = layers.values, dict(layers.sources)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"-o {override}: write KEY=VALUE, as stages.scratch.context=64")
        keys = _split(key.strip(), values, fields)
        name = f"-o {override}"
        layer = parse_yaml(text, name)
        for part in reversed(keys):
            layer = {part: layer}
        values, sources = merge(values, layer), {name: layer, **sources}
    return Layers(values, sources)


def _split(key: str, values: Any, fields: Any) -> list[str]:
    """The parts of a key; names such as qwen1.5-1.8b have dots themselves."""
    keys: list[str] = []
    rest = key
    while rest:
        known = list(values) if isinstance(values, dict) else []
        more = fields(keys)
        names = [*known, *(name for name in more or () if name not in known)]
        fits = [name for name in names if f"{rest}.".startswith(f"{name}.")]
        name = max(fits, key=len) if fits else rest.partition(".")[0]
        if not fits and more is not None:
            where = ".".join([*keys, name])
            raise ConfigError(f"-o {key}: {where}: unknown key {allowed(name, names)}")
        keys.append(name)
        rest = rest[len(name) + 1 :]
        values = values.get(name) if isinstance(values, dict) else None
    return keys


def named(values: Any, scale: str) -> Any:
    """The values with the scale's name in the place of ``{scale}``."""
    if isinstance(values, dict):
        return {key: named(value, scale) for key, value in values.items()}
    if isinstance(values, list):
        return [named(value, scale) for value in values]
    return values.replace("{scale}", scale) if isinstance(values, str) else values


def allowed(name: Any, names: Any) -> str:
    """The names that may stand in the place of one that is not known, the nearest first."""
    names = [str(candidate) for candidate in names]
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"({hint}allowed: {', '.join(names)})"
