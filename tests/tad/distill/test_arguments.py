"""What the command line is taken to mean, and what it says of mistakes."""

from __future__ import annotations

import pytest

from tad.cli import main
from tad.command import UserError
from tad.distill.arguments import Lora, number, parser, settings
from tad.methods import Method

NEEDED = ["--teacher", "a", "--student", "half", "--data", "d"]


def read(*words):
    return settings(parser().parse_args([*NEEDED, *words]))


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["distill", "--help"])
    shown = capsys.readouterr().out
    assert "tad distill --teacher Qwen/Qwen3-0.6B --student half --data my_texts/" in shown


def test_methods_by_name_with_parameters_and_by_id():
    assert str(read().method) == "tad-k10-b2"
    assert str(read("--k", "5", "--beta", "0.5").method) == "tad-k5-b0.5"
    assert str(read("--method", "vanilla_kd-w5").method) == "vanilla_kd-w5"


def test_a_control_has_the_parameters_of_what_it_is_matched_to():
    found = read("--k", "5", "--baselines", "clm,vanilla_kd_matched,tad-k5-b2").baselines
    assert found == (Method.of("clm"), Method.of("vanilla_kd_matched", k=5, beta=2.0))


def test_numbers():
    values = [number("--tokens", text) for text in ("5M", "300k", "1.5B", "1e6", "7")]
    assert values == [5e6, 3e5, 1.5e9, 1e6, 7]


def test_adapters():
    assert Lora.parse("r=8") == Lora(r=8, alpha=16, targets=("all-linear",))
    text = "r=4,alpha=4,targets=q_proj+v_proj"
    assert Lora.parse(text) == Lora(r=4, alpha=4, targets=("q_proj", "v_proj"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens", "many"], "--tokens many: must be a positive number, such as 5M"),
        (["--method", "tda"], "method 'tda' is unknown"),
        (["--method", "clm", "--k", "5"], "method 'clm' has no parameter 'k'"),
        (["--k", "2.5"], "k is 2.5: method tad takes a whole number"),
        (["--beta", "0"], "beta > 0"),
        (["--baselines", "seq_kd"], "trains on text made for it"),
        (["--lora", "alpha=2"], "has no rank"),
        (["--lora", "r=2,drop=1"], "'drop=1' is not understood"),
        (["--context", "1"], "--context 1: must be at least 2"),
        (["--batch-size", "6"], "no multiple of --micro-batch-size 4"),
        (["--held-out", "2"], "a share of the text"),
        (["--learning-rate", "0"], "--learning-rate 0"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message):
    with pytest.raises(UserError, match=message) as error:
        read(*words)
    assert "\n" not in str(error.value)
