"""FLOPs: three independent counts agree, and the printed figures are met."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tad.experiment import flops
from tad.experiment.config import load_suite
from tad.experiment.flops import (
    EXECUTED,
    PAPER,
    Account,
    Assumptions,
    Conventions,
    FlopsError,
    account_of_shape,
    method_cost,
    pair_account,
)
from tad.experiment.schema import Shape
from tad.methods import MethodError
from tad.models.architectures import CLASSES, architecture_config, new_model, shape_of

CONTEXT, BATCH, POSITIONS = 24, 2, 128
TINY = Shape(
    hidden_size=32, layers=3, heads=4, kv_heads=2, head_dim=10, intermediate_size=48,
    vocab_size=70, tied=True,
)  # fmt: skip
PRINTED = {
    "qwen1.5-1.8b_1.2b": (9.2, 12.4),
    "qwen1.5-1.8b_0.5b": (6.4, 9.7),
    "phi2_1b": (12.4, 18.4),
    "qwen2.5-3b_1b": (15.2, 22.2),
    "gemma2-9b_2b": (31.4, 52.0),
}


@pytest.fixture(scope="module")
def paper():
    return load_suite(flops.PROJECT / "config" / "paper.yaml")


def tiny_config(family: str, *, tied: bool = True):
    shape = TINY.model_copy(update={"tied": tied})
    config = architecture_config(family, shape, max_positions=POSITIONS)
    # Eager attention multiplies all pairs with plain matmuls, which the counter sees.
    config._attn_implementation = "eager"
    return config, shape


def account_of_model(config) -> Account:
    """The account from the real module tree on the meta device: every ``nn.Linear`` is counted."""
    with torch.device("meta"):
        model = new_model(config, seed=0)
    head = model.get_output_embeddings()
    linear = sum(
        2 * module.in_features * module.out_features
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    shape = shape_of(config)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * shape.layers
    # Phi3 slides in every layer and lists no kinds.
    sliding = getattr(config, "sliding_window", None)
    everywhere = config.model_type == "phi3"
    output = 2 * head.in_features * head.out_features
    return Account(
        linear=linear,
        output=output,
        stored=0 if shape.tied else output,
        pair=4 * shape.layers * shape.heads * shape.head_dim,
        windows=tuple(
            sliding if everywhere or kind == "sliding_attention" else None for kind in kinds
        ),
    )


def counted(config, *, train: bool, freeze: bool = False) -> float:
    """What torch counts for a token, without the rotary tables (a product with positions)."""
    model = new_model(config, seed=0)
    if freeze:
        model.get_output_embeddings().weight.requires_grad_(False)
    tokens = torch.zeros(BATCH, CONTEXT, dtype=torch.long)
    with FlopCounterMode(display=False, depth=None) as counter, torch.set_grad_enabled(train):
        loss = model(input_ids=tokens, use_cache=False).logits.float().sum()
        if train:
            loss.backward()
    rotary = sum(
        sum(by_op.values())
        for name, by_op in counter.get_flop_counts().items()
        if name.endswith(".rotary_emb")
    )
    return (counter.get_total_flops() - rotary) / (BATCH * CONTEXT)


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_forward_equals_torch_counter(family, tied):
    config, shape = tiny_config(family, tied=tied)
    wanted = counted(config, train=False)
    assert account_of_model(config).forward(CONTEXT, PAPER) == wanted
    assert account_of_shape(family, shape, max_positions=POSITIONS).forward(CONTEXT) == wanted


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("freeze", [True, False])
def test_training_equals_torch_counter(family, freeze):
    config, shape = tiny_config(family)
    wanted = counted(config, train=True, freeze=freeze)
    if family == "olmo2" and freeze:
        # No norm before its first attention: nothing that trains wants a gradient of its inputs.
        width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        wanted += 2 * shape.hidden_size * width
    account = account_of_shape(family, shape, max_positions=POSITIONS)
    assert account.training(CONTEXT, PAPER, frozen=freeze) == wanted
    assert account_of_model(config).training(CONTEXT, PAPER, frozen=freeze) == wanted


def test_every_model_of_the_paper_counts_the_same_both_ways(paper):
    for name, model in paper.models.items():
        if model.family == "opt":  # see the next test
            continue
        config = architecture_config(model.family, model.shape, max_positions=4096)
        by_shape = account_of_shape(model.family, model.shape, max_positions=4096)
        assert account_of_model(config) == by_shape, name


def test_the_references_of_miniplm_count_as_torch_does():
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=70, hidden_size=40, num_hidden_layers=3, ffn_dim=96, num_attention_heads=4,
        max_position_embeddings=POSITIONS, word_embed_proj_dim=40, attn_implementation="eager",
    )  # fmt: skip
    shape = Shape(
        hidden_size=40, layers=3, heads=4, kv_heads=4, head_dim=10, intermediate_size=96,
        vocab_size=70, tied=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = OPTForCausalLM(config)
        tokens = torch.zeros(BATCH, CONTEXT, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens, use_cache=False)
    counted = counter.get_total_flops() / (BATCH * CONTEXT)
    assert account_of_shape("opt", shape).forward(CONTEXT, PAPER) == counted


# --- Conventions ---------------------------------------------------------------------------------


def test_causal_attention_counts_the_pairs_of_the_mask():
    account = account_of_shape("llama", TINY)
    mask = torch.ones(CONTEXT, CONTEXT).tril()
    keys = float(mask.sum()) / CONTEXT
    assert account.attention(CONTEXT, EXECUTED) == pytest.approx(account.pair * keys)
    assert account.attention(CONTEXT, PAPER) == account.pair * CONTEXT
    assert account.attention(CONTEXT, Conventions(attention="none")) == 0


@pytest.mark.parametrize("family", ["gemma2", "phi3"])
def test_sliding_windows_count_the_pairs_of_their_masks(family):
    account = account_of_shape(family, TINY, max_positions=16)
    window = 8 if family == "gemma2" else 7
    full = torch.ones(CONTEXT, CONTEXT).tril()
    narrow = full.triu(-window + 1)
    masks = [narrow, full, narrow] if family == "gemma2" else [narrow] * 3
    keys = sum(float(mask.sum()) for mask in masks) / CONTEXT / 3
    assert account.attention(CONTEXT, EXECUTED) == pytest.approx(account.pair * keys)


def test_conventions_change_what_they_say_and_no_more():
    untied = account_of_shape("llama", TINY.model_copy(update={"tied": False}))
    tied = account_of_shape("llama", TINY)
    stored = Conventions(output_matrix="stored")
    matrix = 2 * TINY.vocab_size * TINY.hidden_size
    assert untied.forward(CONTEXT, stored) - untied.forward(CONTEXT) == matrix
    assert tied.forward(CONTEXT, stored) == tied.forward(CONTEXT)
    spared = tied.training(CONTEXT) - tied.training(CONTEXT, frozen=True)
    assert spared == matrix
    assert tied.training(CONTEXT) == 3 * tied.forward(CONTEXT)


def test_frozen_follows_the_convention(paper):
    def student(pair, frozen):
        conventions = Conventions(frozen=frozen)
        return pair_account(paper, pair).cost("clm", context=2048, conventions=conventions).student

    for pair, as_built in [
        ("qwen1.5-1.8b_1.2b", "never"),  # another hidden size
        ("phi2_1b", "never"),  # its own output matrix, which trains
        ("gemma2-9b_2b", "always"),
    ]:
        assert student(pair, "always") < student(pair, "never")
        assert student(pair, "as_built") == student(pair, as_built)
    pair = "phi3-4b_tinyllama"  # starts from a checkpoint: nothing is frozen (Section 3.3)
    assert student(pair, "always") == student(pair, "never")


def test_what_we_freeze_is_what_students_freeze(paper):
    from tad.models.architectures import paper_model
    from tad.models.students import build_student

    for pair_id in ("qwen1.5-1.8b_0.5b", "phi2_1b", "qwen2.5-3b_1b"):
        pair = paper.pairs[pair_id]
        student = build_student(paper_model(paper.models[pair.teacher]), pair.student.shape, seed=0)
        trains = student.get_output_embeddings().weight.requires_grad
        assert pair_account(paper, pair_id).freezes == (not trains)


# --- Methods -------------------------------------------------------------------------------------


def cost(method, **options):
    student = account_of_shape("llama", TINY)
    teacher = account_of_shape("llama", TINY.model_copy(update={"layers": 9}))
    return method_cost(method, student, teacher, context=CONTEXT, vocabulary=70, **options)


def test_methods_by_their_passes():
    student, teacher = account_of_shape("llama", TINY), cost("vanilla_kd").teacher
    train = student.training(CONTEXT)
    assert cost("clm").total == cost("sft").total == cost("clm_matched").total == train
    assert cost("vanilla_kd").total == cost("rkl").total == cost("tad").total == train + teacher
    assert cost("miniplm").total == train + 2 * teacher
    assert cost("miniplm", assumptions=Assumptions(delta=0.25)).total == train + 4 * teacher
    small = account_of_shape("llama", TINY.model_copy(update={"layers": 1}))
    scored = cost("miniplm", assumptions=Assumptions(reference=small))
    assert scored.reference == 2 * small.forward(CONTEXT)
    assert scored.total == cost("miniplm").total + scored.reference
    assert train < cost("seq_kd").total < cost("vanilla_kd").total  # decoding is causal
    written = student.decoding(CONTEXT)
    assert cost("minillm").total == pytest.approx(5 * train + teacher + written)


def test_the_loss_stands_apart_and_is_small(paper):
    account = pair_account(paper, "qwen1.5-1.8b_1.2b")
    tad, vanilla = (account.cost(method, context=2048) for method in ("tad", "vanilla_kd"))
    assert tad.total == vanilla.total
    assert 0 < tad.loss - vanilla.loss < tad.loss < 0.001 * tad.total


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: cost("magic"), "method 'magic' is unknown"),
        (
            lambda: method_cost("tad", account_of_shape("llama", TINY), context=8, vocabulary=70),
            "needs a teacher",
        ),
        (lambda: Assumptions(delta=0), "delta=0"),
        (
            lambda: account_of_shape("llama", TINY.model_copy(update={"vocab_size": None})),
            "no vocab_size",
        ),
    ],
)
def test_refusals(call, reason):
    with pytest.raises((FlopsError, MethodError), match=reason):
        call()


# --- The paper's figures -------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PRINTED)
def test_printed_figures_are_met_within_4_2_percent(paper, pair):
    for method, theirs in zip(("vanilla_kd", "miniplm"), PRINTED[pair], strict=True):
        assert flops.petaflops(paper, pair, method) == pytest.approx(theirs, rel=0.042)


def test_other_conventions_fit_worse(paper):
    """The errors that the audit of the paper lists for the usual count and for the plain 6 N."""

    def errors(conventions):
        return [
            100 * (flops.petaflops(paper, pair, method, conventions) / theirs - 1)
            for pair, both in PRINTED.items()
            for method, theirs in zip(("vanilla_kd", "miniplm"), both, strict=True)
        ]

    plain = errors(Conventions(output_matrix="stored", attention="none", frozen="never"))
    causal = errors(Conventions(attention="causal", frozen="never"))
    assert plain == pytest.approx(
        [15.6, 15.4, 0.9, 4.4, -1.9, -3.7, -6.9, -8.4, -1.5, -5], abs=0.06
    )
    assert causal == pytest.approx([0.7, 1, -1, -1.1, -3.6, -4.4, -1.9, -3.7, 2.7, -1.1], abs=0.06)


def test_matched_tokens_spend_the_same_flops(paper):
    for pair in PRINTED:
        tokens = paper.pairs[pair].tokens["scratch"]
        matched = flops.matched_tokens(paper, pair)
        account = pair_account(paper, pair)
        ours = tokens * account.cost("tad", context=2048).total
        plain = account.cost("clm", context=2048).total
        assert matched * plain <= ours < (matched + 1) * plain
    assert flops.matched_tokens(paper, "gemma2-9b_2b") == pytest.approx(2.68 * 2e9, rel=0.01)
    with pytest.raises(FlopsError, match="no token budget in stage math"):
        flops.matched_tokens(paper, "phi2_1b", stage="math")


def test_smoke_scale_counts_its_own_sizes():
    suite = load_suite(flops.PROJECT / "config" / "smoke.yaml")
    for pair in suite.select.pairs:
        if "scratch" not in suite.pairs[pair].tokens:
            continue
        assert 1.2 < flops.matched_tokens(suite, pair) / suite.pairs[pair].tokens["scratch"] < 4


def test_command_line_prints_every_pair_and_method(capsys):
    assert flops.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["pair", "clm", "vanilla_kd", "rkl"]
    found = dict(zip(lines[0].split(), lines[1].split(), strict=True))
    assert found["pair"] == "qwen1.5-1.8b_1.2b"
    paper = load_suite(flops.PROJECT / "config" / "paper.yaml")
    ours = flops.petaflops(paper, found["pair"], "tad")
    assert float(found["tad"]) == pytest.approx(ours, rel=1e-3)
    assert flops.main(["--config", "none.yaml"]) == 2
    assert capsys.readouterr().err.startswith("tad flops: none.yaml: no such file")


def test_importing_flops_loads_no_torch():
    code = "import sys, tad.experiment.flops as f; sys.exit('torch' in sys.modules)"
    project = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=project, check=False).returncode == 0
