"""Loading models, with the attention that suits them. Imports no more of transformers than that."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors
from huggingface_hub.constants import HF_HUB_OFFLINE
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_flash_attn_2_available
from transformers.utils import logging as transformers_logging

from tad.models.fingerprint import ModelError


def load_model(
    source: str,
    *,
    training: bool,
    dtype: torch.dtype | str | None = None,
    vocab_size: int | None = None,
) -> PreTrainedModel:
    """A causal LM from a folder or hub id: float32 to train, bfloat16 to teach on a GPU.

    ``dtype`` is another, or "auto" for the stored one. Never runs code that comes with the weights,
    and never unpickles them. ``vocab_size`` is that of the tokenizer whose ids it will read. Raises
    ModelError for files that are missing or damaged, for tensors that are not those of config.json
    (transformers would draw a missing one at random, and leave out one too many), for weights that
    are not finite, and for fewer embeddings than tokens.
    """
    if dtype is None:
        dtype = torch.bfloat16 if torch.cuda.is_available() and not training else torch.float32
    options = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # checked below
    model, report = quietly(AutoModelForCausalLM, source, **options)
    _check_weights(source, model, report)
    rows = model.get_input_embeddings().weight.shape[0]
    if vocab_size is not None and rows < vocab_size:
        raise ModelError(
            f"{source}: has {rows} token embeddings, and the tokenizer of its input {vocab_size} "
            "tokens; choose the model or the data so that they fit"
        )
    choose_attention(model, training=training)
    return model


def _check_weights(source: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Raise ModelError unless the file has the tensors that config.json asks for, all finite."""
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{source}: its weights lack {missing[0]}, with {len(missing) - 1} more; copy or make "
            "the model again"
        )
    if odd := sorted(report["mismatched_keys"]):
        name, found, asked = odd[0]
        raise ModelError(
            f"{source}: its weights have {name} of shape {tuple(found)}, and its config.json asks "
            f"for {tuple(asked)}, with {len(odd) - 1} more; copy both from one model"
        )
    if unknown := sorted(report["unexpected_keys"]):
        raise ModelError(
            f"{source}: its config.json has no place for {unknown[0]} of its weights, with "
            f"{len(unknown) - 1} more; copy both from one model"
        )
    for name, values in model.named_parameters():
        wide = values.is_floating_point() and values.element_size() > 1  # 8 bits have no aminmax
        if wide and values.numel() and not all(map(math.isfinite, values.detach().aminmax())):
            raise ModelError(
                f"{source}: its weights have NaN or infinity in {name}; copy or make the model "
                "again"
            )


def load_config(source: str) -> PreTrainedConfig:
    """The configuration of a model, a folder or hub id. Raises ModelError."""
    return quietly(AutoConfig, source, trust_remote_code=False)


def load_tokenizer(source: str, **options: Any) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or hub id; ``options`` of transformers, as ``gguf_file``. Raises
    ModelError.

    Where its own files name no end-of-text token (Galactica), it is the one of config.json.
    """
    tokenizer = quietly(AutoTokenizer, source, trust_remote_code=False, **options)
    if tokenizer.eos_token_id is None:
        with contextlib.suppress(ModelError):  # a folder with a tokenizer alone
            eos = load_config(source).eos_token_id
            if isinstance(eos, int):
                tokenizer.eos_token = tokenizer.convert_ids_to_tokens(eos)
    return tokenizer


def quietly(kind: Any, source: str, **options: Any) -> Any:
    """``kind.from_pretrained``; what goes wrong is told in one line. Raises ModelError."""
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()  # a bar in a log file is only noise
    log, level = logging.getLogger("transformers"), logging.getLogger("transformers").level
    log.setLevel(logging.ERROR)  # what is wrong with the weights is told below, in one line
    try:
        return kind.from_pretrained(source, **options)
    except Exception as error:  # of a dozen kinds, where files are damaged
        raise ModelError(f"{source}: {_why(source, error)}") from None
    finally:
        log.setLevel(level)


def _why(source: str, error: Exception) -> str:
    """What went wrong with a source, and what to do; errors of the hub are told apart."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) and before not in chain:
        chain.append(before)

    def of(*kinds: type[Exception]) -> bool:
        return not Path(source).exists() and any(isinstance(one, kinds) for one in chain)

    if of(errors.GatedRepoError):
        return "asks for a consent: accept its terms on its page, then `hf auth login`"
    if of(errors.HFValidationError):
        return f"no such folder (relative to {Path.cwd()}), and no hub id, as ORGANISATION/NAME"
    if of(errors.RepositoryNotFoundError):
        return "no such folder, and no model of that name on the hub that you may see"
    if of(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        asked = "is not asked (HF_HUB_OFFLINE)" if HF_HUB_OFFLINE else "cannot be reached"
        return (
            f"no such folder, not downloaded, and the hub {asked}: run `hf download {source}` "
            "where there is network, or give a folder"
        )
    reason = " ".join(str(error).split())
    return (
        "cannot be loaded as a folder or hub id; is it spelled right, and made or downloaded "
        f"whole? ({reason})"
    )


def choose_attention(model: PreTrainedModel, *, training: bool) -> None:
    """Give ``model`` the fastest attention that its configuration and this machine allow."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.set_attn_implementation(attention_implementation(model.config, device, training))


def attention_implementation(
    config: PreTrainedConfig, device: str | torch.device, training: bool
) -> str:
    """Which attention kernel to ask transformers for: flash_attention_2, sdpa or eager.

    Flash attention where the package is importable and the device is CUDA, except for soft-capped
    attention (Gemma2) in training (Appendix A: "flash attention whenever possible, except for
    Gemma2"). Otherwise SDPA, or eager where scores are soft-capped, which SDPA cannot do.
    """
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    flash = torch.device(device).type == "cuda" and is_flash_attn_2_available()
    if flash and not (capped and training):
        return "flash_attention_2"
    return "eager" if capped else "sdpa"
