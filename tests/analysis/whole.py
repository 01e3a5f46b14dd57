"""Every record of a suite, invented, so that all that a scale draws can be drawn."""

from __future__ import annotations

import gzip
import io
import json

import numpy as np

from analysis.results import TASKS
from eval.math.datasets import DATASETS
from tad.methods import Method
from tad.records import write_bytes, write_text
from workflow.items import all_records

CONTEXT, ITEMS, DOCUMENTS = 128, 60, 40
MADE_BY = {"git": {"commit": "0" * 40, "dirty": False}}


def fill(root, suite):
    """Write all records of a suite below ``root``; TAD is a little better than the others."""
    for name in all_records(suite):
        rng = np.random.default_rng(len(name) + sum(map(ord, name)))
        folder, _, file = name.rpartition("/")
        pair = folder.split("/")[2] if folder.startswith("runs") else ""
        method = Method.parse(folder.split("/")[3]) if pair else None
        content = WRITERS[file](rng, method, suite, pair)
        write = write_bytes if isinstance(content, bytes) else write_text
        write(root / name, content)
    return root


def quality(rng, method):
    """How far a student is from its teacher: less for TAD and larger weights."""
    if method is None:
        return 0.0
    tad = 0.8 if "beta" in method.parameters or method.matched_to else 1.0
    return (
        tad
        * (0.3 / method.weights[1] ** 0.2 if method.row.needs_teacher else 0.5)
        * (
            np.exp(0.02 * rng.normal()) * method.shared["x"] ** -0.1
            if "x" in method.shared
            else np.exp(0.02 * rng.normal())
        )
    )


def _json(value):
    return json.dumps(value | MADE_BY)


def heldout(rng, method, suite, pair):
    metrics = {"nll": 3.8 + quality(rng, method), "mismatch": 0.6}
    if method:
        metrics |= {"kl": quality(rng, method), "reverse_kl": 1.1 * quality(rng, method)}
    found = {key: {"mean": value, "se": 0.001} for key, value in metrics.items()}
    for k in (1, 2, 5, 10, 20, 50):
        mass = 0.6 / k**0.5 * (1 + 0.05 * rng.normal())
        found[f"alpha_{k}"] = {"mean": mass, "se": 0.001, "q25": 0.6 * mass, "q75": 1.2 * mass}
    documents = {"tokens": "128 " * DOCUMENTS}
    for key in {"nll", "kl", "reverse_kl"} & set(metrics):
        values = metrics[key] * np.exp(0.1 * rng.normal(size=DOCUMENTS))
        documents[key] = " ".join(f"{value:.7g}" for value in values)
    return _json({"metrics": found, "documents": documents, "data_fingerprint": "the same"})


def fewshot(rng, method, suite, pair):
    right = 0.7 - quality(rng, method)
    tasks = {
        name: {
            "column": column, "lm_eval_task": name, "metric": "acc", "n": ITEMS, "shots": 0,
            "accuracy": round((right + 0.02 * rng.normal()) * ITEMS) / ITEMS, "chance": 0.25,
            "commonest": 0.3, "margin": -quality(rng, method), "stderr": 0.05, "dtype": "float32",
            "truncated_requests": 0, "bos_requests": 0,
        }
        for name, column in TASKS.items()
    }  # fmt: skip
    average = float(np.mean([task["accuracy"] for task in tasks.values()]))
    more = {"analogue": True, "suite": "smoke", "limit": None, "lm_eval": "0"}
    margin = -quality(rng, method)
    found = {"average": average, "avg_margin": margin, "tasks": tasks}
    return _json({"metric": "fewshot", **found, **more})


def fewshot_items(rng, method, suite, pair):
    right = 0.7 - quality(rng, method)
    lines = [
        {"task": task, "item": at, "doc_hash": f"{at}", "correct": int(rng.random() < right),
         "margin": float(rng.normal())}
        for task in TASKS for at in range(ITEMS)
    ]  # fmt: skip
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), mtime=0)


