"""What a distillation gave: report.md, report.json, report.png, and a model card."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tad.command import UserError, optional
from tad.distill import measure
from tad.distill.arguments import Settings
from tad.methods import Method
from tad.records import read_json, read_json_lines, write_bytes, write_json, write_text

MEASURES = {"kl": "KL to the teacher", "nll": "NLL"}
"""What students are compared in, in nats a token; lower is better."""

FEW = 30
"""Sequences below which a bootstrap interval is told to be too narrow."""


def write(settings: Settings, models: dict[str, Any], data: dict[str, Any]) -> None:
    """Write everything anew from the records of a finished distillation."""
    results = gather(settings, models, data)
    write_json(settings.out / "report.json", results)
    drawn = _draw(settings, results)
    write_text(settings.out / "report.md", text(settings, results, figure=drawn))
    write_text(settings.out / "README.md", card(settings, results))


def gather(settings: Settings, models: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """All numbers of the report: start, teacher, students, comparisons, curves."""
    from tad.distill.job import folder_of, tail_k

    start, first = measure.load(settings.out / "start.npz"), read_json(settings.out / "start.json")
    students, sums = [], {}
    for method in (settings.method, *settings.baselines):
        folder = folder_of(settings, method)
        record = read_json(folder / "manifest.json")
        sums[method] = measure.load(folder / "heldout.npz")
        end = {"tokens": record["tokens"]} | {key: record["held_out"][key] for key in MEASURES}
        curve = [
            {"tokens": one["tokens"]} | {key: one[f"eval_{key}"] for key in MEASURES}
            for one in read_json_lines(folder / "train.jsonl")
            if "eval_kl" in one and one["tokens"] < record["tokens"]
        ]
        kept = ("method", "tokens", "epochs", "seconds", "flops", "peak_memory_bytes", "held_out",
                "full_ece")  # fmt: skip
        students.append({key: record[key] for key in kept} | {"curve": [*curve, end]})
    ours = sums.pop(settings.method)
    return {
        "k": tail_k(settings),
        "models": models,
        "data": data,
        "sequences": len(ours["tokens"]),
        "positions": int(ours["tokens"].sum()),
        "teacher": {"nll": measure.mean(start, "teacher_nll"),
                    "tail": measure.mean(start, "teacher_tail"),
                    "full_ece": first["teacher_full_ece"]},
        "start": {name: measure.mean(start, name) for name in ("kl", "nll", "student_tail")},
        "students": students,
        "against_start": _differences(ours, start),
        "comparisons": [
            {"with": str(method)} | _differences(ours, theirs) for method, theirs in sums.items()
        ],
    }  # fmt: skip


def _differences(ours: measure.Sums, theirs: measure.Sums) -> dict[str, dict[str, float]]:
    found = {}
    for key in MEASURES:
        gap, base = measure.difference(ours, theirs, key), measure.mean(theirs, key)
        found[key] = gap | {"relative": gap["mean"] / base if base else 0.0}
    return found


# --- Words ---------------------------------------------------------------------------------------


def direction(gap: dict[str, float]) -> str:
    """``lower``, ``higher``, or ``same`` where the interval contains 0."""
    return "lower" if gap["high"] < 0 else "higher" if gap["low"] > 0 else "same"


def verdict(method: Method, comparisons: list[dict[str, Any]]) -> str:
    """Whether the method was worth it on this text, in one sentence."""
    name = method.label
    if not comparisons:
        return (
            f"{name} alone was trained: whether it is worth it, `--baselines "
            "clm,vanilla_kd,vanilla_kd_matched` tells (the same command with them goes on)."
        )
    kl = {way: _labels(comparisons, "kl", way) for way in ("lower", "higher", "same")}
    worse = _labels(comparisons, "nll", "higher")
    shape = ""
    ahead = [
        Method.named(one["with"]).row for one in comparisons if direction(one["kl"]) != "lower"
    ]
    if kl["lower"] and all(one.matched_to == method.name for one in ahead):
        shape = (
            f" {name} came closer than {kl['lower']}; but so does a divergence of the same size at "
            "each step: its weight explains that here, and its shape is not needed."
        )
    if kl["higher"]:
        return f"No, on this text: {kl['higher']} came closer to the teacher than {name}.{shape}"
    if kl["same"]:
        return (
            f"Not shown on this text: {name} and {kl['same']} are equally close to the teacher, as "
            "far as these sequences can tell; more tokens or more held-out sequences may tell more."
            f"{shape}"
        )
    if worse:
        return (
            f"It depends: {name} came closer to the teacher than {kl['lower']}, but predicts this "
            f"text worse than {worse}."
        )
    return f"Yes, on this text: {name} came closer to the teacher than {kl['lower']}; NLL no worse."


def _labels(comparisons: list[dict[str, Any]], key: str, way: str) -> str:
    """Labels of those against which the difference of ``key`` goes that way."""
    return " and ".join(
        Method.named(one["with"]).label for one in comparisons if direction(one[key]) == way
    )


def text(settings: Settings, results: dict[str, Any], *, figure: bool) -> str:
    """The report as Markdown."""
    parts = [
        f"# {_name(settings.teacher)} → {settings.student}: {settings.method.label}",
        f"**Worth it?** {verdict(settings.method, results['comparisons'])}",
        _learnt(results),
        "![Held-out KL and NLL against tokens](report.png)" if figure else "",
        "## Students\n\n" + _students(results),
        "## Comparison\n\n" + _comparison(settings, results) if results["comparisons"] else "",
        "## Setting\n\n" + _setting(settings, results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _learnt(results: dict[str, Any]) -> str:
    start, student, teacher = results["start"], results["students"][0], results["teacher"]
    end, tokens = student["held_out"], student["tokens"]
    return (
        f"{tokens:,} tokens took the held-out KL to the teacher from {start['kl']:.3f} to "
        f"{end['kl']:.3f} nats a token, and the NLL from {start['nll']:.3f} to {end['nll']:.3f} "
        f"(teacher: {teacher['nll']:.3f})."
    )


def _students(results: dict[str, Any]) -> str:
    start, teacher, k = results["start"], results["teacher"], results["k"]
    rows = [["", "KL", "NLL", f"Tail (K = {k})", "Full-ECE", "Tokens", "Time", "PFLOPs", "Memory"]]
    blank = ["–"] * 4
    rows.append(["Teacher", "0", f"{teacher['nll']:.4f}", f"{teacher['tail']:.1%}",
                 _ece(teacher["full_ece"]), *blank])  # fmt: skip
    rows.append(["Student's start", f"{start['kl']:.4f}", f"{start['nll']:.4f}",
                 f"{start['student_tail']:.1%}", "–", *blank])  # fmt: skip
    for one in results["students"]:
        held = one["held_out"]
        rows.append([
            Method.named(one["method"]).label, f"{held['kl']:.4f}", f"{held['nll']:.4f}",
            f"{held['student_tail']:.1%}", _ece(one["full_ece"]), f"{one['tokens']:,}",
            _time(one["seconds"]), f"{one['flops'] / 1e15:.3g}",
            f"{one['peak_memory_bytes'] / 2**30:.2f} GiB",
        ])  # fmt: skip
    note = (
        "KL (forward, to the teacher) and NLL in nats a token, over "
        f"{results['positions']:,} tokens of {results['sequences']} held-out sequences. Tail: the "
        f"probability outside the teacher's {k} likeliest tokens (alpha_K), the student's beside "
        "the teacher's. FLOPs are of matrix products, time includes the evaluations on the way, "
        "memory is the peak."
    )
    return f"{_table(rows)}\n\n{note}"


def _comparison(settings: Settings, results: dict[str, Any]) -> str:
    rows = [[f"{settings.method.label} minus", "KL", "KL, relative", "NLL", "In words"]]
    for one in results["comparisons"]:
        cells, words = [], []
        for key, name in MEASURES.items():
            gap = one[key]
            cells.append(f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
            way = direction(gap)
            words.append(f"{name} {way}" if way != "same" else f"{name}: no difference shown")
        cells.insert(1, f"{one['kl']['relative']:+.1%}")
        rows.append([Method.named(one["with"]).label, *cells, "; ".join(words)])
    note = (
        "Differences in nats a token on the same positions, with 95% intervals (bootstrap over "
        f"the {results['sequences']} held-out sequences). All started alike and read the same "
        "sequences in the same order. The intervals are for other text of this kind: one seed was "
        "trained, and another (`--seed 1 --out ...`) moves these numbers too."
    )
    if results["sequences"] < FEW:
        note += f" {results['sequences']} sequences are few: such intervals are too narrow."
    return f"{_table(rows)}\n\n{note}"


def _setting(settings: Settings, results: dict[str, Any]) -> str:
    data, models = results["data"], results["models"]
    left = ", ".join(f"{count:,} {why}" for why, count in data["left_out"].items()) or "none"
    sizes = {role: _short(models[role]["parameters"]) for role in ("teacher", "student")}
    student = "cut out of the teacher" if models["made_from_teacher"] else settings.student
    lora = settings.lora
    lines = [
        f"Teacher: {_name(settings.teacher)} ({models['teacher']['family']}, "
        f"{sizes['teacher']} parameters)",
        f"Student: {student} ({models['student']['family']}, {sizes['student']} parameters, "
        f"{_short(models['student']['trained'])} of them trained"
        + (f"; LoRA of rank {lora.r}" if lora else "")
        + ")",
        f"Data: {_name(settings.data)} ({data['form']}), {data['documents']['train']:,} documents "
        f"to train on and {data['documents']['held_out']:,} held out by a hash of their text; left "
        f"out: {left}; cut to the context: {data['shortened']:,}",
        f"Training: {results['students'][0]['epochs']:.2f} passes, {settings.batch_size} sequences "
        f"of at most {settings.context} tokens a step, AdamW at {settings.learning_rate:g} "
        f"(cosine, {settings.warmup:.0%} warm-up), seed {settings.seed}, {models['dtype']} on "
        f"{models['device']}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def card(settings: Settings, results: dict[str, Any]) -> str:
    """The model card of the folder."""
    hub = not Path(settings.teacher).exists()
    base = f"base_model: {settings.teacher}\nbase_model_relation: finetune\n" if hub else ""
    head = (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        f"{base}tags: [distillation, tail-aware-distillation]\n---\n"
    )
    return f"""{head}
