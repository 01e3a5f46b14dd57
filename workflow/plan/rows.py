"""What a plan shows, in whatever form: lines of jobs, corpora and settings, and totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tad.plan.facts import GIB
from tad.plan.plan import Plan, Planned
from workflow.plan.pace import Pace
from workflow.plan.targets import asked, plannable

PARTS = ("weights", "gradients", "optimizer", "activations", "loss", "evaluation")


@dataclass(frozen=True)
class Line:
    """Jobs that cost the same and run the same way."""

    jobs: tuple[Planned, ...]

    @property
    def first(self) -> Planned:
        """One of them."""
        return self.jobs[0]

    @property
    def title(self) -> str:
        """What it is of: a pair with its methods, a model, a corpus."""
        if self.first.job.run is None:
            places = [each.job.place.partition("/")[2] for each in self.jobs]
            return ", ".join(places)
        run = self.first.job.run
        methods = list(dict.fromkeys(str(each.job.run.method) for each in self.jobs))
        more = f" and {len(methods) - 1} more" if len(methods) > 1 else ""
        named = "" if self.first.job.kind in ("select", "generate", "states") else f" {methods[0]}"
        return f"{run.stage}/{run.pair}{named}{more}"

    @property
    def way(self) -> str:
        """How it runs: micro-batch, checkpointing, FSDP."""
        found = self.first.fit or self.first.nearest
        if found is None:
            return "CPU"
        words = [f"batch {found.micro_batch}"]
        words += ["checkpointing"] if found.checkpointing else []
        words += ["FSDP"] if found.sharding == "fsdp" else []
        return ", ".join(words) if self.first.fit else "does not fit"

    def memory(self, part: str) -> str:
        """GiB of a part on each GPU."""
        found = self.first.fit or self.first.nearest
        size = getattr(found.memory, part) / GIB if found else 0.0
        return f"{size:.1f}" if size else ""


def lines(plan: Plan) -> list[Line]:
    """All jobs, alike ones in one line, in the order in which they can run."""
    found: dict[tuple, list[Planned]] = {}
    for each in plan.jobs.values():
        found.setdefault(_alike(each), []).append(each)
    return [Line(tuple(jobs)) for jobs in found.values()]


def _alike(each: Planned) -> tuple:
    job, shown = each.job, each.fit or each.nearest
    of = (job.run.stage, job.run.pair) if job.run else (job.place,)
    if shown is None:
        return (job.kind, *of)
    way = shown.gpus, shown.micro_batch, shown.checkpointing, shown.sharding
    size = f"{each.work.total:.2e}", f"{shown.memory.peak / GIB:.1f}"
    return (job.kind, *of, *way, *size)


def settings(plan: Plan) -> dict[str, dict[str, object]]:
    """What pairs have to say in a configuration so that all of their runs fit."""
    found: dict[str, dict[str, object]] = {}
    for each in plan.jobs.values():
        if each.fit and (changed := each.fit.differs(each.job, plan.suite)):
            entry = found.setdefault(each.job.run.pair, {})
            for key, value in changed.items():
                known = entry.get(key, value)
                entry[key] = min(known, value) if key == "micro_batch_size" else value
                if key == "gpus":
                    entry[key] = max(known, value)
    return found


def settings_text(plan: Plan) -> list[str]:
    """The same as lines of YAML."""
    return [
        f"pairs: {{{pair}: {{{', '.join(f'{k}: {str(v).lower()}' for k, v in values.items())}}}}}"
        for pair, values in settings(plan).items()
    ]


def assumptions(plan: Plan) -> list[str]:
    """What the numbers rest on."""
    on = plan.on
    return [
        "FLOPs: matrix products, counted from shapes as they are executed (causal attention, "
        "frozen matrices as built), with the held-out points on the way.",
        f"Hours: FLOPs at {on.training:.0%} of the peak ({on.source}). Text is written at "
        f"{on.decoding:.0%} of the memory's bandwidth (assumed). Loading and drawing are left out.",
        "Memory: counted from shapes, as training here allocates it, and compared with measured "
        "steps on a CPU, not on a GPU; a tenth of each GPU is left free. A job of one GPU takes "
        "one; more GPUs change the numbers of a run by rounding alone.",
        "Sizes of downloads and of benchmarks: config/facts/hub.yaml. The benchmarks themselves "
        "(below 1 GB) and StoryCloze, MAWPS, TabMWP and SAT, which need you, are not listed.",
    ]


def fits(plans: Sequence[Plan]) -> list[tuple[str, ...]]:
    """(stage/pair, how it trains on each machine) of all pairs."""
    found: dict[str, list[list[str]]] = {}
    for number, plan in enumerate(plans):
        for line in lines(plan):
            if line.first.job.kind == "distill":
                run = line.first.job.run
                ways = found.setdefault(f"{run.stage}/{run.pair}", [[] for _ in plans])[number]
                shown = line.first.fit or line.first.nearest
                count = f"{shown.gpus} GPU{'s' if shown.gpus > 1 else ''}, "
                peak = f" ({shown.memory.peak / GIB:.0f} GiB)"
                ways.append((count if line.first.fit else "") + line.way + peak)
    return [(pair, *(_most(each) for each in ways)) for pair, ways in found.items()]


def _most(ways: list[str]) -> str:
    """The way that most methods take, and how many others there are."""
    if not ways:
        return ""
    kinds = list(dict.fromkeys(way.rpartition(" (")[0] for way in ways))
    main = next(way for way in reversed(ways) if way.startswith(kinds[0]))
    return main if len(kinds) == 1 else f"{main}; also {kinds[1]}"


def by_target(plan: Plan) -> list[tuple[str, str, str]]:
    """(target, GPU hours, days on the machine) of each target alone."""
    found = []
    for name in plannable(plan.suite):
        part = plan.part(asked(plan.suite, [name]))
        found.append((name, f"{part.gpu_hours:,.0f}", f"{part.wall_hours / 24:.1f}"))
    return found


def totals(plan: Plan, pace: Pace | None) -> Iterator[tuple[str, str]]:
    """(what, how much) of the whole plan."""
    on, path = plan.on, plan.critical_path
    yield (
        "jobs",
        f"{len(plan.jobs)}, of which {sum(e.job.on_gpu for e in plan.jobs.values())} on GPUs",
    )
    yield "FLOPs", f"{plan.flops:.3g}"
    yield "GPU hours", f"{plan.gpu_hours:,.0f} at {on.training:.0%} of the peak ({on.source})"
    if pace:
        hours = plan.at(pace.share).gpu_hours
        yield "at the paper's pace", f"{hours:,.0f} at {pace.share:.1%} of the peak ({pace})"
    yield f"days on {on}", _days(plan, pace)
    longest = sum(plan.jobs[name].hours for name in path)
    yield "critical path", f"{longest / 24:.1f} days: {' > '.join(path)}"
    sizes = ", ".join(f"{name} {size:,.0f}" for name, size in plan.disk.items())
    yield "disk, GB", f"{sum(plan.disk.values()):,.0f} ({sizes})"
    unknown = [each.name for each in plan.downloads if each.gigabytes is None]
    loaded = sum(each.gigabytes or 0.0 for each in plan.downloads)
    more = f", and {len(unknown)} of unknown size" if unknown else ""
    count = len({each.name for each in plan.downloads})
    yield "downloads, GB", f"{loaded:,.0f} of {count} repositories{more}"


def _days(plan: Plan, pace: Pace | None) -> str:
    text = f"{plan.wall_hours / 24:.1f}"
    if pace is None:
        return text
    return f"{text}, {plan.at(pace.share).wall_hours / 24:.1f} at the paper's pace"


def consents(plan: Plan) -> list[str]:
    """What asks for a consent on its page of the hub, and what nothing is known of."""
    found = {each.name: each for each in plan.downloads}.values()
    asks = [f"{each.name} ({each.licence})" for each in found if each.gated]
    return asks + [
        f"{each.name} (not in config/facts/hub.yaml)" for each in found if each.gated is None
    ]


def shortages(plan: Plan) -> list[str]:
    """A sentence on each corpus: what is asked of it, and what it holds."""
    told = []
    for each in plan.tokens:
        text = f"{each.corpus} ({each.source}): the largest job reads {each.needed / 1e9:.2f}B"
        text += f", the configuration asks for {each.configured / 1e9:.2f}B"
        if each.holds is None:
            text += "; how many it holds is not said (holds:)"
        elif each.short:
            text += f", and it holds {each.holds / 1e9:.2f}B: SHORT of {each.short / 1e9:.2f}B"
            if each.short_jobs:
                text += f" ({', '.join(each.short_jobs)})"
        else:
            text += f", and it holds {each.holds / 1e9:.2f}B"
        told.append(text)
    return told
