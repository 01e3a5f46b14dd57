"""Which student is meant, and pairs that cannot teach one another."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel, GPT2Config
from transformers import GPT2LMHeadModel as GPT2

from tad.command import UserError
from tad.data.prepare import train_tokenizer
from tad.distill import models
from tad.distill.arguments import parser, settings
from tad.experiment.schema import Shape
from tad.models.architectures import CLASSES, architecture_config, new_model

from ..made_up_text import nonsense
from .conftest import save_llama


def load(teacher, student, *flags):
    words = ["--teacher", str(teacher), "--student", str(student), "--data", "d", "--device", "cpu"]
    return models.load(settings(parser().parse_args([*words, *flags])))


def config(family="llama", **sizes):
    shape = {
        "hidden_size": 64, "layers": 6, "heads": 8, "kv_heads": 4, "head_dim": 8,
        "intermediate_size": 96, "tied": False,
    }  # fmt: skip
    return architecture_config(family, Shape(**shape | sizes), vocab_size=71, max_positions=64)


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        ("half", {"layers": 3}),
        ("0.25", {"layers": 2}),
        ("layers=2", {"layers": 2}),
        ("hidden=32", {"hidden_size": 32, "heads": 4, "kv_heads": 2, "intermediate_size": 48}),
        ("layers=1,hidden=16,mlp=40", {"layers": 1, "hidden_size": 16, "heads": 2, "kv_heads": 1,
                                       "intermediate_size": 40}),
        ("heads=4,kv_heads=1,head_dim=4", {"heads": 4, "kv_heads": 1, "head_dim": 4}),
    ],
)  # fmt: skip
def test_shapes(student, expected):
    whole = models.shape_from("1", config())
    assert models.shape_from(student, config()) == whole.model_copy(update=expected)


@pytest.mark.parametrize("family", CLASSES)
def test_half_of_every_family_can_be_made_and_run(family):
    teacher = new_model(config(family, head_dim=20, tied=family.startswith("gemma")), seed=0)
    for student in ("half", "layers=2,hidden=32"):
        shape = models.shape_from(student, teacher.config)
        made = models.build_student(teacher, shape, seed=0, copy_mlps=True)
        assert made(torch.arange(6)[None]).logits.isfinite().all()


@pytest.mark.parametrize("family", CLASSES)
def test_a_whole_copy_with_mlps_is_the_teacher(family):
    teacher = new_model(
        config(family, layers=2, head_dim=20, tied=family.startswith("gemma")), seed=0
    ).eval()
    shape = models.shape_from("1.0", teacher.config)
    made = models.build_student(teacher, shape, seed=1, copy_mlps=True).eval()
    tokens = torch.arange(8)[None]
    assert torch.equal(made(tokens).logits, teacher(tokens).logits)


def test_the_student_is_the_same_each_time(teacher):
    pair = load(teacher, "half")
    first, second = pair.student(), pair.student()
    assert first is not second
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_flops_of_a_forward(teacher):
    model = AutoModelForCausalLM.from_pretrained(teacher)
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2)
    matrices -= model.model.embed_tokens.weight.numel()
    attention = 4 * 4 * 32 * 16  # scores and values of 4 layers, 32 wide, over 16 positions
    found = models.forward_flops(model, 16)
    rotary = 2 * 4  # a product of 4 frequencies with each position
    assert found == pytest.approx(2 * matrices + attention, abs=2 * rotary)


def test_other_families_and_mistakes_are_told_in_one_line(teacher, tokenizer, tmp_path):
    gpt2 = GPT2(GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    gpt2.save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    bert = BertLMHeadModel(
        BertConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                   intermediate_size=16, is_decoder=False, initializer_range=0.5)
    )  # fmt: skip
    bert.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    other = train_tokenizer(nonsense(200)[::-1] + ["zebra zebra quick"] * 90, 320)
    save_llama(tmp_path / "other", other)
    for pair, message in (
        ((tmp_path / "gpt2", "half"), "family gpt2 cannot be cut .*name a folder or hub id"),
        ((teacher, tmp_path / "bert"), "bert: looks ahead"),
        ((teacher, tmp_path / "other"), r"token \d+ is .* to the teacher and .* to the student"),
        ((teacher, "layers=9"), "layers=9 is larger than the teacher's 4"),
        ((teacher, "depth=2"), "'depth=2' is not understood; write layers="),
        ((teacher, "1.5"), "a share of the teacher's layers"),
        ((teacher, "hidden=30,heads=4,kv_heads=3"), "heads=4 is no multiple of kv_heads=3"),
        ((teacher, "half", "--lora", "r=2"), "are random; add --copy-mlp"),
        ((teacher, teacher, "--lora", "r=2,targets=nope"), "--lora targets: .*nope"),
        ((teacher, tmp_path / "nowhere"), "nowhere"),
        ((teacher, "half", "--device", "tpu"), "choose auto, cpu, cuda"),
    ):
        with pytest.raises(UserError, match=message) as error:
            load(*pair)
        assert "\n" not in str(error.value)


def test_a_gpt2_teaches_a_gpt2(teacher, tokenizer, tmp_path):
    for name in ("big", "small"):
        torch.manual_seed(0)
        GPT2(
            GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2, n_positions=32)
        ).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    pair = load(tmp_path / "big", tmp_path / "small")
    assert pair.shared == 320
    assert pair.record["student"]["family"] == "gpt2"
