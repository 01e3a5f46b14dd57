"""Parameter accounts of students, of the paper's own among them, and the command line."""

import pytest

from tad.experiment.schema import Model, Pair
from tad.models.architectures import paper_model
from tad.models.students import (
    build_student,
    main,
    parameter_account,
)

from .test_students import EXPERIMENTS, experiments, make_teacher, shape_like


def test_account_by_hand():
    teacher = make_teacher("llama", layers=1)  # hidden 64, 4 + 2 heads of 20, MLP 48, 71 tokens
    student = build_student(teacher, shape_like(teacher), seed=0)
    account = parameter_account(student)
    assert account.embedding == account.head == account.frozen == 71 * 64
    assert account.attention == 64 * 20 * (4 + 2 + 2 + 4)
    assert account.mlp == 3 * 64 * 48
    assert account.norm == 3 * 64
    assert account.total == account.frozen + account.trainable
    assert account.total == sum(parameter.numel() for parameter in student.parameters())


def test_tied_matrix_is_counted_once_and_the_head_bias_with_the_head():
    account = parameter_account(make_teacher("phi", tied=True))
    assert (account.embedding, account.head) == (71 * 64, 71)


@pytest.mark.parametrize(
    ("pair", "total", "trainable"),
    [  # billions; printed: 1.2B, 0.5B, 1.1B, 1.2B, 2B, with 1B, 475M, 1B, 1B, 1.1B active
        ("qwen1.5-1.8b_1.2b", 1.160, 1.160),
        ("qwen1.5-1.8b_0.5b", 0.464, 0.464),
        ("phi2_1b", 1.101, 0.970),
        ("qwen2.5-3b_1b", 1.330, 1.019),
        ("gemma2-9b_2b", 2.074, 1.156),
    ],
)
def test_students_of_table_9_have_their_sizes(pair, total, trainable):
    entry = Pair.model_validate(experiments()["pairs"][pair])
    teacher = paper_model(Model.model_validate(experiments()["models"][entry.teacher]))
    student = build_student(teacher, entry.student.shape, seed=0)
    account = parameter_account(student)
    assert all(parameter.is_meta for parameter in student.parameters())
    assert account.total / 1e9 == pytest.approx(total, abs=1e-3)
    assert account.trainable / 1e9 == pytest.approx(trainable, abs=1e-3)


def test_describe_prints_one_pair(capsys):
    assert main(["--describe", "gemma2-9b_2b"]) == 0
    printed = capsys.readouterr().out
    for text in ("1,156,259,328", "917,504,000", "9.242B", "head_dim=224", "printed 2B, 1.1B"):
        assert text in printed


def test_describe_all_prints_every_pair(capsys):
    assert main(["--describe", "all"]) == 0
    printed = capsys.readouterr().out
    for pair in experiments()["pairs"]:
        assert f"{pair}: teacher" in printed
    assert printed.count("printed ") == len(experiments()["pairs"])
    assert "tinyllama-1.1b, which starts continued at 1t, math at 2.5t" in printed


def test_describe_refuses_an_unknown_pair_in_one_line(capsys):
    assert main(["--describe", "phi2_2b"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: pair 'phi2_2b' is unknown (allowed: all, qwen1.5-1.8b_")
    assert captured.err.count("\n") == 1


def test_describe_takes_the_sizes_of_a_scale(capsys):
    assert (
        main(["--describe", "phi2_1b", "--config", str(EXPERIMENTS.with_name("smoke.yaml"))]) == 0
    )
    printed = capsys.readouterr().out
    assert "student: hidden_size=" in printed
    assert "hidden_size=2560" not in printed and "printed" not in printed


def test_describe_refuses_a_missing_scale_in_one_line(capsys, tmp_path):
    assert main(["--describe", "phi2_1b", "--config", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
