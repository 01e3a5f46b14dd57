# What jobs ask for: GPUs, memory and time, by what `tad plan` counts, and how trainings are launched.
from tad.plan.jobs import Job
from tad.plan.plan import WEEK, resources


def gpus(run):
    """The most GPUs that a run takes where models come from the hub, else none."""
    return SUITE.pairs[RunId.parse(run).pair].gpus.max if SUITE.pretraining is None else 0


def launcher(wildcards, resources):
    """How a training on GPUs starts: as a command, or one process for each that the job is given.

    That is the most that its pair takes, or fewer where `--resources gpu=` or `--set-resources`
    says so. Taking ``resources`` keeps their number out of what Snakemake compares: it changes
    none of the result. Raises WorkflowError for fewer than the pair asks for at least.
    """
    run, count = wildcards.run, max(int(resources.get("gpu", 0)), 1)
    pair = RunId.parse(run).pair
    least = SUITE.pairs[pair].gpus.min
    if count < least:
        raise WorkflowError(
            f"run {run}: is given {count} GPUs, and {CONFIG}: pairs.{pair}.gpus asks for {least} "
            f"at least; give it more (--resources gpu={least}), or lower that"
        )
    several = ["torchrun", "--standalone", "--nproc-per-node", str(count), "-m", "tad"]
    return several if count > 1 or spec_of(run).optimisation.sharding != "none" else ["tad"]


def command(wildcards):
    """How a training starts where models are made here."""
    return ["tad"]


def one_gpu(wildcards):
    """A GPU where models come from the hub."""
    return int(SUITE.pretraining is None)


def no_gpu(wildcards):
    return 0


def run_gpus(wildcards):
    return gpus(wildcards.run)


# Where the results of a kind of job are, and the run that it is done for.
PLACES = {
    "pack": "data/{corpus}/{tokenizer}",
    "pretrain": "models/{model}/{checkpoint}",
    "select": "selections/{stage}/{pair}/seed{seed}",
    "generate": "generated/{stage}/{pair}/seed{seed}",
    "states": "states/{stage}/{pair}/seed{seed}",
    "distill": "runs/{run}",
}
PREPARED = {"select": "miniplm", "generate": "seq_kd", "states": BASELINE}


@cache
def planned(kind, place, run, count):
    """What ``tad plan`` counts for a job on ``count`` GPUs. Raises WorkflowError."""
    try:
        return resources(SUITE, Job(kind, place, (), RunId.parse(run) if run else None), count)
    except UserError as error:
        raise WorkflowError(str(error))


def asks(kind, wildcards, count):
    """The resources of a job of a rule: of those that measure, of the model at hand."""
    values = dict(wildcards.items())
    place = values.get("subject") or PLACES.get(kind, "").format(**values)
    place = place or (f"runs/{wildcards.run}" if "run" in values else teacher_place(wildcards))
    run = place.removeprefix("runs/") if place.startswith("runs/") else None
    if kind in PREPARED:
        run = f"{wildcards.stage}/{wildcards.pair}/{PREPARED[kind]}/seed{wildcards.seed}"
    return planned(kind, place, run, count(wildcards))


def teacher_place(wildcards):
    return f"models/{wildcards.model}/{wildcards.checkpoint}"


def memory(kind, count=one_gpu):
    """``mem_mb``: memory of the host, and more of it for a job that is tried again."""
    return lambda wildcards, attempt: attempt * asks(kind, wildcards, count).mem_mb


def minutes(kind, count=one_gpu):
    """``runtime``, in minutes, likewise; a training goes on from its checkpoint anyway."""
    return lambda wildcards, attempt: min(WEEK, attempt * asks(kind, wildcards, count).runtime)
