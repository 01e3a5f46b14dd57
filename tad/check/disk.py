"""Room on the disk against what a scale writes, and whether it may write at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tad.check.findings import Finding, in_bytes
from tad.check.wanted import Wanted
from tad.experiment.config import Suite
from tad.experiment.flops import FlopsError
from tad.experiment.layout import Layout
from tad.plan import data
from tad.plan.jobs import jobs_of


def room(suite: Suite, need: Wanted) -> dict[str, float]:
    """Bytes that a scale writes to its work folder by what they are, as ``tad plan`` counts them.

    One machine is taken to train one model at once. Raises FlopsError for a model of the hub whose
    shape the configuration does not give.
    """
    records = [f"runs/{run}/manifest.json" for run in suite.runs()]
    records += [f"models/{model}/{point}/manifest.json" for model, point in need.models]
    jobs = dict.fromkeys(jobs_of(suite, records).values(), 1)
    sizes = data.disk(suite, jobs, gpus=1)
    return {name: 1e9 * size for name, size in sizes.items() if name != "downloads"}


# --- Findings ------------------------------------------------------------------------------------


def look_at_disk(suite: Suite, need: Wanted, download: int, cache: Path | None) -> list[Finding]:
    """Write permission and free disk of the work folder and, where the hub is used, its cache.

    ``download`` are the bytes still to come into the cache.
    """
    root = Layout.work(suite.scale).root
    there, notes = _used(root), []
    try:
        asked = room(suite, need)
    except FlopsError as error:
        asked, notes = {}, [Finding("warning", "disk", f"not estimated: {error}")]
    folders = {root: max(0.0, sum(asked.values()) - there)}
    parts = ", ".join(f"{name} {in_bytes(size)}" for name, size in asked.items()) or "work"
    told = {root: f"{parts}; {in_bytes(there)} of it is there" if there > 1e8 else parts}
    if cache is not None:
        if _device(cache) == _device(root):
            folders[root] += download
            told[root] += f", downloads {in_bytes(download)}"
        else:
            folders[cache], told[cache] = float(download), f"downloads {in_bytes(download)}"
    findings = notes
    for folder in dict.fromkeys((root, *([cache] if cache else []))):
        about = str(folder)
        if reason := unwritable(folder):
            cure = "change its permissions, or work in another folder"
            if folder == cache:
                cure = "set HF_HOME to a folder of your own with room"
            findings.append(Finding("failure", about, f"cannot be written ({reason})", cure))
        elif folder in folders:
            findings.append(_enough(folder, folders[folder], told[folder]))
    return findings


def _enough(folder: Path, needed: float, parts: str) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    text = f"about {in_bytes(needed)} needed ({parts}), {in_bytes(free)} free"
    cure = "make room, or work on a larger disk (work/ and HF_HOME may be links)"
    if free < needed:
        return Finding("failure", str(folder), text, cure)
    if free < 1.2 * needed:
        return Finding("warning", str(folder), f"{text}: little to spare", cure)
    return Finding("ok", str(folder), text)


def unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder or, where it is not there, to the one above it."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _existing(folder: Path) -> Path:
    """The folder itself or the nearest above it that is there."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def _device(folder: Path) -> int:
    return _existing(folder).stat().st_dev


def _used(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
