"""Loading models, with the attention that suits them. Imports no more of transformers than that."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import is_flash_attn_2_available


def load_model(source: str, *, training: bool) -> PreTrainedModel:
    """A causal LM from a folder or hub id: float32 to train, bfloat16 to teach on a GPU.

    Never runs code that comes with the weights, and never unpickles them.
    """
    dtype = torch.bfloat16 if torch.cuda.is_available() and not training else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    choose_attention(model, training=training)
    return model


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
