"""Distil a teacher into a student on your own text, and report whether it was worth it.

    tad distill --teacher Qwen/Qwen3-0.6B --student half --data my_texts/ --out distilled
    tad distill --teacher big/ --student small/ --data chats.jsonl --tokens 20M \\
        --baselines clm,vanilla_kd,vanilla_kd_matched --out distilled

In: two causal language models with one tokenizer, as folders or hub ids, or a student that is cut
out of its teacher; text (.txt, .jsonl or .parquet with `text`, or packed documents), chats
(`messages`), or prompts with responses (`prompt` and `response` or `completion`), as a file, a
folder, a glob or a hub id. Of chats and responses only what the assistant says is learnt. Out: a
folder that `AutoModelForCausalLM.from_pretrained` loads, with report.md, report.png and a model
card. An interrupted command goes on with the same command, and ends in the same weights.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tad.command import UserError, command_line, exit_code, plain_logging
from tad.methods import ROWS, Method, row

OTHERS = ("baselines", "out", "report_to", "states_gb")
"""Settings that change nothing about the student itself."""


class ArgumentError(UserError, ValueError):
    """An argument of ``tad distill`` that cannot be met; the message names it and the cure."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Adapters of rank ``r``, scaled by ``alpha`` / ``r``, on the layers named ``targets``."""

    r: int
    alpha: float
    targets: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Lora:
        """``r=8[,alpha=16][,targets=q_proj+v_proj]``. Raises ArgumentError."""
        values = pairs("--lora", text, ("r", "alpha", "targets"))
        if "r" not in values:
            raise ArgumentError(f"--lora {text}: has no rank; write r=8,alpha=16")
        r, alpha = (
            number("--lora", values[key]) if key in values else None for key in ("r", "alpha")
        )
        targets = tuple(values.get("targets", "all-linear").split("+"))
        return cls(r=max(1, round(r)), alpha=2 * r if alpha is None else alpha, targets=targets)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one ``tad distill`` does. ``batch_size`` and ``context`` are in sequences and tokens."""

    teacher: str
    student: str
    data: str
    split: str
    subset: str | None
    method: Method
    baselines: tuple[Method, ...]
    tokens: int
    context: int
    batch_size: int
    micro_batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    temperature: float
    cosine: bool
    copy_mlp: bool
    held_out: float
    held_out_sequences: int
    evaluations: int
    seed: int
    lora: Lora | None
    dtype: str
    device: str
    report_to: tuple[str, ...]
    states_gb: float
    out: Path

    @property
    def methods(self) -> tuple[Method, ...]:
        """The method, and the baselines beside it."""
        return self.method, *self.baselines

    def record(self) -> dict[str, Any]:
        """All that decides the student, as JSON values by argument."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {key: value for key, value in kept.items() if key not in OTHERS}
        lora = self.lora and {**asdict(self.lora), "targets": list(self.lora.targets)}
        return kept | {"method": str(self.method), "lora": lora}


def settings(options: argparse.Namespace) -> Settings:
    """Checked settings of a command line. Raises UserError."""
    given = {key: getattr(options, key) for key in ("k", "beta")}
    given = {key: value for key, value in given.items() if value is not None}
    method = _method(options.method, given)
    texts = [text for text in options.baselines.split(",") if text]
    baselines = [_baseline(text, method) for text in dict.fromkeys(texts)]
    for one in (method, *baselines):
        if one.row.rows != "corpus":
            raise ArgumentError(f"method {one}: trains on text made for it; use a suite for it")
    least = {"context": 2, "batch_size": 1, "micro_batch_size": 1, "held_out_sequences": 2,
             "evaluations": 1, "seed": 0}  # fmt: skip
    for key, low in least.items():
        if getattr(options, key) < low:
            text = f"--{key.replace('_', '-')} {getattr(options, key)}"
            raise ArgumentError(f"{text}: must be at least {low}")
    if not 0 < options.held_out < 1:
        raise ArgumentError(f"--held-out {options.held_out:g}: a share of the text, such as 0.05")
    if options.states_gb < 0:
        raise ArgumentError(f"--states-gb {options.states_gb:g}: must be at least 0")
    if not 0 < options.learning_rate < 1:
        raise ArgumentError(f"--learning-rate {options.learning_rate:g}: between 0 and 1")
    micro = min(options.micro_batch_size, options.batch_size)
    if options.batch_size % micro:
        raise ArgumentError(
            f"--batch-size {options.batch_size}: no multiple of --micro-batch-size {micro}"
        )
    known = {field.name for field in fields(Settings)}
    values = {key: value for key, value in vars(options).items() if key in known}
    return Settings(
        **values
        | {
            "method": method,
            "baselines": tuple(one for one in dict.fromkeys(baselines) if one != method),
            "tokens": round(number("--tokens", options.tokens)),
            "micro_batch_size": micro,
            "lora": Lora.parse(options.lora) if options.lora else None,
            "report_to": tuple(name for name in options.report_to.split(",") if name),
        }
    )


