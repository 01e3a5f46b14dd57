"""Distill one student: ``python -m tad.distill --config config/smoke.yaml --run RUN``.

For example (on a laptop, after ``make reproduce`` has made the data and the teachers)::

    python -m tad.distill --config config/smoke.yaml --run scratch/phi2_1b/tad-k10-b2/seed0

The result goes to ``work/{scale}/runs/RUN/``. An interrupted run continues with the same command.
"""

from __future__ import annotations

import sys
from typing import Any

from transformers import PreTrainedModel

from tad.command import command_line, exit_code
from tad.config import ConfigError, load_suite
from tad.layout import Layout
from tad.models import choose_attention, load_model, load_tokenizer
from tad.run_id import LOGIT_METHODS, PLAIN_METHODS, Method, RunId
from tad.specs import RunSpec, run_spec
from tad.students import build_student
from tad.trainer import Objective
from tad.training import plain_logging, run_job
from tad.vocabulary import shared_vocabulary


def distill(config: str, run: RunId, *, force: bool = False) -> None:
    """Train the student of ``run``; a finished run is left as it is, unless ``force``.

    Raises UserError for bad input.
    """
    suite = load_suite(config)
    trained = LOGIT_METHODS + PLAIN_METHODS
    if run.method.name not in trained:
        raise ConfigError(
            f"run {run}: method {run.method} is not trained by tad.distill (those are: "
            f"{', '.join(trained)})"
        )
    spec, layout = run_spec(suite, run), Layout.work(suite.scale)
    tokenizer = load_tokenizer(spec.tokenizer)
    run_job(
        spec,
        out=layout.run(run),
        checkpoints=layout.checkpoints(str(run)),
        force=force,
        tokenizer=tokenizer,
        build=lambda: _models(spec, tokenizer),
        objective=Objective(
            method=Method("clm") if run.method.name in PLAIN_METHODS else run.method,
            temperature=spec.temperature, hidden_cosine=spec.hidden_cosine
        ),
    )


def _models(spec: RunSpec, tokenizer: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The student, and the teacher with the vocabulary the two share."""
    teacher = load_model(spec.teacher, training=False)
    if spec.start is None:
        assert spec.shape is not None  # a spec has one of the two
        student = build_student(teacher, spec.shape, seed=spec.optimisation.seed)
        choose_attention(student, training=True)
    else:
        student = load_model(spec.start, training=True)
    shared = shared_vocabulary(
        load_tokenizer(spec.teacher),
        tokenizer,
        teacher.get_output_embeddings().weight.shape[0],
        student.get_output_embeddings().weight.shape[0],
    )
    return student, {"teacher": teacher, "shared_vocabulary": shared}


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the run is finished, 2 for bad input."""
    parser = command_line("tad.distill", __doc__)
    parser.add_argument("--config", required=True, help="scale file, such as config/smoke.yaml")
    parser.add_argument("--run", required=True, help="stage/pair/method/seedN")
    parser.add_argument("--force", action="store_true", help="train again from the start")
    options = parser.parse_args(arguments)
    plain_logging()
    return exit_code(
        "tad.distill",
        lambda: distill(options.config, RunId.parse(options.run), force=options.force),
    )


if __name__ == "__main__":
    sys.exit(main())
