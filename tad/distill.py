"""Distill one student: ``python -m tad.distill --config config/smoke.yaml --run RUN``.

For example (on a laptop, after ``make reproduce`` has made the data and the teachers)::

    python -m tad.distill --config config/smoke.yaml --run scratch/phi2_1b/tad-k10-b2/seed0

The result goes to ``work/{scale}/runs/RUN/``. An interrupted run continues with the same command.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tad.architectures import attention_implementation
from tad.checkpoints import BusyError
from tad.config import ConfigError, load_suite
from tad.data import DataError, PackedTokens
from tad.layout import Layout
from tad.records import RecordError
from tad.run_id import LOGIT_METHODS, RunId, RunIdError
from tad.specs import RunSpec, run_spec
from tad.students import StudentError, build_student
from tad.trainer import NonFiniteLossError
from tad.training import command_line_logging, is_finished, method_objective, run_job
from tad.vocabulary import VocabularyError, shared_vocabulary

USER_ERRORS = (
    BusyError,
    ConfigError,
    DataError,
    NonFiniteLossError,
    RecordError,
    RunIdError,
    StudentError,
    VocabularyError,
)
"""Faults of the input, told in one line; anything else is a bug and keeps its traceback."""


def distill(config: str, run: RunId, *, force: bool = False) -> Path:
    """Train the student of ``run``; returns its folder. A finished run is left as it is.

    Raises one of USER_ERRORS for bad input.
    """
    suite = load_suite(config)
    if run.method.name not in LOGIT_METHODS:
        raise ConfigError(
            f"run {run}: method {run.method} is not trained by tad.distill (those are: "
            f"{', '.join(LOGIT_METHODS)})"
        )
    spec, layout = run_spec(suite, run), Layout.work(suite.scale)
    out, checkpoints = layout.run(run), layout.checkpoints(str(run))
    if force:
        shutil.rmtree(checkpoints, ignore_errors=True)
    elif is_finished(out, spec, PackedTokens(spec.data, "train", spec.optimisation.context)):
        print(f"{out}: finished already; --force trains it again", file=sys.stderr)
        return out
    tokenizer = AutoTokenizer.from_pretrained(spec.tokenizer)
    run_job(
        spec,
        out=out,
        checkpoints=checkpoints,
        tokenizer=tokenizer,
        build=lambda: _models(spec, tokenizer),
        objective=method_objective(spec, run.method),
    )
    return out


def _models(spec: RunSpec, tokenizer: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The student, and the teacher with the vocabulary the two share."""
    teacher = load_model(spec.teacher, training=False)
    if spec.start is None:
        assert spec.shape is not None  # a spec has one of the two
        student = build_student(teacher, spec.shape, seed=spec.optimisation.seed)
        student.set_attn_implementation(_attention(student, training=True))
    else:
        student = load_model(spec.start, training=True)
    shared = shared_vocabulary(
        AutoTokenizer.from_pretrained(spec.teacher),
        tokenizer,
        teacher.get_output_embeddings().weight.shape[0],
        student.get_output_embeddings().weight.shape[0],
    )
    return student, {"teacher": teacher, "shared_vocabulary": shared}


def load_model(source: str, *, training: bool) -> PreTrainedModel:
    """A causal LM from a folder or hub id: float32 to train, bfloat16 to teach on a GPU.

    Never runs code that comes with the weights, and never unpickles them.
    """
    dtype = torch.bfloat16 if torch.cuda.is_available() and not training else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    model.set_attn_implementation(_attention(model, training=training))
    return model


def _attention(model: PreTrainedModel, *, training: bool) -> str:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return attention_implementation(model.config.model_type, device, training)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the run is finished, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tad.distill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="scale file, such as config/smoke.yaml")
    parser.add_argument("--run", required=True, help="stage/pair/method/seedN")
    parser.add_argument("--force", action="store_true", help="train again from the start")
    options = parser.parse_args(arguments)
    command_line_logging()
    try:
        distill(options.config, RunId.parse(options.run), force=options.force)
    except USER_ERRORS as error:
        print(f"tad.distill: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
