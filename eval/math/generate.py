"""Greedy generation of many prompts: batches of like length, padded on the left, cut at stops.

``TransformersEngine`` runs anywhere; ``VllmEngine`` needs vllm and a GPU and is taken when it is
installed. Both give, prompt by prompt, the text up to the earliest stop string.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eval.math.prompts import Prompt
from eval.options import OptionError, device_of

ENGINES = ("auto", "transformers", "vllm")

LOOK_EVERY = 4
"""Decoding steps between two looks for stop strings; what is written beyond one is cut off."""

MIN_NEW_TOKENS = 32
"""Room a prompt must leave for its answer before exemplars are dropped to make more of it."""


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer: its text, how many tokens it took, and whether the cap ended it."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that leaves room to answer: its token ids, exemplars kept, tokens allowed."""

    ids: list[int]
    shots: int
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class MathSetup:
    """How answers are generated: what a kept answer depends on besides model, prompt and cap."""

    engine: str
    device: str
    dtype: str

    @classmethod
    def of(cls, engine: str, device: str | None) -> MathSetup:
        """vllm where it is installed and a GPU there, unless another is asked for.

        bfloat16 on a GPU, float32 elsewhere; vllm takes the stored type. Raises OptionError.
        """
        device = device_of(device)
        gpu, installed = device.startswith("cuda"), find_spec("vllm") is not None
        if engine == "vllm" and not (gpu and installed):
            need = "a GPU" if installed else "the package vllm"
            raise OptionError(f"--engine vllm: needs {need}; leave it out, or say transformers")
        if engine == "auto":
            engine = "vllm" if gpu and installed else "transformers"
        dtype = "auto" if engine == "vllm" else "bfloat16" if gpu else "float32"
        return cls(engine, device, dtype)

    def load(self, model: str | Path, batch_size: int) -> TransformersEngine | VllmEngine:
        """The generator of a model, a folder or hub id."""
        if self.engine == "vllm":
            return VllmEngine(model)
        return TransformersEngine(
            model, batch_size=batch_size, device=self.device, dtype=self.dtype
        )


def stop_strings(stop: str | Sequence[str]) -> tuple[str, ...]:
    """One stop string or several, as a tuple. (A str taken for a sequence would stop on letters.)

    Raises OptionError for an empty one, which would end every answer at once.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(stops):
        raise OptionError(f"stop strings {stops!r}: an empty string stops everything")
    return stops


def cut(text: str, stop: str | Sequence[str]) -> str:
    """The text before the earliest stop string, both ends stripped."""
    ends = [text.find(one) for one in stop_strings(stop)]
    return text[: min((end for end in ends if end >= 0), default=len(text))].strip()


def fit(
    prompt: Prompt, question: str, tokenizer: Any, context: int, max_new_tokens: int
) -> Fitted | None:
    """Tokenize a question with as many exemplars as leave it room in ``context`` tokens.

    The full prompt needs MIN_NEW_TOKENS (or the cap, if smaller) beyond itself; while it lacks
    them, the first exemplar goes. The cap shrinks to what the context holds. None if the bare
    question does not fit.
    """
    room = min(MIN_NEW_TOKENS, max_new_tokens)
    for shots in range(len(prompt.exemplars), -1, -1):
        ids = tokenizer(prompt.text(question, shots))["input_ids"]
        if len(ids) + room <= context:
            return Fitted(ids, shots, min(max_new_tokens, context - len(ids)))
    return None


def batches(prompts: Sequence[Fitted], size: int) -> list[list[int]]:
    """Indices in batches of at most ``size``, longest prompts first: little padding, and a batch
    too big for the memory fails at once rather than at the end."""
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index].ids), index))
    return [order[start : start + size] for start in range(0, len(order), size)]


class TransformersEngine:
    """A causal model from a folder (or hub id) in the transformers layout."""

    def __init__(
        self, model: str | Path, *, batch_size: int, device: str, dtype: str = "float32"
    ) -> None:
        import torch
        from transformers import GenerationConfig

        from tad.models.loading import load_model, load_tokenizer

        self.device = device
        self.tokenizer = load_tokenizer(str(model))
        loaded = load_model(
            str(model),
            training=False,
            dtype=getattr(torch, dtype),
            vocab_size=self.tokenizer.vocab_size,
        )
        self.model = loaded.to(device).eval()
        self.context = context_length(self.model.config)
        self.batch_size = batch_size
        self.ends = end_tokens(self.tokenizer, self.model.generation_config)
        # What a model ships here (sampling, repetition penalty) must not reach greedy decoding.
        self.model.generation_config = GenerationConfig()

    def generate(
        self, prompts: Sequence[Fitted], stop: str | Sequence[str]
    ) -> Iterator[tuple[int, Generated]]:
        """(index, answer) of every prompt, as batches finish."""
        stops = stop_strings(stop)
        for batch in batches(prompts, self.batch_size):
            yield from zip(batch, self._batch([prompts[i] for i in batch], stops), strict=True)

    def _batch(self, prompts: list[Fitted], stops: Sequence[str]) -> list[Generated]:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        pad = self._pad()
        width = max(len(prompt.ids) for prompt in prompts)
        rows = [[pad] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts]
        mask = [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts]
        ids = torch.tensor(rows, device=self.device)
        limit = max(prompt.max_new_tokens for prompt in prompts)
        criterion = _Stops(self.tokenizer, stops, width, [p.max_new_tokens for p in prompts])
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.tensor(mask, device=self.device),
                generation_config=GenerationConfig(
                    max_new_tokens=limit,
                    do_sample=False,
                    use_cache=True,
                    pad_token_id=pad,
                    eos_token_id=self.ends or None,
                ),
                stopping_criteria=StoppingCriteriaList([criterion]),
            )
        return [
            self._finish(row[width : width + prompt.max_new_tokens], prompt, stops)
            for row, prompt in zip(out.tolist(), prompts, strict=True)
        ]

    def _pad(self) -> int:
        """The id that fills rows; masked, so any will do."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return candidate
        return 0

    def _finish(self, ids: list[int], prompt: Fitted, stops: Sequence[str]) -> Generated:
        end = next((index for index, one in enumerate(ids) if one in self.ends), None)
        ended = end is not None
        ids = ids[:end]
        while ids and ids[-1] == self._pad():  # behind a stop string, while others went on
            ids.pop()
        raw = self.tokenizer.decode(ids, skip_special_tokens=True)
        stopped = ended or any(one in raw for one in stops)
        truncated = not stopped and len(ids) >= prompt.max_new_tokens
        return Generated(cut(raw, stops), len(ids), truncated)


