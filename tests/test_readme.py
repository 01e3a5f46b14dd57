"""What the README and the pages of docs/ print works as printed, in a copy of the project.

Words in capitals stand for something of the reader's own (``STANDS_FOR``); commands of ``LONG`` are
run dry, and those of ``ELSEWHERE`` not at all, with the reason. Snippets of Python are run, those
of configuration read, and links followed.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from itertools import count
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from tad.cli import main as tad
from tad.distill.arguments import parser, settings
from tad.experiment.config import Suite, load_suite
from tests.extending.test_checklists import BLOCK, HEAD, copy, merged
from tests.workflow.conftest import REPOSITORY, STUDENT, TEACHER, Project, taught

__all__ = ["copy", "taught"]

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
RUN = "work/smoke/runs/scratch/phi2_1b/rkl/seed0"
STANDS_FOR = {
    "DIR1 DIR2 ...": RUN,
    "--model DIR": f"--model {RUN}",
    "--model work/smollm/models/smollm2-135m/final --suite smoke --limit 25": (
        f"--model {RUN} --suite smoke --limit 2"
    ),
    "A/fewshot": f"{RUN}/fewshot",
    "B/fewshot": f"{RUN}/fewshot",
    "-- TARGET": "-- heldout",
    "mylab/mine.yaml": "mylab/mine.yaml -o corpora.mine.validation_fraction=0.2",
    "--teacher work/mini": "--teacher work/smoke",
    "--tokens 300k --context 128": "--tokens 1k --context 32",
}
LONG = (
    "make check",
    "make reproduce",
    "make rehearsal",
    "make test",
    "make report",
    "make figures",
    "make publish",
    "make bench",
    "make gpu-check",
    "snakemake --config scale=mini",
    "snakemake -- findings",
    "snakemake --workflow-profile profiles/slurm",
    "snakemake --cores 4 --config scale=paper",
    "tad distill --teacher Qwen",
)
"""Run dry: what would be done is planned, and nothing done."""

ELSEWHERE = {
    "pip install": "changes the environment (tests/test_environment.py checks what is installed)",
    "source": "changes the shell",
    "tad check": "asks the hub (tests/tad/check asks a stand-in)",
    "tad publish": "replaces committed results (tests/analysis/test_publish.py does it)",
}
ONES_OWN = "mylab/mine.yaml"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")


def commands() -> list[str]:
    """The lines of blocks without a language, and what is set as code in the text, of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for language, block in FENCE.findall(text):
            found += lines(block) if not language else []
        inline = [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", text))]
        found += [
            code for code in inline if re.match(r"(make|snakemake|pip|source) |tad .*--", code)
        ]
    return list(dict.fromkeys(line for line in found if line))


def lines(block: str) -> list[str]:
    """Commands of a block: continued lines are one, and so is what is fed to one, up to END."""
    pieces = re.split(r"^(.*<<'END'\n.*?^END)$", block, flags=re.MULTILINE | re.DOTALL)
    found = []
    for piece in pieces:
        if "<<'END'" in piece:
            found.append(piece)
        else:
            single = piece.replace("\\\n", " ").splitlines()
            found += [" ".join(line.partition("  #")[0].split()) for line in single]
    return found


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


def planned() -> list[str]:
    return [line for line in split()[0] if not line.startswith("tad distill")]


@pytest.mark.parametrize("command", planned())
def test_a_long_command_plans_something(command, copy):
    if ONES_OWN in command:
        copy.run(["bash", "-c", "tad new mylab"])
    if "profiles/slurm" in command:  # options of the executor, which is not needed here
        profile = copy.folder / "profiles/slurm/profile.yaml"
        profile.write_text(re.sub(r"^slurm-.*\n", "", profile.read_text(), flags=re.MULTILINE))
    done = copy.run(["bash", "-c", dry(command)])
    told = done.stdout + done.stderr
    assert "Job stats" in told or command.startswith("make"), told[-2000:]
    if command.startswith(("make reproduce", "make figures")):
        assert "snakemake" in told and "SCALE" not in told, told


@pytest.mark.parametrize(
    "command", [c for c in commands() if c.startswith("tad distill --teacher")]
)
def test_a_command_of_tad_distill_has_arguments_that_it_takes(command):
    checked = settings(parser().parse_args(shlex.split(command)[2:]))
    assert [one.name for one in checked.baselines] == ["clm", "vanilla_kd", "vanilla_kd_matched"]


@pytest.fixture
def reader(copy: Project) -> Project:
    """A copy whose smoke scale is tiny, but has the names that the pages use."""
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
    law = [f"{tokens:.0f},{2 + 50 / tokens**0.2:.6f}" for tokens in (1e7, 3e7, 1e8, 3e8, 1e9)]
    (copy.folder / "runs.csv").write_text("\n".join(["tokens,loss", *law]))
    return copy


@pytest.mark.slow
def test_the_other_commands_run_as_printed(reader):
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


def test_the_pages_print_commands_of_every_kind():
    long, short = split()
    assert len(long) > 8 and len(short) > 12
    for kind in ("make", "snakemake", "tad"):
        assert any(line.startswith(kind) for line in long + short), kind
    for words in (*LONG, *ELSEWHERE):
        assert any(line.startswith(words) for line in commands()), f"{words}: no such command left"
    for words in STANDS_FOR:
        assert any(words in line for line in commands()), f"{words}: no such command left"


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return [block for kind, block in BLOCK.findall(text) if kind == language]


@pytest.fixture
def mylab(tmp_path, monkeypatch) -> Path:
    """The file that ``tad new mylab`` writes."""
    monkeypatch.chdir(tmp_path)
    assert tad(["new", "mylab"]) == 0
    return tmp_path / ONES_OWN


@pytest.mark.parametrize("block", blocks("docs/suite.md", "yaml"), ids=count())
def test_a_snippet_of_a_suite_adds_runs(block, mylab):
    def runs(suite: Suite) -> set[str]:
        return {str(run) for run in suite.runs("heldout")}

    before = runs(load_suite(mylab))
    assert HEAD.match(block)["file"] == ONES_OWN
    mylab.write_text(
        yaml.safe_dump(merged(yaml.safe_load(mylab.read_text()), yaml.safe_load(block)))
    )
    assert runs(load_suite(mylab)) > before


@pytest.mark.parametrize("block", blocks("docs/cluster.md", "yaml"), ids=count())
def test_models_and_tokenizers_of_the_paper_are_taken_from_folders(block, mylab):
    here = mylab.parent / Path(HEAD.match(block)["file"]).name
    here.write_text(block)
    suite, given = load_suite(here), yaml.safe_load(block)
    for name, model in given["models"].items():
        checkpoint = suite.models[name].checkpoints["final"]
        assert (checkpoint.hub, checkpoint.path) == (None, model["checkpoints"]["final"]["path"])
    for name, tokenizer in given["tokenizers"].items():
        assert (suite.tokenizers[name].hub, suite.tokenizers[name].path) == (
            None,
            tokenizer["path"],
        )


def small(layers: int) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, num_hidden_layers=layers, **sizes))


