"""tad.models.sampling: continuations follow the model's distribution, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tad.experiment.schema import Shape
from tad.models.architectures import CLASSES, architecture_config, new_model
from tad.models.sampling import SamplingError, choose, continuations, uniforms

from ..offline_jobs import sharpen


def draw(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.stack([uniforms(length, seed, row) for row in range(rows)]))


def probabilities(model, ids, temperature=1.0):
    """Next-token distribution after each row of ids, (B, V) float64."""
    with torch.no_grad():
        return torch.softmax(model(ids).logits[:, -1].double() / temperature, -1)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
def test_pairs_of_tokens_have_the_frequencies_of_the_model(tiny_llama, temperature):
    """Chi-square of 6000 continuations by two tokens against their exact 36 probabilities."""
    model = tiny_llama(1, vocabulary=6).eval()
    prompt, count = torch.tensor([[3, 1]]), 6000
    found = continuations(model, prompt.expand(count, -1), draw(count, 2), temperature=temperature)
    first = probabilities(model, prompt, temperature)[0]
    second = probabilities(
        model, torch.cat([prompt.expand(6, -1), torch.arange(6)[:, None]], 1), temperature
    )
    expected = count * (first[:, None] * second).flatten().numpy()
    observed = np.bincount((6 * found[:, 0] + found[:, 1]).numpy(), minlength=36)
    cells = np.where(expected >= 5, np.arange(36), 36)  # the others are one cell together
    assert len(set(cells)) >= 15

    def pvalue(expected):
        pooled = [np.bincount(cells, values) for values in (observed, expected)]
        found, wanted = (values[pooled[1] > 0] for values in pooled)
        return chisquare(found, wanted * found.sum() / wanted.sum()).pvalue

    assert pvalue(expected) > 0.01
    assert pvalue(0.9 * expected + 0.1 * expected.mean()) < 1e-4  # it would tell a small error


@pytest.mark.parametrize("family", CLASSES)
def test_the_cache_gives_the_tokens_of_whole_forwards(family):
    """Also beyond the sliding windows of Gemma2 and Phi3."""
    shape = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 20}
    if family in ("gemma2", "llama"):
        shape["head_dim"] = 8
    shape = Shape(**shape, intermediate_size=48, vocab_size=64, tied=family == "gemma2")
    model = sharpen(new_model(architecture_config(family, shape, max_positions=32), seed=1).eval())
    prompts = torch.randint(0, 64, (5, 3), generator=torch.Generator().manual_seed(0))
    draws = draw(5, 20)
    expected = prompts
    for step in range(20):
        with torch.no_grad():
            logits = model(expected, use_cache=False).logits[:, -1]
        token = choose(logits, draws[:, step], temperature=1.0, top_p=1.0)
        expected = torch.cat([expected, token[:, None]], 1)
    torch.testing.assert_close(continuations(model, prompts, draws), expected[:, 3:])


def test_a_row_does_not_depend_on_its_batch(tiny_llama):
    model = sharpen(tiny_llama(1).eval())
    prompts = torch.arange(24).view(12, 2)
    draws = draw(12, 16)
    together = continuations(model, prompts, draws)
    for size in (1, 5):
        parts = zip(prompts.split(size), draws.split(size), strict=True)
        apart = torch.cat([continuations(model, *part) for part in parts])
        torch.testing.assert_close(apart, together)
    assert len({tuple(row) for row in together.tolist()}) == 12


def test_the_token_at_a_quantile():
    logits = torch.tensor([0.1, 0.0, 0.6, 0.3]).log().expand(6, -1)
    draws = torch.tensor([0.0, 0.0999, 0.1001, 0.6999, 0.7001, 1.0])
    assert choose(logits, draws, temperature=1.0, top_p=1.0).tolist() == [0, 0, 2, 2, 3, 3]


def test_no_draw_gives_a_token_without_mass():
    logits = torch.full((2, 5), -torch.inf)
    logits[:, 2] = 3.0
    draws = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert choose(logits, draws, temperature=0.7, top_p=1.0).tolist() == [2, 2]


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    mass = torch.tensor([0.1, 0.4, 0.2, 0.3])
    draws = torch.linspace(0, 0.999, 1000)
    for top_p, kept in [(0.4, {1}), (0.41, {1, 3}), (0.7, {1, 3}), (0.71, {1, 2, 3})]:
        # 0.4 + 0.3 in float64 is not the float32 sum: only values clear of the boundary.
        tokens = choose(mass.log().expand(1000, -1), draws, temperature=1.0, top_p=top_p - 1e-4)
        shares = torch.bincount(tokens, minlength=4) / 1000
        assert set(tokens.tolist()) == kept
        for token in kept:
            expected = mass[token] / sum(mass[other] for other in kept)
            assert shares[token] == pytest.approx(expected.item(), abs=2e-3)


def test_a_set_that_just_reaches_top_p_is_enough():
    mass = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    tokens = choose(mass.log().expand(100, -1), torch.arange(100) / 100, temperature=1.0, top_p=0.5)
    assert set(tokens.tolist()) == {1}


def test_ids_beyond_the_vocabulary_are_never_drawn(tiny_llama):
    model = tiny_llama(1)
    found = continuations(model, torch.zeros(50, 1, dtype=torch.long), draw(50, 8), vocabulary=10)
    assert set(found.flatten().tolist()) == set(range(10))


def test_draws_depend_on_their_stream_alone():
    assert uniforms(5, 1, 2).tolist() == uniforms(9, 1, 2)[:5].tolist()
    streams = [(0, 0), (0, 1), (1, 0), (0, 0, 1), (2**40, 3)]
    assert len({uniforms(1, *stream)[0] for stream in streams}) == len(streams)
    many = np.concatenate([uniforms(20, 7, row) for row in range(2000)])
    assert chisquare(np.bincount((many * 50).astype(int), minlength=50)).pvalue > 0.01


@pytest.mark.parametrize(
    ("values", "message"),
    [({"temperature": 0.0}, "temperature"), ({"temperature": float("nan")}, "temperature"),
     ({"top_p": 0.0}, "top-p"), ({"top_p": 1.5}, "top-p")],
)  # fmt: skip
def test_values_out_of_range_are_refused(tiny_llama, values, message):
    with pytest.raises(SamplingError, match=message):
        continuations(tiny_llama(1), torch.zeros(1, 1, dtype=torch.long), draw(1, 1), **values)
