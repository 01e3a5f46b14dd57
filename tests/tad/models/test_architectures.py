"""The five architecture families: published sizes, published features, seeded initialisation."""

from pathlib import Path

import pytest
import torch
import yaml

from tad.experiment.schema import Model, Shape
from tad.models.architectures import (
    CLASSES,
    ArchitectureError,
    architecture_config,
    check_shape,
    family_of,
    new_model,
    paper_model,
    rotary_dims,
    shape_of,
)
from tad.models.loading import attention_implementation

EXPERIMENTS = Path(__file__).parents[3] / "config" / "experiments.yaml"

PUBLISHED_SIZES = {
    "qwen1.5-1.8b": 1_836_828_672,
    "phi-2": 2_779_683_840,
    "qwen2.5-3b": 3_085_938_688,
    "gemma2-9b": 9_241_705_984,
    "phi3-4b": 3_821_079_552,
    "phi3-14b": 13_960_238_080,
    "tinyllama-1.1b": 1_100_048_384,
    "llama2-7b": 6_738_415_616,
}
"""Parameters of each checkpoint's published weight files."""


def models():
    entries = yaml.safe_load(EXPERIMENTS.read_text(encoding="utf-8"))["models"]
    return {name: Model.model_validate(entry) for name, entry in entries.items()}


def tiny_shape(**changes):
    sizes = {
        "hidden_size": 40,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 10,
        "intermediate_size": 48,
        "tied": False,
    }
    return Shape(**{**sizes, **changes})


