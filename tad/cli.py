"""The command ``tad``: one word a job, each with its own ``--help``.

A command's module is imported when it is called for, so ``tad --help`` needs none of the libraries.
What evaluates models and draws tables is not installed with the package: those commands work in a
clone of the project (``pip install -e .``).
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tad.command import PROJECT, STOPPED

COMMANDS = {
    "distill": ("tad.distill.arguments", "distil your own teacher, on your own text"),
    "new": ("tad.experiment.new", "begin a suite of your own: a folder of configuration"),
    "check": ("tad.check.command", "can a scale run? hub, disk, GPUs, tokenizers, before any job"),
    "run": ("tad.train.run", "distil one student of a suite: tad run STAGE/PAIR/METHOD/seedN"),
    "pretrain": ("tad.train.pretrain", "pre-train a teacher, or what a student starts from"),
    "convert": ("tad.models.packages", "keep a model that a package brings as safetensors"),
    "data": ("tad.data.prepare", "train tokenizers, pack corpora"),
    "instruct": ("tad.data.instruct", "tokenize instruction data"),
    "states": ("tad.train.states", "run a teacher over what students train on, once for all"),
    "select": ("tad.baselines.selection", "choose what MiniPLM trains on"),
    "generate": ("tad.baselines.generation", "let a teacher write what Seq-KD trains on"),
    "describe": ("tad.models.students", "sizes of the students, beside the paper's"),
    "flops": ("tad.experiment.flops", "what each method costs"),
    "eval heldout": ("eval.heldout", "held-out KL, NLL and tail mass"),
    "eval calibration": ("eval.calibration.measure", "Full-ECE; compare two students"),
    "eval fewshot": ("eval.fewshot.evaluate", "few-shot accuracy by lm-eval"),
    "eval analogues": ("eval.fewshot.analogues", "make few-shot items from held-out text"),
    "eval math": ("eval.math.evaluate", "math by chain of thought"),
    "eval problems": ("eval.math.problems", "generate math problems"),
    "eval samples": ("eval.samples", "let a model continue held-out text, to be read"),
    "eval grade": ("eval.math.grade", "grade answers: JSON lines in and out"),
    "tables": ("analysis.tables.draw", "draw a table from records"),
    "figures": ("analysis.figures.draw", "draw a figure from records"),
    "claims": ("analysis.claims.judge", "judge the paper's claims by records"),
    "report": ("analysis.report.findings", "draw the page of findings of what is drawn"),
    "paired": ("analysis.paired", "paired tests of few-shot items"),
    "scaling-law": ("analysis.scaling_law.cli", "fit loss against tokens"),
    "audit": ("analysis.reported.audit", "check the arithmetic of the paper's printed values"),
    "list": ("workflow.watch.listing", "runs, targets, methods and pairs of a scale"),
    "plan": ("workflow.plan.command", "what a scale costs before anything runs, and what fits"),
    "status": ("workflow.watch.status", "what is finished, running, failed, missing"),
    "logs": ("workflow.watch.logs", "the logs of a run, and why it failed"),
    "show": ("workflow.watch.show", "a run: its values, headline numbers, records"),
    "rehearse": ("workflow.rehearsal.rehearse", "run all of a large scale in miniature first"),
    "publish": ("analysis.publish", "keep a scale's records in results/"),
}  # fmt: skip
"""The module of each command, with ``main(arguments) -> int``, and what it does."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit code, or 2 for a command that there is not."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return 0 if given else 2
    words = 2 if given[0] == "eval" else 1
    name = " ".join(given[:words])
    if name not in COMMANDS:
        asked = words == 2 and (len(given) == 1 or given[1] in ("-h", "--help"))
        print(_overview("eval ") if asked else _unknown(name), file=None if asked else sys.stderr)
        return 0 if asked and len(given) > 1 else 2
    module = COMMANDS[name][0]
    for place in (str(Path.cwd()), str(PROJECT)):
        if place not in sys.path:
            sys.path.append(place)  # a user's own divergence; eval and analysis in a clone
    if not module.startswith("tad.") and not (PROJECT / "Snakefile").is_file():
        cure = (
            "works in a clone of the project only: clone it, and `pip install -e '.[suite]'` there"
        )
        print(f"tad {name}: {cure}", file=sys.stderr)
        return 2
    try:
        found = importlib.import_module(module)  # takes seconds, in which a user may think better
    except KeyboardInterrupt:
        print(f"tad {name}: {STOPPED}", file=sys.stderr)
        return 130
    return found.main(given[words:])


def _overview(prefix: str = "") -> str:
    found = {name: text for name, (_, text) in COMMANDS.items() if name.startswith(prefix)}
    width = max(map(len, found))
    lines = [f"  {name:<{width}}  {text}" for name, text in found.items()]
    usage = f"usage: tad {prefix}COMMAND [options]     (tad {prefix}COMMAND --help explains each)"
    return "\n".join([usage, "", *lines])


def _unknown(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"tad: there is no command {name!r} ({hint}`tad --help` lists them)"
