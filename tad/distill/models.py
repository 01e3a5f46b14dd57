"""The teacher, and the student that starts from a checkpoint or is cut out of the teacher."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tad.command import UserError
from tad.data.vocabulary import shared_vocabulary, size
from tad.distill.arguments import Lora, Settings, number, pairs
from tad.experiment.schema import Shape
from tad.models.architectures import CLASSES, shape_of
from tad.models.fingerprint import model_fingerprint
from tad.models.loading import attention_implementation, load_model, load_tokenizer
from tad.models.students import build_student

SIZES = {
    "layers": "layers", "hidden": "hidden_size", "heads": "heads", "kv_heads": "kv_heads",
    "head_dim": "head_dim", "mlp": "intermediate_size",
}  # fmt: skip
"""How ``--student`` calls the sizes of a shape."""


class ModelsError(UserError, ValueError):
    """Two models that cannot teach and learn from one another; the message names the cure."""


@dataclass
class Models:
    """Both models of a distillation; ``student()`` gives the same start each time it is called."""

    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    student: Callable[[], nn.Module]
    shared: int
    device: str
    dtype: torch.dtype
    fingerprints: dict[str, Any]
    record: dict[str, Any]


def load(settings: Settings) -> Models:
    """Load both models, and check that one can teach the other. Raises UserError."""
    device = device_of(settings.device)
    dtype = dtype_of(settings.dtype, device)
    teacher = load_model(settings.teacher, training=False, dtype=dtype)
    _attend(teacher)
    teacher.to(device)
    _check_causal(teacher, settings.teacher)
    shape = shape_from(settings.student, teacher.config)
    source = settings.teacher if shape else settings.student
    tokenizer = load_tokenizer(source)

    def student() -> nn.Module:
        if shape is None:
            model = load_model(source, training=True, dtype=torch.float32)
        else:
            model = build_student(teacher, shape, seed=settings.seed, copy_mlps=settings.copy_mlp)
        _attend(model)
        return with_adapters(model, settings.lora, settings.seed).to(device)

    if shape is not None and settings.lora and not settings.copy_mlp:
        raise ModelsError("--lora: the MLPs of a student cut out are random; add --copy-mlp")
    made = student()
    _check_causal(made, settings.student)
    rows = [model.get_output_embeddings().weight.shape[0] for model in (teacher, made)]
    shared = shared_vocabulary(load_tokenizer(settings.teacher), tokenizer, *rows)
    if size(tokenizer) > min(rows):
        raise ModelsError(
            f"{source}: its tokenizer has {size(tokenizer)} tokens, and the models {min(rows)} "
            "embeddings: take the tokenizer that they were trained with"
        )
    fingerprints = {"teacher": model_fingerprint(settings.teacher)}
    fingerprints["student"] = shape.model_dump() if shape else model_fingerprint(source)
    trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
    record = {
        "teacher": _sizes(teacher),
        "student": _sizes(made) | {"trained": trained},
        "made_from_teacher": shape is not None,
        "device": device,
        "dtype": str(dtype).removeprefix("torch."),
    }
    first = [made]
    return Models(
        teacher=teacher,
        tokenizer=tokenizer,
        student=lambda: first.pop() if first else student(),
        shared=shared,
        device=device,
        dtype=dtype,
        fingerprints=fingerprints,
        record=record,
    )


def _sizes(model: nn.Module) -> dict[str, Any]:
    parameters = sum(p.numel() for p in model.parameters())
    return {"family": model.config.model_type, "parameters": parameters}


def device_of(name: str) -> str:
    """``cpu`` or ``cuda``; of several GPUs one is used. Raises ModelsError."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ModelsError(
            "tad distill trains in one process: for several GPUs mix tad.TADMixin into your own "
            "Trainer (examples/transformers_trainer.py)"
        )
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
        raise ModelsError(f"--device {name}: choose auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return "cpu"
    if index or "CUDA_VISIBLE_DEVICES" not in os.environ:
        # Before CUDA starts: the Trainer would otherwise take all GPUs of one process.
        os.environ["CUDA_VISIBLE_DEVICES"] = index or "0"
    if torch.cuda.is_available():
        return "cuda"
    if kind == "cuda":
        raise ModelsError(f"--device {name}: torch finds no GPU; leave it out, or say cpu")
    return "cpu"


def dtype_of(name: str, device: str) -> torch.dtype:
    """The type of the teacher's weights, and of the student's products."""
    if name == "auto":
        name = "float32"
        if device == "cuda" and torch.cuda.is_bf16_supported():
            name = "bfloat16"
    return getattr(torch, name)


def _attend(model: PreTrainedModel) -> None:
    """SDPA where the model can, as a float32 student is also measured outside of autocast."""
    model.set_attn_implementation(attention_implementation(model.config, "cpu", True))


@torch.no_grad()
def _check_causal(model: nn.Module, source: str) -> None:
    """Raise ModelsError for a model whose states depend on later tokens (a masked LM)."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    states = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device) % states
    first, second = model(input_ids=ids, use_cache=False).logits[:, :3].float()
    model.train(training)
    scale = first.abs().max().clamp(min=1e-6)
    if (first - second).abs().max() > 2e-2 * scale:
        raise ModelsError(f"{source}: looks ahead, so it is no causal language model; take one")


# --- Students cut out of the teacher -------------------------------------------------------------


def shape_from(student: str, teacher: Any) -> Shape | None:
    """The shape that ``--student`` asks for; None where it names a model.

    ``half`` and shares are of the layers: all else stays, so the embeddings are the teacher's and
    frozen (Section 3.2.2). ``layers=6,hidden=256`` keeps the dimension of a head, and scales heads,
    their groups and the MLP with the hidden size. Raises ModelsError, ArchitectureError.
    """
    if Path(student).exists():
        return None
    sizes: dict[str, int] = {}
    share = 0.5 if student == "half" else _share(student)
    if share is None and "=" not in student:
        return None
    if "=" in student:
        given = pairs("--student", student, tuple(SIZES))
        sizes = {SIZES[key]: round(number("--student", value)) for key, value in given.items()}
    if teacher.model_type not in CLASSES:
        raise ModelsError(
            f"--student {student}: a teacher of the family {teacher.model_type} cannot be cut "
            f"(only {', '.join(CLASSES)}); name a folder or hub id as the student"
        )
    whole = shape_of(teacher)
    if share is not None:
        sizes = {"layers": max(1, round(share * whole.layers))}
    return _scaled(whole, sizes)


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    if not 0 < share <= 1:
        raise ModelsError(f"--student {text}: a share of the teacher's layers lies between 0 and 1")
    return share


def _scaled(whole: Shape, sizes: dict[str, int]) -> Shape:
    """The teacher's shape in other sizes; those not given follow from the hidden size."""
    hidden, dim = sizes.get("hidden_size", whole.hidden_size), sizes.get("head_dim", whole.head_dim)
    ratio = hidden / whole.hidden_size
    heads = sizes.get("heads") or max(1, round(whole.heads * ratio))
    if "heads" not in sizes and hidden % heads:
        heads = max(h for h in range(1, heads + 1) if hidden % h == 0)
    group = whole.heads // whole.kv_heads
    fits = [h for h in range(1, whole.kv_heads + 1) if heads % h == 0 and heads // h <= group]
    kv_heads = sizes.get("kv_heads") or min(fits, default=1)
    step = 8 if whole.intermediate_size % 8 == 0 else 1
    mlp = sizes.get("intermediate_size") or max(
        step, round(whole.intermediate_size * ratio / step) * step
    )
    try:
        return Shape(
            hidden_size=hidden,
            layers=sizes.get("layers", whole.layers),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=dim,
            intermediate_size=mlp,
            vocab_size=whole.vocab_size,
            tied=whole.tied,
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ModelsError(f"--student: {reason}") from None


# --- Adapters ------------------------------------------------------------------------------------


def with_adapters(model: PreTrainedModel, lora: Lora | None, seed: int) -> nn.Module:
    """The model with adapters to train, drawn from ``seed``. Raises ModelsError."""
    if lora is None:
        return model
    try:
        import peft
    except ModuleNotFoundError:
        raise ModelsError("--lora: peft is not installed: pip install peft") from None
    targets = lora.targets[0] if lora.targets == ("all-linear",) else list(lora.targets)
    config = peft.LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ModelsError(f"--lora targets: {reason[:200]}") from None


def merged(model: nn.Module) -> PreTrainedModel:
    """The model without adapters of its own, what they learnt added to its weights."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


# --- Cost ----------------------------------------------------------------------------------------


@torch.no_grad()
def forward_flops(model: nn.Module, context: int) -> float:
    """FLOPs of the matrix products of a forward, a token of a row of ``context``, as torch counts.

    Over all T x T pairs of positions, as the paper counts (``tad.experiment.flops``).
    """
    device = next(model.parameters()).device
    tokens = torch.zeros(1, context, dtype=torch.long, device=device)
    training, attention = model.training, model.config._attn_implementation
    model.eval()
    model.set_attn_implementation("eager")  # the counter does not know every kernel
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, use_cache=False)
    model.train(training)
    model.set_attn_implementation(attention)
    return counter.get_total_flops() / context
