"""Students that cannot be made are refused, with the value and the reason."""

import pytest

from tad.models.architectures import ArchitectureError, shape_of
from tad.models.students import StudentError, build_student

from .test_students import make_teacher, shape_like


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
