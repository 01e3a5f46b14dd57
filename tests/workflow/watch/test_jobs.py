"""States of jobs by their files, causes of failures, time left, headline numbers, the card."""

from __future__ import annotations

import json
import logging
from io import StringIO
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from tad.experiment.config import load_suite
from tad.experiment.layout import Layout
from tests.workflow.conftest import REPOSITORY
from workflow.items import no_target
from workflow.watch import listing, screen
from workflow.watch.card import card
from workflow.watch.headline import headline, headlines
from workflow.watch.jobs import (
    FAILED,
    FINISHED,
    MISSING,
    RUNNING,
    STOPPED,
    cause,
    duration,
    job_of,
    jobs,
    time_left,
    told,
)
from workflow.watch.logs import WatchError, logs
from workflow.watch.show import show
from workflow.watch.status import status

CONFIG = REPOSITORY / "config" / "smoke.yaml"
RUN = "scratch/phi2_1b/rkl/seed0"
ROOT = Layout.work("smoke").root


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load_suite(CONFIG)


def put(path: Path | str, text: str = "") -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def lock() -> None:
    put(".snakemake/locks/0.input.lock")


def finish(run: str, seconds: float = 10.0) -> None:
    """The files of a run that is trained and measured."""
    folder = ROOT / "runs" / run
    manifest = {"git": {"commit": "a" * 40, "dirty": False}, "host": {"cpu": "x", "cores": 2}}
    put(folder / "manifest.json", json.dumps({**manifest, "spec": {}, "overrides": ["seeds=[0]"]}))
    put(folder / "heldout.json", json.dumps({"metrics": {m: {"mean": 0.5} for m in ("kl", "nll")}}))
    for name in ("distill", "heldout"):
        put(ROOT / "benchmarks/runs" / run / f"{name}.tsv", f"s\th:m:s\n{seconds}\t0:0:1\n")
        put(ROOT / "logs/runs" / run / f"{name}.log", "step 1\n")


def test_the_places_of_jobs_are_those_of_the_rules(suite):
    """Every log that a rule names is that of a job here, and no other."""
    rules = "".join(p.read_text() for p in (REPOSITORY / "workflow/rules").glob("*.smk"))
    found = {job.name: job for job in jobs(suite, ROOT)}
    for name, log in {
        f"runs/{RUN}": f"runs/{RUN}/distill",
        f"runs/{RUN}/heldout.json": f"runs/{RUN}/heldout",
        "models/phi-2/final": "models/phi-2/final",
        "models/phi-2/final/heldout.json": "models/phi-2/final.heldout",
        "data/general/phi": "data/general/phi",
        "tokenizers/phi": "tokenizers/phi",
        "states/scratch/phi2_1b/seed0": "states/scratch/phi2_1b/seed0",
        "draw_figures_figure1": "analysis/draw_figures_figure1",
    }.items():
        assert found[name].log == ROOT / "logs" / f"{log}.log"
    for pattern in ("runs/{{run}}/distill", "runs/{{run}}/heldout", "{{subject}}/fewshot",
                    "models/{{model}}/{{checkpoint}}.heldout", "data/{{corpus}}/{{tokenizer}}",
                    "analysis/{drawing.name}"):  # fmt: skip
        assert f"/logs/{pattern}.log" in rules, pattern
    kinds = {job.kind for job in found.values()}
    assert {"distill", "heldout", "fewshot", "math", "models", "selections", "draw"} <= kinds


@pytest.mark.parametrize(
    ("text", "locked", "state"),
    [
        ("step 1 of 2\n", True, RUNNING),
        ("step 1 of 2\n", False, STOPPED),
        ("step 1 of 2\ntad run: work/x: cannot be read\n", True, FAILED),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'a'\n", False, FAILED),
        ("torch.OutOfMemoryError: CUDA out of memory.\nnote\n", False, FAILED),
        ("tad run: stopped; the same command goes on\n", False, STOPPED),
        ("a warning: UserWarning: an Error is mentioned\n", True, RUNNING),
    ],
)
def test_a_state_is_told_by_log_and_lock(suite, text, locked, state):
    if locked:
        lock()
    job = job_of("distill", f"runs/{RUN}", ROOT, "manifest.json", log=f"runs/{RUN}/distill")
    assert job.state == MISSING
    put(job.log, text)
    assert job.state == state
    put(job.outputs[0])
    assert job.state == FINISHED


def test_a_cause_is_the_last_line_that_names_one(tmp_path):
    log = put(tmp_path / "a.log", "ValueError: first\nstep\nRuntimeError: last\n  at end\n")
    assert cause(log) == "RuntimeError: last"
    assert "killed" in told(put(tmp_path / "b.log", "step 7 of 9\n\n"))
    assert "step 7 of 9" in told(tmp_path / "b.log")
    assert "none" in told(tmp_path / "c.log")


