"""Students made from their teacher: what is kept of it, what is refused."""

import importlib
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from transformers import AutoModelForCausalLM

from tad.experiment.schema import Model, Pair, Shape
from tad.models import students
from tad.models.architectures import (
    CLASSES,
    architecture_config,
    new_model,
    rotary_dims,
    shape_of,
)
from tad.models.students import (
    build_student,
    prune,
    student_config,
)

EXPERIMENTS = Path(__file__).parents[3] / "config" / "experiments.yaml"
NORMED = ["qwen3", "gemma3_text", "olmo2"]
"""Those with norms of queries and keys, or rotary frequencies a layer type: tests of their own."""
FAMILIES = [family for family in CLASSES if family not in NORMED]


def experiments():
    return yaml.safe_load(EXPERIMENTS.read_text(encoding="utf-8"))


def make_teacher(family, *, seed=1, **changes):
    """A random teacher, noisy throughout, so that no zero bias or unit norm hides a slip."""
    sizes = {
        "hidden_size": 64,
        "layers": 4,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 20,
        "intermediate_size": 48,
        "tied": family in ("gemma2", "gemma3_text"),
    }
    shape = Shape(**{**sizes, **changes})
    config = architecture_config(family, shape, vocab_size=71, max_positions=64)
    teacher = new_model(config, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return teacher


def shape_like(model, **changes):
    return shape_of(model.config).model_copy(update=changes)


def hidden_states(model, *, length=9, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, length, model.config.hidden_size, generator=generator)


def rotation(model, inputs):
    return model.model.rotary_emb(inputs, torch.arange(inputs.shape[1])[None])


def attention_output(model, layer, inputs):
    """Output of one attention module and, before its output projection, of each of its heads.

    (B, T, hidden) and (B, T, heads, head_dim).
    """
    attention = model.model.layers[layer].self_attn
    projection = attention.dense if model.config.model_type == "phi" else attention.o_proj
    seen = []
    hook = projection.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    mask = torch.full((inputs.shape[1], inputs.shape[1]), -1e9).triu(1)[None, None]
    output = attention(inputs, position_embeddings=rotation(model, inputs), attention_mask=mask)[0]
    hook.remove()
    return output, seen[0].unflatten(-1, (model.config.num_attention_heads, -1))


def queries_and_keys(model, layer, inputs):
    """Projected queries and keys before rotation, (B, T, heads, head_dim) each."""
    attention, shape = model.model.layers[layer].self_attn, shape_of(model.config)
    if model.config.model_type == "phi3":
        fused = attention.qkv_proj(inputs).unflatten(-1, (-1, shape.head_dim))
        query, key, _ = fused.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=2)
    else:
        query, key = attention.q_proj(inputs), attention.k_proj(inputs)
        query, key = (part.unflatten(-1, (-1, shape.head_dim)) for part in (query, key))
    return query, key


def scores(model, layer, inputs):
    """Unscaled attention scores by the model's own rotary code, (B, heads, T, T)."""
    query, key = queries_and_keys(model, layer, inputs)
    rotated = rotary_dims(model.config)
    modelling = importlib.import_module(type(model).__module__)
    cos, sin = rotation(model, inputs)
    turned = modelling.apply_rotary_pos_emb(
        query[..., :rotated].transpose(1, 2), key[..., :rotated].transpose(1, 2), cos, sin
    )
    query, key = (
        torch.cat([part, rest[..., rotated:].transpose(1, 2)], -1)
        for part, rest in zip(turned, (query, key), strict=True)
    )
    repeats = query.shape[1] // key.shape[1]
    return query @ key.repeat_interleave(repeats, 1).transpose(-1, -2)


