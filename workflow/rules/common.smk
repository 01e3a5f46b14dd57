# The suite at hand, and the paths and parameters that the rules ask for. Light imports only: this
# is read by every `snakemake -n` and by every job on a cluster.
import hashlib
import json
import os
import re
import shlex
import time
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from tad.command import UserError
from tad.experiment.config import ConfigError, open_scale
from workflow.items import (
    DESIGN,
    FINDINGS,
    TARGETS,
    all_records,
    check_evaluations,
    check_target,
    drawn,
    no_target,
    target_records,
)
from tad.experiment.layers import allowed
from tad.experiment.layout import MODEL_FILES, Layout
from tad.experiment.run_id import RunId
from tad.experiment.specs import (
    checkpoint_of,
    hub_ids,
    pretrain_spec,
    reference_source,
    run_spec,
    weights,
)
from tad.methods import BASELINE
from workflow.watch.screen import attach


def read_suite(values):
    """The scale file that ``--config scale=`` names (config/SCALE.yaml or a path), its suite, and
    the words of the options ``-o``.

    The path is relative where it can be, so that a project may move. ``override`` holds KEY=VALUE,
    several between blanks. Raises WorkflowError.
    """
    for key in values:
        if key not in (known := ("scale", "root", "override")):
            raise WorkflowError(f"--config {key}=...: no such key {allowed(key, known)}")
    given = values.get("override", [])
    try:
        overrides = shlex.split(given) if isinstance(given, str) else given
    except ValueError as error:
        raise WorkflowError(f"--config override={given}: {error}")
    if not isinstance(overrides, list):
        raise WorkflowError(f"--config override={given}: write KEY=VALUE, several between blanks")
    scale = str(values.get("scale", "smoke"))
    folder = Path(workflow.basedir) / "config"
    path = Path(scale) if scale.endswith(".yaml") else folder / f"{scale}.yaml"
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    try:
        suite = open_scale(path, overrides)
        check_evaluations(suite)
        return str(path), suite, [word for each in overrides for word in ("-o", each)]
    except UserError as error:
        raise WorkflowError(str(error))


# glibc hands every freed tensor of some MB back to the kernel and takes new, zeroed pages for the
# next; keeping them made a training step on a CPU a sixth faster. It changes no number.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**32))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))

CONFIG, SUITE, OVERRIDES = read_suite(config)
# Jobs ask the hub only where the scale says that they may; HF_HUB_OFFLINE=1 forbids it there too.
if SUITE.network:
    os.environ.setdefault("HF_HUB_OFFLINE", "0")
else:
    os.environ.update(HF_HUB_OFFLINE="1")
LAYOUT = Layout.work(SUITE.scale)
ROOT = str(LAYOUT.root)
# Where the targets read records and write tables and figures: what runs here makes, or a folder of
# committed records (results/SCALE), which no rule makes.
TARGET = str(config.get("root", ROOT))
ENVIRONMENT = "../../environment.yml"

# At small scales loading the libraries takes longer than a job: there `tad COMMAND` in a rule goes
# to a process that has them and is forked (workflow/warm.py). It ends with this one. Not within a
# job of a cluster, which has a node, a time and memory of its own.
if SUITE.warm_jobs and not workflow.remote_exec:
    os.environ.setdefault("TAD_WARM", str(os.getpid()))
    warm = shlex.quote(str(Path(workflow.basedir) / "workflow" / "warm.py"))
    shell.prefix(f'set -euo pipefail; tad() {{{{ command python {warm} tad "$@"; }}}}; ')


# A parameter that is another in each call, so that committed records are drawn whenever asked for.
REDRAW = time.time_ns() if TARGET != ROOT else None

