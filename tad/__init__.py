"""Tail-aware distillation of language models: the loss, the students, the training.

The names below load torch and transformers only when they are first used, so that what needs
neither (configuration, tables, the DAG) starts quickly.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "forward_kl": "tad.divergences",
    "reverse_kl": "tad.divergences",
    "tail_aware": "tad.divergences",
    "decoupled": "tad.divergences",
    "distillation_loss": "tad.fused",
    "build_student": "tad.models.students",
    "DistillationTrainer": "tad.train.trainer",
    "TADMixin": "tad.train.mixin",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tad' has no attribute {name!r}")
