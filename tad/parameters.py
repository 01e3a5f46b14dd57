"""Numbers that methods take: their range, and how ids and labels write them. Light to import."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tad.command import UserError


class MethodError(UserError, ValueError):
    """A method id, parameter or divergence that is not usable; the message says what is."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number that a method takes. ``letter`` precedes it in ids: ``tad-k10-b2``.

    Values lie in [``low``, ``high``], or between them where ``open`` excludes both. Ids and labels
    of a ``quiet`` parameter leave it out at its default; labels (not ids) do so of a ``usual`` one.
    ``shown`` is how labels write it.
    """

    letter: str
    default: float
    low: float = 0.0
    high: float = math.inf
    open: bool = True
    kind: type = float
    symbol: str = ""
    shown: str = "{symbol} = {value:g}"
    quiet: bool = False
    usual: bool = False

    def check(self, method: str, name: str, value: float) -> float:
        """The value in its type. Raises MethodError for one that is out of range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or self.kind(value) != value:
            kind = "a whole number" if self.kind is int else "a finite number"
            raise MethodError(f"{name} is {value!r}: method {method} takes {kind}")
        inside = self.low < value < self.high if self.open else self.low <= value <= self.high
        if not inside:
            sign = "" if self.open else "="
            most = "" if self.high == math.inf else f" and {name} <{sign} {self.high:g}"
            least = f"{name} >{sign} {self.low:g}"
            raise MethodError(f"{name} is {value:g}: method {method} needs {least}{most}")
        if self.kind is float and float(f"{value:.6f}") != value:
            raise MethodError(f"{name}={value!r} has more than six decimals; round it")
        return self.kind(value)

    def text(self, value: float) -> str:
        """How ids write a value."""
        digits = str(value) if self.kind is int else f"{value:.6f}".rstrip("0").rstrip(".")
        return f"{self.letter}{digits}"


SHARED: dict[str, Parameter] = {
    "w": Parameter(letter="w", default=1.0, shown="weight {value:g}", quiet=True),
    "c": Parameter(letter="c", default=1.0, open=False, shown="CLM weight {value:g}", quiet=True),
    "r": Parameter(letter="r", default=1.0, shown="rate x{value:g}", quiet=True),
    "x": Parameter(letter="x", default=1.0, shown="budget x{value:g}", quiet=True),
}
"""What any method takes, unless its row rules it out: weight of the divergence and of CLM in the
loss, learning rate as a multiple of the stage's, tokens (or epochs) as a multiple of its budget.
No method may use these letters for a parameter of its own."""


def meaning(key: str) -> str:
    """What a shared parameter is: ``CLM weight``."""
    return SHARED[key].shown.partition("{")[0].rstrip(" x")
