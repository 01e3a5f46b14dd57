"""What a model is, in one hash: the same for the same weights, whatever the folder is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tad.command import UserError
from tad.records import fingerprint

DECISIVE = (
    "*.safetensors", "config.json", "generation_config.json", "*.model", "vocab.json", "merges.txt",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""What decides a local model's outputs: logs and records that lie beside it do not."""


class ModelError(UserError, ValueError):
    """A model or tokenizer that cannot be loaded; the message names it and the reason."""


def model_fingerprint(source: str) -> str:
    """SHA-256 of the files of a folder, or of id and commit of a hub model.

    Raises ModelError for a source that is neither.
    """
    folder = Path(source)
    if not folder.is_dir():
        from transformers import AutoConfig

        try:
            commit = AutoConfig.from_pretrained(source)._commit_hash
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{source}: neither a folder nor a hub id ({reason})") from None
        return fingerprint({"hub": source, "commit": commit})
    digests = {}
    for path in sorted(file for pattern in DECISIVE for file in folder.glob(pattern)):
        digests[path.name] = _sha256(path)
    if not any(name.endswith(".safetensors") for name in digests):
        raise ModelError(f"{source}: holds no *.safetensors; is the model made or downloaded?")
    return fingerprint(digests)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
