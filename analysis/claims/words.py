"""What may be said of a finding besides its verdict, and never more than its interval says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.claims.statistics import HERE, LEVEL, SAME, UNDECIDED, Finding


def correction(found: Finding, adjusted: float, verdict: str, tested: int) -> list[str]:
    """Where an interval leaves out what it was tested against and the verdict is undecided."""
    if verdict != UNDECIDED or math.isnan(adjusted) or found.low <= found.bound <= found.high:
        return []
    parts = f" and the {found.parts} parts of this one" if found.parts > 1 else ""
    return [
        f"the interval leaves {found.bound:.3g} out, but not after correction for {tested} "
        f"claims{parts}"
    ]


def against_margin(found: Finding, verdict: str, adjusted: float, tested: int) -> list[str]:
    """How the interval of a primary claim, one of ``tested``, lies to its margin."""
    if math.isnan(found.margin) or math.isnan(found.low):
        return []
    low, high, margin = found.low, found.high, found.margin
    wide = max(high - found.effect, found.effect - low) > margin
    told = []
    same = verdict in (SAME, HERE[SAME])
    if same and adjusted < LEVEL:
        told.append("a difference is there, and it is smaller than the margin")
    elif not same and low > -margin and high < margin:
        but = f", but not after correction for {tested} claims" if verdict == UNDECIDED else ""
        told.append(f"all of the interval is within the margin{but}")
    elif low > margin or high < -margin:
        told.append("all of the interval is beyond the margin")
    elif not same and verdict != UNDECIDED:
        told.append("that the difference reaches the margin is not shown")
    if wide:
        told.append("the interval is wider than the margin on a side of its centre")
    return told


def disagreement(
    whole: Finding, verdict: str, pairs: Sequence[tuple[Finding, str]], name: str = "pairs"
) -> list[str]:
    """The pairs whose direction or verdict is another than that of their mean."""
    other = []
    for found, of_pair in pairs:
        if found.direction and whole.direction and found.direction != whole.direction:
            other.append(f"{found.scope} (the other direction, {of_pair})")
        elif of_pair != verdict:
            other.append(f"{found.scope} ({of_pair})")
    return [f"{name} that disagree: {', '.join(other)}"] if other else []


def shown(found: Finding) -> tuple[str, str]:
    """Effect and interval as text, with the unit at the effect; empty where there is none."""
    unit = f" {found.unit}".replace(" %", "%") if found.unit else ""
    value = f"{found.effect:.3g}" if found.outcome else signed(found.effect)
    effect = "" if math.isnan(found.effect) else f"{value}{unit}"
    interval = "" if math.isnan(found.low) else f"[{signed(found.low)}, {signed(found.high)}]"
    return effect, interval


def signed(value: float) -> str:
    """Three digits with their sign."""
    return "0" if value == 0 else f"{value:+.3g}"


def p_value(p: float) -> str:
    """Three decimals; empty for none."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
