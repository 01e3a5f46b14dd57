"""Check that a scale can run, before any of its jobs does: one line a finding, with the cure.

    tad check --scale smoke
    tad check --scale paper -o stages.scratch.micro_batch_size=4 --json checked.json

Asks the hub for every model, tokenizer and data set, or looks at their folders; compares the
tokenizers of each pair; measures disk and GPUs against what the scale asks for; looks for the Slurm
partition. Only tokenizers are downloaded. With HF_HUB_OFFLINE=1 it says what is in the local cache.
Exit status 0 where nothing fails, 1 where something does, 2 for a wrong argument or configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tad.check import amounts, disk, machine, slurm
from tad.check.benchmarks import benchmarks
from tad.check.findings import LEVELS, Finding, Seen, Task, look_at
from tad.check.folders import look_at_path, look_in_cache, snapshot
from tad.check.wanted import Source, Wanted, corpus_source, instruction_sources, sources, wanted
from tad.command import command_line, exit_code
from tad.data.corpora import describe
from tad.experiment.config import Suite, open_scale, scale_options
from tad.experiment.layers import scale_file
from tad.records import write_json

if TYPE_CHECKING:
    from tad.check.hub import Hub

PATIENCE = 6
"""A repository takes two requests, each a connection and an answer: so many times --timeout."""

FETCHING = 60
"""Times --timeout for the tokenizers, some of which have 20 MB."""


def check(suite: Suite, timeout: float = 10.0) -> list[Finding]:
    """All findings about a scale, in the order of the configuration; ``timeout`` in seconds is what
    one answer of the hub may take."""
    need = wanted(suite)
    more, findings = benchmarks(suite)
    found = [*sources(suite, need), *more]
    hub = _hub(timeout) if any(source.hub for source in found) else None
    tasks = [Task(source.about, _look(source, hub)) for source in found]
    tasks += [
        Task(f"corpora.{name}", partial(_packages, suite, name))
        for name in need.corpora
        if suite.corpora[name].source == "installed-docs"
    ]
    seen = look_at(tasks, PATIENCE * timeout)
    by_name = {(s.kind == "dataset", s.name): one for s, one in zip(found, seen, strict=False)}
    told = [finding for one in seen for finding in one.findings]
    told = [*_made_here(suite, need), *told, *findings, *_amounts(suite, need, by_name)]
    told += _vocabularies(suite, need, by_name, hub, timeout)
    download = sum(one.download for one in seen)
    told += disk.look_at_disk(suite, need, download, _cache() if hub else None)
    return told + _machine(suite)


def offline() -> bool:
    """Whether the hub must not be asked."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def _hub(timeout: float) -> Hub | None:
    if offline():
        return None
    from tad.check.hub import Hub

    return Hub(timeout)


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _look(source: Source, hub: Hub | None) -> Callable[[], Seen]:
    if source.path is not None:
        return partial(look_at_path, source)
    return partial(hub.look if hub else look_in_cache, source)


def _packages(suite: Suite, name: str) -> Seen:
    """A corpus of documentation strings."""
    packages = describe(suite.corpora[name])["packages"]
    return Seen([Finding("ok", f"corpora.{name}", f"installed: {', '.join(packages)}")])


def _made_here(suite: Suite, need: Wanted) -> list[Finding]:
    models = [m for m, p in need.models if suite.models[m].checkpoints[p].tokens is not None]
    trained = [name for name in need.tokenizers if suite.tokenizers[name].vocab_size is not None]
    counts = {"checkpoints of models": len(models), "tokenizers": len(trained)}
    told = [f"{count} {kind}" for kind, count in counts.items() if count]
    return [Finding("ok", "trained here", " and ".join(told))] if told else []


# --- After the first look ------------------------------------------------------------------------


def _amounts(suite: Suite, need: Wanted, by_name: dict[tuple[bool, str], Seen]) -> list[Finding]:
    """Whether corpora and instructions are large enough."""

    def amount(source: Source) -> amounts.Amount:
        seen = by_name.get((True, source.name), Seen())
        return amounts.amount(seen, source.subset, source.split)

    text = {
        name: amount(corpus_source(name, suite.corpora[name]))
        for name in need.corpora
        if suite.corpora[name].source != "installed-docs"
    }
    found = [one for name in need.corpora for one in amounts.enough_text(suite, name, text)]
    for name in need.instructions:
        rows = [amount(source) for source in instruction_sources(suite, name)]
        found += amounts.enough_examples(suite, name, rows)
    return found


def _vocabularies(
    suite: Suite,
    need: Wanted,
    by_name: dict[tuple[bool, str], Seen],
    hub: Hub | None,
    timeout: float,
) -> list[Finding]:
    """Tokenizers, fetched where they come from the hub."""
    from tad.check import vocabularies

    places = [p for p in vocabularies.used(suite, need) if by_name.get((False, p), Seen()).there]
    remote = [place for place in places if not Path(place).is_dir()] if hub else []
    tasks = [
        Task(
            place,
            partial(vocabularies.fetched, hub.api, place, by_name[False, place].sizes, timeout),
        )
        for place in remote
    ]
    fetched = look_at(tasks, FETCHING * timeout) if tasks else []
    failed = {p for p, one in zip(remote, fetched, strict=True) if not one.there}

    def folder_of(place: str) -> Path | None:
        if place not in places or place in failed:
            return None
        return Path(place) if Path(place).is_dir() else snapshot(place)

    told = [finding for one in fetched for finding in one.findings]
    return told + vocabularies.compare(suite, need, folder_of)


def _machine(suite: Suite) -> list[Finding]:
    """GPUs and Slurm, where the scale asks for them."""
    if not machine.asks_for_gpus(suite):
        return [Finding("ok", "GPU", "none asked for: models are trained here, on any machine")]
    return [
        *machine.look_at_machine(suite, machine.graphics(), slurm=slurm.here()),
        *slurm.look_at_slurm(machine.gpus(suite)),
    ]


# --- Command line --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 where nothing fails, 1 where a check does, 2 for a wrong argument."""
    parser = command_line("check", __doc__)
    scale_options(parser, required=False)
    parser.add_argument("--scale", help="a scale of config/ (paper), or a scale file")
    parser.add_argument("--json", metavar="FILE", help="write the findings there too")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS",
        help="how long an answer of the hub may take (10)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if (options.scale is None) == (options.config is None):
        parser.error("give --scale NAME (a scale of config/ or a file)")
    if not options.timeout > 0:
        parser.error(f"--timeout {options.timeout:g}: must be more than 0 seconds")
    findings: list[Finding] = []

    def job() -> None:
        path = options.config or scale_file(options.scale, f"--scale {options.scale}")
        suite = open_scale(path, options.overrides)
        findings.extend(check(suite, options.timeout))
        print("\n".join(finding.line() for finding in findings))
        print(_counts(findings))
        if options.json:
            write_json(options.json, _record(suite, str(path), options.overrides, findings))

    code = exit_code("check", job)
    return code or int(any(finding.level == "failure" for finding in findings))


def _counts(findings: list[Finding]) -> str:
    counts = {level: sum(f.level == level for f in findings) for level in LEVELS}
    return f"{counts['ok']} ok, {counts['warning']} warnings, {counts['failure']} failures"


def _record(suite: Suite, config: str, overrides: list[str], findings: list[Finding]) -> dict:
    rows = [
        {"level": f.level, "about": f.about, "found": f.found, "cure": f.cure} for f in findings
    ]
    return {
        "scale": suite.scale,
        "config": config,
        "overrides": overrides,
        "host": os.uname().nodename,
        "findings": rows,
    }
