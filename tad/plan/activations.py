"""What the layers of each family keep for the backward pass, and hold for a moment without one.

Bytes of one layer and token, counted from what the modules of transformers save (a test compares
them with measured steps). H hidden size, A query width, K key width, I MLP width, N context.
The residual stream and what norms keep is float32; ``compute`` is the bytes of a product's result,
2 under bfloat16 autocast, where also every map keeps a converted copy of its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tad.experiment.families import FAMILIES, Family
from tad.experiment.schema import Shape

FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class Layer:
    """How a family's decoder layer differs in what it keeps.

    ``before`` and ``after`` are its norms ahead of attention and MLP and behind them;
    ``layer_norm`` keeps its input alone, the RMS norms what they normalised too. ``heads`` are
    norms of queries and keys, which keep them in the type of the products (``compute``) or in
    ``float32``. ``fused`` has one map for queries, keys and values and one for gate and up.
    ``joins`` puts heads together of a rotated and a plain part, so that attention's result is
    copied once more. ``gelu`` is an MLP without gate, its GELU written out in five steps.
    """

    before: int = 2
    after: int = 0
    layer_norm: bool = False
    heads: Literal["none", "compute", "float32"] = "none"
    fused: bool = False
    joins: bool = False
    gelu: bool = False


LAYERS: dict[Family, Layer] = {
    "qwen2": Layer(),
    "phi": Layer(before=1, layer_norm=True, joins=True, gelu=True),
    "gemma2": Layer(after=2),
    "phi3": Layer(fused=True, joins=True),
    "llama": Layer(),
    "qwen3": Layer(heads="compute"),
    "mistral": Layer(),
    "gemma3_text": Layer(after=2, heads="float32"),
    "olmo2": Layer(before=0, after=2, heads="float32"),
    "opt": Layer(layer_norm=True, gelu=True),
}


def layer_of(family: Family) -> Layer:
    """Its row; a family that has none yet is taken for a plain one, which costs memory alone."""
    return LAYERS.get(family, Layer())


def eager(family: Family) -> bool:
    """Whether attention writes out its scores: only that way can they be soft-capped."""
    return "attn_logit_softcapping" in FAMILIES[family].published(64, 64)


def saved(family: Family, shape: Shape, context: int, compute: int) -> int:
    """Bytes that a layer keeps of one token for the backward pass."""
    kind, half = layer_of(family), compute < FLOAT
    width, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norm = FLOAT * shape.hidden_size * (1 if kind.layer_norm else 2)
    kept = kind.before * norm + kind.after * 2 * FLOAT * shape.hidden_size
    kept += _inputs(kind, half) * compute * shape.hidden_size
    if kind.heads != "none":
        normalised = FLOAT if kind.heads == "float32" else compute
        kept += (FLOAT + normalised) * (width + keys)
    kept += _attention(family, shape, context, compute)
    inner = compute * shape.intermediate_size
    # Autocast on a GPU takes powers in float32, and what is added to them.
    gelu = (3 * FLOAT + 2 * compute) * shape.intermediate_size
    return kept + (gelu if kind.gelu else 4 * inner)


def _inputs(kind: Layer, half: bool) -> int:
    """How many inputs of maps are kept: each one's converted copy, or one for all that share it."""
    if not half:
        return 1 if kind.before == 1 else 2
    return (1 if kind.fused else 3) + (1 if kind.fused or kind.gelu else 2)


def _attention(family: Family, shape: Shape, context: int, compute: int) -> int:
    """Queries, keys, values, and the result with what the kernel keeps beside it."""
    kind = layer_of(family)
    width, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    result = compute * width * (2 if kind.joins else 1)
    if eager(family):
        half = compute < FLOAT
        scores = compute + FLOAT + (compute if half else 0)  # capped, softmax, converted
        return 3 * compute * width + result + scores * shape.heads * context
    values = width + 2 * keys if kind.fused else keys  # a view keeps the whole of what it is of
    return compute * (width + keys + values) + result + FLOAT * shape.heads


def passing(family: Family, shape: Shape, context: int, compute: int, residual: int) -> int:
    """Bytes a token that a layer holds at once in a forward pass without gradient."""
    kind = layer_of(family)
    width, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    stream = 2 * residual * shape.hidden_size
    if compute < residual:
        stream += compute * shape.hidden_size
    mlp = (4 if kind.gelu or kind.fused else 3) * compute * shape.intermediate_size
    attention = compute * (3 * width + 4 * keys)
    if eager(family):
        attention += (compute + 2 * FLOAT) * shape.heads * context
    return stream + max(mlp, attention)


def turning(family: Family, shape: Shape, context: int, compute: int) -> int:
    """Bytes a token that a layer's backward pass holds beside what it kept."""
    inner = 3 * compute * shape.intermediate_size + FLOAT * shape.hidden_size
    if eager(family):
        inner = max(inner, (2 * FLOAT + compute) * shape.heads * context)
    return inner
