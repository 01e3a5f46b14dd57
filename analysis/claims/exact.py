"""Claims that no run decides: gradients, FLOPs, parameter accounts, and the paper's own teachers.

Each function is a statistic as in ``evidence``, of the claim that ``listed`` gives to it. What it
finds is computed, so it has neither interval nor p-value: it holds or it does not.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from analysis.claims.evidence import Evidence, NotTestable, teacher_metrics
from analysis.claims.statistics import ALL, Finding
from analysis.figures.gradients import gradients, teacher_probabilities
from analysis.reported.audit import BF16_PEAK, WEEK_HOURS
from analysis.reported.values import quantities, quantity
from analysis.results import pair_name, paper_pairs, paper_suite
from analysis.tables.table9 import table9_frame
from tad.experiment.flops import pair_account, petaflops
from tad.methods import BASELINE

ROUNDING = 1e-9
"""Differences of gradients in float64 below this are rounding."""

BILLION = 1e9


def _exact(what: str, effect: float, unit: str, holds: bool, *remarks: str) -> list[Finding]:
    shown = {"what": what, "effect": effect, "unit": unit, "remarks": remarks}
    return [Finding(scope=ALL, holds=bool(holds), kind="", **shown)]


# --- Section 2 and 2.1, from autograd ------------------------------------------------------------


MASSES = (0.6, 0.7, 0.8, 0.9, 0.99)
"""Top-K masses of students; the teacher's is ``analysis.figures.gradients.TEACHER_MASS``, 0.8."""

K, BETA = 10, 2.0


def _gradients(mass: float) -> dict[str, np.ndarray]:
    """Teacher, student, and the gradients ``kl`` and ``tad`` of its logits, (V,) each."""
    found = gradients([mass], K, BETA)
    return {name: values.reshape(-1) for name, values in found.items()}


def split_is_exact(evidence: Evidence) -> list[Finding]:
    import torch

    from tad.divergences import forward_kl, tail_aware

    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 64, 1, 1, 500, generator=generator, dtype=torch.float64) * 3
    gap = 0.0
    for k in (1, 5, 10, 20):
        top = teacher.softmax(-1).topk(k).values.sum(-1)
        for at in range(len(teacher)):
            # One token a sequence: this beta makes beta(X) 1.
            tad = tail_aware(student[at], teacher[at], k=k, beta=float(1 - top[at]))
            gap = max(gap, float((tad - forward_kl(student[at], teacher[at])).abs().max()))
    # The divergences are returned in float32.
    return _exact("largest gap, 64 random tokens, 4 values of K", gap, "nats", gap < 1e-5)


def modes_keep_their_gradient(evidence: Evidence) -> list[Finding]:
    gap = max(float(np.abs(g["tad"] - g["kl"])[:K].max()) for g in map(_gradients, MASSES))
    return _exact("largest change of a top-K gradient", gap, "nats/logit", gap < ROUNDING)


def equation_six(evidence: Evidence) -> list[Finding]:
    gap = 0.0
    for g in map(_gradients, MASSES):
        student, teacher = g["student"][K:], g["teacher"][K:]
        second = student * (teacher.sum() / student.sum()) - teacher
        printed = student - teacher + (BETA / teacher.sum() - 1) * second
        gap = max(gap, float(np.abs(g["tad"][K:] - printed).max()))
    return _exact("largest gap to autograd", gap, "nats/logit", gap < ROUNDING)


def fixed_point(evidence: Evidence) -> list[Finding]:
    import torch

    from tad.divergences import tail_aware

    target = torch.tensor(np.log(teacher_probabilities(K)))[None, None]
    logits = target.clone().requires_grad_()
    tail_aware(logits, target, k=K, beta=BETA).sum().backward()
    gap = float(logits.grad.abs().max())
    return _exact("largest gradient there", gap, "nats/logit", gap < ROUNDING)


def lower_bound(evidence: Evidence) -> list[Finding]:
    slack = np.inf
    for g in map(_gradients, MASSES[2:]):
        student, teacher = g["student"][K:], g["teacher"][K:]
        bound = BETA / teacher.sum() * (student - teacher)
        slack = min(slack, float((g["tad"][K:] - bound).min()))
    return _exact("smallest margin over the bound", slack, "nats/logit", slack > -ROUNDING)


def stronger_than_kl(evidence: Evidence) -> list[Finding]:
    g = _gradients(MASSES[-1])
    ratio = g["tad"][K:] / g["kl"][K:]
    remark = (
        "the bound is negative, so meeting it does not make a gradient stronger: with the "
        "teacher's shares of the tail the two gradients are equal, with too large a share TAD's "
        "turns round"
    )
    holds = bool((ratio > 1 + ROUNDING).all())
    return _exact("smallest TAD / KL of a tail token", float(ratio.min()), "×", holds, remark)


def tail_mass_rises(evidence: Evidence) -> list[Finding]:
    """The tail mass a changes by p_i (1 - a) with a tail logit and by -p_i a with a top-K one,
    which gives its rate under a step down either gradient on the logits."""
    extra, total = [], 0.0
    for g in map(_gradients, MASSES[3:]):
        student, alpha = g["student"], g["student"][K:].sum()
        slope = student * np.where(np.arange(len(student)) < K, -alpha, 1 - alpha)
        extra.append(float(100 * (slope @ g["tad"] / (slope @ g["kl"]) - 1)))
        total = max(total, abs(float((g["tad"] - g["kl"])[K:].sum())))
    remark = (
        f"over the tail the second term of Eq. 6 sums to zero (here to {total:.0e}), and where the "
        "student shares its tail out as the teacher does it is zero token by token, whatever "
        "their masses: it corrects shares within the tail, and does not lift the tail"
    )
    worst = min(extra)
    return _exact("rise of tail mass, TAD over KL, smallest", worst, "%", worst > 1e-6, remark)


