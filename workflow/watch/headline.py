"""The headline numbers of a run, from whatever of its records is there."""

from __future__ import annotations

from pathlib import Path

from tad.records import RecordError, read_json, read_json_lines


def headlines(folder: Path) -> dict[str, str]:
    """Record to its number in words, of a folder of a run or a model; a held-out record says what
    the last evaluation on the way said, of more text."""
    found = {name: text for name in READERS if (text := headline(folder / name))}
    if "heldout.json" in found:
        found.pop("train.jsonl", None)
    return found


def headline(record: Path) -> str:
    """The number of one record; empty where it is not there, not whole, or has none."""
    if record.name not in READERS or not record.is_file():
        return ""
    try:
        return READERS[record.name](record)
    except (RecordError, KeyError, IndexError, TypeError):
        return ""


def _heldout(path: Path) -> str:
    return _losses({k: v["mean"] for k, v in read_json(path)["metrics"].items()}, "")


def _curve(path: Path) -> str:
    return _losses([line for line in read_json_lines(path) if "eval_nll" in line][-1], "eval_")


def _losses(values: dict[str, float], prefix: str) -> str:
    kl = f"KL {values[f'{prefix}kl']:.4f}, " if values.get(f"{prefix}kl") else ""
    return f"held-out {kl}NLL {values[f'{prefix}nll']:.3f}"


def _calibration(path: Path) -> str:
    return f"Full-ECE {100 * read_json(path)['full_ece']:.2f}%"


def _fewshot(path: Path) -> str:
    record = read_json(path)
    return f"few-shot {100 * record['average']:.1f}%{_kind(record)}"


def _math(path: Path) -> str:
    record = read_json(path)
    average = record["average"]
    value = average["strict"] if isinstance(average, dict) else average
    return f"math {value:.1f}%{_kind(record)}"


def _kind(record: dict) -> str:
    return " (analogues)" if record.get("analogue") else ""


READERS = {
    "train.jsonl": _curve,
    "heldout.json": _heldout,
    "calibration.json": _calibration,
    "fewshot.json": _fewshot,
    "math.json": _math,
}