if TARGET != ROOT:
    # Here, because Snakemake takes a table for up to date when its records can not be made.
    lost = [name for name in all_records(SUITE) if not (Path(TARGET) / name).is_file()]
    if lost:
        raise WorkflowError(
            f"{TARGET}/{lost[0]}: missing, with {len(lost) - 1} more that config/{SUITE.scale}.yaml asks "
            f"for; run and publish the scale again (make reproduce, make publish), or redraw at the "
            f"commit that its manifest.json names"
        )


# A line a finished job, and why one failed. Whether this is a dry run is known later.
if workflow.is_main_process:
    attach(logger, TARGET, lambda: workflow.dryrun, lambda name: no_target(SUITE, ROOT, name))


wildcard_constraints:
    model="[^/]+",
    checkpoint="[^/]+",
    run=r"(scratch|continued|math|supervised)/[^/]+/[^/]+/seed\d+",
    subject=r"runs/(scratch|continued|math|supervised)/[^/]+/[^/]+/seed\d+|models/[^/]+/[^/]+|references/[^/]+",
    stage="[a-z]+",
    pair="[^/]+",
    seed=r"\d+",


def model_files(folder):
    """The files of a model below the work root; nothing for one that is loaded from elsewhere."""
    folder = Path(folder)
    if not folder.is_relative_to(ROOT):
        return []
    return [str(folder / name) for name in (*MODEL_FILES, "manifest.json")]


@cache
def spec_of(run):
    """The resolved spec of a run id. Raises WorkflowError, in one line, for a wrong one."""
    try:
        return run_spec(SUITE, RunId.parse(run))
    except UserError as error:
        raise WorkflowError(str(error))


def pretraining_of(wildcards):
    try:
        return pretrain_spec(SUITE, wildcards.model, wildcards.checkpoint)
    except ConfigError as error:
        raise WorkflowError(str(error))


def as_param(spec):
    """A spec as a parameter: a change of any value in it reruns the job, and nothing else does."""
    return json.dumps(spec.model_dump(), sort_keys=True)


def words_of_overrides(wildcards, output):
    """The options ``-o``. Taking ``output`` keeps them out of what Snakemake compares, so that an
    override redoes only what depends on it."""
    return OVERRIDES


def options(**values):
    """Words of a command line, ``--batch-size 8``, of the values that are given; rules quote them."""
    given = {name: value for name, value in values.items() if value is not None}
    return [
        str(word)
        for name, value in given.items()
        for word in (f"--{name.replace('_', '-')}", value)
    ]


def pretraining_inputs(wildcards):
    spec = pretraining_of(wildcards)
    start = model_files(spec.start) if spec.start else []
    # The small manifest stands for the token files: Snakemake can compare its content.
    return [f"{spec.data}/manifest.json", *start]


def distill_inputs(wildcards):
    spec = spec_of(wildcards.run)
    start = model_files(spec.start) if spec.start else []
    rows = []
    if spec.selection:
        rows = [f"{spec.selection.folder}/{name}" for name in ("scores.npz", "selection.json")]
    elif spec.writing and spec.writing.folder:
        rows = [f"{spec.writing.folder}/{name}" for name in ("train.bin", "manifest.json")]
    return [f"{spec.data}/manifest.json", *model_files(spec.teacher), *start, *rows]


def states_files(wildcards):
    states = spec_of(wildcards.run).states
    return [f"{states.folder}/states.json"] if states else []


def baseline_spec(method):
    """The spec of the run that a selection, written text or states are made for."""
    return lambda w: spec_of(f"{w.stage}/{w.pair}/{method}/seed{w.seed}")


def selection_inputs(wildcards):
    spec = baseline_spec("miniplm")(wildcards)
    models = [*model_files(spec.teacher), *model_files(spec.selection.reference)]
    return [f"{spec.data}/manifest.json", *models]


def selection_options(wildcards):
    spec = baseline_spec("miniplm")(wildcards)
    values = spec.selection
    return options(
        teacher=spec.teacher,
        reference=values.reference,
        data=spec.data,
        tokenizer=spec.tokenizer,
        context=spec.optimisation.context,
        sequences=values.sequences,
        delta=values.delta,
        seed=spec.optimisation.seed,
        out=values.folder,
    )