# --- Costs and sizes, of the paper's own models --------------------------------------------------


def _petaflops(pair: str, method: str) -> float:
    return petaflops(paper_suite(), pair, method)


def same_flops(evidence: Evidence) -> list[Finding]:
    gaps = []
    for pair in paper_pairs("figure1"):
        account = pair_account(paper_suite(), pair)
        context = paper_suite().stages["scratch"].context
        costs = [account.cost(method, context=context) for method in ("tad", BASELINE)]
        ours, theirs = (cost.total + cost.loss for cost in costs)
        gaps.append(100 * (ours / theirs - 1))
    worst = max(gaps, key=abs)
    return _exact("TAD over Vanilla KD, FLOPs, largest of 5 pairs", worst, "%", abs(worst) < 1)


def miniplm_overhead(evidence: Evidence) -> list[Finding]:
    percent = {
        pair: 100 * (_petaflops(pair, "miniplm") / _petaflops(pair, BASELINE) - 1)
        for pair in paper_pairs("table1")
    }
    # "33% to 50%" is rounded; the claim is met by what is near it.
    holds = all(31 <= value <= 55 for value in percent.values())
    shown = ", ".join(f"{pair_name(p).split()[-1]} {x:.0f}%" for p, x in percent.items())
    remark, mean = f"{shown}; taken as met from 31% to 55%", float(np.mean([*percent.values()]))
    return _exact("MiniPLM over Vanilla KD, mean", mean, "%", holds, remark)


def generation_is_dearest(evidence: Evidence) -> list[Finding]:
    order = ("tad", "miniplm", "minillm", "seq_kd")
    costs = [[_petaflops(pair, method) for method in order] for pair in paper_pairs("table1")]
    holds = all(cost == sorted(cost) for cost in costs)
    ratio = min(cost[-1] / cost[1] for cost in costs)
    remark = (
        "decoding with cached keys and values costs a forward pass a token, which leaves Seq-KD no "
        "dearer than Vanilla KD; the printed figures would be 12 to 17 teacher passes a token"
    )
    return _exact("Seq-KD over MiniPLM, FLOPs", ratio, "×", holds, *([] if holds else [remark]))


def exceeds_1e19(evidence: Evidence) -> list[Finding]:
    pairs = paper_pairs("table4")
    least = 1e18 * min(_petaflops(pair, m) for pair in pairs for m in (BASELINE, "tad"))
    return _exact("smallest of three pairs", least, "FLOPs / 1B tokens", least > 1e19)


def week_of_one_gpu(evidence: Evidence) -> list[Finding]:
    use = [
        100 * _petaflops(pair, "tad") * 1e9 * paper_suite().pairs[pair].tokens["scratch"]
        / (paper_suite().pairs[pair].gpus * WEEK_HOURS * 3600 * BF16_PEAK)
        for pair in paper_pairs("figure1")
    ]  # fmt: skip
    remark = "taken as met if a week means at least 20% of the peak; speed is not measured here"
    return _exact("largest share of peak", max(use), "% of dense bf16", max(use) >= 20, remark)


@cache
def _sizes() -> pd.DataFrame:
    frame = table9_frame(paper_suite())
    return frame[frame["reading"] == ""].set_index("pair")


def printed_sizes(evidence: Evidence) -> list[Finding]:
    misses = [pair_name(pair) for pair, fits in _sizes()["fits"].items() if not fits]
    remarks = [f"no count rounds to the printed size of {', '.join(misses)}"] if misses else []
    return _exact("students without such a count", len(misses), f"of {len(_sizes())}", not misses,
                  *remarks)  # fmt: skip


def active_is_non_embedding(evidence: Evidence) -> list[Finding]:
    claimed = dict.fromkeys(_sizes().index, quantity("active_all")) | quantities("active")
    gaps = {p: 100 * (_sizes().loc[p, "non_embedding"] / a - 1) for p, a in claimed.items()}
    worst = max(gaps.values(), key=abs)
    shown = ", ".join(f"{pair} {gap:+.0f}%" for pair, gap in gaps.items())
    return _exact("non-embedding over claimed, largest gap", worst, "%", abs(worst) <= 20,
                  f"{shown}; taken as met within 20%")  # fmt: skip


# --- The paper's own teachers --------------------------------------------------------------------


def _own_teachers(evidence: Evidence) -> dict[str, dict[str, float]]:
    if evidence.suite.scale != "paper":
        raise NotTestable("a statement about the paper's own teachers")
    return teacher_metrics(evidence)


def mismatch_range(evidence: Evidence) -> list[Finding]:
    percent = [100 * metrics["mismatch"] for metrics in _own_teachers(evidence).values()]
    low, high = quantity("fig2_mismatch_min") - 0.5, quantity("fig2_mismatch_max") + 0.5
    holds = all(low <= value <= high for value in percent)
    remark = f"{min(percent):.1f}% to {max(percent):.1f}% over {len(percent)} teachers"
    return _exact("mean mismatch", float(np.mean(percent)), "%", holds, remark)


def larger_teachers_agree_more(evidence: Evidence) -> list[Finding]:
    metrics = _own_teachers(evidence)
    sizes = {
        evidence.suite.pairs[pair].teacher: pair_account(evidence.suite, pair).teacher.linear
        for pair in paper_pairs("figure1")
        if evidence.suite.pairs[pair].teacher in metrics
    }
    percent = [100 * metrics[teacher]["mismatch"] for teacher in sorted(sizes, key=sizes.get)]
    holds = percent == sorted(percent, reverse=True)
    return _exact("largest minus smallest teacher", percent[-1] - percent[0], "points", holds)
