"""The table of methods: ids, ranges, divergences by import path, and a user's own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tad import divergences
from tad.fused import distillation_loss
from tad.methods import ROWS, Method, MethodError, bind, register
from tad.parameters import SHARED


def test_every_row_is_whole():
    for name, row in ROWS.items():
        method = Method(name)
        assert Method.parse(str(method)) == method
        assert row.label and row.colour.startswith("#")
        assert row.fused is None or row.divergence is not None
        if row.divergence is not None:
            assert callable(row.function())
        if row.matched_to is not None:
            assert row.scope == "step" and method.matched_to.parameters == method.parameters
        assert not {one.letter for one in row.parameters.values()} & set(SHARED)
    looks = [(row.colour, row.line, row.marker) for row in ROWS.values()]
    assert len(set(looks)) == len(looks)


def test_labels_are_the_papers():
    assert Method("vanilla_kd").label == "Vanilla KD"
    assert Method.parse("tad-k10-b2").label == "TAD (K = 10)"
    assert Method.parse("tad-k10-b0.5").label == "TAD (K = 10, β = 0.5)"
    assert Method("dkd").label == "DKD"
    assert Method.parse("dkd-a2").label == "DKD (α = 2)"


@pytest.mark.parametrize(
    ("text", "label", "weights"),
    [
        ("vanilla_kd-w5", "Vanilla KD (weight 5)", (1, 5)),
        ("vanilla_kd-w0.5-c2", "Vanilla KD (weight 0.5, CLM weight 2)", (2, 0.5)),
        ("vanilla_kd-c0", "Vanilla KD (CLM weight 0)", (0, 1)),
        ("kd_only", "Vanilla KD, no CLM", (0, 1)),
        ("tad-k10-b2-r0.5", "TAD (K = 10, rate x0.5)", (1, 1)),
        ("tad-k5-b5-w2-x0.2", "TAD (K = 5, β = 5, weight 2, budget x0.2)", (1, 2)),
        ("tad_only-k10-b2", "TAD, no CLM (K = 10)", (0, 1)),
        ("dkd-b4-w2", "DKD (β = 4, weight 2)", (1, 2)),
        ("vanilla_kd_matched-w2", "Vanilla KD, matched (weight 2)", (1, 2)),
        ("clm-r2-x5", "CLM (no KD) (rate x2, budget x5)", (1, 1)),
    ],
)
def test_every_method_takes_weights_rate_and_budget(text, label, weights):
    method = Method.parse(text)
    assert (str(method), method.label, method.weights) == (text, label, weights)
    assert method.control
    assert Method.of(method.name, **method.parameters, **method.shared) == method


def test_what_is_at_its_default_is_no_control_unless_its_row_is_one():
    assert not Method.parse("tad-k10-b2").control
    assert not Method.parse("tad-k10-b10").control
    assert Method.parse("tad_nonorm-k10-b2").control
    assert Method.parse("vanilla_kd").shared == {"w": 1, "c": 1, "r": 1, "x": 1}


def test_a_loss_has_no_rate_and_no_budget():
    assert Method.parse("tad-k5-b2-w3-r2-x5").loss == Method.parse("tad-k5-b2-w3")
    assert Method.of_loss("vanilla_kd-w5", **{}) == Method.of_loss("vanilla_kd", w=5)
    with pytest.raises(MethodError, match="no learning rate or budget; write vanilla_kd-w5"):
        Method.of_loss("vanilla_kd-w5-r2")
    with pytest.raises(MethodError, match="no learning rate or budget; write clm"):
        Method.of_loss("clm", x=2)


def test_a_matched_divergence_keeps_its_own_parameters():
    method = Method.parse("skl_matched-k5")
    assert method.matched_to == Method.parse("tad-k5-b2")
    student, teacher = torch.randn(2, 1, 3, 20)
    expected = divergences.skewed_kl(student, teacher)
    torch.testing.assert_close(method.divergence()(student, teacher), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "method 'magic' is unknown .allowed: clm, clm_matched"),
        ("tad", "write tad-kK-bBETA, for example tad-k10-b2"),
        ("tad-k10", "write tad-kK-bBETA"),
        ("tad-k1.5-b2", "1.5 must be a whole number"),
        ("tad-k010-b2", "is written 'tad-k10-b2'"),
        ("tad-k0-b2", "k is 0: method tad needs k >= 1"),
        ("tad-k1-b0", "beta is 0: method tad needs beta > 0"),
        ("clm-k5", "write clm, for example clm"),
        ("clm-w2", "write clm, for example clm .-rR -xX may follow"),
        ("clm-c0", "write clm, for example clm"),
        ("kd_only-c2", "write kd_only, for example kd_only .-wW -rR -xX may follow"),
        ("miniplm-x2", "write miniplm, for example miniplm .-rR may follow"),
        ("vanilla_kd-w1", "is written 'vanilla_kd'"),
        ("vanilla_kd-w0", "w is 0: method vanilla_kd needs w > 0"),
        ("vanilla_kd-x2-w2", "is written 'vanilla_kd-w2-x2'"),
        ("vanilla_kd-w2-w2", "write vanilla_kd"),
        ("gjsd-b1", "beta is 1: method gjsd needs beta > 0 and beta < 1"),
        ("dkd-b8", "is written 'dkd'"),
        ("tad-k10-b2-b2", "write tad-kK-bBETA"),
    ],
)
def test_a_wrong_id_says_what_is_right(text, message):
    with pytest.raises(MethodError, match=message):
        Method.parse(text)


def test_values_are_checked():
    with pytest.raises(MethodError, match="has no parameter 'beta' .allowed: it has none"):
        Method.of("rkl", beta=2.0)
    with pytest.raises(MethodError, match="method clm takes no w .weight."):
        Method.of("clm", w=2.0)
    with pytest.raises(MethodError, match="method seq_kd takes no x .budget."):
        Method.of("seq_kd", x=2.0)
    with pytest.raises(MethodError, match="c is -1: method rkl needs c >= 0"):
        Method.of("rkl", c=-1.0)
    with pytest.raises(MethodError, match="more than six decimals"):
        Method.of("tad", beta=1 / 3)
    with pytest.raises(MethodError, match="a finite number"):
        Method.of("tad", beta=float("nan"))
    with pytest.raises(MethodError, match="a whole number"):
        Method.of("tad", k=2.5)
    with pytest.raises(MethodError, match="1 values for parameters: k, beta"):
        Method("tad", (3,))


def test_a_registered_divergence_is_a_method(tmp_path, monkeypatch):
    (tmp_path / "losses_of_mine.py").write_text(
        "from tad.divergences import forward_kl\n"
        "def scaled(student, teacher, *, mask, factor):\n"
        "    return factor * forward_kl(student, teacher, mask=mask)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    register("scaled", "losses_of_mine:scaled", {"factor": 0.5})
    method = Method.parse("scaled-factor0.25")
    assert method.label == "scaled (factor = 0.25)"
    hidden, other = torch.randn(2, 1, 6, 4, dtype=torch.float64)
    heads = [torch.nn.Linear(4, 30, bias=False).double() for _ in range(2)]
    labels = torch.arange(6).unsqueeze(0)
    given = hidden, heads[0], other, heads[1], labels, None
    ours = distillation_loss(*given, method=method).divergence
    by_name = distillation_loss(*given, method="scaled", factor=0.25).divergence
    expected = divergences.forward_kl(heads[0](hidden), heads[1](other)).mean() / 4
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(by_name, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tad", "a:b"), "methods.tad: is a method of this project"),
        (("My", "a:b"), "'My': use lower-case"),
        (("mine", "a.b"), "'a.b': write module:function"),
        (("mine", "a:b", {"k1": 1.0}), "'k1': use lower-case"),
        (("mine", "a:b", {"y": -1.0}), "y is -1: method mine needs y >= 0"),
        (("mine", "a:b", {"w": 1.0}), "'w' is a parameter of every method"),
    ],
)
def test_wrong_registrations_are_refused(arguments, message):
    with pytest.raises(MethodError, match=message):
        register(*arguments)


def test_a_divergence_that_cannot_be_imported_is_named():
    register("lost", "no_such_module:f")
    with pytest.raises(MethodError, match="methods.lost.divergence: 'no_such_module:f' cannot be"):
        Method("lost").divergence()


def test_a_function_gets_what_it_asks_for():
    seen = {}

    def function(student, teacher, *, mask, weight, labels):
        seen.update(mask=mask, weight=weight, labels=labels)

    bind(function, {"weight": 3.0})(1, 2, mask=4, labels=5, segment_ids=6)
    assert seen == {"mask": 4, "weight": 3.0, "labels": 5}


def test_the_table_needs_no_torch():
    code = "import sys, tad.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_takes_parameters_and_an_id_has_them():
    assert Method.named("tad", k=5) == Method.parse("tad-k5-b2")
    assert Method.named("tad-k5-b2") == Method.named(Method.of("tad", k=5))
    for method in ("tad-k5-b2", Method("tad")):
        with pytest.raises(MethodError, match="names its parameters; k: leave out"):
            Method.named(method, k=3)
