"""Facts of others: GPUs (config/facts/gpus.yaml), what the hub asks and sends (hub.yaml)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from tad.command import PROJECT, UserError
from tad.experiment.layers import allowed
from tad.experiment.schema import Count, Positive, Strict
from tad.experiment.yaml_file import ConfigError, read_yaml

FOLDER = PROJECT / "config" / "facts"
GIB = 2**30


class PlanError(UserError, ValueError):
    """A plan that cannot be made; one line with the option and the cure."""


class Gpu(Strict):
    """What a maker prints: memory in 2^30 bytes, dense bf16 teraFLOP/s, 10^9 bytes a second."""

    memory_gb: Positive
    bf16_tflops: Positive
    bandwidth_gbs: Positive


Part = Annotated[float, Field(gt=0, le=1)]


class Share(Strict):
    """The part of each that a job gets, and where the numbers are from."""

    memory: Part
    training: Part
    training_source: str
    decoding: Part
    decoding_source: str


class _Gpus(Strict):
    gpus: dict[str, Gpu]
    share: Share
    cpu_core_gflops: Positive


class HubEntry(Strict):
    """What the hub asks before it sends something (``gated``: a consent), and how much that is."""

    licence: str
    gated: bool
    gigabytes: Positive | None = None
    tokens_a_row: Count | None = None


class Benchmarks(Strict):
    """How much the real benchmarks read and write, about, in tokens."""

    fewshot_tokens: Count
    fewshot_row: Count
    math_problems: Count
    math_prompt: Count
    math_answer: Count


class _Hub(Strict):
    models: dict[str, HubEntry]
    datasets: dict[str, HubEntry]
    benchmarks: Benchmarks


@dataclass(frozen=True)
class Machine:
    """So many GPUs of one kind; what jobs reach on them is ``training`` of the peak."""

    count: int
    name: str
    gpu: Gpu
    memory: float
    training: float
    decoding: float
    source: str

    def __str__(self) -> str:
        return f"{self.count}x{self.name}"

    @property
    def room(self) -> float:
        """Bytes of one GPU that a job can fill."""
        return self.memory * self.gpu.memory_gb * GIB

    @property
    def speed(self) -> float:
        """FLOP/s of one GPU in training and scoring."""
        return self.training * self.gpu.bf16_tflops * 1e12

    def decoding_speed(self, batch: int) -> float:
        """FLOP/s of one GPU that writes ``batch`` sequences at once.

        Each step reads all weights, of two bytes, for two FLOPs a sequence and weight.
        """
        return min(self.speed, self.decoding * batch * self.gpu.bandwidth_gbs * 1e9)


def machine(text: str, utilisation: float | None = None) -> Machine:
    """``8xH100-80GB`` with the facts of its GPU; ``utilisation`` replaces the share of the peak.

    Raises PlanError, with the nearest name, for a GPU that the file does not have.
    """
    match = re.fullmatch(r"(?:(\d+)[x×])?(.+)", text.strip())
    if match is None or match[1] is not None and int(match[1]) < 1:
        raise PlanError(f"--gpus {text}: write COUNTxNAME, such as 8xH100-80GB")
    known, name = _gpus(), match[2]
    folded = {each.lower(): each for each in known.gpus}
    if name.lower() not in folded:
        raise PlanError(
            f"--gpus {text}: {name} is not in config/facts/gpus.yaml {allowed(name, known.gpus)}"
        )
    if utilisation is not None and not 0 < utilisation <= 1:
        raise PlanError(f"--utilisation {utilisation}: a share of the peak, 0 to 1: 0.4")
    name = folded[name.lower()]
    share = known.share
    return Machine(
        count=int(match[1] or 1),
        name=name,
        gpu=known.gpus[name],
        memory=share.memory,
        training=utilisation or share.training,
        decoding=share.decoding,
        source="--utilisation" if utilisation else share.training_source,
    )


def usable(memory: float) -> float:
    """Bytes that a job can fill of a GPU that has ``memory`` bytes."""
    return _gpus().share.memory * memory


def cpu_speed() -> float:
    """FLOP/s of one core."""
    return _gpus().cpu_core_gflops * 1e9


def hub_entry(kind: str, name: str) -> HubEntry | None:
    """What is known of an id of the hub; ``kind`` is models or datasets."""
    return getattr(_hub(), kind).get(name)


def benchmarks() -> Benchmarks:
    """The sizes of the real benchmarks."""
    return _hub().benchmarks


@cache
def _gpus() -> _Gpus:
    return _read(FOLDER / "gpus.yaml", _Gpus)


@cache
def _hub() -> _Hub:
    return _read(FOLDER / "hub.yaml", _Hub)


def _read(path: Path, kind: type[Strict]) -> Strict:
    """A file of facts. Raises ConfigError, one line, for what is missing or of a wrong type."""
    values = read_yaml(path)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise ConfigError(f"{path}: {key}: {fault['msg']}") from None
