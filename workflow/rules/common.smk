# The suite at hand, and the paths and parameters that the rules ask for. Light imports only: this
# is read by every `snakemake -n` and by every job on a cluster.
import json
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from tad.config import ConfigError, load_suite
from tad.layout import MODEL_FILES, Layout
from tad.run_id import RunId, RunIdError
from tad.specs import last_checkpoint, pretrain_spec, run_spec, weights


def read_suite(scale):
    """The suite of config/{scale}.yaml, or of a path to a scale file."""
    folder = Path(workflow.basedir) / "config"
    path = Path(scale) if scale.endswith(".yaml") else folder / f"{scale}.yaml"
    try:
        return str(path), load_suite(path)
    except ConfigError as error:
        raise WorkflowError(str(error))


# glibc hands every freed tensor of some MB back to the kernel and takes new, zeroed pages for the
# next; keeping them made a training step on a CPU a sixth faster. It changes no number.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**32))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))

CONFIG, SUITE = read_suite(str(config.get("scale", "smoke")))
LAYOUT = Layout.work(SUITE.scale)
ROOT = str(LAYOUT.root)
ENVIRONMENT = "../../environment.yml"


wildcard_constraints:
    root="work/[a-z][a-z0-9]*",
    model="[^/]+",
    checkpoint="[^/]+",
    run=r"(scratch|continued|math|supervised)/[^/]+/[^/]+/seed\d+",


def model_files(folder):
    """The files of a model below the work root; nothing for one that is loaded from elsewhere."""
    folder = Path(folder)
    if not folder.is_relative_to(ROOT):
        return []
    return [str(folder / name) for name in (*MODEL_FILES, "manifest.json")]


def spec_of(run):
    """The resolved spec of a run id. Raises WorkflowError, in one line, for a wrong one."""
    try:
        return run_spec(SUITE, RunId.parse(run))
    except (ConfigError, RunIdError) as error:
        raise WorkflowError(str(error))


def pretraining_of(wildcards):
    try:
        return pretrain_spec(SUITE, wildcards.model, wildcards.checkpoint)
    except ConfigError as error:
        raise WorkflowError(str(error))


def as_param(spec):
    """A spec as a parameter: a change of any value in it reruns the job, and nothing else does."""
    return json.dumps(spec.model_dump(), sort_keys=True)


def gpus(run):
    """GPUs of a run: what its pair asks for where models come from the hub, else none."""
    return SUITE.pairs[RunId.parse(run).pair].gpus if SUITE.pretraining is None else 0


def launcher(wildcards):
    """How a training starts: plain Python, or one process a GPU."""
    count = gpus(wildcards.run)
    return f"torchrun --standalone --nproc-per-node {count}" if count > 1 else "python"


def pretraining_inputs(wildcards):
    spec = pretraining_of(wildcards)
    start = model_files(spec.start) if spec.start else []
    # The small manifest stands for the token files: Snakemake can compare its content.
    return [f"{spec.data}/manifest.json", *start]


def distill_inputs(wildcards):
    spec = spec_of(wildcards.run)
    start = model_files(spec.start) if spec.start else []
    return [f"{spec.data}/manifest.json", *model_files(spec.teacher), *start]


def teacher_folder(wildcards):
    return weights(SUITE, wildcards.model, wildcards.checkpoint)


def teacher_data(wildcards):
    tokenizer = SUITE.models[wildcards.model].tokenizer
    return str(LAYOUT.tokens(SUITE.stages["scratch"].corpus, tokenizer))


def run_records(item, name):
    return lambda wildcards: [f"{wildcards.root}/runs/{run}/{name}" for run in SUITE.runs(item)]


def teacher_records(wildcards):
    teachers = SUITE.teachers("figure2")
    return [
        f"{wildcards.root}/models/{name}/{last_checkpoint(SUITE, name)}/heldout.json"
        for name in teachers
    ]
