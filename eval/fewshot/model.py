"""A model as lm-eval takes it, counting what can make a score wrong without an error."""

from __future__ import annotations

from typing import Any

from lm_eval.models.huggingface import HFLM


class UnscorableError(Exception):
    """A request whose option has no tokens, or more than the model takes: (context, option)."""


class CountingModel(HFLM):
    """lm-eval's model; ``truncated`` and ``bos`` count requests since ``reset``."""

    truncated = 0
    bos = 0

    def reset(self) -> None:
        self.truncated = self.bos = 0

    def _loglikelihood_tokens(self, requests: list[Any], **options: Any) -> list[Any]:
        for asked, context, option in requests:
            if not 0 < len(option) <= self.max_length:
                raise UnscorableError(asked, len(option), self.max_length)
            self.truncated += len(context) + len(option) > self.max_length + 1
            self.bos += context[0] == self.tokenizer.bos_token_id
        return super()._loglikelihood_tokens(requests, **options)
