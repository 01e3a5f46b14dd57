"""What the commands that evaluate models share: options checked before anything is loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tad.command import UserError


class OptionError(UserError, ValueError):
    """An option that cannot be met; one line naming it and the cure."""


def at_least(least: int, **values: int | None) -> None:
    """Raise OptionError for a number below ``least``, naming its option; None is no number."""
    for name, value in values.items():
        if value is not None and value < least:
            raise OptionError(f"--{name.replace('_', '-')} {value}: must be at least {least}")


def device_of(name: str | None) -> str:
    """The device to compute on: ``name``, else a GPU if there is one. Raises OptionError."""
    import torch

    found = torch.cuda.is_available()
    if name is None:
        return "cuda" if found else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise OptionError(f"--device {name}: no such kind of device; cpu or cuda") from None
    if kind == "cuda" and not found:
        raise OptionError(f"--device {name}: torch finds no GPU; leave it out, or say cpu")
    return name


def outputs(models: Sequence[str], outs: Sequence[str] | None, name: str) -> list[Path]:
    """The record of each model: as given, else ``name`` in its folder. Raises OptionError."""
    if outs is None:
        lost = [model for model in models if not Path(model).is_dir()]
        if lost:
            raise OptionError(f"--model {lost[0]}: no such folder; give --out for a hub model")
        outs = [str(Path(model) / name) for model in models]
    if len(outs) != len(models):
        raise OptionError(f"--out: {len(models)} models, {len(outs)} outputs; give one each")
    if len(set(outs)) < len(outs):
        raise OptionError("--out: two models have the same output; give each its own")
    return [writable(out) for out in outs]


def writable(out: str | Path) -> Path:
    """The path of a record that can be written there. Raises OptionError before any work."""
    path = Path(out)
    if path.is_dir():
        raise OptionError(f"--out {path}: is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        known = not isinstance(error, FileExistsError)  # a file stands in the folder's place
        reason = error.strerror if known else "Not a directory"
        raise OptionError(f"--out {path}: cannot be written ({reason})") from None
    return path
