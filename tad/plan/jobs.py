"""The jobs that make a set of records, and which of them need which: the DAG without its files.

A record is named as below a root, ``runs/RUN/fewshot.json``; a job by its kind and the place of
its result, as in ``workflow.watch``. Drawing tables and figures takes seconds and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.specs import RunSpec, pretrain_spec, run_spec
from tad.methods import BASELINE, Method

MEASURED = {
    "fewshot.json": "fewshot",
    "fewshot.items.jsonl.gz": "fewshot",
    "math.json": "math",
    "heldout.json": "heldout",
    "calibration.json": "heldout",
    "calibration.npz": "heldout",
}
"""The job that writes a record of a finished model."""

ON_GPU = ("distill", "pretrain", "select", "generate", "states", "fewshot", "math", "heldout")


@dataclass(frozen=True)
class Job:
    """``kind`` of ``place``, after ``needs`` (names of other jobs). ``run`` is the run that it
    trains, measures or prepares."""

    kind: str
    place: str
    needs: tuple[str, ...] = ()
    run: RunId | None = None

    @property
    def name(self) -> str:
        """Unlike that of any other job."""
        return f"{self.kind} {self.place}"

    @property
    def on_gpu(self) -> bool:
        """Whether it takes a GPU where there are any."""
        return self.kind in ON_GPU


def jobs_of(suite: Suite, records: Iterable[str]) -> dict[str, Job]:
    """All jobs behind some records by name, each after what it needs. Raises ConfigError."""
    graph = _Graph(suite)
    for record in records:
        graph.record(record)
    return graph.jobs


class _Graph:
    def __init__(self, suite: Suite) -> None:
        self.suite, self.layout = suite, Layout.work(suite.scale)
        self.jobs: dict[str, Job] = {}
        self.specs: dict[RunId, RunSpec] = {}

    def spec(self, run: RunId) -> RunSpec:
        if run not in self.specs:
            self.specs[run] = run_spec(self.suite, run)
        return self.specs[run]

    def add(self, kind: str, place: str, needs: Iterable[str], run: RunId | None = None) -> str:
        job = Job(kind, place, tuple(dict.fromkeys(filter(None, needs))), run)
        return self.jobs.setdefault(job.name, job).name

    def record(self, record: str) -> None:
        folder, _, name = record.rpartition("/")
        top, _, rest = folder.partition("/")
        if top in ("selections", "generated"):
            stage, pair, seed = rest.split("/")
            row = {"selections": "miniplm", "generated": "seq_kd"}[top]
            self.prepared(RunId(stage, pair, Method(row), int(seed.removeprefix("seed"))))
            return
        run = RunId.parse(rest) if top == "runs" else None
        model = self.distill(run) if run else self.loaded(top, rest)
        if name in MEASURED:
            self.measured(MEASURED[name], folder, model, run)

    def loaded(self, top: str, rest: str) -> str | None:
        """The job that makes a teacher or a checkpoint; None for one of the hub."""
        if top != "models":
            return None
        return self.pretrain(*rest.split("/"))

    def measured(self, kind: str, folder: str, model: str | None, run: RunId | None) -> None:
        needs = [model]
        if kind == "heldout":
            if run:
                spec = self.spec(run)
                needs += [self.packed(spec.data), self.model(spec.teacher)]
            else:
                tokenizer = self.suite.models[folder.split("/")[1]].tokenizer
                data = self.layout.tokens(self.suite.stages["scratch"].corpus, tokenizer)
                needs.append(self.packed(str(data)))
        self.add(kind, folder, needs, run)

    def distill(self, run: RunId) -> str:
        spec = self.spec(run)
        needs = [self.packed(spec.data), self.model(spec.teacher), self.model(spec.start)]
        needs += [self.prepared(run), self.states(run, spec)]
        return self.add("distill", f"runs/{run}", needs, run)

    def prepared(self, run: RunId) -> str | None:
        """What is done ahead of a run: MiniPLM's choice, the teacher's text."""
        spec = self.spec(run)
        needs = [self.packed(spec.data), self.model(spec.teacher)]
        if spec.selection:
            needs.append(self.model(spec.selection.reference))
            return self.add("select", self.below(spec.selection.folder), needs, run)
        if spec.writing and spec.writing.folder:
            return self.add("generate", self.below(spec.writing.folder), needs, run)
        return None

    def states(self, run: RunId, spec: RunSpec) -> str | None:
        if spec.states is None:
            return None
        first = RunId(run.stage, run.pair, Method(BASELINE), run.seed)
        needs = [self.packed(spec.data), self.model(spec.teacher)]
        return self.add("states", self.below(spec.states.folder), needs, first)

    def model(self, source: str | None) -> str | None:
        """The job behind a model's folder; None for one that is loaded from elsewhere."""
        parts = self.below(source or "").split("/")
        if parts[0] == "runs":
            return self.distill(RunId.parse("/".join(parts[1:])))
        return self.pretrain(*parts[1:]) if parts[0] == "models" else None

    def pretrain(self, model: str, point: str) -> str | None:
        if self.suite.models[model].checkpoints[point].tokens is None:
            return None
        spec = pretrain_spec(self.suite, model, point)
        needs = [self.packed(spec.data), self.model(spec.start)]
        return self.add("pretrain", f"models/{model}/{point}", needs)

    def packed(self, folder: str) -> str:
        """The job of a packed corpus, or of tokenized instructions, after its tokenizer."""
        name, tokenizer = self.below(folder).split("/")[1:]
        kind = "pack" if name in self.suite.corpora else "instructions"
        return self.add(kind, f"data/{name}/{tokenizer}", [self.tokenizer(tokenizer)])

    def tokenizer(self, name: str) -> str:
        return self.add("tokenizer", f"tokenizers/{name}", [])

    def below(self, folder: str) -> str:
        """A folder as below the root; itself where it is not."""
        return folder.removeprefix(f"{self.layout.root.as_posix()}/")
