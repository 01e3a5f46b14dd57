"""A model as lm-eval takes it: it counts what can make a score wrong without an error, and scores
the options of one context in one row, so that the context is read once for all of them.

lm-eval's own way reads it with every option and makes logits of all of its positions. Here a row is
the context and then its options side by side, each of which sees the context and itself alone (a
mask), at the positions that it would have behind the context. Only states that predict a token of
an option reach the output head. The sums are lm-eval's own, but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor

Request = tuple[tuple[str, str], list[int], list[int]]
"""(context, option) as text, and the tokens of each."""

Answer = tuple[float, bool]
"""Log-likelihood of an option in nats, and whether greedy decoding would give it."""


class UnscorableError(Exception):
    """A request whose option has no tokens, or more than the model takes: (context, option)."""


class CountingModel(HFLM):
    """lm-eval's model; ``truncated`` and ``bos`` count requests since ``reset``."""

    truncated = 0
    bos = 0

    def reset(self) -> None:
        self.truncated = self.bos = 0

    def _loglikelihood_tokens(self, requests: list[Request], **options: Any) -> list[Answer]:
        cut = 0
        for asked, context, option in requests:
            if not 0 < len(option) <= self.max_length:
                raise UnscorableError(asked, len(option), self.max_length)
            cut += len(context) + len(option) > self.max_length + 1
            self.bos += context[0] == self.tokenizer.bos_token_id
        self.truncated += cut
        if cut or self.model.config._attn_implementation not in ("sdpa", "eager"):
            return super()._loglikelihood_tokens(requests, **options)  # flash takes no such mask
        return self._side_by_side(requests)

    @torch.inference_mode()
    def _side_by_side(self, requests: Sequence[Request]) -> list[Answer]:
        """As ``_loglikelihood_tokens``, with the options of a context in one row."""
        of_context: dict[tuple[int, ...], list[int]] = {}
        for index, (_, context, _) in enumerate(requests):
            of_context.setdefault(tuple(context), []).append(index)
        rows = [
            (list(context), [requests[i][2] for i in found], found)
            for context, found in of_context.items()
        ]
        rows.sort(key=lambda row: -len(row[0]) - sum(map(len, row[1])))  # little padding
        answers: list[Answer] = [(0.0, False)] * len(requests)
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            scored = self._score([(context, options) for context, options, _ in batch])
            for index in (i for _, _, found in batch for i in found):
                answers[index] = next(scored)
        return answers

    def _score(self, rows: Sequence[tuple[list[int], list[list[int]]]]) -> Iterator[Answer]:
        """The answers of all options of some rows (context, options), in order."""
        width = max(len(context) + sum(len(o) - 1 for o in options) for context, options in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        positions = torch.zeros_like(ids)
        seen = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)  # (row, from, to)
        predicting, targets = [], []
        for row, (context, options) in enumerate(rows):
            end = len(context)
            ids[row, :end] = torch.tensor(context)
            positions[row, :end] = torch.arange(end)
            seen[row, :end, :end] = torch.ones(end, end, dtype=torch.bool).tril()
            for option in options:
                begin, end = end, end + len(option) - 1  # its last token predicts nothing
                own = torch.arange(end - begin)
                ids[row, begin:end] = torch.tensor(option[:-1], dtype=torch.long)
                positions[row, begin:end] = len(context) + own
                seen[row, begin:end, : len(context)] = True
                seen[row, begin:end, begin:end] = (own[:, None] >= own).bool()
                predicting += [row * width + p for p in (len(context) - 1, *range(begin, end))]
                targets += option
        logits = self._logits(ids, positions, seen, torch.tensor(predicting))
        wanted = logits.gather(-1, torch.tensor(targets, device=logits.device)[:, None])[:, 0]
        log_p = (wanted - logits.logsumexp(-1)).double().tolist()
        greedy = (wanted == logits.amax(-1)).tolist()
        at = 0
        for option in (option for _, options in rows for option in options):
            of = slice(at, at := at + len(option))
            yield sum(log_p[of]), all(greedy[of])

    def _logits(self, ids: Tensor, positions: Tensor, seen: Tensor, predicting: Tensor) -> Tensor:
        """Logits (n, V) at the places ``predicting`` (n,) of the flattened rows ``ids`` (B, N)."""
        mask = torch.zeros(seen.shape, dtype=self.model.dtype)
        mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)

        def chosen(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (args[0].flatten(0, 1)[predicting.to(args[0].device)][None],)

        hook = self.model.get_output_embeddings().register_forward_pre_hook(chosen)
        try:
            logits = self.model(
                input_ids=ids.to(self.device),
                position_ids=positions.to(self.device),
                attention_mask=mask[:, None].to(self.device),
                use_cache=False,
            ).logits[0]
        finally:
            hook.remove()
        return logits.to(self.softmax_dtype or logits.dtype)
