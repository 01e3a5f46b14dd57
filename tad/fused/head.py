"""The output head of a causal language model, as the losses need it.

What a model does to its logits after the matrix product (a scale, soft-capping) is asked of the
model itself, by probing its forward once, and not of names in its configuration.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tad.divergences import LossError

PROBE_TOKENS = 4
_known: weakref.WeakKeyDictionary[nn.Module, tuple[float, float | None]] = (
    weakref.WeakKeyDictionary()
)


class HeadError(LossError):
    """A model whose logits are not a linear map, scaled and soft-capped, of its last states."""


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
        """The head of a transformers causal language model (PEFT's included), with its adapters.

        The states that it belongs to are what the model puts into it: `last_states` gives both.
        The first call for a model runs it on a few tokens. Raises HeadError for a model without a
        linear output head, or whose logits are another function of it.
        """
        scale, softcap = post_processing(model)
        layer, adapters = _layers(model)
        return cls(_merged(layer, adapters), layer.bias, softcap, scale)

    @classmethod
    def with_states(cls, model: nn.Module, states: Tensor) -> tuple[Tensor, Head]:
        """States (B, N, H) and head of a model for which it gives the logits that the model would.

        With adapters on the head (LoRA), whose dropout acts on their own input, the states are
        (B, N, H + ranks): [h, A drop(h)] before [W, s B].
        """
        scale, softcap = post_processing(model)
        layer, adapters = _layers(model)
        if not adapters:
            return states, cls(layer.weight, layer.bias, softcap, scale)
        parts = [(states, layer.weight)]
        for one in adapters:
            inner = one.down(one.dropout(states.to(one.down.weight.dtype)))
            parts.append(
                (inner.to(states.dtype), (one.scale * one.up.weight).to(layer.weight.dtype))
            )
        states, weight = (torch.cat(x, -1) for x in zip(*parts, strict=True))
        return states, cls(weight, layer.bias, softcap, scale)

    def logits(self, states: Tensor) -> Tensor:
        """(..., H) to (..., V), as the model gives them: to call on a few positions at a time."""
        logits = F.linear(states, self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits


@dataclass(frozen=True)
class _Adapter:
    """LoRA on the head: scale * up(down(dropout(h)))."""

    down: nn.Linear
    up: nn.Linear
    dropout: nn.Module
    scale: float


def _layers(model: nn.Module) -> tuple[nn.Linear, list[_Adapter]]:
    """The linear layer of the head, and the adapters on it."""
    module = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if hasattr(module, "modules_to_save"):  # PEFT's copy of the layer, trained in its place
        active = [name for name in module.active_adapters if name in module.modules_to_save]
        module = module.modules_to_save[active[0]] if active else module.original_module
    adapters = []
    if hasattr(module, "lora_A"):
        adapters = [
            _adapter(module, name) for name in module.active_adapters if name in module.lora_A
        ]
        merged, module = module.merged or module.disable_adapters, module.get_base_layer()
        adapters = [] if merged else adapters
    if not isinstance(module, nn.Linear):
        name, kind = type(model).__name__, type(module).__name__
        raise HeadError(
            f"{name}: its output head is {kind}, not a linear layer: load it with "
            "AutoModelForCausalLM, unquantised, or pass Head(weight, bias, ...) of your own"
        )
    return module, adapters


def _merged(layer: nn.Linear, adapters: list[_Adapter]) -> Tensor:
    weight = layer.weight
    for one in adapters:
        weight = weight + one.scale * (one.up.weight @ one.down.weight)
    return weight


def _adapter(layer: Any, name: str) -> _Adapter:
    if layer.use_dora.get(name) or layer.lora_bias.get(name):
        raise HeadError(
            f"adapter {name} on the output head uses DoRA or a bias: use plain LoRA there"
        )
    parts = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
    return _Adapter(*parts, float(layer.scaling[name]))


def post_processing(model: nn.Module) -> tuple[float, float | None]:
    """Scale and soft-cap that a model applies to the product of states and head; asked once.

    Raises HeadError where its logits are another function of the product.
    """
    if model not in _known:
        _known[model] = _probe(model)
    return _known[model]


@torch.no_grad()
def _probe(model: nn.Module) -> tuple[float, float | None]:
    """Give the model's forward made-up products, and see what logits it makes of them."""
    name, outer, seen = type(model).__name__, model.get_output_embeddings(), []
    _layers(model)  # refuses what is no linear head
    own = inner_forward(outer)

    def head(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        exact = states.dtype in (torch.float32, torch.float64)
        if exact:
            _check_linear(model, states, own(states, *args, **kwargs))
        seen.append((states.shape, _made_up(states, len(outer.weight)), exact))
        return seen[-1][1]

    vocab = model.get_input_embeddings().weight
    device = "cpu" if vocab.is_meta else vocab.device
    ids = (torch.arange(1, PROBE_TOKENS + 1, device=device) % len(vocab)).unsqueeze(0)
    with _evaluating(model), replaced_forward(outer, head):
        try:
            logits = model(input_ids=ids, use_cache=False).logits
        except LossError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise HeadError(f"{name}: its forward cannot be probed ({reason})") from error
    if len(seen) != 1:
        raise HeadError(f"{name}: its forward calls its output head {len(seen)} times, not once")
    shape, product, exact = seen[0]
    if shape[:2] != ids.shape:
        raise HeadError(
            f"{name}: {tuple(ids.shape)} tokens give {tuple(shape[:-1])} states to its output "
            "head: prompt tuning, several streams and the like are not supported"
        )
    return _fit(model, product.double(), logits.double(), 1e-4 if exact else 2e-2)


def _made_up(states: Tensor, vocab: int) -> Tensor:
    """Products (1, N, V) of both signs and magnitudes from 0.001 to 100.

    A soft-cap bends the large ones, a scale shows in all.
    """
    size = torch.logspace(-3.0, 2.0, states.shape[1] * vocab, device=states.device)
    sign = 1.0 - 2.0 * (torch.arange(len(size), device=states.device) % 2)
    return (size * sign).view(1, states.shape[1], vocab).to(states.dtype)


def _check_linear(model: nn.Module, states: Tensor, product: Tensor) -> None:
    layer, adapters = _layers(model)
    if isinstance(layer.weight, DTensor):
        return  # sharded: only its own forward can multiply by it
    expected = F.linear(states, _merged(layer, adapters), layer.bias)
    if (product - expected).abs().max() > 1e-4 * expected.abs().max().clamp(min=1e-6):
        raise HeadError(f"{type(model).__name__}: its output head is no plain matrix product")


def _fit(model: nn.Module, x: Tensor, y: Tensor, tolerance: float) -> tuple[float, float | None]:
    """Scale s and soft-cap c with y = c * tanh(s x / c), or y = s x; constants as configured."""
    config = model.config.get_text_config(decoder=True).to_dict()
    numbers = {k: float(v) for k, v in config.items() if type(v) in (int, float) and v > 0}
    caps = [v for k, v in numbers.items() if "cap" in k and "attn" not in k]
    named = [v for k, v in numbers.items() if any(w in k for w in ("scal", "mult", "logit"))]
    known = [1.0, *named, *(1.0 / v for v in named)]
    if y.shape == x.shape:
        for cap in (None, *caps):
            scale = _scale(x, y, cap)
            scale = next((v for v in known if abs(scale / v - 1.0) < tolerance), scale)
            guess = scale * x if cap is None else cap * torch.tanh(scale * x / cap)
            if (guess - y).abs().max() <= tolerance * y.abs().max():
                return scale, cap
    name = type(model).__name__
    raise HeadError(
        f"{name}: its logits are no scaled, soft-capped product of its last states and its head: "
        "pass Head(weight, bias, ...) of your own, or use the losses of logits (tad.divergences)"
    )


def _scale(x: Tensor, y: Tensor, cap: float | None) -> float:
    """The scale of x in y, by least squares over what the soft-cap does not squash out of reach."""
    if cap is not None:
        usable = y.abs() < 0.5 * cap
        x, y = x[usable], cap * torch.atanh(y[usable] / cap)
    return float((x * y).sum() / (x**2).sum().clamp(min=1e-30))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode for a while, and the random numbers left as they were."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def inner_forward(module: nn.Module) -> Any:
    """The forward that ``replaced_forward`` replaces."""
    return module._old_forward if hasattr(module, "_hf_hook") else module.forward


@contextmanager
def replaced_forward(module: nn.Module, value: Any) -> Iterator[None]:
    """Set a module's forward for a while, below accelerate's hooks (which fetch weights)."""
    name = "_old_forward" if hasattr(module, "_hf_hook") else "forward"
    before = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)
