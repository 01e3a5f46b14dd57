"""The architecture families: what the paper's own checkpoints of each publish besides their sizes.

A member of a family is an entry of the configuration; a new family is a row here. Light to import:
``tad.models.architectures`` finds the transformers classes by the name given here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["qwen2", "phi", "gemma2", "phi3", "llama", "opt"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One family.

    ``classes`` begins the names of its transformers classes; None for one that is loaded and
    counted, but never built here. ``published(head_dim, max_positions)`` are the values of its
    configuration. Every ``slides_every``-th layer attends within the sliding window, the first
    among them; 0 for none. ``mlp_matrices`` is 3 where the MLP is gated, ``heads_divide`` whether
    heads must divide the hidden size (the others read ``head_dim`` from their configuration).
    """

    classes: str | None
    published: Callable[[int, int], dict[str, Any]]
    slides_every: int = 0
    mlp_matrices: int = 3
    heads_divide: bool = False

    def windows(self, layers: int, max_positions: int) -> tuple[int | None, ...]:
        """The sliding window of each layer; None for one that sees everything."""
        window = self.published(0, max_positions).get("sliding_window")
        every = self.slides_every
        return tuple(window if every and i % every == 0 else None for i in range(layers))


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
    # OPT and Galactica, which score for MiniPLM.
    "opt": Facts(classes=None, mlp_matrices=2, published=lambda head_dim, positions: {}),
}
