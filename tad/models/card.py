"""The model card of a student of the experiments: what it is, and what was measured as it learnt.

It stands beside the weights, as README.md, for whoever finds the folder without the project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tad.experiment.run_id import RunId
from tad.experiment.specs import RunSpec
from tad.records import read_json, read_json_lines

HEAD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [distillation, tail-aware-distillation]
---
"""


def card(spec: RunSpec, run: RunId, folder: Path) -> str:
    """The card of a finished run, from its ``manifest.json`` and ``train.jsonl``."""
    manifest = read_json(folder / "manifest.json")
    points = [line for line in read_json_lines(folder / "train.jsonl") if "eval_nll" in line]
    values = spec.optimisation
    facts = [
        f"Teacher: {_teacher(spec)}",
        f"Student: {_student(spec)}, {manifest['parameters']:,} parameters, "
        f"{manifest['trainable_parameters']:,} of them trained",
        f"Method: {run.method.label} (`{run.method}`), stage `{run.stage}`, seed {run.seed}",
        f"Training: {manifest['tokens']:,} tokens in sequences of {values.context}, "
        f"{values.batch_size} a step, AdamW at {values.learning_rate:g} ({values.schedule})",
        *_held_out(points),
    ]
    git = manifest.get("git")
    made = (
        f" at commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else ""
    )
    listed = "\n".join(f"- {fact}" for fact in facts)
    return f"""{HEAD}
# {run}

{listed}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")  # this folder
tokenizer = AutoTokenizer.from_pretrained(".")
```

Made by `tad run`{made}, for an experiment: it is small or little trained, was measured on held-out
text of its own corpus and on the tasks of its scale alone, and has the limits and licence of its
teacher. Everything that decides it stands in `manifest.json`.
"""


def _teacher(spec: RunSpec) -> str:
    """The teacher, and where its weights are from if its manifest says so."""
    path = Path(spec.teacher) / "manifest.json"
    if not path.is_file():
        return f"`{spec.teacher}`"
    source: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("source", {})
    told = ", ".join(f"{key} {value}" for key, value in source.items() if key != "sha256")
    return f"`{spec.teacher}`" + (f" ({told})" if told else "")


def _student(spec: RunSpec) -> str:
    if spec.start is not None:
        return f"started from `{spec.start}`"
    assert spec.shape is not None  # a spec has one of the two
    if spec.pruned is None:
        return "made from the teacher by the paper's recipe (attention copied, MLPs random)"
    frozen = f", {' and '.join(spec.pruned.frozen)} frozen" if spec.pruned.frozen else ""
    return f"{spec.shape.layers} whole layers of the teacher{frozen}"


def _held_out(points: list[dict[str, Any]]) -> list[str]:
    """The last held-out point of training, if there is one."""
    if not points:
        return []
    last = points[-1]
    shown = [f"NLL {last['eval_nll']:.4f}"]
    shown += [f"KL to the teacher {last['eval_kl']:.4f}"] if "eval_kl" in last else []
    return [f"Held-out at the end: {', '.join(shown)} (nats a token)"]
