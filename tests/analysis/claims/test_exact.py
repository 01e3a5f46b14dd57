"""Claims that no run decides."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.claims.exact import MASSES, K, _gradients, tail_mass_rises


def test_the_rise_of_the_tail_is_that_of_a_small_step():
    """The rates in ``tail_mass_rises`` against a step of 1e-6 down both gradients."""
    found = []
    for mass in MASSES[3:]:
        g, rises = _gradients(mass), {}
        for name in ("kl", "tad"):
            weights = g["student"] * np.exp(-1e-6 * g[name])
            rises[name] = weights[K:].sum() / weights.sum() - g["student"][K:].sum()
        assert rises["kl"] > 0, "KL raises a tail that is too light"
        found.append(100 * (rises["tad"] / rises["kl"] - 1))
    assert tail_mass_rises(None)[0].effect == pytest.approx(min(found), abs=1e-3)
