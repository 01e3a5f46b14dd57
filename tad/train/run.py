"""Distil one student of the experiments, from data and teachers that the DAG has made.

    tad run scratch/phi2_1b/tad-k10-b2/seed0 --config config/smoke.yaml

The result goes to ``work/{scale}/runs/RUN/``. An interrupted run continues with the same command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset
from transformers import PreTrainedModel

from tad.baselines.generation import GeneratedTokens
from tad.baselines.selection import selected_rows
from tad.command import command_line, exit_code, plain_logging
from tad.data.packing import PackedTokens
from tad.data.vocabulary import check_tokenizer, shared_vocabulary, size
from tad.experiment.config import Suite, open_scale, scale_options
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.specs import RunSpec, run_spec
from tad.models.architectures import check_shape
from tad.models.card import card
from tad.models.loading import choose_attention, load_config, load_model, load_tokenizer
from tad.models.students import build_student, prune
from tad.records import fingerprint, read_json, write_text
from tad.train.job import run_job, training_order
from tad.train.on_policy import OnPolicy, OnPolicyTrainer
from tad.train.trainer import DistillationTrainer


def distill(
    config: str, run_id: str, *, force: bool = False, overrides: Sequence[str] = ()
) -> None:
    """Train the student of a run; a finished run is left as it is, unless ``force``.

    Raises UserError for bad input.
    """
    suite = open_scale(config, overrides)  # first: it may bring methods of its own
    run = RunId.parse(run_id)
    spec, layout = run_spec(suite, run), Layout.work(suite.scale)
    tokenizer = load_tokenizer(spec.tokenizer)
    run_job(
        spec,
        out=layout.run(run),
        checkpoints=layout.checkpoints(str(run)),
        force=force,
        overrides=overrides,
        tokenizer=tokenizer,
        build=lambda: _models(suite, run, spec, tokenizer),
        trainer_class=_trainer_class(spec, run),
        train_rows=_train_rows(spec),
        states_folder=spec.states.folder if spec.states else None,
    )
    if os.environ.get("RANK", "0") == "0":
        write_text(layout.run(run) / "README.md", card(spec, run, layout.run(run)))


def _trainer_class(spec: RunSpec, run: RunId) -> Callable[..., DistillationTrainer]:
    """The trainer of a method, but for its models and data."""
    if run.method.row.rows == "own_text":
        assert spec.writing is not None  # a spec of this method has it
        writing = spec.writing.model_dump(include={"prompt_tokens", "temperature", "top_p"})
        clm, divergence = run.method.weights
        return partial(
            OnPolicyTrainer,
            on_policy=OnPolicy(**writing),
            clm_weight=clm,
            divergence_weight=divergence,
        )
    return partial(
        DistillationTrainer,
        method=run.method.loss,
        temperature=spec.temperature,
        hidden_cosine=spec.hidden_cosine,
    )


def _train_rows(spec: RunSpec) -> Callable[[], tuple[Dataset, str]] | None:
    """What is trained on in the place of the corpus: selected sequences, or the teacher's text."""
    context = spec.optimisation.context

    def selected() -> tuple[Dataset, str]:
        folder = Path(spec.selection.folder)
        rows = Subset(PackedTokens(spec.data, "train", context), selected_rows(folder).tolist())
        record = read_json(folder / "selection.json")
        return rows, fingerprint([record["fingerprint"], record["delta"]])

    def written() -> tuple[Dataset, str]:
        rows = GeneratedTokens(spec.writing.folder, context)
        return training_order(rows, spec.optimisation), rows.fingerprint

    if spec.selection is not None:
        return selected
    return written if spec.writing is not None and spec.writing.folder else None


def _models(
    suite: Suite, run: RunId, spec: RunSpec, tokenizer: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The student, and the teacher with the vocabulary the two share."""
    student, selection = suite.pairs[run.pair].student.model, spec.selection
    reference = suite.baselines.miniplm.reference[run.stage] if selection else None
    for name, source in (
        (suite.teacher(run.pair, run.seed), spec.teacher),
        (student, spec.start),
        (reference, selection and selection.reference),
    ):
        if name is not None:
            check_shape(load_config(source), suite.models[name], f"models.{name}")
    dtype = None if spec.teacher_dtype == "auto" else getattr(torch, spec.teacher_dtype)
    teacher = load_model(spec.teacher, training=False, dtype=dtype, vocab_size=size(tokenizer))
    if spec.start is None:
        assert spec.shape is not None  # a spec has one of the two
        if spec.pruned is not None:
            student = prune(teacher, spec.shape.layers, frozen=spec.pruned.frozen)
        else:
            student = build_student(teacher, spec.shape, seed=spec.optimisation.seed)
        choose_attention(student, training=True)
    else:
        check_tokenizer(tokenizer, spec.start)
        student = load_model(spec.start, training=True, vocab_size=size(tokenizer))
    shared = shared_vocabulary(
        load_tokenizer(spec.teacher),
        tokenizer,
        teacher.get_output_embeddings().weight.shape[0],
        student.get_output_embeddings().weight.shape[0],
    )
    return student, {"teacher": teacher, "vocab_size": shared}


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the run is finished, 2 for bad input."""
    parser = command_line("run", __doc__)
    scale_options(parser)
    parser.add_argument("run", help="stage/pair/method/seedN")
    parser.add_argument("--force", action="store_true", help="train again from the start")
    options = parser.parse_args(arguments)
    plain_logging()
    return exit_code(
        "run",
        lambda: distill(
            options.config, options.run, force=options.force, overrides=options.overrides
        ),
    )
