"""Run ids: printing and parsing are inverse, and every wrong part is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tad.experiment.run_id import STAGES, RunId, RunIdError
from tad.methods import ROWS, Method, MethodError

tad_methods = st.builds(
    lambda k, beta: Method.of("tad", k=k, beta=beta / 1000),
    st.integers(1, 10**6),
    st.integers(1, 10**7),
)
methods = st.one_of(
    st.sampled_from(sorted(ROWS)).filter(lambda m: m != "tad").map(Method), tad_methods
)
pairs = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=30)
runs = st.builds(RunId, st.sampled_from(STAGES), pairs, methods, st.integers(0, 10**6))


@given(runs)
def test_a_printed_id_parses_to_the_same_run(run):
    assert RunId.parse(str(run)) == run


@given(runs, runs)
def test_different_runs_print_differently(one, other):
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("tad-k10-b2", Method.of("tad", k=10, beta=2.0)),
        ("tad-k1-b0.5", Method.of("tad", k=1, beta=0.5)),
        ("vanilla_kd", Method("vanilla_kd")),
    ],
)
def test_known_method_ids(text, method):
    assert Method.parse(text) == method
    assert str(method) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("scratch/phi2_1b/rkl", "4 parts"),
        ("nowhere/phi2_1b/rkl/seed0", "'nowhere' is unknown"),
        ("scratch/Phi 2/rkl/seed0", "'Phi 2'"),
        ("scratch/phi2_1b/kld/seed0", "'kld' is unknown"),
        ("scratch/phi2_1b/tad/seed0", "tad-kK-bBETA"),
        ("scratch/phi2_1b/tad-k0-b2/seed0", "k is 0: method tad needs k >= 1"),
        ("scratch/phi2_1b/tad-k10-b0/seed0", "beta is 0: method tad needs beta > 0"),
        ("scratch/phi2_1b/tad-k10-b2.0/seed0", "is written 'tad-k10-b2'"),
        ("scratch/phi2_1b/rkl/0", "'0'"),
        ("scratch/phi2_1b/rkl/seed00", "'seed00'"),
        ("scratch/phi2_1b/rkl/seed-1", "'seed-1'"),
    ],
)
def test_a_wrong_id_names_the_wrong_part(text, named):
    with pytest.raises((RunIdError, MethodError), match=named.replace("(", r"\(")):
        RunId.parse(text)
