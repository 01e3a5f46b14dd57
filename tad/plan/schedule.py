"""When jobs could end: the longest chain of them, and a greedy schedule on so many GPUs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timed:
    """A job's hours on the ``gpus`` that it takes (0: none), after ``needs``."""

    hours: float
    gpus: int
    needs: tuple[str, ...]


def critical_path(jobs: Mapping[str, Timed]) -> list[str]:
    """The longest chain, first job first: no number of GPUs ends sooner."""
    left = remaining(jobs)
    if not left:
        return []
    after = _after(jobs)
    first = max((name for name in jobs if not _there(jobs, name)), key=lambda n: left[n])
    chain = [first]
    while after[chain[-1]]:
        chain.append(max(after[chain[-1]], key=lambda name: left[name]))
    return chain


def remaining(jobs: Mapping[str, Timed]) -> dict[str, float]:
    """Hours from the start of each job to the end of the longest chain behind it."""
    after, found = _after(jobs), {}
    for name in reversed(_ordered(jobs)):
        behind = max((found[other] for other in after[name]), default=0.0)
        found[name] = jobs[name].hours + behind
    return found


def makespan(jobs: Mapping[str, Timed], gpus: int) -> float:
    """Hours of a schedule on ``gpus`` GPUs: of the jobs that can start, that with the longest chain
    behind it first. A job that wants more than there are is left out."""
    left, after = remaining(jobs), _after(jobs)
    waits = {name: len(_there(jobs, name)) for name in jobs}
    ready = sorted((name for name, count in waits.items() if not count), key=lambda n: -left[n])
    running: list[tuple[float, str]] = []
    now, free = 0.0, gpus
    while ready or running:
        for name in list(ready):
            wanted = jobs[name].gpus if jobs[name].gpus <= gpus else 0
            if wanted <= free:
                ready.remove(name)
                free -= wanted
                heapq.heappush(running, (now + jobs[name].hours, name))
        now, done = heapq.heappop(running)
        free += jobs[done].gpus if jobs[done].gpus <= gpus else 0
        for name in after[done]:
            waits[name] -= 1
            if not waits[name]:
                ready.append(name)
        ready.sort(key=lambda n: -left[n])
    return now


def _there(jobs: Mapping[str, Timed], name: str) -> list[str]:
    return [need for need in jobs[name].needs if need in jobs]


def _after(jobs: Mapping[str, Timed]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in jobs}
    for name in jobs:
        for need in _there(jobs, name):
            found[need].append(name)
    return found


def _ordered(jobs: Mapping[str, Timed]) -> list[str]:
    """Each job after what it needs."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done:
            for need in _there(jobs, name):
                visit(need)
            done[name] = None

    for name in jobs:
        visit(name)
    return list(done)
