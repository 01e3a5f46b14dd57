"""Whether a local folder holds a model or tokenizer whole, and what lies in the hub's cache."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tad.check.findings import Finding, Seen
from tad.check.wanted import Source
from tad.command import UserError
from tad.data.corpora import matched_files

TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
"""Files that make a tokenizer: all of one line."""

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def look_at_path(source: Source) -> Seen:
    """A ``path:`` of the configuration."""
    path = Path(source.path or "")
    if source.kind == "dataset":
        return _data(source)
    if not path.is_dir():
        cure = f"correct {source.instead}, or copy the folder there (relative to {Path.cwd()})"
        return Seen([Finding("failure", source.about, "no such folder", cure)])
    if lacks := faults(path, source.kind):
        cure = "copy or download the folder whole"
        return Seen([Finding("failure", source.about, lacks, cure)])
    return Seen([Finding("ok", source.about, "whole")], there=True)


def _data(source: Source) -> Seen:
    try:
        files = matched_files(source.path or "")
    except UserError as error:
        return Seen([Finding("failure", source.about, str(error))])
    sizes = {str(path): path.stat().st_size for path in files}
    # Corpora may be of any size; instructions, of which rows are asked for, are small.
    rows = sum(map(_lines, files)) if source.keys[0].startswith("instructions.") else None
    told = [Finding("ok", source.about, "1 file" if len(files) == 1 else f"{len(files)} files")]
    return Seen(told, there=True, sizes=sizes, rows=rows)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


# --- Whole ---------------------------------------------------------------------------------------


def faults(folder: Path, kind: str) -> str:
    """What a folder in the transformers layout lacks, in words; nothing where it is whole.

    A tokenizer lies alone or in a model's folder. Of weights the header and the length are read.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if kind == "model":
        if "config.json" not in names:
            return "config.json is missing"
        if (config := _json(folder / "config.json")) is None or "model_type" not in config:
            return "config.json is damaged: no JSON object with model_type"
        if lacks := _weights(folder, names):
            return lacks
    return missing_files(names, "tokenizer")


def missing_files(names: set[str], kind: str) -> str:
    """What is missing among the names of a repository's or folder's files, in words."""
    if kind == "model" and "config.json" not in names:
        return "config.json is missing"
    if kind == "model" and not names & {WEIGHTS, INDEX}:
        if any(name.endswith(PICKLED) for name in names):
            return PICKLED_ONLY
        return f"weights are missing: no {WEIGHTS} and no {INDEX}"
    if not any(names.issuperset(group) for group in TOKENIZERS):
        return f"a tokenizer is missing: no {', no '.join(group[0] for group in TOKENIZERS)}"
    return ""


PICKLED_ONLY = "weights are pickled only (.bin, never unpickled here), no model.safetensors"


def _weights(folder: Path, names: set[str]) -> str:
    if INDEX in names and WEIGHTS not in names:
        index = _json(folder / INDEX)
        if index is None or not isinstance(index.get("weight_map"), dict):
            return f"{INDEX} is damaged"
        shards = sorted(set(index["weight_map"].values()))
    else:
        if lacks := missing_files(names | {"tokenizer.json"}, "model"):
            return lacks
        shards = [WEIGHTS]
    if lost := [name for name in shards if name not in names]:
        return f"{lost[0]} is missing" + (f", with {len(lost) - 1} more" if lost[1:] else "")
    return next(filter(None, (_damage(folder / name) for name in shards)), "")


def _damage(path: Path) -> str:
    """What is wrong with a safetensors file: it is shorter than its header says, say."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return ""
    except (SafetensorError, OSError) as error:
        return f"{path.name} is cut off or damaged ({' '.join(str(error).split())})"


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


# --- The cache of the hub ------------------------------------------------------------------------


def cached(source: Source) -> tuple[Path | None, str]:
    """The folder of a hub id in the local cache, and what it lacks; (None, reason) if none."""
    from huggingface_hub import constants

    if source.kind == "dataset":
        folder = _cached_dataset(source.hub or "", Path(constants.HF_HOME))
        return folder, "" if folder else "not in the local cache"
    folder = snapshot(source.hub or "")
    return folder, faults(folder, source.kind) if folder else "not in the local cache"


def snapshot(name: str) -> Path | None:
    """The folder in the cache that a hub id of a model is read from, whole or not."""
    from huggingface_hub import constants

    store = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    try:
        commit = (store / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    folder = store / "snapshots" / commit
    return folder if folder.is_dir() else None


def _cached_dataset(name: str, home: Path) -> Path | None:
    """Where ``datasets`` keeps a set that it prepared, which it reads without network."""
    root = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
    if not root.is_dir():
        return None
    wanted = _plain(name.replace("/", "___"))
    folders = (folder for folder in root.iterdir() if _plain(folder.name) == wanted)
    return next((f for f in folders if any(f.glob("*/*/*/dataset_info.json"))), None)


def _plain(name: str) -> str:
    """``datasets`` writes CamelCase as camel_case."""
    return name.lower().replace("_", "")


def look_in_cache(source: Source) -> Seen:
    """A hub id where the hub must not be asked."""
    folder, lacks = cached(source)
    if folder is not None and not lacks:
        return Seen([Finding("ok", source.about, "in the local cache")], there=True)
    if source.kind == "dataset":
        get = f"hf download --repo-type dataset {source.hub} --local-dir FOLDER"
        if not source.keys[0].startswith("corpora."):  # these are not read from any such folder
            get = "fill the cache by a run"
        cure = f"{get} where there is network, or write a local copy to {source.instead}"
        if source.keys[0].startswith("corpora."):
            cure = f"{get} where there is network, and write it to {source.instead}"
    else:
        get = f"hf download {source.hub}"
        cure = f"{get} where there is network, or write a folder to {source.instead}"
    where = f"its copy in the local cache is not whole: {lacks}" if folder else lacks
    return Seen([Finding("failure", source.about, f"{where} (HF_HUB_OFFLINE is set)", cure)])
