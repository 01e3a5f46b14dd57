"""The output head of a causal language model, with its peculiarities."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

_MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
_DIVIDED = ("granite",)


@dataclass(frozen=True)
class Head:
    """Output head of a causal language model: logits = softcap(scale * (weight h + bias)).

    `weight` is (V, H), `bias` (V,) or None; `softcap` c means c * tanh(logits / c) (Gemma 2), and
    `scale` multiplies the logits before it. -inf in the bias bans a token.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    @classmethod
    def of(cls, model: nn.Module) -> Head:
        """Read the head of a transformers causal language model, with its peculiarities.

        Knows `final_logit_softcapping` (Gemma), `logits_scaling` (Granite divides by it,
        HyperCLOVA X multiplies), and the multipliers of Cohere, Falcon-H1 and Muse. Raises
        ValueError for a model without a linear output head.
        """
        linear = model.get_output_embeddings()
        if not isinstance(linear, nn.Linear):
            name = type(model).__name__
            raise ValueError(f"{name} has no linear output head: pass Head(weight, bias, ...)")
        config = model.config.get_text_config().to_dict()
        scale = 1.0
        for name in _MULTIPLIERS:
            scale *= config.get(name) or 1.0
        factor = config.get("logits_scaling") or 1.0
        divides = config.get("model_type", "").startswith(_DIVIDED)
        scale *= 1.0 / factor if divides else factor
        return cls(linear.weight, linear.bias, config.get("final_logit_softcapping"), scale)