def end_tokens(tokenizer: Any, generation_config: Any) -> list[int]:
    """Ids that end a generation: the tokenizer's, and those the model itself lists."""
    listed = generation_config.eos_token_id
    listed = listed if isinstance(listed, list) else [listed]
    return sorted({one for one in (*listed, tokenizer.eos_token_id) if one is not None})


def context_length(config: Any) -> int:
    """The longest sequence a model takes, in tokens."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else 2048


class _Stops:
    """Tells transformers which rows of a batch are done: a stop string, or their own cap."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], width: int, caps: list[int]) -> None:
        self.tokenizer, self.stops, self.width, self.caps = tokenizer, stops, width, caps
        # A token is at least one byte of text, so a stop string shows within this many tokens.
        self.tail = LOOK_EVERY + max((len(stop.encode()) for stop in stops), default=0) + 1
        self.done = [False] * len(caps)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        length = input_ids.shape[1] - self.width
        if length % LOOK_EVERY == 0:
            open_rows = [row for row, done in enumerate(self.done) if not done]
            tails = input_ids[open_rows, max(self.width, input_ids.shape[1] - self.tail) :]
            for row, text in zip(open_rows, self.tokenizer.batch_decode(tails), strict=True):
                self.done[row] = any(stop in text for stop in self.stops)
        done = [seen or length >= cap for seen, cap in zip(self.done, self.caps, strict=True)]
        return torch.tensor(done, device=input_ids.device)


class VllmEngine:
    """The same through vllm, which batches by itself."""

    def __init__(self, model: str | Path) -> None:
        from vllm import LLM

        self.llm = LLM(model=str(model), dtype="auto", seed=0)
        self.tokenizer = self.llm.get_tokenizer()
        self.context = self.llm.llm_engine.model_config.max_model_len

    def generate(
        self, prompts: Sequence[Fitted], stop: str | Sequence[str]
    ) -> Iterator[tuple[int, Generated]]:
        from vllm import SamplingParams

        stops = stop_strings(stop)
        outputs = self.llm.generate(
            [{"prompt_token_ids": prompt.ids} for prompt in prompts],
            [
                SamplingParams(temperature=0.0, max_tokens=prompt.max_new_tokens, stop=list(stops))
                for prompt in prompts
            ],
        )
        for index, output in enumerate(outputs):
            answer = output.outputs[0]
            truncated = answer.finish_reason == "length"
            yield index, Generated(cut(answer.text, stops), len(answer.token_ids), truncated)
