"""Names of runs: ``stage/pair/method/seedN``, as in paths and on command lines.

A run is one training of one student. Its id is also its folder under ``work/{scale}/runs/``, so
ids are printed in one canonical form and parsed back to the same value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from tad.command import UserError
from tad.methods import Method

STAGES = ("scratch", "continued", "math", "supervised")
"""scratch: Tables 1, 2, 4, 5; continued: Table 6; math: Table 7; supervised: Table 8."""


class RunIdError(UserError, ValueError):
    """A run id that does not parse; the message names the part and the allowed form."""


@dataclass(frozen=True, order=True)
class RunId:
    """One run; ``str(run)`` is its id and ``RunId.parse`` reads it back."""

    stage: str
    pair: str
    method: Method
    seed: int

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise RunIdError(f"stage {self.stage!r} is unknown (allowed: {', '.join(STAGES)})")
        if not re.fullmatch(r"[a-z0-9._-]+", self.pair):
            raise RunIdError(f"pair {self.pair!r}: use lower-case letters, digits, '.', '_', '-'")
        if self.seed < 0:
            raise RunIdError(f"seed {self.seed} is negative")

    def __str__(self) -> str:
        return f"{self.stage}/{self.pair}/{self.method}/seed{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``scratch/PAIR/tad-k10-b2/seed0``. Raises RunIdError or MethodError."""
        parts = text.strip("/").split("/")
        if len(parts) != 4:
            raise RunIdError(f"run {text!r}: write stage/pair/method/seedN (4 parts)")
        stage, pair, method, seed = parts
        if not re.fullmatch(r"seed(0|[1-9]\d*)", seed):
            raise RunIdError(f"run {text!r}: the last part must be seed0, seed1, ...; got {seed!r}")
        return cls(stage, pair, Method.parse(method), int(seed[4:]))