def states_inputs(wildcards):
    spec = baseline_spec(BASELINE)(wildcards)
    return [f"{spec.data}/manifest.json", *model_files(spec.teacher)]


def states_options(wildcards):
    spec = baseline_spec(BASELINE)(wildcards)
    values = spec.optimisation
    return options(
        teacher=spec.teacher,
        data=spec.data,
        context=values.context,
        sequences=values.steps * values.batch_size,
        batch_size=values.micro_batch_size,
        seed=values.seed,
        out=LAYOUT.states(wildcards.stage, wildcards.pair, wildcards.seed),
    )


def generation_inputs(wildcards):
    spec = baseline_spec("seq_kd")(wildcards)
    return [f"{spec.data}/manifest.json", *model_files(spec.teacher)]


def generation_options(wildcards):
    spec = baseline_spec("seq_kd")(wildcards)
    values = spec.writing
    return options(
        teacher=spec.teacher,
        data=spec.data,
        context=spec.optimisation.context,
        sequences=values.sequences,
        prompt_tokens=values.prompt_tokens,
        temperature=values.temperature,
        top_p=values.top_p,
        seed=spec.optimisation.seed,
        out=values.folder,
    )


# Models that a package brings; the others are pre-trained, or loaded from where they are.
PACKAGED = "|".join(
    re.escape(name)
    for name, entry in SUITE.models.items()
    if any(point.package for point in entry.checkpoints.values())
)


def samples_data(wildcards):
    """The corpus that the models continue, in the tokens of a student or teacher."""
    kind, *name = Path(wildcards.subject).parts
    if kind == "runs":
        return spec_of("/".join(name)).data
    return str(LAYOUT.tokens(SUITE.stages["scratch"].corpus, SUITE.models[name[0]].tokenizer))


def samples_options(wildcards):
    values = SUITE.evaluation.samples
    if values is None:
        raise WorkflowError(f"{CONFIG}: evaluation.samples: missing, and a target needs it")
    return options(context=SUITE.stages["scratch"].context, **values.model_dump())


def teacher_folder(wildcards):
    return weights(SUITE, wildcards.model, wildcards.checkpoint)


def teacher_data(wildcards):
    tokenizer = SUITE.models[wildcards.model].tokenizer
    return str(LAYOUT.tokens(SUITE.stages["scratch"].corpus, tokenizer))


def subject_model(wildcards):
    """The model that a record is of: a student's folder, or another's folder or hub id."""
    kind, *name = Path(wildcards.subject).parts
    if kind == "runs":
        return f"{ROOT}/{wildcards.subject}"
    try:
        return {"models": weights, "references": reference_source}[kind](SUITE, *name)
    except ConfigError as error:
        raise WorkflowError(str(error))


def subject_files(wildcards):
    return model_files(subject_model(wildcards))


def fewshot_model(wildcards):
    """``eval.fewshot.evaluate`` wants hub ids marked, so that a mistyped folder is never looked up there."""
    model = subject_model(wildcards)
    return f"hub:{model}" if model in hub_ids(SUITE) else model


def settings(kind):
    """How students are measured: the settings of fewshot or math, which a target needs."""
    found = getattr(SUITE.evaluation, kind)
    if found is None:
        raise WorkflowError(f"{CONFIG}: evaluation.{kind}: missing, and a target needs it")
    return found


def generated(paths):
    """Those of the paths that the rule ``problems`` writes."""
    return [path for path in paths if path and Path(path).is_relative_to(LAYOUT.problems())]


def generated_text(corpora):
    parts = [part for name in corpora for part in (name, *SUITE.corpora[name].also)]
    return generated(SUITE.corpora[part].path for part in parts)


