"""A plan as a JSON record: every job, and all totals. Memory in bytes, disk in 10^9 bytes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tad.plan.plan import Plan, Planned
from workflow.plan.pace import Pace
from workflow.plan.rows import settings


def record(plan: Plan, pace: Pace | None) -> dict[str, Any]:
    """All of a plan on one machine."""
    on = plan.on
    return {
        "scale": plan.suite.scale,
        "machine": {
            "name": str(on),
            "gpus": on.count,
            "memory_bytes": on.gpu.memory_gb * 2**30,
            "usable_bytes": on.room,
            "bf16_flops": on.gpu.bf16_tflops * 1e12,
            "utilisation": on.training,
            "utilisation_source": on.source,
        },
        "total": {
            "flops": plan.flops,
            "gpu_hours": plan.gpu_hours,
            "gpu_hours_at_papers_pace": plan.at(pace.share).gpu_hours if pace else None,
            "papers_utilisation": pace.share if pace else None,
            "wall_hours": plan.wall_hours,
            "critical_path": plan.critical_path,
            "critical_path_hours": sum(plan.jobs[name].hours for name in plan.critical_path),
            "disk_gb": plan.disk,
            "fits": not plan.misfits,
        },
        "settings": settings(plan),
        "tokens": [{**asdict(each), "short": each.short} for each in plan.tokens],
        "downloads": [asdict(each) for each in plan.downloads],
        "jobs": [_job(each) for each in plan.jobs.values()],
    }


def _job(each: Planned) -> dict[str, Any]:
    shown = each.fit or each.nearest
    found = {
        "name": each.job.name,
        "kind": each.job.kind,
        "needs": list(each.job.needs),
        "flops": each.work.total,
        "flops_of_writing": each.work.decoded,
        "tokens": each.work.tokens,
        "hours": each.hours,
        "gpus": each.gpus,
        "gpu_hours": each.gpu_hours,
    }
    if shown is not None:
        found |= {
            "fits": each.fit is not None,
            "micro_batch": shown.micro_batch,
            "gradient_checkpointing": shown.checkpointing,
            "sharding": shown.sharding,
            "memory_bytes": {**asdict(shown.memory), "peak": shown.memory.peak},
        }
    return found
