"""The architecture families: what published checkpoints of each have besides their sizes.

The first five and OPT are the paper's; the others are for teachers of your own. A member of a
family is an entry of the configuration; a new family is a row here. Light to import:
``tad.models.architectures`` finds the transformers classes by the name given here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal[
    "qwen2", "phi", "gemma2", "phi3", "llama", "qwen3", "mistral", "gemma3_text", "olmo2", "opt"
]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One family.

    ``classes`` begins the names of its transformers classes, ``text`` that of its configuration
    where it differs; None for one that is loaded and counted, but never built here.
    ``published(head_dim, max_positions)`` are the values of its configuration. Every
    ``slides_every``-th layer attends within the sliding window, the first among them; 0 for none.
    Where ``full_every`` is given, all but every so-manyth do. ``mlp_matrices`` is 3 where the MLP
    is gated, ``heads_divide`` whether heads must divide the hidden size (the others read
    ``head_dim`` from their configuration).
    """

    classes: str | None
    published: Callable[[int, int], dict[str, Any]]
    text: str | None = None
    slides_every: int = 0
    full_every: int = 0
    mlp_matrices: int = 3
    heads_divide: bool = False

    def windows(self, layers: int, max_positions: int) -> tuple[int | None, ...]:
        """The sliding window of each layer; None for one that sees everything."""
        window = self.published(0, max_positions).get("sliding_window")
        every, full = self.slides_every, self.full_every
        slides = [(i + 1) % full != 0 if full else every and i % every == 0 for i in range(layers)]
        return tuple(window if one else None for one in slides)


def _rotary(base: float, **more: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": base, **more}


FAMILIES: dict[Family, Facts] = {
    # Qwen1.5 (full multi-head attention) and Qwen2.5 (grouped, tied): biases on q, k, v.
    "qwen2": Facts(
        classes="Qwen2",
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(1e6),
            "rms_norm_eps": 1e-6,
        },
    ),
    # Phi-2: rotary on 0.4 of a head, biases everywhere, attention and MLP in parallel.
    "phi": Facts(
        classes="Phi",
        mlp_matrices=2,
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(1e4, partial_rotary_factor=0.4),
            "layer_norm_eps": 1e-5,
            "hidden_act": "gelu_new",
        },
    ),
    # Gemma2-9B: soft-capped attention and logits, every other layer sliding, four norms.
    "gemma2": Facts(
        classes="Gemma2",
        slides_every=2,
        heads_divide=True,
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(1e4),
            "rms_norm_eps": 1e-6,
            "sliding_window": positions // 2,  # 4096 of 8192
            "query_pre_attn_scalar": head_dim,  # 256 for the 9B model, whose heads have 256
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
    ),
    # Phi-3 mini and medium: fused qkv_proj and gate_up_proj, sliding attention.
    "phi3": Facts(
        classes="Phi3",
        slides_every=1,
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(1e4),
            "rms_norm_eps": 1e-5,
            "sliding_window": positions // 2 - 1,  # 2047 of 4096
            "original_max_position_embeddings": positions,
        },
    ),
    # TinyLlama, Llama-2.
    "llama": Facts(
        classes="Llama",
        heads_divide=True,
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(1e4),
            "rms_norm_eps": 1e-5,
        },
    ),
    # Qwen3: norms of the queries and keys of each head.
    "qwen3": Facts(
        classes="Qwen3",
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(1e6),
            "rms_norm_eps": 1e-6,
        },
    ),
    # Mistral 7B v0.3, whose attention does not slide.
    "mistral": Facts(
        classes="Mistral",
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(1e6),
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
        },
    ),
    # Gemma 3: five layers of six slide, with a rotary base of their own; norms of queries and keys.
    "gemma3_text": Facts(
        classes="Gemma3",
        text="Gemma3Text",
        full_every=6,
        published=lambda head_dim, positions: {
            "rope_parameters": {
                "sliding_attention": _rotary(1e4),
                "full_attention": _rotary(1e6),
            },
            "rms_norm_eps": 1e-6,
            "sliding_window": positions // 2,  # 512 or 1024 of 131072; here no window shall bind
            "query_pre_attn_scalar": head_dim,
        },
    ),
    # OLMo 2: norms after attention and MLP, and over all queries and keys together.
    "olmo2": Facts(
        classes="Olmo2",
        published=lambda head_dim, positions: {
            "rope_parameters": _rotary(5e5),
            "rms_norm_eps": 1e-6,
        },
    ),
    # OPT and Galactica, which score for MiniPLM.
    "opt": Facts(classes=None, mlp_matrices=2, published=lambda head_dim, positions: {}),
}