def generated_instructions(name):
    return generated(source.path for source in SUITE.instructions[name].sources)


def corpus_param(name):
    parts = (name, *SUITE.corpora[name].also)
    return json.dumps([SUITE.corpora[part].model_dump() for part in parts], sort_keys=True)


def math_options(wildcards):
    values = settings("math")
    analogues = str(LAYOUT.problems()) if values.suite != "paper" else None
    return options(
        suite=values.suite,
        data=values.data or analogues,
        prompts=values.prompts,
        shots=values.shots,
        limit=values.limit,
        max_new_tokens=values.max_new_tokens,
        batch_size=values.batch_size,
    )


def math_items(wildcards):
    analogue = settings("math").suite != "paper" and settings("math").data is None
    return [f"{LAYOUT.problems()}/manifest.json"] if analogue else []


def analogues():
    """The folder of the analogues, for a suite that is made of them."""
    corpus = settings("fewshot").corpus or SUITE.stages["scratch"].corpus
    return [] if settings("fewshot").suite == "paper" else [str(LAYOUT.analogues(corpus))]


def own_tasks(wildcards):
    """The files of the user's own few-shot tasks."""
    folder = settings("fewshot").tasks
    files = sorted(Path(folder).rglob("*")) if folder else []
    return [str(path) for path in files if path.suffix in (".yaml", ".jsonl")]


def fewshot_options(wildcards):
    values = settings("fewshot")
    local = [f"{task}={folder}" for task, folder in values.local.items()]
    return [
        *options(suite=values.suite, batch_size=values.batch_size, tasks=values.tasks),
        *(word for folder in analogues() for word in options(analogues=folder)),
        *options(shots=values.shots, limit=values.limit),
        *(["--local", *local] if local else []),
    ]


def analogue_tokens(wildcards):
    """A packed form of the corpus to read held-out documents from; the same ones in each form."""
    pairs = [SUITE.pairs[pair] for pair in SUITE.select.pairs]
    tokenizer = SUITE.models[pairs[0].teacher].tokenizer
    return {"data": str(LAYOUT.tokens(wildcards.corpus, tokenizer)), "tokenizer": tokenizer}


def outputs(drawn):
    """The declared outputs of a drawing, with what the report shows of them.

    Committed files (a root in results) are none of them: Snakemake deletes outputs before a job
    and after one that failed. There a mark is the output, and the command replaces each file when
    the new one is whole.
    """
    if TARGET != ROOT:
        return [touch(f".snakemake/redrawn/{drawn.name}")]
    files = []
    for file, shown in drawn.outputs(SUITE).items():
        path = f"{ROOT}/{file}"
        if shown:
            label, caption = {"item": shown[0]}, f"../report/{shown[1]}.rst"
            path = report(path, caption=caption, category=drawn.category, labels=label)
        files.append(path)
    return files


def inputs_of(target):
    """What a target is drawn from: records, or of the findings all that is drawn."""
    if target == "findings":
        return list(dict.fromkeys([*files_below("figures"), *files_below("tables")]))
    return [f"{TARGET}/{name}" for name in target_records(SUITE, target)]


def design_of(target):
    """The hash of the primary claims for a target that reads them, so that a changed one redraws."""
    if TARGETS[target].design:
        return hashlib.sha256((Path(workflow.basedir) / DESIGN).read_bytes()).hexdigest()


def files_of(target):
    """What a target asks for. Raises WorkflowError for one that this scale does not select."""

    def files(wildcards):
        try:
            check_target(SUITE, target)
        except ConfigError as error:
            raise WorkflowError(str(error))
        return [file for drawn in TARGETS[target].draws for file in outputs(drawn)]

    return files


def files_below(kind):
    """What asks for the files of all targets of this scale in the folder ``kind``."""
    found = [each for _, each in drawn(SUITE) if any(f.startswith(kind) for f in each.files)]
    return [file for each in found for file in outputs(each)]
