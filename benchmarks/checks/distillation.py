"""One distillation of a tiny pair, twice by the same command: the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.checks.row import OK, WRONG, Row, tried
from examples.distil import save_teacher, texts

CHECK = "distillation"
ERROR = re.compile(r"(\[rank\d+\]: *)?[\w.]+(Error|Exception)\b")
REPOSITORY = Path(__file__).resolve().parents[2]


def environment(device: str, **more: str) -> dict[str, str]:
    """That of a command on ``device`` in this clone; on "cuda" with the first GPU alone."""
    seen = "" if device == "cpu" else "0"
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    own = {"CUDA_VISIBLE_DEVICES": seen, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own, **more}


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command to its end. Raises RuntimeError with the error that it ended by: its first,
    since the others of several ranks follow from it, else its last line."""
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr.strip() or "no message").splitlines()
        errors = [line for line in lines if ERROR.match(line)]
        told = [*errors[:1], lines[-1]][0]
        raise RuntimeError(f"rc {done.returncode}, {told}")


def repeatable(device: str, tokens: str = "4k") -> Iterator[Row]:
    """`tad distill` of a teacher into half of it, to the last bit."""
    row = Row(check=CHECK, case="tad distill twice: sha256 of the weights")

    def check() -> Row:
        with tempfile.TemporaryDirectory() as name:
            folder, documents = Path(name), texts(300)
            save_teacher(folder / "teacher", documents)
            lines = [json.dumps({"text": text}) + "\n" for text in documents]
            (folder / "texts.jsonl").write_text("".join(lines))
            found = [_weights(folder, f"out{turn}", tokens, device) for turn in range(2)]
        told = OK if found[0] == found[1] else f"{WRONG}: {found[0][:12]} and {found[1][:12]}"
        return replace(row, case=f"{row.case} {found[0][:12]}", outcome=told)

    yield tried(row, check)


def _weights(folder: Path, out: str, tokens: str, device: str) -> str:
    """sha256 of the student of one distillation."""
    words = f"--student half --tokens {tokens} --context 32 --batch-size 8 --learning-rate 3e-3"
    paths = {"--teacher": "teacher", "--data": "texts.jsonl", "--out": out}
    given = [part for key, value in paths.items() for part in (key, str(folder / value))]
    run([sys.executable, "-m", "tad", "distill", *given, *words.split()], environment(device))
    return hashlib.sha256((folder / out / "model.safetensors").read_bytes()).hexdigest()
