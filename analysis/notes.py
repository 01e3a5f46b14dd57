"""What a table of runs has to say about how they were made, derived from the configuration.

Only what a reader could take for granted and would be wrong about: where rows are not under one
setting, and where this project departs from the paper or goes beyond what it prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from analysis.names import pair_title
from analysis.reported import values as reported
from tad.experiment.config import Suite
from tad.experiment.families import FAMILIES
from tad.experiment.run_id import RunId
from tad.experiment.specs import clipped_budget, run_spec
from tad.methods import Method

SILENT = {
    "truncated_requests": "requests cut to the context",
    "bos_requests": "requests that begin with BOS",
    "unanswered": "answers without a prediction",
    "refused": "stated answers that are no single value",
    "fewer_shots": "prompts that lost exemplars to the context",
    "too_long": "questions that did not fit",
    "bos_prompts": "prompts that begin with BOS",
}
"""What can make a score wrong without an error, by the name of its count in a record."""


def setting_notes(suite: Suite, runs: Sequence[RunId]) -> list[str]:
    """Notes on the runs of a table, as sentences."""
    makers = (
        _optimisation,
        _budgets,
        _written_text,
        _cosine,
        _normalisation,
        _attention,
        _examples,
    )
    return [note for maker in makers if runs for note in maker(suite, runs)]


def math_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes on shots and exemplars, from math.json; the paper's protocol gives 4 or 8 shots."""
    entries = [entry for record in records for entry in record["datasets"].values()]
    none = _columns(entry for entry in entries if entry.get("shots") == 0)
    own = _columns(entry for entry in entries if entry.get("exemplars") == "written here")
    notes = []
    if none:
        notes.append(f"0 shots in {none}; the protocol that the paper follows gives 4 or 8.")
    if own:
        notes.append(
            f"The exemplars of {own} are this project's own, in the manner of the protocol's; "
            "those of the other sets are the published ones."
        )
    return notes


