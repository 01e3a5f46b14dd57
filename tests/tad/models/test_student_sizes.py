"""Sizes of students: parameter accounts, `tad describe`, and sizes that are refused."""

import pytest

from tad.experiment.schema import Model, Pair
from tad.models.architectures import ArchitectureError, paper_model, shape_of
from tad.models.students import StudentError, build_student, main, parameter_account

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
    assert main(["gemma2-9b_2b"]) == 0
    printed = capsys.readouterr().out
    for text in ("1,156,259,328", "917,504,000", "9.242B", "head_dim=224", "printed 2B, 1.1B"):
        assert text in printed


def test_describe_all_prints_every_pair(capsys):
    assert main(["all"]) == 0
    printed = capsys.readouterr().out
    for pair in experiments()["pairs"]:
        assert f"{pair}: teacher" in printed
    assert printed.count("printed ") == len(experiments()["pairs"])
    assert "tinyllama-1.1b, which starts continued at 1t, math at 2.5t" in printed


def test_describe_refuses_an_unknown_pair_in_one_line(capsys):
    assert main(["phi2_2b"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tad describe: pair 'phi2_2b' is unknown (allowed: all, ")
    assert captured.err.count("\n") == 1


def test_describe_takes_the_sizes_of_a_scale(capsys):
    assert main(["phi2_1b", "--config", str(EXPERIMENTS.with_name("smoke.yaml"))]) == 0
    printed = capsys.readouterr().out
    assert "student: hidden_size=" in printed
    assert "hidden_size=2560" not in printed and "printed" not in printed


def test_describe_refuses_a_missing_scale_in_one_line(capsys, tmp_path):
    assert main(["phi2_1b", "--config", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 128}, "student hidden_size=128 is larger than the teacher's 64"),
        ({"layers": 5}, "student layers=5 is larger than the teacher's 4"),
        ({"heads": 16}, "student heads=16 is larger than the teacher's 12"),
        ({"kv_heads": 12}, "student kv_heads=12 is larger than the teacher's 6"),
        ({"head_dim": 22}, "student head_dim=22 is larger than the teacher's 20"),
        ({"vocab_size": 70}, "student vocab_size=70 is not the teacher's 71"),
        ({"kv_heads": 4}, "kv_heads=4 does not divide the teacher's 6"),
    ],
)
def test_students_that_cannot_be_made_are_refused(changes, message):
    teacher = make_teacher("qwen2", heads=12, kv_heads=6)
    with pytest.raises(StudentError, match=message) as raised:
        build_student(teacher, shape_like(teacher, **changes), seed=0)
    assert "\n" not in str(raised.value)


def test_sizes_that_the_family_cannot_have_are_refused():
    teacher = make_teacher("llama")
    with pytest.raises(ArchitectureError, match="hidden_size=50 is no multiple of heads=4"):
        build_student(teacher, shape_like(teacher, hidden_size=50), seed=0)
    teacher = make_teacher("phi")
    with pytest.raises(ArchitectureError, match="head_dim=8 has 3 rotary dimensions"):
        build_student(teacher, shape_like(teacher, head_dim=8), seed=0)


def test_scaled_rotary_frequencies_are_not_truncated():
    teacher = make_teacher("llama")
    teacher.config.rope_parameters |= {"rope_type": "linear", "factor": 2.0}
    build_student(teacher, shape_like(teacher, layers=2), seed=0)
    with pytest.raises(StudentError, match="rope_type='linear'"):
        build_student(teacher, shape_like(teacher, head_dim=10), seed=0)


def test_norms_of_queries_and_keys_are_refused():
    teacher = make_teacher("phi")
    teacher.config.qk_layernorm = True
    with pytest.raises(StudentError, match="qk_layernorm=True"):
        build_student(teacher, shape_like(teacher), seed=0)


def test_teachers_of_other_architectures_are_refused():
    teacher = make_teacher("llama")
    teacher.config.model_type = "opt"
    with pytest.raises(ArchitectureError, match="model_type='opt' is no family"):
        build_student(teacher, shape_of(make_teacher("llama").config), seed=0)
