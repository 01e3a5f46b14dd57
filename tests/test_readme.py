"""Every command that the README prints works as printed, in a copy of the project.

Words in capitals stand for something of the reader's own (``STANDS_FOR``); commands of ``LONG`` are
run dry, and those of ``ELSEWHERE`` not at all, with the reason.
"""

from __future__ import annotations

import json
import re
import shlex

import pytest
import yaml

from tests.extending.test_checklists import copy
from tests.workflow.conftest import REPOSITORY, STUDENT, TEACHER, Project, taught

__all__ = ["copy", "taught"]

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RUN = "work/smoke/runs/scratch/phi2_1b/rkl/seed0"
STANDS_FOR = {
    "DIR1 DIR2 ...": RUN,
    "--model DIR": f"--model {RUN}",
    "A/fewshot": f"{RUN}/fewshot",
    "B/fewshot": f"{RUN}/fewshot",
    "-- TARGET": "-- heldout",
}
LONG = (
    "make reproduce",
    "make test",
    "make report",
    "make figures",
    "make publish",
    "make bench",
    "snakemake --config scale=mini",
    "snakemake --workflow-profile profiles/slurm",
)
"""Run dry: what would be done is planned, and nothing done."""

ELSEWHERE = {
    "pip install": "changes the environment (tests/test_environment.py checks what is installed)",
    "source": "changes the shell",
    "tad publish": "replaces committed results (tests/analysis/test_publish.py does it)",
}
ONES_OWN = "mylab/mine.yaml"


def commands() -> list[str]:
    """The lines of blocks without a language, and what is set as code in the text."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fence.findall(README) if not language]
    text = fence.sub("", README)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    found = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    found += [code for code in inline if re.match(r"(make|snakemake|pip|source) ", code)]
    return [line.partition("     ")[0] for line in dict.fromkeys(found) if line]


def dry(command: str) -> str:
    """The command, planned only; another executor for that of a cluster, which may not be there."""
    if command.startswith("make"):
        return command.replace("make", "make -n", 1)
    return command.replace("snakemake", "snakemake -n --executor local", 1)


def split() -> tuple[list[str], list[str]]:
    """Commands to run dry, and to run."""
    there = [line for line in commands() if not line.startswith(tuple(ELSEWHERE))]
    long = [line for line in there if line.startswith(LONG)]
    return long, [line for line in there if line not in long]


@pytest.mark.parametrize("command", split()[0])
def test_a_long_command_of_the_readme_plans_something(command, copy):
    if ONES_OWN in command:
        copy.run(["bash", "-c", "tad new mylab"])
    done = copy.run(["bash", "-c", dry(command)])
    told = done.stdout + done.stderr
    assert "Job stats" in told or command.startswith("make"), told[-2000:]
    if command.startswith(("make reproduce", "make figures")):
        assert "snakemake" in told and "SCALE" not in told, told


@pytest.fixture
def reader(copy: Project) -> Project:
    """A copy whose smoke scale is tiny, but has the names that the README uses."""
    scale = yaml.safe_load((copy.folder / "config/smoke.yaml").read_text())
    scale["tokenizers"] = {"phi": {"vocab_size": 300, "corpora": ["general"]}}
    # Phi turns 0.4 of a head, so that a head must have a multiple of ten.
    teacher, student = TEACHER | {"head_dim": 20}, STUDENT | {"head_dim": 10}
    scale["models"] = {"phi-2": {"shape": teacher, "checkpoints": {"final": {"tokens": 4_000}}}}
    pair = {"hidden_cosine": False, "student": {"shape": student}, "tokens": {"scratch": 512}}
    scale["pairs"] = {"phi2_1b": pair}
    items = ["figure1", "figure2", "heldout", "table4"]
    scale["select"] = {"items": items, "pairs": ["phi2_1b"], "methods": ["vanilla_kd", "rkl"]}
    scale["items"] = {"figure1": {"methods": ["vanilla_kd", "rkl"], "pairs": ["phi2_1b"]}}
    scale["evaluation"]["math"] = {"suite": "smoke", "problems": 20, "limit": 1}
    scale["stages"]["scratch"]["evaluations"] = 2
    (copy.folder / "config/smoke.yaml").write_text(yaml.safe_dump(scale))
    case = {"dataset": "gsm8k", "generation": "The answer is 5.", "gold": "5"}
    (copy.folder / "cases.jsonl").write_text(json.dumps(case) + "\n")
    return copy


@pytest.mark.slow
def test_the_other_commands_of_the_readme_run_as_printed(reader):
    made = ["data/general/phi/manifest.json", "analogues/general"]
    made += [f"runs/scratch/phi2_1b/rkl/seed0/{name}.json" for name in ("heldout", "fewshot")]
    paths = " ".join(f"work/smoke/{name}" for name in made)
    reader.run(["bash", "-c", f"snakemake --cores 2 -- {paths}"])
    for command in split()[1]:
        line = command
        for words, other in STANDS_FOR.items():
            line = line.replace(words, other)
        done = reader.run(["bash", "-c", line])
        assert "Traceback" not in done.stderr, f"{line}\n{done.stderr[-2000:]}"
        if shlex.split(line)[0] == "snakemake" and "-n" in line.split():
            assert "Job stats" in done.stdout, done.stdout[-2000:]


def test_the_readme_prints_commands_of_every_kind():
    long, short = split()
    assert len(long) > 8 and len(short) > 12
    for kind in ("make", "snakemake", "tad"):
        assert any(line.startswith(kind) for line in long + short), kind
    for words in (*LONG, *ELSEWHERE):
        assert any(line.startswith(words) for line in commands()), f"{words}: no such command left"
    for words in STANDS_FOR:
        assert any(words in line for line in commands()), f"{words}: no such command left"
