"""From a family and the sizes of a `Shape` to a configuration and a randomly initialised model.

Sizes are the caller's; everything else (rotary base, norm epsilon, soft-capping, biases) is what
checkpoints of that family publish (`tad.experiment.families`), so that the real
shapes give the real models. All families take a head_dim that is not hidden_size / heads (Table 9
needs it for Gemma2); where the configuration class has no such field it is an extra entry, which
their attention and rotary modules read and save_pretrained keeps.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from tad.command import UserError
from tad.experiment.families import FAMILIES, Family
from tad.experiment.schema import Model, Shape

CLASSES: dict[Family, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    family: (
        getattr(transformers, f"{facts.text or facts.classes}Config"),
        getattr(transformers, f"{facts.classes}ForCausalLM"),
    )
    for family, facts in FAMILIES.items()
    if facts.classes is not None
}


class ArchitectureError(UserError, ValueError):
    """Sizes that no model of the family can have; one line with the values and the cure."""


def architecture_config(
    family: Family,
    shape: Shape,
    *,
    vocab_size: int | None = None,
    max_positions: int,
    eos_token_id: int | None = None,
) -> PreTrainedConfig:
    """The transformers configuration of a family in the sizes of `shape`.

    `vocab_size` is the tokenizer's; the embedding has `shape.vocab_size` rows where the shape gives
    them (a padded vocabulary) and `vocab_size` rows elsewhere. `max_positions` is the longest
    sequence in tokens; Gemma2's sliding window is half of it and Phi3's one less than half, as in
    the published models, so give at least twice the training context if, as in the paper, no window
    shall bind. Dropout is zero; packed training needs no padding token.

    Raises ArchitectureError for a missing or too small vocabulary, and like `sized_config`.
    """
    if family not in CLASSES:
        raise ArchitectureError(f"family={family!r} is unknown (allowed: {', '.join(CLASSES)})")
    if max_positions < 4:
        raise ArchitectureError(f"max_positions={max_positions} leaves no sliding window; give 4")
    rows = shape.vocab_size or vocab_size
    if rows is None:
        raise ArchitectureError("the shape has no vocab_size; give the tokenizer's size")
    if vocab_size is not None and vocab_size > rows:
        raise ArchitectureError(
            f"shape.vocab_size={rows} is smaller than the tokenizer's {vocab_size} tokens; "
            "raise it, or leave it out to take the tokenizer's"
        )
    others = {
        "max_position_embeddings": max_positions,
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "pad_token_id": None,
        **FAMILIES[family].published(shape.head_dim, max_positions),
    }
    return sized_config(family, shape.model_copy(update={"vocab_size": rows}), others)


def sized_config(family: Family, shape: Shape, others: dict[str, Any]) -> PreTrainedConfig:
    """The family's configuration class in the sizes of `shape`, with `others` for all the rest.

    `shape.vocab_size` is the number of embedding rows. Raises ArchitectureError for heads that do
    not divide the hidden size where the family needs it and an odd number of rotary dimensions.
    """
    if FAMILIES[family].heads_divide and shape.hidden_size % shape.heads:
        raise ArchitectureError(
            f"{family}: hidden_size={shape.hidden_size} is no multiple of heads={shape.heads}, "
            "which this family needs; change one of them"
        )
    sizes = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "tie_word_embeddings": shape.tied,
    }
    config = CLASSES[family][0](**{**others, **sizes})
    if (rotated := rotary_dims(config)) % 2:
        raise ArchitectureError(
            f"{family}: head_dim={shape.head_dim} has {rotated} rotary dimensions, an odd number, "
            "and rotary embedding needs pairs; with Phi-2's 0.4 of a head use a multiple of 10"
        )
    return config


def new_model(config: PreTrainedConfig, *, seed: int) -> PreTrainedModel:
    """A model with the family's own random initialisation, in training mode.

    The same seed gives the same weights, and torch's global random state is left as it was. Built
    on the default device in the default dtype; under `torch.device("meta")` it has no storage.
    Raises ArchitectureError where the configuration is of no family of this project.
    """
    model_class = CLASSES[family_of(config)][1]
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the accelerators as well.
        torch.default_generator.manual_seed(seed)
        return model_class(copy.deepcopy(config))


def paper_model(
    model: Model, *, vocab_size: int | None = None, max_positions: int = 4096
) -> PreTrainedModel:
    """A model of config/experiments.yaml on the meta device: all sizes, no weights, no download.

    `vocab_size` is the tokenizer's, for a shape that does not give it. Raises ArchitectureError
    like `architecture_config`.
    """
    config = architecture_config(
        model.family, model.shape, vocab_size=vocab_size, max_positions=max_positions
    )
    with torch.device("meta"):
        return new_model(config, seed=0)


def family_of(config: PreTrainedConfig) -> Family:
    """The family of a configuration. Raises ArchitectureError for any other architecture."""
    if config.model_type not in CLASSES:
        raise ArchitectureError(
            f"model_type={config.model_type!r} is no family of this project "
            f"(allowed: {', '.join(CLASSES)})"
        )
    return config.model_type


def shape_of(config: PreTrainedConfig) -> Shape:
    """The sizes of a configuration of one of the families, vocab_size being the embedding's rows.

    Raises ArchitectureError for any other architecture.
    """
    family_of(config)
    heads = config.num_attention_heads
    return Shape(
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        # Published Qwen2, Phi and Phi3 configurations have no head_dim.
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        tied=config.tie_word_embeddings,
    )


def check_shape(config: PreTrainedConfig, model: Model, key: str) -> None:
    """Raises ArchitectureError where a model that was loaded has other sizes than the entry ``key``
    of the configuration gives it, from which its FLOPs follow."""
    found, asked = {"family": config.model_type}, {"family": model.family}
    if config.model_type == model.family and model.family in CLASSES:
        found |= shape_of(config).model_dump()
        asked |= model.shape.model_dump(exclude_none=True)  # vocab_size may be the tokenizer's
    for name, value in asked.items():
        if found[name] != value:
            where = f"{key}.{name}" if name == "family" else f"{key}.shape.{name}"
            raise ArchitectureError(
                f"{where}: {value}: the config.json of {config.name_or_path} has {found[name]}; "
                "write that, or load another model"
            )


def rotary_dims(config: PreTrainedConfig) -> int:
    """How many leading dimensions of a head are rotated; the others pass through (Phi, Phi3)."""
    fraction = config.rope_parameters.get("partial_rotary_factor", 1.0)
    return int(shape_of(config).head_dim * fraction)


def rotary_kinds(config: PreTrainedConfig) -> dict[str, dict[str, Any]]:
    """The rotary parameters of each type of layer; one entry, ``all``, where they are the same."""
    parameters = config.rope_parameters
    return {"all": parameters} if "rope_type" in parameters else dict(parameters)