@pytest.mark.parametrize("block", blocks("docs/loss.md", "python"), ids=count())
def test_a_snippet_of_the_loss_trains_a_student(block, tmp_path):
    torch.manual_seed(0)
    inputs, teacher, student = torch.randint(40, (2, 12)), small(2), small(1)
    labels = inputs.roll(-1, dims=1)
    labels[:, -1] = -100
    before = [weight.detach().clone() for weight in student.parameters()]
    names = {
        "torch": torch, "Trainer": Trainer, "teacher": teacher, "student": student,
        "inputs": inputs, "labels": labels, "mask": labels != -100,
        "student_logits": student(inputs).logits, "teacher_logits": teacher(inputs).logits.detach(),
        "args": TrainingArguments(tmp_path, max_steps=1, report_to="none", use_cpu=True),
        "data": [{"input_ids": row, "labels": row} for row in inputs],
    }  # fmt: skip
    exec(block, names)
    if "loss" in names:
        names["loss"].backward()
    moved = any(
        (weight.grad is not None and weight.grad.abs().sum() > 0) or not torch.equal(weight, old)
        for weight, old in zip(student.parameters(), before, strict=True)
    )
    assert moved
    assert all(weight.grad is None for weight in teacher.parameters())


def tracked_pages() -> list[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (REPOSITORY / name).is_file()]


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere():
    for name in tracked_pages():
        page = REPOSITORY / name
        text = INLINE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = link.partition("#")
            if not link.startswith("https://"):
                target = (page.parent / file) if file else page
                assert target.exists(), f"{name}: {link}"
                assert not anchor or anchor in anchors(target), f"{name}: {link}"


@pytest.mark.parametrize(
    "page", [*PAGES, REPOSITORY / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_paths_named_in_the_text_exist(page):
    folders = [path.name for path in REPOSITORY.iterdir() if path.is_dir() and path.name != "work"]
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for code in INLINE.findall(text):
        if re.fullmatch(rf"({'|'.join(map(re.escape, folders))})/[a-z0-9_./-]*", code):
            assert (REPOSITORY / code).exists(), code
