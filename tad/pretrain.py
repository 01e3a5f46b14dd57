"""Pre-train a teacher (or a student's starting point) at small scale, in its real architecture.

``python -m tad.pretrain --config config/smoke.yaml --model phi-2`` trains the model's checkpoints
up to the last; ``--checkpoint NAME`` one of them, from the one before it. The result goes to
``work/{scale}/models/MODEL/CHECKPOINT/``. An interrupted job continues with the same command.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel

from tad.architectures import architecture_config, attention_implementation, new_model
from tad.config import load_suite
from tad.data import PackedTokens
from tad.distill import USER_ERRORS, load_model
from tad.layout import Layout
from tad.run_id import Method
from tad.specs import PretrainSpec, pretrain_spec
from tad.trainer import Objective
from tad.training import command_line_logging, is_finished, run_job


def pretrain(config: str, model: str, checkpoint: str, *, force: bool = False) -> Path:
    """Train ``model`` to ``checkpoint``; returns its folder. A finished one is left as it is."""
    suite = load_suite(config)
    spec, layout = pretrain_spec(suite, model, checkpoint), Layout.work(suite.scale)
    out = layout.model(model, checkpoint)
    checkpoints = layout.checkpoints(f"models/{model}/{checkpoint}")
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
        build=lambda: (_model(spec, tokenizer), {}),
        objective=Objective(method=Method("clm")),
        skip_sequences=spec.skip_tokens // spec.optimisation.context,
    )
    return out


def _model(spec: PretrainSpec, tokenizer: Any) -> PreTrainedModel:
    if spec.start is not None:
        return load_model(spec.start, training=True)
    config = architecture_config(
        spec.family,
        spec.shape,
        vocab_size=spec.shape.vocab_size or len(tokenizer),
        max_positions=spec.optimisation.context,
    )
    model = new_model(config, seed=spec.optimisation.seed)
    model.set_attn_implementation(attention_implementation(spec.family, "cpu", True))
    return model


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the checkpoints are finished, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tad.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="scale file, such as config/smoke.yaml")
    parser.add_argument("--model", required=True, help="a model of config/experiments.yaml")
    parser.add_argument("--checkpoint", help="one checkpoint (default: all, in order)")
    parser.add_argument("--force", action="store_true", help="train again from the start")
    options = parser.parse_args(arguments)
    command_line_logging()
    try:
        points = [options.checkpoint]
        if options.checkpoint is None:
            models = load_suite(options.config).models
            points = list(models[options.model].checkpoints) if options.model in models else [""]
        for point in points:
            pretrain(options.config, options.model, point, force=options.force)
    except USER_ERRORS as error:
        print(f"tad.pretrain: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
