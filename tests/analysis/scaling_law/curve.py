"""Made-up curves of a known law, and the cases of the shared data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.scaling_law.tokens import fit_tokens

SHARED = Path(__file__).parents[4] / "shared" / "data" / "scaling"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no scaling data at {SHARED}")
E, B, BETA = 2.87, 563.0, 0.33
"""Truth of the simulated curves, near what Table 5 implies."""


def curve(n: int, *, noise: float = 0.0, seed: int = 0, shift: float = 0.0):
    tokens = np.geomspace(5e7, 2e9, n)
    errors = noise * np.random.default_rng(seed).standard_normal(n) + shift
    return tokens, (E + B * tokens**-BETA) * np.exp(errors)


def truth(tokens):
    return E + B * np.asarray(tokens) ** -BETA


def codes(fit) -> set[str]:
    return {line.partition(":")[0] for line in fit.warnings}


def case(name: str) -> pd.DataFrame:
    cases = pd.read_csv(SHARED / "d_only_cases.csv")
    return cases[cases["case"] == name]


def fit_case(name: str):
    rows = case(name)
    return fit_tokens(rows["tokens"], rows["loss"]), rows.iloc[0]
