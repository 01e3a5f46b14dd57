"""Full-ECE of a language model (Table 4); the names below load torch when they are first used."""

from __future__ import annotations

from typing import Any

__all__ = ["CalibrationResult", "FullECE"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from eval.calibration import measure

        return getattr(measure, name)
    raise AttributeError(f"module 'eval.calibration' has no attribute {name!r}")
