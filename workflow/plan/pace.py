"""The pace of the paper's own runs: the share of the peak that its printed GPU hours come to."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.reported.values import quantities
from tad.experiment.config import Suite
from tad.experiment.run_id import RunId
from tad.methods import MATCHED_TO, Method
from tad.plan.facts import machine
from tad.plan.jobs import Job
from tad.plan.work import work

PAPER_GPU = "H100-80GB"
STAGES = ("math", "supervised")
"""Both stages of what Appendix A.1 prints the hours of."""


@dataclass(frozen=True)
class Pace:
    """``share`` of the peak in the paper's hours, the lowest of ``pairs``."""

    share: float
    pairs: dict[str, float]

    def __str__(self) -> str:
        each = ", ".join(f"{share:.1%} for {pair}" for pair, share in self.pairs.items())
        return f"Appendix A.1 prints the GPU hours of both stages, from which follow {each}"


def papers_pace(suite: Suite) -> Pace | None:
    """From the printed hours of the pairs that a suite trains in both stages; None without any, and
    for a suite whose teachers are trained here."""
    supervised = suite.stages.get("supervised")
    if suite.pretraining or not supervised or supervised.corpus not in suite.instructions:
        return None
    shares = {}
    peak = machine(PAPER_GPU).gpu.bf16_tflops * 1e12
    for pair, hours in quantities("hours").items():
        if pair in suite.select.pairs:
            runs = [RunId(stage, pair, Method(MATCHED_TO), 0) for stage in STAGES]
            spent = sum(work(suite, Job("distill", f"runs/{run}", (), run)).total for run in runs)
            shares[pair] = spent / (hours * 3600 * peak)
    return Pace(min(shares.values()), shares) if shares else None