def restricted_scores(teacher, layer, inputs, frequencies, passing):
    """The teacher's scores over planes of the given frequencies and `passing` unrotated dimensions.

    Written with complex numbers, apart from any rotary code: a plane is q_j + i q_(j + r/2), and
    rotation multiplies it by exp(i * position * frequency).
    """
    query, key = queries_and_keys(teacher, layer, inputs)
    rotated = rotary_dims(teacher.config)
    planes = torch.isin(teacher.model.rotary_emb.inv_freq, frequencies)
    assert planes.sum() == len(frequencies)
    angle = torch.arange(inputs.shape[1])[:, None] * frequencies
    turn = torch.polar(torch.ones_like(angle), angle)[None, :, None]

    def kept(part):
        real, imaginary = part[..., : rotated // 2], part[..., rotated // 2 : rotated]
        return torch.complex(real, imaginary)[..., planes] * turn

    repeats = query.shape[2] // key.shape[2]
    key = key.repeat_interleave(repeats, 2)
    score = torch.einsum("bthd,bshd->bhts", kept(query), kept(key).conj()).real
    rest = slice(rotated, rotated + passing)
    return score + torch.einsum("bthd,bshd->bhts", query[..., rest], key[..., rest])


# --- The teacher's own shape, depth, norms -------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_student_of_the_teachers_shape_reproduces_its_attention_exactly(family):
    teacher = make_teacher(family)
    student = build_student(teacher, shape_like(teacher), seed=0).eval()
    inputs = hidden_states(teacher)
    for layer in range(4):
        ours, theirs = (attention_output(model, layer, inputs) for model in (student, teacher))
        assert torch.equal(ours[0], theirs[0])
        # The test would notice a swap of layers.
        assert not torch.equal(ours[0], attention_output(teacher, (layer + 1) % 4, inputs)[0])
    ignored = {"dtype", "architectures"}  # filled in by transformers and by us
    configs = [model.config.to_dict().items() for model in (student, teacher)]
    assert {k: v for k, v in configs[0] if k not in ignored} == {
        k: v for k, v in configs[1] if k not in ignored
    }


@pytest.mark.parametrize("family", CLASSES)
def test_student_of_the_teachers_shape_with_its_mlps_is_the_teacher(family):
    teacher = make_teacher(family)
    student = build_student(teacher, shape_like(teacher), seed=0).eval()
    mlps = {name: value for name, value in teacher.state_dict().items() if ".mlp." in name}
    student.load_state_dict(mlps, strict=False)
    tokens = torch.arange(22).view(2, 11)
    assert torch.equal(student(tokens).logits, teacher(tokens).logits)


@pytest.mark.parametrize(("depth", "kept"), [(1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (4, range(4))])
def test_layers_are_evenly_spaced_from_the_first(depth, kept):
    teacher = make_teacher("qwen2")
    student = build_student(teacher, shape_like(teacher, layers=depth), seed=0).eval()
    inputs = hidden_states(teacher)
    for layer, source in enumerate(kept):
        ours, theirs = student.model.layers[layer], teacher.model.layers[source]
        assert torch.equal(
            attention_output(student, layer, inputs)[0],
            attention_output(teacher, source, inputs)[0],
        )
        for norm in ("input_layernorm", "post_attention_layernorm"):
            assert torch.equal(ours.get_submodule(norm).weight, theirs.get_submodule(norm).weight)


def test_a_third_of_42_layers_is_every_third():
    assert students._evenly_spaced(14, 42) == list(range(0, 42, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_dimensions_are_the_leading_ones_everywhere(family):
    teacher = make_teacher(family)
    student = build_student(teacher, shape_like(teacher, hidden_size=32), seed=0).eval()
    narrow = hidden_states(student)
    wide = torch.cat([narrow, torch.zeros_like(narrow)], -1)  # zeros hide the dropped inputs
    for layer in range(4):
        ours, theirs = (
            attention_output(student, layer, narrow),
            attention_output(teacher, layer, wide),
        )
        assert torch.allclose(ours[0], theirs[0][..., :32], atol=1e-5)
    norms = 0
    for name, parameter in student.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, teacher.get_parameter(name)[:32])
            norms += 1
    # Phi: one LayerNorm a layer with bias; Gemma2: four a layer; the others two; and the last.
    assert norms == {"phi": 4 * 2 + 2, "gemma2": 4 * 4 + 1}.get(family, 4 * 2 + 1)
    tokens = torch.arange(6)
    ours, theirs = student.get_input_embeddings(), teacher.get_input_embeddings()
    assert torch.equal(ours.weight, theirs.weight[:, :32])
    assert torch.equal(
        student.get_output_embeddings().weight, teacher.get_output_embeddings().weight[:, :32]
    )
    if family == "phi":
        assert torch.equal(student.lm_head.bias, teacher.lm_head.bias)
    assert student(tokens[None]).logits.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_mlps_are_random_by_the_familys_initialisation(family):
    teacher = make_teacher(family)
    student = build_student(teacher, shape_like(teacher), seed=0)
    fresh = new_model(teacher.config, seed=0)
    for name, parameter in student.named_parameters():
        if ".mlp." in name:
            assert torch.equal(parameter, fresh.get_parameter(name))


# --- Head dimensions -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_a_halved_head_are_the_teachers_over_the_same_frequencies(family):
    teacher = make_teacher(family, head_dim=40)  # Phi: 16 rotated + 24; halved: 8 + 12
    student = build_student(teacher, shape_like(teacher, head_dim=20), seed=0).eval()
    inputs = hidden_states(teacher)
    frequencies = student.model.rotary_emb.inv_freq
    passing = 20 - rotary_dims(student.config)
    for layer in range(4):
        expected = restricted_scores(teacher, layer, inputs, frequencies, passing)
        assert torch.allclose(scores(student, layer, inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrong", ["leading dimensions", "leading planes"])
def test_the_score_property_fails_for_other_truncations(family, wrong, monkeypatch):
    def head_dims(total, rotated, kept, kept_rotated):
        if wrong == "leading dimensions":
            return list(range(kept))
        planes = list(range(kept_rotated // 2))
        halves = planes + [plane + rotated // 2 for plane in planes]
        return halves + list(range(rotated, rotated + kept - kept_rotated))

    monkeypatch.setattr(students, "_head_dims", head_dims)
    teacher = make_teacher(family, head_dim=40)
    student = build_student(teacher, shape_like(teacher, head_dim=20), seed=0).eval()
    inputs = hidden_states(teacher)
    frequencies = student.model.rotary_emb.inv_freq
    passing = 20 - rotary_dims(student.config)
    expected = restricted_scores(teacher, 0, inputs, frequencies, passing)
    difference = scores(student, 0, inputs) - expected
    assert difference.abs().max() > 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ("total", "rotated", "kept", "kept_rotated", "base"),
    [
        (128, 128, 96, 96, 1e6),
        (256, 256, 224, 224, 1e4),
        (80, 32, 60, 24, 1e4),
        (64, 64, 2, 2, 1e4),
    ],
)
def test_kept_planes_are_whole_and_nearest_in_frequency(total, rotated, kept, kept_rotated, base):
    dims = students._head_dims(total, rotated, kept, kept_rotated)
    half = kept_rotated // 2
    assert len(set(dims)) == kept and max(dims) < total
    planes = dims[:half]
    assert dims[half:kept_rotated] == [plane + rotated // 2 for plane in planes]
    assert dims[kept_rotated:] == list(range(rotated, rotated + kept - kept_rotated))
    teacher_log = [-2 * j / rotated * math.log(base) for j in range(rotated // 2)]
    for i, plane in enumerate(planes):
        wanted = -2 * i / kept_rotated * math.log(base)
        distance = abs(teacher_log[plane] - wanted)
        assert distance <= min(abs(other - wanted) for other in teacher_log) + 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_output_columns_of_a_truncated_head_belong_together(family):
    teacher = make_teacher(family, head_dim=40)
    student = build_student(teacher, shape_like(teacher, head_dim=20), seed=0).eval()
    # A single position attends to itself alone: the output is that of the values.
    inputs = hidden_states(teacher, length=1)
    ours, our_heads = attention_output(student, 1, inputs)
    _, their_heads = attention_output(teacher, 1, inputs)
    assert torch.allclose(our_heads, their_heads[..., :20], atol=1e-5)
    attention = teacher.model.layers[1].self_attn
    projection = attention.dense if family == "phi" else attention.o_proj
    hidden_heads = torch.cat([their_heads[..., :20], torch.zeros_like(our_heads)], -1)
    assert torch.allclose(ours, projection(hidden_heads.flatten(-2)), atol=1e-4)


def test_gemma2_softmax_scale_follows_the_head_dimension():
    gemma = Model.model_validate(experiments()["models"]["gemma2-9b"])
    shape = Pair.model_validate(experiments()["pairs"]["gemma2-9b_2b"]).student.shape
    teacher = architecture_config("gemma2", gemma.shape, max_positions=8192)
    student = student_config(teacher, shape)
    assert (teacher.query_pre_attn_scalar, student.query_pre_attn_scalar) == (256, 224)
    assert student.layer_types == teacher.layer_types[:14]


# --- Heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ((8, 8), (4, 4), [0, 2, 4, 6]),  # multi-head stays multi-head
        ((8, 4), (4, 4), [0, 2, 4, 6]),  # one query head of each group
        ((8, 4), (4, 2), [0, 1, 4, 5]),  # whole groups
        ((8, 2), (4, 1), [0, 1, 2, 3]),  # one group is left
    ],
)
def test_every_kept_head_is_one_of_the_teachers_with_its_own_keys(family, before, after, kept):
    teacher = make_teacher(family, heads=before[0], kv_heads=before[1])
    shape = shape_like(teacher, heads=after[0], kv_heads=after[1])
    student = build_student(teacher, shape, seed=0).eval()
    inputs = hidden_states(teacher)
    ours, our_heads = attention_output(student, 0, inputs)
    _, their_heads = attention_output(teacher, 0, inputs)
    assert torch.allclose(our_heads, their_heads[:, :, kept], atol=1e-5)
    alone = torch.zeros_like(their_heads)
    alone[:, :, kept] = their_heads[:, :, kept]
    attention = teacher.model.layers[0].self_attn
    projection = attention.dense if family == "phi" else attention.o_proj
    assert torch.allclose(ours, projection(alone.flatten(-2)), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_key_value_heads_are_means_of_their_block(family):
    teacher = make_teacher(family, heads=8, kv_heads=4)
    student = build_student(teacher, shape_like(teacher, kv_heads=2), seed=0).eval()
    inputs = hidden_states(teacher)
    query, key = queries_and_keys(student, 2, inputs)
    all_queries, all_keys = queries_and_keys(teacher, 2, inputs)
    assert torch.allclose(query, all_queries, atol=1e-6)
    means = torch.stack([all_keys[:, :, 0:2].mean(2), all_keys[:, :, 2:4].mean(2)], 2)
    assert torch.allclose(key, means, atol=1e-5)


def test_merging_leaves_out_key_value_heads_whose_queries_are_all_dropped():
    teacher = make_teacher("llama", heads=8, kv_heads=8)
    shape = shape_like(teacher, heads=4, kv_heads=2)  # queries 0, 2 | 4, 6
    student = build_student(teacher, shape, seed=0).eval()
    inputs = hidden_states(teacher)
    query, key = queries_and_keys(student, 0, inputs)
    all_queries, all_keys = queries_and_keys(teacher, 0, inputs)
    assert torch.allclose(query, all_queries[:, :, [0, 2, 4, 6]], atol=1e-6)
    means = torch.stack([all_keys[:, :, [0, 2]].mean(2), all_keys[:, :, [4, 6]].mean(2)], 2)
    assert torch.allclose(key, means, atol=1e-5)


# --- Norms of queries and keys, rotary frequencies of a layer type ------------------------------


@pytest.mark.parametrize("family", NORMED)
def test_norms_of_queries_and_keys_go_with_the_dimensions_that_they_scale(family):
    teacher = make_teacher(family, heads=4, kv_heads=4, head_dim=16)
    shape = shape_like(teacher, heads=2, kv_heads=2, head_dim=8)
    student = build_student(teacher, shape, seed=0)
    dims, heads = torch.tensor([0, 2, 4, 6, 8, 10, 12, 14]), torch.tensor([0, 2])
    for ours, theirs in zip(student.model.layers, teacher.model.layers, strict=True):
        for name in ("q_norm", "k_norm"):
            weight = getattr(theirs.self_attn, name).weight
            if family == "olmo2":
                weight = weight.view(4, 16)[heads][:, dims].flatten()
            else:
                weight = weight[dims]
            assert torch.equal(getattr(ours.self_attn, name).weight, weight)
    assert student(torch.arange(6)[None]).logits.isfinite().all()


def test_a_layer_of_gemma3_starts_from_one_with_its_rotary_frequencies():
    teacher = make_teacher("gemma3_text", layers=12)
    student = build_student(teacher, shape_like(teacher, layers=6), seed=0)
    types = student.config.layer_types
    assert types == ["sliding_attention"] * 5 + ["full_attention"]
    sources = students.source_layers(student.config, teacher.config)
    assert sources == [0, 2, 4, 6, 8, 11]  # 10, which is nearer, slides
    for layer, source in zip(student.model.layers, sources, strict=True):
        assert torch.equal(
            layer.self_attn.q_proj.weight, teacher.model.layers[source].self_attn.q_proj.weight
        )


# --- The teacher, seeds, saving ------------------------------------------------------------------


def test_the_seed_alone_decides_the_student():
    teacher = make_teacher("phi3")
    shape = shape_like(teacher, layers=2, intermediate_size=24)
    torch.manual_seed(5)
    first = build_student(teacher, shape, seed=0).state_dict()
    state = torch.get_rng_state()
    again = build_student(teacher, shape, seed=0).state_dict()
    other = build_student(teacher, shape, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    assert differing == {name for name in first if ".mlp." in name}


def test_student_of_a_bfloat16_teacher_is_float32_with_the_same_values():
    teacher = make_teacher("llama").to(torch.bfloat16)
    student = build_student(teacher, shape_like(teacher), seed=0)
    assert {value.dtype for value in student.parameters()} == {torch.float32}
    ours, theirs = (model.model.layers[3].self_attn.q_proj.weight for model in (student, teacher))
    assert torch.equal(ours, theirs.float())


def test_dropout_of_the_teacher_is_not_taken_over():
    teacher = make_teacher("phi")
    teacher.config.resid_pdrop = 0.1  # as published with Phi-2
    student = build_student(teacher, shape_like(teacher), seed=0)
    rates = {module.p for module in student.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.0}


@pytest.mark.parametrize("family", FAMILIES)
def test_student_survives_the_disk(family, tmp_path):
    teacher = make_teacher(family)
    shape = shape_like(teacher, hidden_size=32, layers=2, head_dim=10, intermediate_size=24)
    student = build_student(teacher, shape, seed=0).eval()
    student.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.arange(8)[None]
    assert shape_of(loaded.config) == shape
    assert torch.equal(loaded(tokens).logits, student(tokens).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_student_is_whole_layers_of_its_teacher(family):
    teacher = make_teacher(family)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = prune(teacher, 2, frozen=["embeddings"])
    for layer, source in zip(student.base_model.layers, (0, 3), strict=True):
        theirs = teacher.base_model.layers[source].state_dict()
        assert layer.state_dict().keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in layer.state_dict().items())
    for get in ("get_input_embeddings", "get_output_embeddings"):
        ours, theirs = getattr(student, get)().weight, getattr(teacher, get)().weight
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi"])
def test_with_all_its_layers_it_is_the_teacher(family):
    teacher = make_teacher(family)
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        ours = prune(teacher, 4).eval()(input_ids=ids).logits
        assert torch.equal(ours, teacher(input_ids=ids).logits)


def test_a_pruned_student_freezes_what_it_is_told_to():
    tied = make_teacher("llama", tied=True)
    frozen = prune(tied, 2, frozen=["embeddings"])
    asleep = [name for name, p in frozen.named_parameters() if not p.requires_grad]
    assert asleep == ["model.embed_tokens.weight"]
    assert all(p.requires_grad for p in prune(tied, 2).parameters())
    untied = prune(make_teacher("llama"), 2, frozen=["embeddings"])
    assert untied.get_output_embeddings().weight.requires_grad, "a head of its own learns"


def test_whole_layers_are_kept_from_the_first_to_the_last():
    teacher, student = (sized(layers) for layers in (30, 12))
    kept = students.source_layers(student, teacher, to_last=True)
    assert kept == [0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29]
    assert students.source_layers(teacher, teacher, to_last=True) == [*range(30)]
    assert students.source_layers(sized(1), teacher, to_last=True) == [0]


def sized(layers: int):
    return make_teacher("llama", layers=layers).config


def test_a_pruned_student_has_no_more_layers_than_its_teacher():
    with pytest.raises(students.StudentError, match="layers=5 is larger than the teacher's 4"):
        prune(make_teacher("llama"), 5)
