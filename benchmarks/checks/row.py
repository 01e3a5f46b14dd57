"""A row of the table: what was checked, what came out, and why it was not where it was not."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch

OK, WRONG, SAID = "ok", "WRONG", "measured"
"""A check that held, one that did not, and a number that nothing is asked of."""

NO_GPU, NO_GPUS, NOT_INSTALLED = "needs a GPU", "needs two GPUs", "not installed"
HEADER = ("check", "case", "outcome", "value error", "gradient error", "extra memory, MB", "ms")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line. Errors are relative, ``memory`` is bytes beyond inputs and gradients."""

    check: str
    case: str
    outcome: str = SAID
    value_error: float | None = None
    gradient_error: float | None = None
    memory: float | None = None
    seconds: float | None = None

    @property
    def wrong(self) -> bool:
        """Whether this build fails."""
        return self.outcome.startswith(WRONG)

    def cells(self) -> list[str]:
        """In the order of HEADER."""
        errors = ["" if x is None else f"{x:.1e}" for x in (self.value_error, self.gradient_error)]
        memory = "" if self.memory is None else f"{self.memory / 1e6:.1f}"
        time = "" if self.seconds is None else f"{1e3 * self.seconds:.3g}"
        return [self.check, self.case, self.outcome, *errors, memory, time]


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def tried(row: Row, check: Callable[[], Row], *, ours: bool = True) -> Row:
    """What ``check`` finds; of one that raises, ``row`` with the reason.

    Too little memory is a finding, and so is a fault of others (``ours`` False): neither is wrong.
    """
    try:
        return check()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return replace(row, outcome="out of memory")
    except Exception as error:  # one row, whatever it is: the others are to be seen
        told = " ".join(f"{type(error).__name__}: {error}".split())[:120].replace("|", "/")
        return replace(row, outcome=f"{WRONG}: {told}" if ours else f"failed: {told}")


def judged(row: Row, allowed: Iterable[tuple[float | None, float]]) -> Row:
    """``row`` as ok or wrong, by (error, largest allowed); NaN is wrong."""
    held = all(error is None or error <= most for error, most in allowed)
    return replace(row, outcome=OK if held else WRONG)


def relative(got: torch.Tensor, truth: torch.Tensor) -> float:
    """Norm of the difference over that of ``truth``, in float64."""
    truth = truth.double()
    return float((got.double() - truth).norm() / truth.norm())
