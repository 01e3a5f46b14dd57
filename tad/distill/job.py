"""One ``tad distill``: data and models, each method's student, its measures, and the report."""

from __future__ import annotations

import importlib
import logging
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from tad.command import PROJECT
from tad.distill import measure, models, report, states, train
from tad.distill.arguments import ArgumentError, Settings
from tad.distill.data import Data, prepare
from tad.distill.measure import Sums
from tad.distill.states import Known
from tad.methods import MATCHED_TO, Method, row
from tad.records import fingerprint, matching, provenance, read_json, write_json

log = logging.getLogger(__name__)


def distill(settings: Settings) -> None:
    """Do all that ``settings`` ask for and is not done yet. Raises UserError."""
    train.check_reports(settings.report_to)
    pair = models.load(settings)
    data = prepare(settings, pair.tokenizer)
    prints = {"train": data.train.fingerprint, "held_out": data.held_out.fingerprint}
    identity = {
        **settings.record(),
        "device": pair.device,
        "dtype": pair.record["dtype"],
        "models": pair.fingerprints,
        "texts": prints,
    }
    _claim(settings.out, identity)
    jobs = {one: fingerprint({**identity, "method": str(one)}) for one in settings.methods}
    left = {one: job for one, job in jobs.items() if not _finished(settings, one, job)}
    start = settings.out / "start.json"
    if left or not start.is_file():
        student = None if start.is_file() else pair.student()
        flops = _forward_flops(settings, pair, student)
        steps = {one: _steps(settings, one, data, flops) for one in left}
        taught = [steps[one] * settings.batch_size for one in left if one.row.needs_teacher]
        known = states.known(settings, pair, data, taught)
        if student is not None:
            _measure_start(settings, student, pair, data, known, flops)
        for method, job in left.items():
            flop = training_flops(settings, method, flops)
            _one(settings, method, pair, data, known, steps=steps[method], flops=flop, job=job)
    shutil.rmtree(settings.out / ".work", ignore_errors=True)
    report.write(settings, pair.record, data.record)
    log.info("%s", (settings.out / "report.md").resolve())


def folder_of(settings: Settings, method: Method) -> Path:
    """Where the student of a method goes: the folder itself, or ``baselines/METHOD`` in it."""
    own = method == settings.method
    return settings.out if own else settings.out / "baselines" / str(method)


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Make the folder this distillation's own. Raises ArgumentError where it is another's."""
    path = out / "settings.json"
    if path.is_file():
        before = read_json(path)
        for key in identity:
            if before.get(key) != identity[key]:
                was, now = before.get(key), identity[key]
                detail = {"models": "the files of a model", "texts": "the data"}.get(key)
                what = f"--{key.replace('_', '-')} was {was}, and is {now}"
                what = f"{detail} changed since" if detail else what
                raise ArgumentError(
                    f"--out {out}: holds a distillation of other arguments ({what}); give another "
                    "--out, or delete it"
                )
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ArgumentError(f"--out {out}: holds something else; give a new folder")
    else:
        write_json(path, identity)


def training_flops(settings: Settings, method: Method, flops: dict[str, float]) -> float:
    """FLOPs of a training token: the backward as two forwards, or one where only adapters train."""
    teacher = flops["teacher"] if method.row.needs_teacher else 0.0
    return (2 if settings.lora else 3) * flops["student"] + teacher


def tail_k(settings: Settings) -> int:
    """K of the tails that are measured: that of the method, else the default of TAD."""
    return int(settings.method.parameters.get("k", row(MATCHED_TO).parameters["k"].default))


def _finished(settings: Settings, method: Method, job: str) -> bool:
    out = folder_of(settings, method)
    finished = matching(out / "manifest.json", {"fingerprint": job}) is not None
    if finished:
        log.info("%s: finished already", out)
    return finished


def _steps(settings: Settings, method: Method, data: Data, flops: dict[str, float]) -> int:
    """Optimizer steps of a method: of the token budget, or of the FLOPs that TAD has with it."""
    tokens = float(settings.tokens)
    if method.row.budget == "matched":
        tokens *= training_flops(settings, Method.of(MATCHED_TO), flops)
        tokens /= training_flops(settings, method, flops)
    return train.steps_of(settings, method, data, tokens)


def _forward_flops(
    settings: Settings, pair: models.Models, student: nn.Module | None
) -> dict[str, float]:
    """FLOPs of the forward of both models; without a student those of the measured start."""
    if student is None:
        return read_json(settings.out / "start.json")["forward_flops"]
    both = {"teacher": pair.teacher, "student": student}
    return {name: models.forward_flops(one, settings.context) for name, one in both.items()}


def _measure_start(
    settings: Settings, student: nn.Module, pair: models.Models, data: Data, known: Known,
    flops: dict[str, float],
) -> None:  # fmt: skip
    """Measure the teacher, and the student before training."""
    log.info("%s: measuring the teacher and the student's start", settings.out)
    measure.save(settings.out / "start.npz", _sums(settings, student, pair, known))
    full_ece = _full_ece(settings.teacher, data)
    record = {"teacher_full_ece": full_ece, "forward_flops": flops}
    write_json(settings.out / "start.json", record)


def _sums(settings: Settings, student: nn.Module, pair: models.Models, known: Known) -> Sums:
    k = tail_k(settings)
    return measure.held_out(student, pair.teacher, known.held_out, k=k, shared=pair.shared)


def _one(
    settings: Settings, method: Method, pair: models.Models, data: Data, known: Known, *,
    steps: int, flops: float, job: str,
) -> None:  # fmt: skip
    """Train and measure the student of one method; the manifest comes last."""
    out, work = folder_of(settings, method), settings.out / ".work" / str(method)
    student, cost = train.train(
        settings, method, pair, data, known, steps=steps, job=job, out=out, work=work
    )
    sums = _sums(settings, student, pair, known)
    train.save(student.cpu(), pair.tokenizer, out)
    measure.save(out / "heldout.npz", sums)
    manifest = {
        "fingerprint": job,
        "method": str(method),
        **cost,
        "flops": flops * cost["tokens"],
        "held_out": {name: measure.mean(sums, name) for name in sums if name != "tokens"},
        "full_ece": _full_ece(str(out), data),
        **provenance(),
    }
    write_json(out / "manifest.json", manifest)


def _full_ece(model: str, data: Data) -> dict[str, float] | None:
    """Full-ECE on the held-out rows with its interval, as fractions; None outside of a clone."""
    if not (PROJECT / "eval").is_dir():
        return None
    metric, _ = importlib.import_module("eval.calibration.measure").measure(
        model, data.held_out, tail=False
    )
    found = metric.compute()
    return {"value": found.full_ece, "noise_floor": found.noise_floor}
