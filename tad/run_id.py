"""Names of runs: ``stage/pair/method/seedN``, as in paths and on command lines.

A run is one training of one student. Its id is also its folder under ``work/{scale}/runs/``, so
ids are printed in one canonical form and parsed back to the same value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from tad.command import UserError

STAGES = ("scratch", "continued", "math", "supervised")
"""scratch: Tables 1, 2, 4, 5; continued: Table 6; math: Table 7; supervised: Table 8."""

METHODS = (
    "clm",
    "clm_matched",
    "vanilla_kd",
    "vanilla_kd_nocosine",
    "rkl",
    "rkl_nocosine",
    "tad",
    "dkd",
    "miniplm",
    "seq_kd",
    "minillm",
    "sft",
)
LOGIT_METHODS = ("clm", "vanilla_kd", "rkl", "tad", "dkd")
"""The methods whose loss is a function of the two models' logits."""

PLAIN_METHODS = ("clm_matched", "miniplm", "seq_kd", "sft")
"""The methods that train by plain CLM; what differs is the data, or how much of it."""

_TAD = re.compile(r"tad-k(?P<k>[1-9]\d*)-b(?P<beta>\d+(?:\.\d+)?)")


class RunIdError(UserError, ValueError):
    """A run or method id that does not parse; the message names the part and the allowed form."""


@dataclass(frozen=True, order=True)
class Method:
    """A distillation method with its own hyperparameters.

    ``k`` (top-K size) and ``beta`` (tail weight, Eq. 3) belong to ``tad`` alone and are both
    required there. Raises RunIdError for any other combination.
    """

    name: str
    k: int = 0
    beta: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise RunIdError(f"method {self.name!r} is unknown (allowed: {', '.join(METHODS)})")
        if (self.name == "tad") != (self.k > 0) or (self.name == "tad") != (self.beta > 0):
            raise RunIdError(
                f"method {self.name!r} with k={self.k}, beta={self.beta}: "
                "tad needs k >= 1 and beta > 0, and no other method takes them"
            )
        if self.name == "tad" and float(f"{self.beta:.6f}") != self.beta:
            raise RunIdError(f"beta={self.beta!r} has more than six decimals; round it")

    @property
    def trained_as(self) -> Method:
        """The method whose loss this one minimises: itself, plain CLM, or what it is a row of."""
        if self.name in PLAIN_METHODS:
            return Method("clm")
        return Method(self.name.removesuffix("_nocosine"), self.k, self.beta)

    def __str__(self) -> str:
        if self.name != "tad":
            return self.name
        beta = f"{self.beta:.6f}".rstrip("0").rstrip(".")
        return f"tad-k{self.k}-b{beta}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``clm``, ``vanilla_kd``, ``tad-k10-b2``, ... Raises RunIdError."""
        if match := _TAD.fullmatch(text):
            method = cls("tad", int(match["k"]), float(match["beta"]))
            if str(method) != text:
                raise RunIdError(f"method {text!r} is written {str(method)!r}")
            return method
        if text == "tad" or text.startswith("tad-"):
            raise RunIdError(f"method {text!r}: write tad-kK-bBETA, for example tad-k10-b2")
        return cls(text)


@dataclass(frozen=True, order=True)
class RunId:
    """One run; ``str(run)`` is its id and ``RunId.parse`` reads it back."""

    stage: str
    pair: str
    method: Method = field(compare=True)
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
        """Read ``scratch/phi2_1b/tad-k10-b2/seed0``. Raises RunIdError naming the wrong part."""
        parts = text.strip("/").split("/")
        if len(parts) != 4:
            raise RunIdError(f"run {text!r}: write stage/pair/method/seedN (4 parts)")
        stage, pair, method, seed = parts
        if not re.fullmatch(r"seed(0|[1-9]\d*)", seed):
            raise RunIdError(f"run {text!r}: the last part must be seed0, seed1, ...; got {seed!r}")
        return cls(stage, pair, Method.parse(method), int(seed[4:]))