def test_status_counts_and_says_why(suite):
    finish(RUN)
    put(ROOT / "logs/runs/scratch/phi2_1b/clm/seed0/distill.log", "tad run: it broke\n")
    text = status(suite, ROOT, 2)
    assert f"failed: runs/{RUN.replace('rkl', 'clm')}\n  tad run: it broke\n  log: work" in text
    distill = next(line for line in text.splitlines() if line.startswith("distill"))
    assert distill.split()[1:3] == ["1", "1"]
    assert "left: about" in text


def test_time_left_is_the_mean_of_a_kind_over_the_cores(suite):
    finish(RUN, seconds=30)
    found = [job for job in jobs(suite, ROOT) if job.kind == "distill"]
    assert time_left(found, 3) == pytest.approx(30 * (len(found) - 1) / 3)
    assert time_left(found, 10**6) == pytest.approx(30)
    assert time_left([job for job in found if job.state == MISSING], 1) is None


def test_durations():
    assert [duration(x) for x in (4.4, 99, 600, 9000)] == ["4 s", "99 s", "10 min", "2.5 h"]


def test_headlines_come_from_what_is_there(suite):
    finish(RUN)
    folder = ROOT / "runs" / RUN
    put(folder / "fewshot.json", json.dumps({"average": 0.25, "analogue": True}))
    put(folder / "math.json", "{")
    assert headlines(folder) == {
        "heldout.json": "held-out KL 0.5000, NLL 0.500",
        "fewshot.json": "few-shot 25.0% (analogues)",
    }
    assert headline(folder / "model.safetensors") == ""


def test_logs_and_show(suite):
    finish(RUN)
    put(ROOT / "logs/runs" / RUN / "fewshot.log", "a\nb\ntad eval fewshot: no items\n")
    text = logs(suite, ROOT, RUN, 2)
    assert "distill.log  (finished)" in text and "cause: tad eval fewshot: no items" in text
    assert "  a\n" not in text and "  b\n" in text
    with pytest.raises(WatchError, match="no such run .*did you mean"):
        logs(suite, ROOT, RUN.replace("rkl", "rlk"), 2)
    with pytest.raises(WatchError, match="has no log yet"):
        logs(suite, ROOT, "models/phi-2/final", 2)
    shown = show(suite, ROOT, RUN)
    assert "optimisation.learning_rate: 0.002" in shown and "made with: -o seeds=[0]" in shown
    assert "has another spec" in shown and "heldout.json: held-out KL 0.5000" in shown
    assert "distill: finished  10 s" in shown


def test_lists(suite, capsys):
    finish(RUN)
    rows = dict((row[0], row) for row in listing.runs(suite, ROOT))
    assert rows[RUN][1:] == (FINISHED, "held-out KL 0.5000, NLL 0.500")
    assert rows[RUN.replace("rkl", "clm")][1] == MISSING
    assert dict((r[0], r[1]) for r in listing.methods(suite, ROOT))["rkl"].startswith("1 of ")
    assert dict((r[0], r[1]) for r in listing.pairs(suite, ROOT))["phi2_1b"].startswith("1 of ")
    assert dict((r[0], r[1]) for r in listing.targets(suite, ROOT))["table1"] == MISSING
    assert listing.main(["runs", "--config", str(CONFIG), "-o", "select.pairs=[phi2_1b]"]) == 0
    printed = capsys.readouterr().out
    assert RUN in printed and "qwen1.5" not in printed


def test_the_card_has_verdicts_controls_machine_and_commit(suite):
    finish(RUN)
    put(ROOT / "tables/claims.csv", "id,verdict\na,supported\nb,inconclusive\nc,supported\n")
    head = "pair,method,effect,low,high\n"
    put(ROOT / "tables/controls.csv", f"{head}p,kd_only,3.21,1.0,5.4\np,tad-k10-b2,,,\n")
    text = card(suite, ROOT)
    assert "claims: 2 supported, 1 inconclusive" in text
    assert "p: kd_only +3.2% [+1.0, +5.4]" in text and "tad-k10-b2 " not in text
    assert "commit: aaaaaaaaa" in text and "x, 2 cores" in text and "time: 20 s of jobs" in text


# --- What a running Snakemake shows --------------------------------------------------------------


def event(kind: LogEvent | None, **values) -> logging.LogRecord:
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, values.pop("text", ""), (), None)
    record.__dict__.update(event=kind, **values)
    return record


def job_info(number: int, rule: str, *files: str) -> logging.LogRecord:
    values = {"rule_name": rule, "output": list(files), "log": ["x.log"], "local": False}
    return event(LogEvent.JOB_INFO, jobid=number, **values)


def test_a_finished_job_is_one_line_with_its_number_and_the_time_left(suite, monkeypatch):
    finish(RUN)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(screen.time, "monotonic", lambda: float(next(clock)))
    out = StringIO()
    shown = screen.Screen("work/smoke", out)
    record = f"work/smoke/runs/{RUN}/heldout.json"
    shown.handle(event(LogEvent.RUN_INFO, stats={"heldout_run": 4, "total": 4}))
    shown.handle(job_info(1, "heldout_run", record))
    shown.handle(event(LogEvent.JOB_FINISHED, job_id=1))
    shown.handle(event(LogEvent.PROGRESS, done=1, total=4))
    first, line = out.getvalue().splitlines()
    assert first == "4 jobs to do"
    assert line.startswith(f"1/4  runs/{RUN}/heldout.json: held-out KL 0.5000, NLL 0.500  (10 s; ")
    assert line.endswith("left)")