def _method(text: str, given: dict[str, float]) -> Method:
    if text in ROWS:
        given = {key: int(value) if value == int(value) else value for key, value in given.items()}
    return Method.named(text, **given)


def _baseline(text: str, method: Method) -> Method:
    """A control by its bare name has the parameters of the method that it is matched to."""
    if text in ROWS and row(text).matched_to == method.name:
        return Method.of(text, **method.parameters)
    return Method.named(text)


def number(name: str, text: str) -> float:
    """A positive number, with k, M or B for thousands, millions, billions. Raises ArgumentError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kKmMbB]?)", text.strip())
    units = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}
    value = float(match[1]) * units[match[2].lower()] if match else 0.0
    if value <= 0:
        raise ArgumentError(f"{name} {text}: must be a positive number, such as 5M or 300k")
    return value


def pairs(name: str, text: str, allowed: tuple[str, ...]) -> dict[str, str]:
    """``key=value,key=value`` as a dict. Raises ArgumentError for another form or key."""
    values = {}
    for part in text.split(","):
        key, found, value = part.partition("=")
        if not found or not value or key not in allowed:
            raise ArgumentError(
                f"{name} {text}: {part!r} is not understood; write {allowed[0]}=... with any of "
                f"{', '.join(allowed)}, joined by commas"
            )
        values[key] = value
    return values


def parser() -> argparse.ArgumentParser:
    """The arguments, with what each is for."""
    found = command_line("distill", __doc__)
    models = found.add_argument_group("models")
    models.add_argument("--teacher", required=True, help="folder or hub id")
    models.add_argument(
        "--student", required=True,
        help="folder or hub id; or what is cut out of the teacher: half, a share of its layers "
        "(0.25), or sizes (layers=6,hidden=256; also heads, kv_heads, head_dim, mlp)",
    )  # fmt: skip
    models.add_argument(
        "--copy-mlp", action="store_true",
        help="a student cut out of its teacher takes its MLPs too (the paper leaves them random)",
    )  # fmt: skip
    models.add_argument("--lora", help="train adapters: r=8[,alpha=16][,targets=q_proj+v_proj]")
    data = found.add_argument_group("data")
    data.add_argument("--data", required=True, help="file, folder, glob, or hub id of a data set")
    data.add_argument("--split", default="train", help="of a hub data set (default: train)")
    data.add_argument("--subset", help="of a hub data set")
    data.add_argument("--context", type=int, default=512, help="tokens a sequence (default: 512)")
    data.add_argument(
        "--tokens", default="5M", help="to train on (default: 5M); less text is read repeatedly"
    )
    data.add_argument(
        "--held-out", type=float, default=0.05,
        help="share of the documents that is only measured on (default: 0.05)",
    )  # fmt: skip
    data.add_argument(
        "--held-out-sequences", type=int, default=128, help="of it measured (default: 128)"
    )
    loss = found.add_argument_group("loss")
    loss.add_argument("--method", default="tad", help="name or id of a method (default: tad)")
    loss.add_argument("--k", type=float, help="K of TAD (default: 10)")
    loss.add_argument("--beta", type=float, help="beta of TAD (default: 2)")
    loss.add_argument("--temperature", type=float, default=1.0, help="(default: 1)")
    loss.add_argument("--cosine", action="store_true", help="add the cosine term (equal widths)")
    loss.add_argument(
        "--baselines", default="",
        help="methods trained beside it, and compared: clm,vanilla_kd,vanilla_kd_matched",
    )  # fmt: skip
    training = found.add_argument_group("training")
    training.add_argument("--batch-size", type=int, default=16, help="sequences a step (16)")
    training.add_argument("--micro-batch-size", type=int, default=4, help="at a time (4)")
    training.add_argument("--learning-rate", type=float, default=2e-4, help="(2e-4)")
    training.add_argument("--weight-decay", type=float, default=0.01, help="(0.01)")
    training.add_argument("--warmup", type=float, default=0.03, help="share of the steps (0.03)")
    training.add_argument("--evaluations", type=int, default=10, help="on the way (10)")
    training.add_argument("--seed", type=int, default=0, help="of start and order (0)")
    training.add_argument(
        "--dtype", choices=["auto", "float32", "bfloat16"], default="auto",
        help="bfloat16: of the teacher and of products; weights stay float32 (auto: on a GPU)",
    )  # fmt: skip
    training.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 (auto: a GPU if any)")
    training.add_argument(
        "--states-gb", type=float, default=20.0,
        help="of disk, while it runs, for what the teacher gives for each row, so that it runs "
        "once for all students (20; 0: in each training)",
    )  # fmt: skip
    training.add_argument("--report-to", default="", help="tensorboard, wandb, ... (default: none)")
    found.add_argument("--out", type=Path, default=Path("distilled"), help="folder (distilled)")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the folder is finished, 2 for bad input, 130 when stopped."""
    options = parser().parse_args(arguments)
    plain_logging()

    def job() -> None:
        checked = settings(options)
        from tad.distill.job import distill  # torch is slow to load, and mistakes are frequent

        distill(checked)

    return exit_code("distill", job)