def tiny_model(family, *, seed=0, **changes):
    shape = tiny_shape(**changes)
    return new_model(
        architecture_config(family, shape, vocab_size=61, max_positions=32), seed=seed
    ).eval()


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_paper_model_has_the_published_number_of_parameters(name):
    model = paper_model(models()[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED_SIZES[name]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_every_model_of_the_experiments_is_checked():
    # The references of MiniPLM only score: nothing is built in their shape.
    built = {name for name, model in models().items() if model.family != "opt"}
    assert built == set(PUBLISHED_SIZES)


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_shape_survives_the_configuration_and_the_disk(family, tied, tmp_path):
    shape = tiny_shape(head_dim=20, tied=tied, vocab_size=61)  # heads * head_dim is not hidden
    model = new_model(architecture_config(family, shape, max_positions=32), seed=0).eval()
    model.save_pretrained(tmp_path)
    loaded = CLASSES[family][1].from_pretrained(tmp_path)
    tokens = torch.arange(24).view(2, 12)
    assert family_of(loaded.config) == family
    assert shape_of(loaded.config) == shape
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("family", CLASSES)
def test_model_is_causal(family):
    model = tiny_model(family)
    tokens = torch.arange(12)[None]
    changed = tokens.clone()
    changed[0, 8:] = 50
    before, after = model(tokens).logits[0], model(changed).logits[0]
    assert torch.allclose(before[:8], after[:8], atol=1e-6)
    assert not torch.allclose(before[8:], after[8:], atol=1e-3)


def test_phi_features():
    model = tiny_model("phi")
    layer = model.model.layers[0]
    assert rotary_dims(model.config) == 4 == 2 * len(model.model.rotary_emb.inv_freq)
    assert model.lm_head.bias is not None and layer.self_attn.dense.bias is not None
    assert {name for name, _ in layer.mlp.named_children()} >= {"fc1", "fc2"}
    inputs = torch.randn(1, 5, 40, generator=torch.Generator().manual_seed(0))
    rotation = model.model.rotary_emb(inputs, torch.arange(5)[None])
    normed = layer.input_layernorm(inputs)
    attended = layer.self_attn(normed, position_embeddings=rotation, attention_mask=None)[0]
    parallel = inputs + attended + layer.mlp(normed)
    assert torch.allclose(layer(inputs, position_embeddings=rotation), parallel, atol=1e-6)


def test_qwen2_has_biases_on_queries_keys_and_values_only():
    attention = tiny_model("qwen2").model.layers[0].self_attn
    biased = {name for name, module in attention.named_children() if module.bias is not None}
    assert biased == {"q_proj", "k_proj", "v_proj"}


def test_phi3_projections_are_fused():
    layer = tiny_model("phi3").model.layers[0]
    assert layer.self_attn.qkv_proj.weight.shape == ((4 + 2 + 2) * 10, 40)
    assert layer.mlp.gate_up_proj.weight.shape == (2 * 48, 40)


def test_gemma2_features():
    model = tiny_model("gemma2", layers=4, tied=True)
    config = model.config
    assert config.layer_types == ["sliding_attention", "full_attention"] * 2
    assert (config.query_pre_attn_scalar, config.sliding_window) == (10, 16)
    assert model.model.layers[0].self_attn.attn_logit_softcapping == 50.0
    norms = [name for name, _ in model.model.layers[0].named_children() if "norm" in name]
    assert len(norms) == 4
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    assert 29.0 < model(torch.arange(12)[None]).logits.abs().max() <= 30.0


def test_gemma2_window_hides_distant_tokens_from_sliding_layers():
    one_layer = tiny_model("gemma2", layers=1, tied=True)  # layer 0 slides over 16 tokens
    two_layers = tiny_model("gemma2", layers=2, tied=True)  # layer 1 sees everything
    tokens = torch.arange(32)[None]
    changed = tokens.clone()
    changed[0, 0] = 50
    for model, reaches in ((one_layer, False), (two_layers, True)):
        last = model(tokens).logits[0, -1], model(changed).logits[0, -1]
        assert torch.equal(*last) != reaches


def test_windows_are_the_published_ones():
    gemma = architecture_config("gemma2", models()["gemma2-9b"].shape, max_positions=8192)
    phi3 = architecture_config("phi3", models()["phi3-4b"].shape, max_positions=4096)
    assert (gemma.sliding_window, gemma.query_pre_attn_scalar) == (4096, 256)
    assert phi3.sliding_window == 2047


@pytest.mark.parametrize("family", CLASSES)
def test_initialisation_depends_on_the_seed_alone(family):
    torch.manual_seed(1)
    first = tiny_model(family, seed=7).state_dict()
    state = torch.get_rng_state()
    again = tiny_model(family, seed=7).state_dict()
    other = tiny_model(family, seed=8).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_new_model_leaves_the_callers_configuration_alone():
    config = architecture_config("llama", tiny_shape(), vocab_size=61, max_positions=32)
    model = new_model(config, seed=0)
    model.config.hidden_act = "changed"
    assert config.hidden_act == "silu"


def test_special_tokens_of_the_classes_defaults_are_not_taken_over():
    config = architecture_config(
        "phi3", tiny_shape(vocab_size=61), max_positions=32, eos_token_id=3
    )
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, 3, None)


def test_padded_vocabulary_keeps_the_shapes_rows():
    config = architecture_config(
        "qwen2", tiny_shape(vocab_size=64), vocab_size=61, max_positions=32
    )
    assert config.vocab_size == 64


@pytest.mark.parametrize(
    ("family", "changes", "arguments", "message"),
    [
        ("bert", {}, {}, r"family='bert' is unknown \(allowed: qwen2"),
        ("llama", {"heads": 6, "kv_heads": 3}, {}, r"hidden_size=40 is no multiple of heads=6"),
        ("gemma2", {"heads": 6, "kv_heads": 3}, {}, r"hidden_size=40 is no multiple of heads=6"),
        ("phi", {"head_dim": 8}, {}, r"head_dim=8 has 3 rotary dimensions"),
        ("llama", {}, {"vocab_size": None}, r"no vocab_size"),
        ("llama", {"vocab_size": 60}, {}, r"vocab_size=60 is smaller than the tokenizer's 61"),
        ("gemma2", {}, {"max_positions": 1}, r"max_positions=1"),
    ],
)
def test_impossible_architectures_are_refused(family, changes, arguments, message):
    options = {"vocab_size": 61, "max_positions": 32, **arguments}
    with pytest.raises(ArchitectureError, match=message) as raised:
        architecture_config(family, tiny_shape(**changes), **options)
    assert "\n" not in str(raised.value)


def test_heads_need_not_divide_the_hidden_size_in_the_other_families():
    for family in ("qwen2", "phi", "phi3"):
        assert (
            tiny_model(family, heads=6, kv_heads=3)(torch.arange(5)[None]).logits.isfinite().all()
        )


def test_unknown_model_types_are_refused():
    config = CLASSES["llama"][0]()
    config.model_type = "mistral"
    with pytest.raises(ArchitectureError, match="model_type='mistral'"):
        new_model(config, seed=0)


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
@pytest.mark.parametrize("training", [True, False])
def test_attention_implementation(flash, device, training, monkeypatch):
    monkeypatch.setattr("tad.models.loading.is_flash_attn_2_available", lambda: flash)
    usable = flash and device != "cpu"
    for family in CLASSES:
        config = architecture_config(family, tiny_shape(), vocab_size=61, max_positions=32)
        chosen = attention_implementation(config, device, training)
        if family == "gemma2":
            assert chosen == ("flash_attention_2" if usable and not training else "eager")
        else:
            assert chosen == ("flash_attention_2" if usable else "sdpa")


@pytest.mark.parametrize("family", CLASSES)
def test_every_family_runs_with_its_implementation_on_the_cpu(family):
    model = tiny_model(family)
    model.set_attn_implementation(attention_implementation(model.config, "cpu", True))
    assert model(torch.arange(6)[None]).logits.isfinite().all()


def test_sizes_in_the_configuration_are_those_of_the_model():
    def entry(**changes):
        shape = tiny_shape(**changes)
        return Model(family="phi3", tokenizer="t", shape=shape, checkpoints={"a": {"path": "x"}})

    config = architecture_config("phi3", tiny_shape(), vocab_size=61, max_positions=32)
    config.name_or_path = "folder"
    check_shape(config, entry(), "models.mine")  # without vocab_size: the tokenizer's
    check_shape(config, entry(vocab_size=61), "models.mine")
    with pytest.raises(ArchitectureError, match="shape.vocab_size: 64: .*folder has 61"):
        check_shape(config, entry(vocab_size=64), "models.mine")
    with pytest.raises(ArchitectureError, match="models.mine.shape.layers: 5: "):
        check_shape(config, entry(layers=5), "models.mine")
    other = entry().model_copy(update={"family": "opt"})
    with pytest.raises(ArchitectureError, match="models.mine.family: opt: .* has phi3"):
        check_shape(config, other, "models.mine")