def silent_notes(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """How often each of ``SILENT`` happened over all rows, where the records say it."""
    entries = list(entries)
    counts = {
        text: sum(entry.get(key, entry.get("strict", {}).get(key, 0)) for entry in entries)
        for key, text in SILENT.items()
        if any(key in entry or key in entry.get("strict", {}) for entry in entries)
    }
    kinds = {str(entry["dtype"]) for entry in entries if "dtype" in entry}
    notes = [f"Over all rows: {'; '.join(f'{count:,} {text}' for text, count in counts.items())}."]
    return [*notes, f"Computed in {', '.join(sorted(kinds))}."] if kinds else notes


def _columns(entries: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(entry["column"] for entry in entries))


def _methods(runs: Iterable[RunId]) -> list[Method]:
    """The methods of runs, whatever their weights, rates and budgets."""
    own = (Method.of(run.method.name, **run.method.parameters) for run in runs)
    return list(dict.fromkeys(own))


def _labels(methods: Iterable[Method]) -> str:
    return ", ".join(method.label for method in methods)


def _optimisation(suite: Suite, runs: Sequence[RunId]) -> Iterator[str]:
    """Optimiser, rate and schedule; the paper names Adam, rates, decay and batch size alone."""
    for stage in dict.fromkeys(run.stage for run in runs):
        training = suite.stages[stage]
        rate = f"a {training.schedule} rate of {training.learning_rate:g}"
        yield (
            f"Optimiser: AdamW (the paper says Adam) at {rate} after a warm-up over "
            f"{training.warmup_fraction:.0%} of the steps, weight decay {training.weight_decay:g}, "
            f"gradients clipped to a norm of {training.max_grad_norm:g}; batches of "
            f"{training.batch_size} rows of {training.context} tokens. Schedule, warm-up and "
            "clipping are not in the paper."
        )


def _budgets(suite: Suite, runs: Sequence[RunId]) -> Iterator[str]:
    """Methods that train on fewer or more tokens than the others."""
    for method in _methods(runs):
        if method.row.budget == "share":
            yield (
                f"Not under one setting: {method.label} is this project's on-policy stand-in for "
                "Gu et al. (2024), not their code, and trains on "
                f"{suite.baselines.minillm.token_share:.0%} of the tokens of the other rows."
            )
        elif method.row.budget == "matched":
            yield f"{method.label} trains on as many tokens as have the FLOPs of TAD."
    yield from dict.fromkeys(filter(None, (_clipped(suite, run) for run in runs)))


def _clipped(suite: Suite, run: RunId) -> str | None:
    """What a run asks for beyond what its data hold."""
    if run.method.row.budget != "matched" and run.method.row.rows != "selected":
        return None
    training = suite.stages[run.stage]
    corpus = suite.corpora[training.corpus]
    whose = f"{run.method.label} of {pair_title(suite, run.pair)}"
    why = f"{training.corpus} holds {_billions(corpus.holds or 0)} in all, validation included"
    if clipped := clipped_budget(suite, run):
        asked, had = map(_billions, clipped)
        return f"{whose} trains on {had} tokens, not on the {asked} of equal FLOPs: {why}."
    selection = run_spec(suite, run).selection
    if selection is None or selection.asked is None:
        return None
    asked, had = (_billions(n * training.context) for n in (selection.asked, selection.sequences))
    delta = suite.baselines.miniplm.delta
    return (
        f"{whose} chooses from {had} tokens, not from {asked}, and keeps {selection.delta:.0%} of "
        f"them instead of {delta:.0%}: {why}."
    )


def _billions(tokens: int) -> str:
    return f"{tokens / 1e9:.2f}B" if tokens >= 1e7 else f"{tokens:,}"


def _written_text(suite: Suite, runs: Sequence[RunId]) -> Iterator[str]:
    """Methods that train on text of the teacher instead of the corpus."""
    for method in _methods(runs):
        if method.row.rows == "teacher_text":
            values = suite.baselines.seq_kd
            yield (
                f"{method.label} trains on one continuation that the teacher writes after "
                f"{values.prompt_tokens} tokens of each row, sampled at temperature "
                f"{values.temperature:g} and top-p {values.top_p:g}, not by the beam search of "
                "Kim and Rush (2016)."
            )


def _cosine(suite: Suite, runs: Sequence[RunId]) -> Iterator[str]:
    """Which rows have the cosine term."""
    with_term = [
        run
        for run in runs
        if suite.pairs[run.pair].hidden_cosine and run.method.row.cosine
        and run.method.row.needs_teacher
    ]  # fmt: skip
    if not with_term:
        yield "No row has the cosine term of Section 3.2.2."
        return
    pairs = ", ".join(pair_title(suite, pair) for pair in dict.fromkeys(r.pair for r in with_term))
    methods = _methods(with_term)
    without = [method for method in _methods(runs) if method not in methods]
    rest = f" {_labels(without)}: without." if without else ""
    yield f"Cosine term of Section 3.2.2: in {_labels(methods)}, of {pairs}.{rest}"


def _normalisation(suite: Suite, runs: Sequence[RunId]) -> Iterator[str]:
    """Over what beta(X) is taken."""
    if not any(method.row.scope == "sequence" for method in _methods(runs)):
        return
    stage = suite.stages[runs[0].stage]
    whole = "the answer of each example" if stage.corpus in suite.instructions else (
        f"each row of {stage.context} tokens, into which documents are packed, not over each "
        "document"
    )  # fmt: skip
    yield f"β(X) is taken over {whole}."


def _attention(suite: Suite, runs: Sequence[RunId]) -> Iterator[str]:
    """What teachers and students attend to, and the kernel where the two differ."""
    if suite.stages[runs[0].stage].corpus not in suite.instructions:
        yield "Teacher and student alike attend across the documents of a packed row."
    teachers = {suite.pairs[run.pair].teacher for run in runs}
    capped = [t for t in sorted(teachers) if _soft_capped(FAMILIES[suite.models[t].family])]
    if capped:
        yield (
            f"Attention scores of {', '.join(capped)} are soft-capped: on a GPU its student trains "
            "with eager attention (Appendix A), while the teacher, which has no gradient, runs "
            "with flash attention where that is installed."
        )


def _soft_capped(family: Any) -> bool:
    return family.published(0, 1).get("attn_logit_softcapping") is not None


def _examples(suite: Suite, runs: Sequence[RunId]) -> Iterator[str]:
    """Size of the instruction data beside that of the paper's."""
    corpus = suite.stages[runs[0].stage].corpus
    if corpus in suite.instructions:
        ours = suite.instructions[corpus].examples
        printed = sum(reported.quantity(name) for name in ("orca_size", "camel_size"))
        yield f"Instruction data: {ours:,} examples; the paper's ORCAMEL has {printed:,.0f}."
