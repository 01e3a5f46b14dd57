"""Grade generations: tad eval grade < cases.jsonl > verdicts.jsonl

Each input line is a JSON object with dataset, generation and gold; the output line repeats it
with prediction and correct added (and event, where a bounded comparison was ended).
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from eval.math.answers.equivalence import GradingError
from eval.math.answers.verdict import ANSWER_TYPES, MODES, Grade, Mode, grade, self_test


class CaseError(ValueError):
    """A line that is no case; the message names its number and what is wrong."""


def read_cases(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Parse JSON lines; blank ones are skipped. Raises CaseError at the first bad line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
        except ValueError as error:
            raise CaseError(f"line {number}: not valid JSON: {error}") from None
        if not isinstance(case, dict):
            raise CaseError(f"line {number}: must be a JSON object, not {type(case).__name__}")
        for key, kinds in (("dataset", str), ("generation", str), ("gold", (str, int, float))):
            if key not in case:
                raise CaseError(f"line {number}: missing key {key!r}")
            if not isinstance(case[key], kinds) or isinstance(case[key], bool):
                raise CaseError(f"line {number}: {key}: {case[key]!r} is of the wrong type")
        if case["dataset"] not in ANSWER_TYPES:
            allowed = ", ".join(ANSWER_TYPES)
            raise CaseError(
                f"line {number}: dataset: {case['dataset']!r} is unknown (allowed: {allowed})"
            )
        yield case


def grade_cases(cases: Iterable[dict[str, Any]], mode: Mode) -> Iterator[dict[str, Any]]:
    """The cases with prediction, correct and, if there was one, event."""
    for case in cases:
        verdict = grade(case["dataset"], case["generation"], str(case["gold"]), mode)
        graded = {**case, "prediction": verdict.prediction, "correct": verdict.correct}
        yield {**graded, "event": verdict.event} if verdict.event else graded


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status (2 for a bad line or a grader that cannot work)."""
    parser = argparse.ArgumentParser(prog="tad eval grade", description=__doc__)
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="strict",
        help="strict: right in fact (default); compat: as the reference protocol grades",
    )
    mode: Mode = parser.parse_args(arguments).mode
    progress = sys.stderr.isatty()
    count = right = 0
    try:
        self_test()
        for count, case in enumerate(grade_cases(read_cases(sys.stdin), mode), start=1):
            right += case["correct"]
            print(json.dumps(case, ensure_ascii=False))
            if progress and count % 50 == 0:
                print(f"\r{count} graded, {right} correct", end="", file=sys.stderr, flush=True)
    except (CaseError, GradingError) as error:
        sys.stdout.flush()
        print(f"eval.math.grade: error: {error}", file=sys.stderr)
        return 2
    if progress:
        print(f"\r{count} graded, {right} correct", file=sys.stderr)
    return 0


class _CallableModule(types.ModuleType):
    """Importing this file makes ``eval.math.grade`` the module instead of the function of that
    name; being callable, it still serves whoever wrote ``from eval.math import grade``."""

    def __call__(self, dataset: str, generation: str, gold: str, mode: Mode = "strict") -> Grade:
        return grade(dataset, generation, gold, mode)


sys.modules[__name__].__class__ = _CallableModule


if __name__ == "__main__":
    sys.exit(main())
