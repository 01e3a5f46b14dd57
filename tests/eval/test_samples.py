"""Text that models write: which prompts, how it ends, what the record says."""

from __future__ import annotations

import pytest
import torch

from eval.options import OptionError
from eval.samples import greedy, prompts_of


class Rows:
    """Nine rows of ten tokens: row r is 10 r, 10 r + 1, ..."""

    context = 10

    def __len__(self):
        return 9

    def __getitem__(self, row):
        return {"input_ids": torch.arange(10 * row, 10 * row + 10)}


def tiny_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(3)
    return LlamaForCausalLM(config).eval()


def test_prompts_are_the_beginnings_of_rows_spread_evenly():
    prompts, rest = prompts_of(Rows(), 3, 4)
    assert prompts.tolist() == [[0, 1, 2, 3], [30, 31, 32, 33], [60, 61, 62, 63]]
    assert rest[1].tolist() == [34, 35, 36, 37, 38, 39]


@pytest.mark.parametrize(("count", "length", "told"), [(10, 4, "--prompts 10"), (2, 10, "10 tok")])
def test_more_than_there_is_is_refused(count, length, told):
    with pytest.raises(OptionError, match=told):
        prompts_of(Rows(), count, length)


def test_each_token_is_the_likeliest_after_those_before_it():
    model, prompts = tiny_model(), torch.tensor([[5, 6, 7], [8, 9, 10]])
    found = greedy(model, prompts, 6, end=39)
    for prompt, row in zip(prompts.tolist(), found, strict=True):
        ids = list(prompt)
        for token in row:
            assert model(input_ids=torch.tensor([ids])).logits[0, -1].argmax() == token
            ids.append(token)


def test_a_text_ends_before_the_end_of_text():
    model, prompts = tiny_model(), torch.tensor([[5, 6, 7], [8, 9, 10]])
    free = greedy(model, prompts, 6, end=39)
    end = free[0][2]
    cut = greedy(model, prompts, 6, end=end)
    assert cut[0] == free[0][: free[0].index(end)]
    assert end not in cut[1]
