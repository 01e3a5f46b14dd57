"""Every causal language model class of the installed transformers, built tiny and swept over.

    python -m tests.tad.fused.every_class        # writes docs/models.md

A configuration is shrunk by the names of its numbers (widths, layers, heads, experts, vocabulary),
in several ways, until one builds and runs; no class is named here. Every number of the model is
then made random, so that a bias or a mask that starts as zero shows.
"""

from __future__ import annotations

import copy
import re
import signal
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from tad.fused import Head, HeadError, last_states

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
VOCABULARY = 96
SECONDS = 30.0
PARAMETERS = 30_000_000
TOLERANCE = 1e-4
CLASSES = dict(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()))
"""Name of the class of each model type."""

TEXT = """# Models: teachers and students

A teacher or a student is any causal language model of transformers whose logits are a matrix
product of its last hidden states with its output head, with or without a bias, times a scale and
soft-capped. What a model does is found by running its forward once on made-up products, at the
construction of the trainer (`TADMixin`) and in `tad.fused.Head.of`; no list of names decides it.
`tad.fused.last_states(model, **inputs)` gives the states that the model puts into its head, and the
head. A mixture of experts keeps its router loss.

With PEFT, LoRA on any layer, on the head too, and `modules_to_save` are supported.

A model is refused with one line (`HeadError`) where the losses would be those of other logits:

| refused | why | what helps |
|---|---|---|
| no output head | `AutoModel` gives states only | `AutoModelForCausalLM` |
| a head that is not `nn.Linear`, or has a forward of its own (8-bit weights, a scale a token) \
| its product is not that of its weight | load it unquantised |
| several heads, or a head called several times | no one matrix gives the logits | none |
| logits changed otherwise after the head (an added offset, masked columns) \
| scale and soft-cap alone do not give them | `Head(weight, bias, ...)` of your own |
| prompt tuning, several streams of states | the head sees other positions than the labels | LoRA |
| DoRA or a bias of LoRA on the head | no plain sum of two products | plain LoRA on the head |
| a forward that returns a tuple (`return_dict=False`) | a router loss would be lost | leave it on |

## Every class of transformers {version}

Of the {all} model types that `AutoModelForCausalLM` knows, {built} could be built tiny, with random
numbers in every parameter. Of these, {exact} give the logits of the model to 1e-4 relative, none
gives others, and the rest is refused:

| class | reason |
|---|---|
{refused}

Exact:
{exact_names}.

Not built tiny, and so not known ({unbuilt}):
{unbuilt_names}.

`python -m tests.tad.fused.every_class` writes this page; `make test-slow` checks it.
"""


class Shrink(NamedTuple):
    """One way to make a configuration small."""

    width: int
    heads: int
    kv_heads: int
    layers: int
    head: int = 16
    recount: bool = True  # derived lists (layer types) are computed anew from the small numbers


SHRINKS = [
    Shrink(64, 4, 2, 2),
    Shrink(64, 4, 4, 4),
    Shrink(64, 4, 2, 2, recount=False),
    Shrink(64, 4, 4, 6, recount=False),
    Shrink(64, 4, 4, 2, head=32),
    Shrink(64, 8, 8, 6, recount=False),
    Shrink(64, 4, 2, 12, head=32, recount=False),
    Shrink(128, 2, 1, 8, head=64),
]


def unset(to: Shrink) -> dict[str, Any]:
    """Numbers that some configurations leave to their files."""
    return {
        "head_dim": to.head,
        "num_key_value_heads": to.kv_heads,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "layer_types": ["full_attention"] * to.layers,
    }