def mathematics(rng, method, suite, pair):
    datasets = {}
    for name, dataset in DATASETS.items():
        right = int((0.5 - quality(rng, method) / 2) * 100 + 3 * rng.normal())
        score = {"accuracy": float(right), "correct": right, "standard_error": 4.0,
                 "right": ("1" * right).ljust(100, "0"), "unanswered": 0, "events": 0}  # fmt: skip
        datasets[name] = {"column": dataset.column, "items": 100, "shots": 0, "chance": 5.0,
                          "exemplars": "none", "items_hash": name, "commonest": 10.0,
                          "strict": score, "compat": score,
                          "differ": 0, "truncated": 0, "refused": 0, "fewer_shots": 0,
                          "too_long": 0, "bos_prompts": 0, "tokens_an_answer": 9.0}  # fmt: skip
    mean = float(np.mean([entry["compat"]["accuracy"] for entry in datasets.values()]))
    average = {"strict": mean, "compat": mean}
    return _json({"analogue": True, "suite": "smoke", "datasets": datasets, "average": average,
                  "dtype": "float32"})  # fmt: skip


def calibration(rng, method, suite, pair):
    gap = 0.1 * quality(rng, method)

    def bins(edges):
        return [
            {"lower": low, "upper": high, "mass": 1000.0, "labels": round(1000 * (1 + gap)),
             "entries": round(2000 / (low + high)), "labels_interval": [1000.0, 1100.0]}
            for low, high in zip(edges, edges[1:], strict=False)
        ]  # fmt: skip

    values = {"full_ece": gap, "full_ece_interval": [0.9 * gap, 1.1 * gap], "noise_floor": 0.002}
    return _json({
        **values, "ece": gap, "positions": 10_000, "others": {"15": values},
        "bins": bins(np.linspace(0, 1, 11).tolist()),
        "tail": bins([0.0, *(2.0**-k for k in range(20, -1, -2))]),
    })  # fmt: skip


def calibration_gaps(rng, method, suite, pair):
    gaps = {"positions": np.full(20, 128), "gap": rng.normal(size=(20, 10)).astype("float32"),
            "text": np.array("the same")}  # fmt: skip
    return _npz(gaps)


def scores(rng, method, suite, pair):
    teacher, reference = rng.normal(-3, 0.3, 64), rng.normal(-4, 0.3, 64)
    return _npz({"index": np.arange(64), "teacher": teacher, "reference": reference,
                 "score": teacher - reference})  # fmt: skip


def train(rng, method, suite, pair):
    tokens = np.linspace(0, 60_000, 13).astype(int).tolist()
    end, lines = quality(rng, method), []
    for step, count in enumerate(tokens):
        kl = end * (1 + 4 * np.exp(-4 * step / 12)) * np.exp(0.01 * rng.normal())
        if step:
            terms = {"clm": 3.8 + kl}
            terms |= {"divergence": method.weights[1] * kl} if method.row.needs_teacher else {}
            lines.append({"step": step, "tokens": count, "loss": sum(terms.values()), **terms,
                          "tokens_per_second": 1000.0 + rng.normal()})  # fmt: skip
        if step % 3 == 0:
            lines.append({"step": step, "tokens": count, "eval_kl": kl, "eval_nll": 3.8 + kl,
                          "eval_loss": 3.8 + 2 * kl})  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)


def manifest(rng, method, suite, pair):
    tokens = 60_000 if method is None or "x" not in method.shared else 60_000 * method.shared["x"]
    times = {"wall_seconds": 20.0, "resumed_from_step": 0, "generation": {"wall_seconds": 5.0}}
    memory = {"peak_memory_bytes": 6e8, "step_memory_bytes": 9e7 + 1e6 * rng.random()}
    return _json({"tokens": int(tokens), "parameters": 100_000, **times, **memory})


def selection(rng, method, suite, pair):
    return _json({"number": 32, "delta": 0.5, "threshold": 1.0, "wall_seconds": 5.0})


def _npz(arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


WRITERS = {
    "heldout.json": heldout,
    "fewshot.json": fewshot,
    "fewshot.items.jsonl.gz": fewshot_items,
    "math.json": mathematics,
    "calibration.json": calibration,
    "calibration.npz": calibration_gaps,
    "scores.npz": scores,
    "selection.json": selection,
    "train.jsonl": train,
    "manifest.json": manifest,
}
