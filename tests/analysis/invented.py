"""Records of runs whose truth is known."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np

from analysis.claims.compare import compare
from analysis.claims.listed import KD, LOWER, RKL, TAD, Claim
from analysis.claims.metrics import KL
from analysis.results import TASKS
from tad.experiment.config import load_suite
from tad.experiment.layout import Layout

from .conftest import CONFIG

PAIRS = ("qwen1.5-1.8b_0.5b", "phi2_1b")
ITEMS = ("table1", "table4", "figure1", "figure2", "heldout")
CLM = "clm"


def suite_of(seeds=(0, 1, 2), items=ITEMS, pairs=PAIRS):
    """The smoke scale's models with other seeds, items and pairs, and few methods."""
    suite = load_suite(CONFIG / "smoke.yaml")
    methods = [CLM, KD, RKL, "tad-k1-b2", TAD]
    update = {"items": list(items), "pairs": list(pairs), "methods": methods}
    select = suite.select.model_copy(update=update)
    return suite.model_copy(update={"seeds": list(seeds), "select": select})


KL_TRUTH = {CLM: 0.300, KD: 0.301, RKL: 0.12, "tad-k1-b2": 0.20, TAD: 0.20}
"""TAD is below Vanilla KD, above RKL; CLM and Vanilla KD differ by less than the noise."""


def write_records(root, suite, *, noise=0.03):
    """Every record of every run of a suite; held-out KL follows KL_TRUTH."""
    rng = np.random.default_rng(0)
    layout = Layout(root)
    for run in suite.runs():
        method = str(run.method)
        put(
            layout.run(run) / "heldout.json",
            {
                "metrics": {
                    "kl": _mean(KL_TRUTH[method], rng, noise),
                    "nll": {"mean": 3.0, "se": 0.01},
                }
            },
        )
        lines = [
            {"tokens": t, "eval_nll": 3.0, "eval_kl": 0.5, "eval_loss": x, "tokens_per_second": 1e3}
            for t, x in zip(
                np.geomspace(4e3, 6e4, 12).astype(int).tolist(),
                (3 + (method != TAD) * 0.1 + 30 / np.geomspace(4e3, 6e4, 12) ** 0.33).tolist(),
                strict=True,
            )
        ]
        path = layout.run(run) / "train.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        put(layout.run(run) / "manifest.json", {"step_memory_bytes": 1e9, "tokens": 60_000})
        put(layout.run(run) / "fewshot.json", fewshot(0.4 + 0.01 * rng.normal()))
        put(layout.run(run) / "calibration.json", {"full_ece": 0.01})
    for pair in suite.select.pairs:
        put_teacher(root, suite, pair)
    for teacher in suite.teachers("figure2"):
        tail = {f"alpha_{k}": _mean(0.6 / k**0.5, rng, 0.0) for k in (1, 5, 10, 20)}
        record = {"metrics": {"mismatch": {"mean": 0.6, "se": 0.01}, **tail}}
        put(layout.model(teacher, "final") / "heldout.json", record)
    return root


def fewshot(accuracy, **tasks):
    """A fewshot.json with this accuracy in every task but those of ``tasks``."""
    values = dict.fromkeys(TASKS, accuracy) | tasks
    entries = {t: {"accuracy": x, "n": 140, "chance": 0.25} for t, x in values.items()}
    return {"average": float(np.mean(list(values.values()))), "tasks": entries}


def put_teacher(root, suite, pair, **tasks):
    """The few-shot record of a pair's teacher, which is above chance but in ``tasks``."""
    model = suite.pairs[pair].teacher
    point = list(suite.models[model].checkpoints)[-1]
    put(Layout(root).model(model, point) / "fewshot.json", fewshot(0.8, **tasks))


def _mean(value, rng, noise):
    return {"mean": float(value * math.exp(noise * rng.normal())), "se": 0.001}


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def claim(name, statistic):
    return Claim(name, "2", "a statement", "records", statistic)


def kl_claim(name, ours, theirs):
    return claim(name, compare(KL, ["heldout"], ours, theirs, LOWER))


def put_documents(folder, kl, tokens, fingerprint="of a text"):
    """A heldout.json with this KL (documents,) of documents of so many tokens."""
    told = {"tokens": tokens, "kl": kl}
    record = {
        "metrics": {"kl": {"mean": float(np.average(kl, weights=tokens)), "se": 0.001}},
        "documents": {name: " ".join(map(str, values)) for name, values in told.items()},
        "data_fingerprint": fingerprint,
    }
    put(folder / "heldout.json", record)


def write_right(folder, right, task="piqa"):
    """The items of one task: ``right`` (n,) says which."""
    rows = [
        {"task": task, "item": i, "doc_hash": str(i), "correct": int(x)}
        for i, x in enumerate(right)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "fewshot.items.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def write_items(folder, rng, chance, n=80):
    rows = [
        {"task": task, "item": i, "doc_hash": str(i), "correct": int(rng.random() < chance)}
        for task in TASKS
        for i in range(n)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "fewshot.items.jsonl.gz").write_bytes(gzip.compress(text.encode()))
