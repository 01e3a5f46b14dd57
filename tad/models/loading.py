"""Loading models, with the attention that suits them. Imports no more of transformers than that."""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_flash_attn_2_available
from transformers.utils import logging as transformers_logging

from tad.models.fingerprint import ModelError


def load_model(
    source: str, *, training: bool, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """A causal LM from a folder or hub id: float32 to train, bfloat16 to teach on a GPU.

    Never runs code that comes with the weights, and never unpickles them. Raises ModelError.
    """
    if dtype is None:
        dtype = torch.bfloat16 if torch.cuda.is_available() and not training else torch.float32
    options = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    model = _load(AutoModelForCausalLM, source, **options)
    choose_attention(model, training=training)
    return model


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or hub id. Raises ModelError."""
    return _load(AutoTokenizer, source, trust_remote_code=False)


def _load(kind: Any, source: str, **options: Any) -> Any:
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()  # a bar in a log file is only noise
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{source}: cannot be loaded as a folder or hub id; is it spelled right, and made or "
            f"downloaded? ({reason})"
        ) from None


def choose_attention(model: PreTrainedModel, *, training: bool) -> None:
    """Give ``model`` the fastest attention that its family and this machine allow."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = attention_implementation(model.config.model_type, device, training)
    model.set_attn_implementation(name)


def attention_implementation(family: str, device: str | torch.device, training: bool) -> str:
    """Which attention kernel to ask transformers for: flash_attention_2, sdpa or eager.

    Flash attention where the package is importable and the device is CUDA, except for Gemma2 in
    training (Appendix A: "flash attention whenever possible, except for Gemma2"). Otherwise SDPA;
    Gemma2 is eager, because SDPA cannot soft-cap attention logits.
    """
    if family == "gemma2" and training:
        return "eager"
    if torch.device(device).type == "cuda" and is_flash_attn_2_available():
        return "flash_attention_2"
    return "eager" if family == "gemma2" else "sdpa"
