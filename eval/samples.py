"""Text that a model writes, for a person to read: beginnings of held-out text, continued greedily.

    tad eval samples --model DIR --data work/smollm/data/general/smollm2 --context 256 \\
        --prompts 3 --prompt-tokens 48 --new-tokens 64 --out samples.json

In: a model folder (or hub id) and a packed corpus in its tokens. The prompts are the first tokens
of rows spread evenly over the validation split, so every model of one corpus gets the same. Out: a
record with each prompt, what the model made of it, and how the text really goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eval.options import OptionError, at_least, device_of, writable
from eval.rows import check_tokenizer
from tad.command import command_line, exit_code
from tad.data.packing import PackedTokens
from tad.models.loading import load_model, load_tokenizer
from tad.records import provenance, write_json


@torch.no_grad()
def greedy(model: nn.Module, prompts: Tensor, count: int, end: int) -> list[list[int]]:
    """Continue prompts (B, P) by the likeliest tokens: ``count`` each, or up to ``end``, which is
    left out. The rows pass through the model together and do not depend on one another."""
    found = model.generate(
        input_ids=prompts.to(model.device),
        attention_mask=torch.ones_like(prompts, device=model.device),
        max_new_tokens=count,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        eos_token_id=end,
        pad_token_id=end,
    )
    rows = found[:, prompts.shape[1] :].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def prompts_of(data: PackedTokens, count: int, length: int) -> tuple[Tensor, Tensor]:
    """The prompts (count, length) and the rest of their rows (count, context - length).

    Raises OptionError where there are fewer rows, or a row is no longer than a prompt.
    """
    if count > len(data):
        raise OptionError(f"--prompts {count}: the validation split has {len(data)} rows")
    if length >= data.context:
        raise OptionError(f"--prompt-tokens {length}: a row has {data.context} tokens")
    rows = torch.stack([data[at * len(data) // count]["input_ids"] for at in range(count)])
    return rows[:, :length], rows[:, length:]


def write(options: argparse.Namespace) -> None:
    """Write the record that the command line asks for. Raises UserError."""
    sizes = {"prompts": options.prompts, "prompt_tokens": options.prompt_tokens}
    at_least(1, context=options.context, new_tokens=options.new_tokens, **sizes)
    writable(options.out)
    data = PackedTokens(options.data, "validation", options.context)
    check_tokenizer(options.model, options.data)
    prompts, rest = prompts_of(data, options.prompts, options.prompt_tokens)
    tokenizer = load_tokenizer(options.model)
    model = load_model(options.model, training=False, vocab_size=data.vocab_size)
    written = greedy(
        model.eval().to(device_of(None)), prompts, options.new_tokens, tokenizer.eos_token_id
    )
    texts = [
        {"prompt": ids, "continuation": row, "original": true[: options.new_tokens]}
        for ids, row, true in zip(prompts.tolist(), written, rest.tolist(), strict=True)
    ]
    record: dict[str, Any] = {
        "model": options.model,
        "decoding": "greedy",
        "new_tokens": options.new_tokens,
        "data_fingerprint": data.fingerprint,
        "texts": [{name: tokenizer.decode(ids) for name, ids in text.items()} for text in texts],
        **provenance(),
    }
    write_json(options.out, record)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the record is written, 2 for bad input."""
    parser = command_line("eval samples", __doc__)
    parser.add_argument("--model", required=True, help="folder or hub id")
    parser.add_argument("--data", required=True, help="folder of a packed corpus")
    parser.add_argument("--context", type=int, required=True, help="tokens of a row")
    parser.add_argument("--prompts", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--prompt-tokens", type=int, default=48, help="of each (default: 48)")
    parser.add_argument("--new-tokens", type=int, default=64, help="at most (default: 64)")
    parser.add_argument("--out", type=Path, required=True, help="the record")
    options = parser.parse_args(arguments)
    return exit_code("eval samples", lambda: write(options))