# {_name(settings.teacher)}, distilled

A student of {_name(settings.teacher)} by {settings.method.label}, `{settings.method}`. \
{_learnt(results)} Numbers, figure and comparison: [report.md](report.md).

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{settings.out.name}")
tokenizer = AutoTokenizer.from_pretrained("{settings.out.name}")
```

{_setting(settings, results)}

Made by `tad distill`; the loss is that of *Don't Ignore the Tail: Decoupling Top-K Probabilities
for Efficient Language Model Distillation*. It was measured on held-out text of its own training
data alone, and has the limits and the licence of its teacher.
"""


def _name(source: str) -> str:
    """A hub id, or the last two parts of a path: the others are this machine's."""
    return "/".join(Path(source).parts[-2:]) if Path(source).exists() else source


def _ece(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{value['value']:.2%}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _table(rows: list[list[str]]) -> str:
    header, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([header, "|" + " --- |" * len(rows[0]), *body])


# --- Figure --------------------------------------------------------------------------------------


def _draw(settings: Settings, results: dict[str, Any]) -> bool:
    """report.png: KL and NLL against tokens; False where matplotlib is not installed."""
    try:
        optional("matplotlib")
    except UserError:
        return False
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(8, 3.2), dpi=150, layout="constrained")
    for axis, (key, name) in zip(figure.subplots(1, 2), MEASURES.items(), strict=True):
        for one in results["students"]:
            method = Method.named(one["method"])
            points = [(point["tokens"], point[key]) for point in one["curve"]]
            look = {"color": method.row.colour, "linestyle": method.row.line}
            axis.plot(*zip(*points, strict=True), label=method.label, marker=method.row.marker,
                      markersize=3.5, **look)  # fmt: skip
        if key == "nll":
            axis.axhline(results["teacher"]["nll"], color="black", linewidth=0.8, linestyle=":",
                         label="Teacher")  # fmt: skip
            late = [p[key] for one in results["students"] for p in one["curve"][1:]]
            span = [*late, results["teacher"]["nll"]]
            margin = 0.05 * (max(span) - min(span)) + 1e-3
            axis.set_ylim(min(span) - margin, max(span) + margin)  # the start would flatten all
        elif min(p[key] for one in results["students"] for p in one["curve"]) > 1e-4:
            axis.set_yscale("log")  # not from a student that is its teacher
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.yaxis.set_minor_locator(NullLocator())
        axis.axhline(results["start"][key], color="0.6", linewidth=0.8, label="Student's start")
        axis.set(title=f"Held-out {name}", xlabel="Training tokens", ylabel="nats a token")
        axis.xaxis.set_major_formatter(lambda value, _: _short(value))
        axis.grid(color="0.9", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    lines = axis.get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=len(lines[0]), frameon=False,
                  fontsize=7)  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(settings.out / "report.png", buffer.getvalue())
    return True


def _short(value: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
