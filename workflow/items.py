"""What a scale's tables, figures and claims are made of, and what files they are. Light to import.

Pairs and methods of each item stand in experiments.yaml; here is which records of them a table or
figure reads (``RECORDS``), and what users ask for by name (``TARGETS``). The DAG makes its rules of
this, and the commands check by it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tad.experiment.config import ConfigError, Suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import last_checkpoint
from tad.methods import BASELINE, MATCHED_TO, Method

RECORDS = {
    "table1": ("fewshot.json",),
    "table2": ("fewshot.json", "heldout.json"),
    "table4": ("fewshot.json", "calibration.json"),
    "table6": ("fewshot.json",),
    "table7": ("math.json",),
    "table8": ("math.json",),
    "figure1": ("train.jsonl",),
    "heldout": ("heldout.json",),
    "ablations": ("heldout.json",),
    "primary": ("heldout.json", "calibration.json", "fewshot.json"),
    "controls": ("heldout.json", "calibration.json"),
    "divergences": ("heldout.json", "calibration.json"),
    "budgets": ("train.jsonl", "heldout.json"),
}
"""Files of every run of an item that its table or figure reads."""

BENCHMARKS = ("fewshot.json", "math.json")
"""Records that are made of teachers too, which say what a task can tell."""

OF_EVERY_RUN = ("train.jsonl", "manifest.json")
COMPANIONS = {
    "fewshot.json": "fewshot.items.jsonl.gz",
    "calibration.json": "calibration.npz",
    "selection.json": "scores.npz",
}
"""What is written beside a record, and paired tests read."""


CONTROL_ITEMS = ("primary", "controls", "divergences")
"""Items that the table and figure of controls are made of."""

SAMPLES = "samples.json"
"""Text that a model wrote, of teachers and of the runs of the first seed."""

DESIGN = "config/claims.yaml"
"""What the primary claims are; read by claims, and kept with them."""


# --- What is drawn -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What one ``tad {command}`` draws: ``files`` below a root, of which the report shows some.

    ``shown`` maps files to their label and their caption (workflow/report). ``{pair}`` stands for
    each selected pair of ``per_pair``, an item.
    """

    command: str
    files: tuple[str, ...]
    shown: dict[str, tuple[str, str]]
    category: str
    per_pair: str | None = None

    @property
    def name(self) -> str:
        """A name for its rule."""
        return f"draw_{self.command.replace(' ', '_')}"

    def outputs(self, suite: Suite) -> dict[str, tuple[str, str] | None]:
        """Its files, with label and caption of those that the report shows."""
        pairs = [""]
        if self.per_pair:
            pairs = [p for p in suite.items[self.per_pair].pairs if p in suite.select.pairs]
        return {
            file.format(pair=pair): (self.shown[file][0].format(pair=pair), self.shown[file][1])
            if file in self.shown
            else None
            for pair in pairs
            for file in self.files
        }


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked for by name.

    ``needs`` are items of which a scale must select one, if any; of their runs ``reads`` names the
    files that are read, where that is not what RECORDS says of an item, and ``also`` more of them.
    ``compares`` are groups of methods, with their default parameters, of each of which those items
    must run one on the same pair.
    ``design`` says that the primary claims (DESIGN) are read as well.
    """

    draws: tuple[Drawn, ...]
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    compares: tuple[tuple[str, ...], ...] = ()
    design: bool = False


def _table(name: str, label: str, caption: str, category: str = "Tables") -> Drawn:
    files = tuple(f"tables/{name}.{suffix}" for suffix in ("csv", "md", "html", "tex"))
    shown = {f"tables/{name}.html": (label, caption)}
    return Drawn(command=f"tables {name}", files=files, shown=shown, category=category)


def _figure(name: str, label: str, category: str = "Figures") -> Drawn:
    files = tuple(f"figures/{name}.{suffix}" for suffix in ("png", "pdf", "csv"))
    shown = {f"figures/{name}.png": (label, name)}
    return Drawn(command=f"figures {name}", files=files, shown=shown, category=category)


_CALIBRATION = Drawn(
    command="figures calibration",
    files=tuple(
        f"figures/{kind}_{{pair}}.{suffix}"
        for kind in ("reliability", "tail")
        for suffix in ("png", "pdf", "csv")
    ),
    shown={
        "figures/reliability_{pair}.png": ("Reliability, {pair}", "reliability"),
        "figures/tail_{pair}.png": ("Tail, {pair}", "tail"),
    },
    category="Calibration",
    per_pair="table4",
)
_OF_CLAIMS = [
    _figure("forest_primary", "Primary claims", "Claims"),
    _figure("forest_exploratory", "Exploratory claims", "Claims"),
    _table("claims", "Claims", "claims", "Claims"),
    _table("claims_by_pair", "Claims, by pair", "claims", "Claims"),
]
_CLAIMS = Drawn(
    command="claims",
    files=tuple(file for each in _OF_CLAIMS for file in each.files),
    shown={file: text for each in _OF_CLAIMS for file, text in each.shown.items()},
    category="Claims",
)
_SAMPLES = Drawn(
    command="tables samples",
    files=("tables/samples.html", "tables/samples.csv"),
    shown={"tables/samples.html": ("Continuations", "samples")},
    category="Samples",
)
_AUDIT = Drawn(
    command="tables audit",
    files=("tables/audit.html",),
    shown={"tables/audit.html": ("The paper's printed numbers", "audit")},
    category="Audit",
)


FINDINGS = Drawn(command="report", files=("findings.html",), shown={}, category="Findings")
"""The page that shows all the others; made of them, not of records."""


def _item(*draws: Drawn) -> Target:
    """A target that is an item of experiments.yaml, by the name of its first drawing."""
    return Target(draws=draws, needs=(draws[0].command.split()[1],))


TARGETS: dict[str, Target] = {
    "figure1": _item(_figure("figure1", "Figure 1")),
    "figure2": _item(_figure("figure2", "Figure 2")),
    "heldout": _item(_table("heldout", "Held-out, heldout", "heldout")),
    "ablations": _item(_table("ablations", "Held-out, ablations", "heldout")),
    "table1": _item(_table("table1", "Table 1", "fewshot")),
    "table2": _item(_table("table2", "Table 2", "fewshot")),
    "betas": Target(
        draws=(_table("betas", "Held-out KL against β", "heldout"),),
        needs=("table2", "controls"),
        reads=("heldout.json",),
    ),
    "table3": Target(draws=(_table("table3", "Table 3", "table3"),)),
    "table4": _item(_table("table4", "Table 4", "fewshot")),
    "table5": Target(
        draws=(
            _table("table5", "Table 5", "table5"),
            _figure("table5", "Table 5, figure", "Tables"),
        ),
        needs=("budgets",),
        reads=("heldout.json",),
    ),
    "sweeps": Target(
        draws=(_figure("sweeps", "Scores against K and β"),),
        needs=("table1", "table2", "table4", "heldout", "controls"),
        compares=((MATCHED_TO,),),
    ),
    "table6": _item(_table("table6", "Table 6", "fewshot")),
    "table7": _item(_table("table7", "Table 7", "math")),
    "table8": _item(_table("table8", "Table 8", "math")),
    "table9": Target(draws=(_table("table9", "Table 9", "table9"),)),
    "calibration": Target(
        draws=(
            _table("calibration", "Full-ECE of every student", "calibration", "Calibration"),
            _CALIBRATION,
        ),
        needs=("table4",),
        reads=("calibration.json", "calibration.npz"),
    ),
    "costs": Target(
        draws=(_table("costs", "Costs of the runs", "costs"),),
        needs=("table1", "table4", "table7"),
    ),
    "flops": Target(
        draws=(_figure("flops", "Score against training FLOPs"),),
        needs=("table1", "table4", "table7"),
    ),
    "lead": Target(
        draws=(_figure("lead", "TAD less its controls over training", "Controls"),),
        needs=("primary", "controls"),
        reads=("train.jsonl",),
        compares=((MATCHED_TO,), (BASELINE, f"{BASELINE}_matched")),
    ),
    "training": Target(
        draws=(_figure("training", "Training curves"),),
        needs=("figure1", "primary", "controls"),
        reads=("train.jsonl",),
        compares=((MATCHED_TO, BASELINE),),
    ),
    "controls": Target(
        draws=(
            _table("controls", "TAD and its controls", "controls", "Controls"),
            _figure("controls", "TAD and its controls, figure", "Controls"),
        ),
        needs=CONTROL_ITEMS,
        also=("train.jsonl",),
        design=True,
    ),
    "selection": Target(
        draws=(_figure("selection", "MiniPLM scores"),), needs=("an item with selected rows",)
    ),
    "gradients": Target(draws=(_figure("gradients", "Gradient of tail logits (Section 2.1)"),)),
    "labels": Target(draws=(_figure("labels", "TAD and DKD against the label"),)),
    "samples": Target(draws=(_SAMPLES,), needs=("evaluation.samples",)),
    "audit": Target(draws=(_AUDIT,)),
    "claims": Target(draws=(_CLAIMS,), design=True),
    "provenance": Target(
        draws=(_table("provenance", "What code made the records", "provenance", "Provenance"),)
    ),
    "findings": Target(draws=(FINDINGS,)),
}
"""All of them by name."""


def check_target(suite: Suite, name: str) -> None:
    """Raises ConfigError for a target that a scale does not make."""
    if not available(suite, name):
        if name == "samples":
            key = f"config/{suite.scale}.yaml: evaluation.samples"
            raise ConfigError(f"{key}: missing, and {name} is made of it")
        needed = " or ".join(TARGETS[name].needs)
        if TARGETS[name].compares and set(TARGETS[name].needs) & set(suite.select.items):
            groups = (" or ".join(group) for group in TARGETS[name].compares)
            raise ConfigError(
                f"config/{suite.scale}.yaml: no pair of {needed} runs {' and '.join(groups)}"
            )
        known = ", ".join(suite.select.items)
        raise ConfigError(
            f"config/{suite.scale}.yaml: {needed} is not in select.items (those are: {known})"
        )


def no_target(suite: Suite, root: str, name: str) -> str:
    """What to say of a target or file below ``root`` that no rule makes, with the nearest name."""
    scale = Path(name).parts[1:2]
    if name.startswith("work/") and scale and scale != (suite.scale,):
        return f"{name}: is not of scale {suite.scale}; add --config scale={scale[0]}"
    files = [file for _, each in drawn(suite) for file in each.outputs(suite)]
    made = [f"{root}/{file}" for file in (*files, *all_records(suite))]
    known = made if "/" in name else [*TARGETS, "all", "figures", "tables"]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{name}: no such target ({hint}`tad list targets` names them)"


def available(suite: Suite, name: str) -> bool:
    """Whether a scale makes a target."""
    if name == "selection":
        return bool(selection_runs(suite))
    if name == "samples":
        return bool(sampled_runs(suite))
    target = TARGETS[name]
    items = [item for item in target.needs if item in suite.select.items]
    run: dict[str, set[str]] = {}
    for each in (each for item in items for each in suite.runs(item)) if target.compares else ():
        run.setdefault(each.pair, set()).add(str(each.method))
    compared = not target.compares or any(
        all({str(Method(one)) for one in group} & methods for group in target.compares)
        for methods in run.values()
    )
    return compared and bool(items or not target.needs)


def drawn(suite: Suite) -> Iterator[tuple[str, Drawn]]:
    """All that a scale draws, with the target that asks for it."""
    for name, target in TARGETS.items():
        if available(suite, name):
            yield from ((name, each) for each in target.draws)


# --- What it is made of --------------------------------------------------------------------------


def target_records(suite: Suite, name: str) -> list[str]:
    """The records that a target is made of, relative to the root."""
    if name in ("claims", "costs", "flops", "provenance"):
        return all_records(suite)
    if name == "selection":
        names = ("selection.json", COMPANIONS["selection.json"])
        return [f"{selection_folder(r)}/{each}" for r in selection_runs(suite) for each in names]
    if name == "samples":
        return sample_records(suite)
    target = TARGETS[name]
    items = [item for item in target.needs if item in suite.select.items]
    of_items = [file for item in items for file in item_records(suite, item)]
    runs = dict.fromkeys(run for item in items for run in suite.runs(item))
    more = [f"runs/{run}/{file}" for run in runs for file in target.reads or target.also]
    return list(dict.fromkeys(more if target.reads else of_items + more))


def selection_runs(suite: Suite) -> list[RunId]:
    """The runs of the first seed that train on selected rows."""
    runs = [run for run in suite.runs() if run.method.row.rows == "selected"]
    return [run for run in runs if run.seed == suite.seeds[0]]


def sampled_runs(suite: Suite) -> list[RunId]:
    """The runs of the first seed, where a scale lets its models write."""
    runs = suite.runs() if suite.evaluation.samples else []
    return [run for run in runs if run.seed == suite.seeds[0]]


def sample_records(suite: Suite) -> list[str]:
    """What teachers and students wrote, relative to the root."""
    runs = sampled_runs(suite)
    teachers = dict.fromkeys(suite.teacher(run.pair, run.seed) for run in runs)
    folders = [f"models/{teacher}/{last_checkpoint(suite, teacher)}" for teacher in teachers]
    return [f"{folder}/{SAMPLES}" for folder in (*folders, *(f"runs/{run}" for run in runs))]


def selection_folder(run: RunId) -> str:
    """Where the selection of a run is, relative to the root."""
    return f"selections/{run.stage}/{run.pair}/seed{run.seed}"


def offline_record(run: RunId) -> str | None:
    """Where the cost of what was done ahead of a run is recorded, relative to the root."""
    if run.method.row.rows == "selected":
        return f"{selection_folder(run)}/selection.json"
    written = f"generated/{run.stage}/{run.pair}/seed{run.seed}/manifest.json"
    return written if run.method.row.rows == "teacher_text" else None


def item_records(suite: Suite, item: str) -> list[str]:
    """Records of an item, relative to the root, in the order of its runs and checkpoints."""
    names = RECORDS.get(item, ())
    files = [f"runs/{run}/{name}" for run in suite.runs(item) for name in names]
    for model, point in suite.checkpoints(item):
        files += [f"models/{model}/{point}/{name}" for name in names]
    for _, reference in suite.references_of(item):
        files += [f"references/{reference}/{name}" for name in names]
    for teacher in suite.teachers(item):
        point = last_checkpoint(suite, teacher)
        files += [f"models/{teacher}/{point}/{name}" for name in names if name in BENCHMARKS]
    if item == "figure2":
        files = [
            f"models/{teacher}/{last_checkpoint(suite, teacher)}/heldout.json"
            for teacher in suite.teachers(item)
        ]
    return files


def all_records(suite: Suite) -> list[str]:
    """Every record of the selected items with its companions, sorted, without repeats."""
    found = {f for item in suite.select.items for f in item_records(suite, item)}
    for item in suite.select.items:
        for run in suite.runs(item):
            found |= {f"runs/{run}/{name}" for name in OF_EVERY_RUN}
            found |= {record for record in [offline_record(run)] if record}
    found |= {*sample_records(suite), *_sources(suite)}
    for file in list(found):
        folder, _, name = file.rpartition("/")
        if name in COMPANIONS:
            found.add(f"{folder}/{COMPANIONS[name]}")
    return sorted(found)


def _sources(suite: Suite) -> list[str]:
    """The manifests of teachers that a package or the hub gives, which say what they are."""
    teachers = {suite.teacher(run.pair, run.seed) for run in suite.runs()}
    points = [(teacher, last_checkpoint(suite, teacher)) for teacher in sorted(teachers)]
    packaged = [f"{m}/{p}" for m, p in points if suite.models[m].checkpoints[p].package]
    return [f"models/{name}/manifest.json" for name in packaged]


def check_evaluations(suite: Suite) -> None:
    """Raises ConfigError where a scale does not say how a record of its items is measured."""
    for name in suite.select.items:
        for kind in ("fewshot", "math"):
            if f"{kind}.json" in RECORDS.get(name, ()) and not getattr(suite.evaluation, kind):
                key = f"config/{suite.scale}.yaml: evaluation.{kind}"
                raise ConfigError(f"{key}: missing, and {name} is made of it")