def test_a_failed_job_shows_its_cause_and_its_log(tmp_path):
    log = put(tmp_path / "x.log", "Traceback\nValueError: the cause\n")
    out = StringIO()
    values = {"rule_name": "distill", "output": ["work/smoke/runs/a/model.safetensors"]}
    screen.Screen("work/smoke", out).handle(event(LogEvent.JOB_ERROR, log=[str(log)], **values))
    assert out.getvalue().split() == [
        *("FAILED", "runs/a", "ValueError:", "the", "cause", "log:", str(log))
    ]


def test_a_job_that_slurm_ended_shows_its_state_and_both_logs(tmp_path):
    log = put(tmp_path / "x.log", "step 7 of 9\n")
    ended = "slurmstepd-n1: error: *** JOB 8 ON n1 CANCELLED AT 1 DUE TO TIME LIMIT ***"
    outer = put(tmp_path / "slurm_logs/8.log", f"rule distill:\n{ended}\nWorkflowError:\nOne job\n")
    said = "SLURM-job '8' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable."
    values = {"rule_name": "distill", "output": ["work/smoke/runs/a/model.safetensors"]}
    values |= {"rule_msg": said, "log": [str(log), str(outer)]}
    out = StringIO()
    screen.Screen("work/smoke", out).handle(event(LogEvent.JOB_ERROR, **values))
    head, state, last, own, why, other = [line.strip() for line in out.getvalue().splitlines()]
    assert (head, state) == ("FAILED  runs/a", said.partition(".")[0])
    assert "step 7 of 9" in last and own == f"log: {log}"
    assert (why, other) == (ended, f"log: {outer}")


def test_a_fault_of_the_screen_does_not_end_the_work(monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    screen.Screen("work/smoke", StringIO()).handle(event(LogEvent.RUN_INFO))


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        (event(None, text="Select jobs to execute..."), False),
        (event(LogEvent.JOB_STARTED, text="Execute 2 jobs..."), False),
        (event(None, text="tad: a fault"), True),
        (event(LogEvent.PROGRESS), False),
        (event(LogEvent.ERROR, text="CalledProcessError in file x"), False),
        (event(LogEvent.ERROR, text="WorkflowError: no such key"), True),
    ],
)
def test_what_is_told_already_is_kept_from_the_screen(record, kept):
    logger, stream = logging.Logger("x"), logging.StreamHandler(StringIO())
    stream.name = "DefaultStreamHandler"
    logger.addHandler(stream)
    screen.attach(logger, "work/smoke", dry=lambda: False, no_target=str)
    assert bool(stream.filter(record)) == kept


def test_a_dry_run_is_shown_as_ever(capsys):
    logger, stream = logging.Logger("x"), logging.StreamHandler(StringIO())
    stream.name = "DefaultStreamHandler"
    logger.addHandler(stream)
    screen.attach(logger, "work/smoke", dry=lambda: True, no_target=str)
    stats = {"distill": 1, "total": 1}
    logger.handle(event(LogEvent.RUN_INFO, text="Job stats", stats=stats))
    assert "Job stats" in stream.stream.getvalue() and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("tabel4", "did you mean 'table4'?"),
        ("Figure2", "did you mean 'figure2'?"),
        ("work/mini/figures/figure2.png", "not of scale smoke; add --config scale=mini"),
        ("work/smoke/figures/figur2.png", "did you mean 'work/smoke/figures/figure2.png'?"),
        (f"work/smoke/runs/{RUN}/heldot.json", f"did you mean 'work/smoke/runs/{RUN}/heldout.json"),
        ("qqqq", "no such target (`tad list targets`"),
    ],
)
def test_a_target_that_no_rule_makes_is_answered_by_the_nearest(suite, asked, hint):
    logger, stream = logging.Logger("x"), logging.StreamHandler(StringIO())
    stream.name = "DefaultStreamHandler"
    logger.addHandler(stream)
    screen.attach(logger, "work/smoke", lambda: True, lambda x: no_target(suite, "work/smoke", x))
    text = f"MissingRuleException:\nNo rule to produce {asked} (if you use input functions ...)."
    logger.handle(event(LogEvent.ERROR, text=text, exception="MissingRuleException"))
    told = stream.stream.getvalue().strip()
    assert told.startswith(f"{asked}: ") and hint in told and "\n" not in told


def test_models_from_elsewhere_are_no_jobs_of_a_scale(tmp_path, monkeypatch):
    """Not even those below work/: another scale's, or stand-ins of a rehearsal."""
    monkeypatch.chdir(tmp_path)
    given = "work/other/hub/phi"
    mine = load_suite(CONFIG, [f"models.phi-2.checkpoints.final={{path: {given}, tokens: null}}"])
    found = [job.name for job in jobs(mine, ROOT)]
    assert "models/phi-2/final" not in found and not [name for name in found if "hub" in name]
    assert f"runs/{RUN}" in found
