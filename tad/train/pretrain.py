"""Pre-train a teacher (or a student's starting point) at small scale, in its real architecture.

``tad pretrain --config config/smoke.yaml --model phi-2`` trains the model's checkpoints
up to the last; ``--checkpoint NAME`` one of them, from the one before it. The result goes to
``work/{scale}/models/MODEL/CHECKPOINT/``. An interrupted job continues with the same command.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from tad.command import command_line, exit_code, plain_logging
from tad.data.vocabulary import size
from tad.experiment.config import open_scale, scale_options
from tad.experiment.layout import Layout
from tad.experiment.specs import PretrainSpec, pretrain_spec
from tad.models.architectures import architecture_config, new_model
from tad.models.loading import choose_attention, load_model, load_tokenizer
from tad.train.job import run_job
from tad.train.trainer import DistillationTrainer


def pretrain(
    config: str,
    model: str,
    checkpoint: str | None,
    *,
    force: bool = False,
    overrides: Sequence[str] = (),
) -> None:
    """Train ``model`` to ``checkpoint`` (None: to each of its checkpoints, in order).

    A finished checkpoint is left as it is, unless ``force``. Raises UserError for bad input.
    """
    suite = open_scale(config, overrides)
    known = list(suite.models[model].checkpoints) if model in suite.models else [""]
    for point in [checkpoint] if checkpoint else known:
        spec, layout = pretrain_spec(suite, model, point), Layout.work(suite.scale)
        tokenizer = load_tokenizer(spec.tokenizer)
        run_job(
            spec,
            out=layout.model(model, point),
            checkpoints=layout.checkpoints(f"models/{model}/{point}"),
            force=force,
            overrides=overrides,
            tokenizer=tokenizer,
            build=lambda spec=spec, tokenizer=tokenizer: (_model(spec, tokenizer), {}),
            trainer_class=partial(DistillationTrainer, teacher=None, method="clm"),
            skip_sequences=spec.skip_tokens // spec.optimisation.context,
        )


def _model(spec: PretrainSpec, tokenizer: Any) -> PreTrainedModel:
    if spec.start is not None:
        return load_model(spec.start, training=True, vocab_size=size(tokenizer))
    config = architecture_config(
        spec.family,
        spec.shape,
        vocab_size=size(tokenizer),
        # Twice the context, so that no sliding window binds, as none does at the paper's 2,048.
        max_positions=2 * spec.optimisation.context,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = new_model(config, seed=spec.optimisation.seed)
    choose_attention(model, training=True)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the checkpoints are finished, 2 for bad input."""
    parser = command_line("pretrain", __doc__)
    scale_options(parser)
    parser.add_argument("--model", required=True, help="a model of config/experiments.yaml")
    parser.add_argument("--checkpoint", help="one checkpoint (default: all, in order)")
    parser.add_argument("--force", action="store_true", help="train again from the start")
    options = parser.parse_args(arguments)
    plain_logging()
    return exit_code(
        "pretrain",
        lambda: pretrain(
            options.config,
            options.model,
            options.checkpoint,
            force=options.force,
            overrides=options.overrides,
        ),
    )
