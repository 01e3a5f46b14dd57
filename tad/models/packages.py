"""A model that an installed package brings as GGUF, kept once as safetensors.

    tad convert --config config/smollm.yaml --model smollm2-135m --checkpoint final

In: a checkpoint whose configuration names a ``package`` (and perhaps a ``hub`` id, which is taken
where the package is not installed). Out: ``work/{scale}/models/MODEL/CHECKPOINT/`` in the
transformers layout, float32, with the tokenizer of the same source, and ``manifest.json``, which
says what it was made of. What is there from the same source is left alone.

A GGUF file holds rounded weights: what is trained against is the model as the package rounds it,
which is not the model of the hub to the last digit. Light to import: torch comes with the weights.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tad.command import command_line, exit_code, plain_logging
from tad.experiment.config import ConfigError, open_scale, scale_options
from tad.experiment.layout import MODEL_FILES, Layout
from tad.experiment.specs import checkpoint_of
from tad.models.fingerprint import ModelError
from tad.records import matching, provenance, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def gguf_of(package: str) -> Path | None:
    """The GGUF file of an installed distribution; None where that is not installed.

    Raises ModelError for a distribution that has none or several, and where the package ``gguf``,
    which reads it, is missing.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    found = [file for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        raise ModelError(f"package {package}: has {len(found)} GGUF files, must have one")
    if util.find_spec("gguf") is None:
        raise ModelError(f"package {package}: its weights are GGUF; to read them: pip install gguf")
    return Path(found[0].locate()).resolve()


def packaged_tokenizer(package: str, hub: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a package, else of the hub. Raises ModelError where there is neither."""
    from tad.models.loading import load_tokenizer

    path = gguf_of(package)
    if path is None:
        return load_tokenizer(_instead(package, hub))
    return load_tokenizer(str(path.parent), gguf_file=path.name)


def save_whole(folder: Path, *parts: Any) -> None:
    """``save_pretrained`` of each part into ``folder``, every file under its name only when whole.

    A ``manifest.json`` there goes first, as it is outdated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        for part in parts:
            part.save_pretrained(scratch)
        (folder / "manifest.json").unlink(missing_ok=True)
        for file in sorted(Path(scratch).iterdir()):
            os.replace(file, folder / file.name)


def convert(config: str, model: str, checkpoint: str, *, overrides: Sequence[str] = ()) -> None:
    """Write the weights of a checkpoint with a ``package``. Raises ConfigError, ModelError."""
    suite = open_scale(config, overrides)
    source = checkpoint_of(suite, model, checkpoint)
    if source.package is None:
        key = f"models.{model}.checkpoints.{checkpoint}"
        raise ConfigError(f"{config}: {key}: names no package, so there is nothing to convert")
    out = Layout.work(suite.scale).model(model, checkpoint)
    path = gguf_of(source.package)
    made_of = _described(source.package, path, source.hub)
    whole = all((out / name).is_file() for name in MODEL_FILES)
    if whole and matching(out / "manifest.json", {"source": made_of}):
        print(f"{out}: already there, from this source")
        return
    weights = from_gguf(path) if path else _from_hub(_instead(source.package, source.hub))
    save_whole(out, weights, packaged_tokenizer(source.package, source.hub))
    count = sum(parameter.numel() for parameter in weights.parameters())
    record = {"model": model, "checkpoint": checkpoint, "source": made_of, "parameters": count}
    write_json(out / "manifest.json", record | provenance())
    print(f"{out}: {count:,} parameters, from {path.name if path else source.hub}")


def from_gguf(path: Path) -> PreTrainedModel:
    """A model of plain float32 weights from a GGUF file.

    transformers loads such a file as a quantized model, which it refuses to save; so the weights
    move to a new model of the same configuration. Raises ModelError where the two differ in a
    logit.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from tad.models.loading import quietly

    loaded = quietly(
        AutoModelForCausalLM, str(path.parent), gguf_file=path.name, dtype=torch.float32
    ).eval()
    values = loaded.config.to_dict()
    values.pop("quantization_config", None)
    plain = type(loaded)(type(loaded.config).from_dict(values)).float().eval()
    plain.load_state_dict(loaded.state_dict())
    plain.tie_weights()
    ids = torch.arange(1, min(17, plain.config.vocab_size)).unsqueeze(0)
    with torch.no_grad():
        if not torch.equal(plain(input_ids=ids).logits, loaded(input_ids=ids).logits):
            raise ModelError(f"{path}: its weights give other logits as safetensors; report this")
    return plain


def _from_hub(source: str) -> PreTrainedModel:
    import torch

    from tad.models.loading import load_model

    return load_model(source, training=False, dtype=torch.float32)


def _instead(package: str, hub: str | None) -> str:
    if hub is None:
        raise ModelError(f"package {package}: is not installed, and there is no hub id beside it")
    return hub


def _described(package: str, path: Path | None, hub: str | None) -> dict[str, str]:
    """What is converted, for the manifest and to know it again."""
    if path is None:
        return {"hub": _instead(package, hub)}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    version = metadata.version(package)
    return {"package": package, "version": version, "file": path.name, "sha256": digest}


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the weights are there, 2 for bad input."""
    parser = command_line("convert", __doc__)
    scale_options(parser)
    parser.add_argument("--model", required=True, help="a model of the configuration")
    parser.add_argument("--checkpoint", required=True, help="one of its checkpoints")
    options = vars(parser.parse_args(arguments))
    plain_logging()
    return exit_code("convert", lambda: convert(**options))
