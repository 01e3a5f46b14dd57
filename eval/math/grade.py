"""Grade generations: tad eval grade < cases.jsonl > verdicts.jsonl

Each input line is a JSON object with dataset, generation and gold; the output line repeats it
with prediction and correct added (and event, where a bounded comparison was ended; and refused,
where an answer was stated that is no single value).
"""

from __future__ import annotations

import io
import json
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from eval.math.answers.verdict import ANSWER_TYPES, MODES, Grade, Mode, grade, self_test
from tad.command import UserError, command_line, exit_code


class CaseError(UserError):
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
    """The cases with prediction, correct and, if there was one, event or refusal."""
    for case in cases:
        verdict = grade(case["dataset"], case["generation"], str(case["gold"]), mode)
        graded = {**case, "prediction": verdict.prediction, "correct": verdict.correct}
        graded |= {"event": verdict.event} if verdict.event else {}
        yield graded | ({"refused": True} if verdict.refused else {})


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status (2 for a bad line or a grader that cannot work)."""
    parser = command_line("eval grade", __doc__)
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="strict",
        help="strict: right in fact (default); compat: as the reference protocol grades",
    )
    mode: Mode = parser.parse_args(arguments).mode
    return exit_code("eval grade", lambda: _grade_stream(mode))


def _grade_stream(mode: Mode) -> None:
    """From standard input to standard output, with a count on a terminal."""
    self_test()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    progress = sys.stderr.isatty()
    count = right = 0
    for count, case in enumerate(grade_cases(read_cases(sys.stdin), mode), start=1):
        right += case["correct"]
        print(json_line(case), flush=True)
        if progress and count % 50 == 0:
            print(f"\r{count} graded, {right} correct", end="", file=sys.stderr, flush=True)
    if progress:
        print(f"\r{count} graded, {right} correct", file=sys.stderr)


def json_line(case: dict[str, Any]) -> str:
    """A case as JSON; escaped as ASCII where it holds what UTF-8 cannot (a lone surrogate)."""
    line = json.dumps(case, ensure_ascii=False)
    return line if _encodable(line) else json.dumps(case)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _CallableModule(types.ModuleType):
    """Importing this file makes ``eval.math.grade`` the module instead of the function of that
    name; being callable, it still serves whoever wrote ``from eval.math import grade``."""

    def __call__(self, dataset: str, generation: str, gold: str, mode: Mode = "strict") -> Grade:
        return grade(dataset, generation, gold, mode)


sys.modules[__name__].__class__ = _CallableModule


if __name__ == "__main__":
    sys.exit(main())