def small(name: str, value: Any, to: Shrink) -> Any:
    """What stands in a small configuration instead of `value`; the same if nothing else does."""
    if (value is None or type(value) is float) and re.search("logit|lm_head", name):
        special = {"cap": 5.0, "scal": 0.37, "multiplier": 0.37}  # so that one which counts, shows
        return next((new for part, new in special.items() if part in name), value)
    if value is None:
        return unset(to).get(name)
    if type(value) is not int:
        return value
    rules = [
        (r"chunk_size|theta|window|^qk_head_dim", value),
        (r"vocab_size|vocab$|num_embeddings", VOCABULARY),
        (r"token_id$|token_index$", 1),
        (r"shared_layers|layer_input$|aux", 0),
        (r"(^|_)(kv_heads|key_value_heads|n_head_kv|kv_n_heads|query_groups)$", to.kv_heads),
        (r"per_tok|per_token|moe_k$|top_?k_experts|moe_topk|router_topk|ffn_.*top_k", 2),
        (r"n_?groups?$|topk_group$|num_expert_groups?$", 1),
        (r"shared_experts$|first_k_dense|dense_layers$", 1),
        (r"expert_num$|experts$|num_experts", 4),
        (r"n_heads?$|num_heads$|attention_heads$|mamba_heads$", to.heads),
        (r"mamba.*(headdim|head_dim|d_head)", 2 * to.width // to.heads),
        (r"head_dim$|d_kv$|head_size$|d_head$|attention_key_size|kv_channels|headdim", to.head),
        (r"layers?$|n_layer|num_blocks|num_layers", to.layers),
        (r"lora_rank|_rank$|lora_dim", 16),
        (r"state_size|d_state|state_dim|ssm_state", 8),
        (r"intermediate|ffn|ffw|d_ff$|n_inner|feed_forward|mlp_dim|d_inner$|d_ssm", 2 * to.width),
        (r"hidden_size|d_model|n_embd|^dim$|embed(ding)?_(dim|size)$|^dim_model|lru_width|emb_dim",
         to.width),
        (r"n_positions|max_position|^n_ctx|sequence_length|max_seq_len", 512),
    ]  # fmt: skip
    new = next((new for pattern, new in rules if re.search(pattern, name)), value)
    return min(new, value) if value > 0 else value


def shrunk(config: PretrainedConfig, to: Shrink) -> PretrainedConfig:
    """A copy with small numbers, configurations inside it too."""
    new = {key: small(key, value, to) for key, value in vars(config).items()}
    changed = {key: value for key, value in new.items() if value is not vars(config)[key]}
    for key, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            changed[key] = shrunk(value, to)
    if to.recount:
        return type(config)(**changed)
    result = copy.deepcopy(config)
    layers = getattr(config, "num_hidden_layers", None)
    for key, value in changed.items():
        setattr(result, key, value)
    for key, value in vars(config).items():
        if isinstance(value, list) and len(value) == layers:
            setattr(result, key, value[: to.layers])
    return result


def build(config_class: type, seed: int = 0, **options: Any) -> nn.Module:
    """A tiny model of a class, random in every number; `options` are set where it has them.

    Raises the error of the first attempt.
    """
    errors: list[Exception] = []
    for to in SHRINKS:
        try:
            config = shrunk(config_class(), to)
            config.is_decoder = True
            for key in options.keys() & vars(config).keys():
                setattr(config, key, options[key])
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
            size = sum(x.numel() for x in model.parameters())
            if size > PARAMETERS:
                raise RuntimeError(f"{size / 1e6:.0f} million parameters")
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config).float().eval()
            randomise(model, seed)
            if not run(model, tokens(model)).isfinite().all():
                raise RuntimeError("its logits are not finite")
            return model
        except TooSlow:
            raise
        except Exception as problem:
            errors.append(problem)
    raise errors[0]


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Adds noise to parameters, and to buffers that are added to something."""
    g = torch.Generator().manual_seed(seed)
    buffers = [x for name, x in model.named_buffers() if "bias" in name]
    for x in [*model.parameters(), *buffers]:
        if x.is_floating_point():
            x.add_(0.05 * torch.randn(x.shape, generator=g))


def tokens(model: nn.Module) -> Tensor:
    size = model.get_input_embeddings().weight.shape[0]
    return torch.randint(
        3, min(size, VOCABULARY), (2, 8), generator=torch.Generator().manual_seed(2)
    )


@torch.no_grad()
def run(model: nn.Module, ids: Tensor) -> Tensor:
    torch.manual_seed(0)
    return model(input_ids=ids, use_cache=False).logits


def logits_of(states: Tensor, head: Head) -> Tensor:
    z = head.scale * F.linear(states, head.weight, head.bias)
    return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)


class TooSlow(Exception):
    """A class that takes too long to build."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow(f"takes more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Verdict(NamedTuple):
    """What became of a model type: `exact`, `refused`, `unbuilt` or `wrong`, and why."""

    model_type: str
    kind: str
    reason: str = ""


@cache
def judge(model_type: str) -> Verdict:
    """Builds a model, and compares the logits of its head with its own."""
    logging.set_verbosity_error()
    try:
        with at_most(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = build(CONFIG_MAPPING[model_type])
            ids = tokens(model)
            expected = run(model, ids)
            torch.manual_seed(0)
            with torch.no_grad():
                actual = logits_of(*last_states(model, input_ids=ids, use_cache=False))
    except HeadError as error:
        return Verdict(model_type, "refused", str(error))
    except Exception as error:
        return Verdict(
            model_type, "unbuilt", f"{type(error).__name__}: {' '.join(str(error).split())}"
        )
    worst = float((actual - expected).abs().max() / expected.abs().max())
    return Verdict(model_type, "exact" if worst <= TOLERANCE else "wrong", f"{worst:.1e}")


def page() -> str:
    """The text of docs/models.md."""
    found = [judge(model_type) for model_type in CLASSES]
    of = {kind: [v for v in found if v.kind == kind] for kind in ("exact", "refused", "unbuilt")}
    names = {
        kind: textwrap.fill(_names(verdicts), 100, break_on_hyphens=False)
        for kind, verdicts in of.items()
    }
    return TEXT.format(
        version=version("transformers"),
        all=len(found),
        built=len(found) - len(of["unbuilt"]),
        exact=len(of["exact"]),
        refused="\n".join(
            f"| {CLASSES[model_type]} | {reason.partition(': ')[2]} |"
            for model_type, _, reason in of["refused"]
        ),
        exact_names=names["exact"],
        unbuilt=len(of["unbuilt"]),
        unbuilt_names=names["unbuilt"],
    )


def _names(verdicts: list[Verdict]) -> str:
    return ", ".join(sorted(v.model_type for v in verdicts))


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
