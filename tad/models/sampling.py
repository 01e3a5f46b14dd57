"""Continuations sampled from a causal language model, one stream of random numbers a row.

``transformers.generate`` draws a whole batch from one global generator, so a row's tokens would
depend on its neighbours and on everything drawn before. Here row r gets its own uniform numbers,
and each becomes a token by the inverse of the cumulative distribution. What remains of the batch is
rounding: matrix products of another batch size differ in the last bits, which moves a token where
a uniform number falls within that of a boundary (float32: about one token in 10^6).

Shapes: B rows, P prompt tokens, G generated tokens, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tad.command import UserError


class SamplingError(UserError, ValueError):
    """A temperature or top-p that no distribution has."""


def check_sampling(temperature: float, top_p: float) -> None:
    """Raises SamplingError unless temperature > 0 and 0 < top_p <= 1."""
    if not 0 < temperature < float("inf"):
        raise SamplingError(f"temperature {temperature}: must be positive and finite")
    if not 0 < top_p <= 1:
        raise SamplingError(
            f"top-p {top_p}: must be above 0 and at most 1 (1: the whole vocabulary)"
        )


def uniforms(count: int, *stream: int) -> np.ndarray:
    """``count`` uniform numbers in [0, 1), float64, that depend on the integers ``stream`` alone.

    The first n of a longer draw are those of a draw of n.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(stream))).random(count)


@torch.no_grad()
def continuations(
    model: nn.Module,
    prompts: Tensor,
    draws: Tensor,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    vocabulary: int | None = None,
) -> Tensor:
    """Continue each prompt by G tokens: prompts (B, P), draws (B, G) in [0, 1) -> (B, G) int64.

    ``model`` may be wrapped (DDP, FSDP). Its keys and values are cached, and only the logits of
    the newest token are computed. Nothing ends a row: an end-of-text token is a token like others,
    as it is within a packed sequence. ``vocabulary`` draws from the leading ids only, as those
    beyond the tokenizer's stand for nothing and only pad the output matrix.
    """
    check_sampling(temperature, top_p)
    tokens, cache, fed = [], None, prompts
    for step in range(draws.shape[1]):
        output = model(input_ids=fed, cache=cache, use_cache=True, logits_to_keep=1)
        cache = output.cache
        logits = output.logits[:, -1, :vocabulary]
        fed = choose(logits, draws[:, step], temperature=temperature, top_p=top_p).unsqueeze(1)
        tokens.append(fed)
    return torch.cat(tokens, 1) if tokens else prompts[:, :0]


def choose(logits: Tensor, draws: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """The token at quantile ``draws`` (B,) of softmax(logits / temperature), logits (B, V) -> (B,).

    With ``top_p`` < 1 of the smallest set of tokens whose mass reaches it (Holtzman et al. 2020),
    the likeliest first and of equals the lowest ids. The cumulative sum runs in the order of ids,
    in float64: a float32 sum over 150,000 tokens would lose the tail.
    """
    mass = torch.softmax(logits.double() / temperature, -1)
    if top_p < 1:
        ranked, order = mass.sort(dim=-1, descending=True, stable=True)
        beyond = ranked.cumsum(-1) - ranked >= top_p
        mass = mass.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0.0)
    ends = mass.cumsum(-1)
    total = ends[:, -1]
    # Just below the total whatever the rounding, so that no token without mass is ever chosen.
    target = torch.minimum(draws.to(total) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(ends, target.unsqueeze(-1), right=True).squeeze(-1)
