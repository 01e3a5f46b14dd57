"""Made-up ends of a known law, and the shared data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[4] / "shared" / "data" / "scaling"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no scaling data at {SHARED}")


def truth(tokens):
    return 3.5 + 40 / np.asarray(tokens, dtype=float) ** 0.4


def ends(noise=0.003, seed=0, budgets=(24e3, 4e4, 8e4, 16e4, 32e4), seeds=2):
    """Tokens and end losses, ``seeds`` runs a budget."""
    tokens = np.repeat(budgets, seeds)
    noise = noise * np.random.default_rng(seed).normal(size=len(tokens))
    return tokens, truth(tokens) * np.exp(noise)
