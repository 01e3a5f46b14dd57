"""Training text of Seq-KD (Kim & Rush 2016): prompts from a corpus, continued by the teacher.

    tad generate --teacher work/smoke/models/phi-2/final \\
        --data work/smoke/data/general/phi --context 128 --sequences 1000 --prompt-tokens 32 \\
        --temperature 1.0 --top-p 1.0 --seed 0 --out work/smoke/generated/phi2_1b

Row i is the first ``--prompt-tokens`` tokens of the i-th packed sequence in training order, and the
teacher's continuation to ``--context`` tokens. ``--out`` is a packed corpus of a train split alone
(evaluate on the original's validation split, whose fingerprint the manifest keeps). The same
command goes on after an interruption.

Which tokens are learnt: Seq-KD minimises the cross entropy of what the teacher wrote, given the
prompt. ``GeneratedTokens`` therefore leaves out the labels that are prompt tokens, of this row and
(the last label) of the next: ``context - prompt_tokens`` labels of each row count.
``PackedTokens`` on the same folder counts all of them, as a corpus of half-generated text.

The randomness of a row depends on the seed and the row alone (``tad.models.sampling``). Kim and
Rush take the teacher's beam-search mode of a translation. A language model's continuation has no
useful mode (it repeats itself), so this samples, at a temperature and top-p of your choice.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tad import records
from tad.baselines.blocks import (
    in_blocks,
    load_frozen,
    positive,
    run_options,
    wall_seconds,
)
from tad.command import UserError, command_line, exit_code
from tad.data.packing import (
    DataError,
    PackedTokens,
    fingerprint,
    open_tokens,
    read_manifest,
    training_rows,
    unfinished,
)
from tad.divergences import IGNORE
from tad.models.fingerprint import model_fingerprint
from tad.models.sampling import check_sampling, continuations, uniforms

log = logging.getLogger(__name__)


class GenerationError(UserError, ValueError):
    """Text that cannot be generated or read; one line with the value and the cure."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What is generated. Sizes in tokens, but for ``sequences``."""

    teacher: str
    data: str
    context: int
    sequences: int
    prompt_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p)
        positive(sequences=self.sequences, prompt_tokens=self.prompt_tokens)
        if self.context < self.prompt_tokens + 1:
            raise GenerationError(
                f"--prompt-tokens {self.prompt_tokens}: leaves nothing to write in a context of "
                f"{self.context}; choose 1 to {self.context - 1}"
            )


class GeneratedTokens(PackedTokens):
    """The rows of a generated corpus, with the labels that the teacher did not write set to -100.

    Raises GenerationError for a folder that this module did not make, or another context than its
    own, and DataError as PackedTokens does.
    """

    def __init__(self, folder: str | Path, context: int, *, fingerprint: str | None = None) -> None:
        super().__init__(folder, "train", context, fingerprint=fingerprint)
        made = read_manifest(self.folder).get("generation")
        if made is None:
            raise GenerationError(
                f"{folder}: was not made by tad.baselines.generation; use PackedTokens"
            )
        if made["spec"]["context"] != context:
            raise GenerationError(
                f"{folder}: context {context}: its rows are {made['spec']['context']} tokens long; "
                "use that, or generate again"
            )
        self.prompt_tokens: int = made["spec"]["prompt_tokens"]

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        item = super().__getitem__(row)
        labels = item["labels"].clone()
        labels[: self.prompt_tokens - 1] = IGNORE
        labels[-1] = IGNORE
        return item | {"labels": labels}


def run(job: Generation, out: Path, *, batch_size: int = 16, force: bool = False) -> dict[str, Any]:
    """Generate into ``out``; returns the manifest.

    A finished result of the same teacher, data and values is kept, unless ``force``. Raises
    UserError.
    """
    positive(batch_size=batch_size)
    if out.resolve() == Path(job.data).resolve():
        raise GenerationError(f"--out {out}: is the folder of --data, which would be overwritten")
    data = PackedTokens(job.data, "train", job.context)
    prints = {"data": data.fingerprint, "teacher": model_fingerprint(job.teacher)}
    values = {k: v for k, v in asdict(job).items() if k not in ("teacher", "data")}
    key = records.fingerprint(prints | values)
    if not force and (manifest := _finished(out, key)) is not None:
        log.info("%s: finished already; --force generates it again", out)
        return manifest
    with unfinished(out, key, "teacher over corpus", fresh=force) as folder:
        paths = in_blocks(
            folder, "generation", job.sequences, lambda: _prepare(job, data, batch_size)
        )
        made = {
            "fingerprint": key,
            "spec": asdict(job),
            "fingerprints": prints,
            "prompt_tokens": job.sequences * job.prompt_tokens,
            "generated_tokens": job.sequences * (job.context - job.prompt_tokens),
            "wall_seconds": round(wall_seconds(folder), 3),
            **records.provenance(),
        }
        manifest = _write(paths, read_manifest(data.folder), made, out, folder / "train.bin")
    log.info("%s: %d sequences of %d tokens", out, job.sequences, job.context)
    return manifest


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    try:
        manifest = read_manifest(out)
        open_tokens(out, "train", manifest)
    except DataError:
        return None
    return manifest if manifest.get("generation", {}).get("fingerprint") == key else None


def _prepare(
    job: Generation, data: PackedTokens, batch_size: int
) -> Callable[[int, int], np.ndarray]:
    model = load_frozen(job.teacher, data.vocab_size)
    rows = training_rows(len(data), job.sequences, job.seed)
    length = job.context - job.prompt_tokens

    def batch(first: int, last: int) -> np.ndarray:
        """(last - first, context) tokens."""
        starts = rows[first:last, None] * job.context
        prompts = data.tokens[starts + np.arange(job.prompt_tokens)].astype(np.int64)
        # By the place in the result: a sequence that comes twice is continued differently.
        draws = np.stack([uniforms(length, job.seed, row) for row in range(first, last)])
        written = continuations(
            model,
            torch.from_numpy(prompts).to(model.device),
            torch.from_numpy(draws).to(model.device),
            temperature=job.temperature,
            top_p=job.top_p,
            vocabulary=data.vocab_size,
        )
        return np.concatenate([prompts, written.cpu().numpy()], 1).astype(data.tokens.dtype)

    def compute(first: int, last: int) -> np.ndarray:
        starts = range(first, last, batch_size)
        return np.concatenate([batch(start, min(start + batch_size, last)) for start in starts])

    return compute


def _write(
    paths: list[Path], original: dict[str, Any], made: dict[str, Any], out: Path, scratch: Path
) -> dict[str, Any]:
    """The packed corpus from its blocks, (rows, context) each: ``train.bin``, then the manifest.

    One end-of-text token follows the last row, as the label that PackedTokens wants there.
    """
    digest, tokens = hashlib.sha256(), 1
    dtype = np.dtype(original["dtype"]).newbyteorder("<")
    with scratch.open("wb") as file:
        last = np.array([original["tokenizer"]["eos_id"]], dtype)
        for block in (*map(np.load, paths), last):
            piece = block.astype(dtype).tobytes()
            file.write(piece)
            digest.update(piece)
            tokens += block.size if block.ndim == 2 else 0
    sequences = made["spec"]["sequences"]
    manifest = {
        **{name: original[name] for name in ("corpus", "sources", "tokenizer", "dtype")},
        "bos": original.get("bos", False),
        "documents": {**original["documents"], "train": sequences},
        "train": {"tokens": tokens, "documents": sequences, "sha256": digest.hexdigest()},
        "validation": original["validation"],  # not in this folder, but what to evaluate on
        "generation": made,
    }
    manifest["fingerprint"] = fingerprint(manifest)
    (out / "manifest.json").unlink(missing_ok=True)  # never beside a file that it does not fit
    os.replace(scratch, out / "train.bin")
    records.write_json(out / "manifest.json", manifest)
    return manifest


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the text is there, 2 for bad input."""
    parser = command_line("generate", __doc__)
    parser.add_argument("--teacher", required=True, help="folder or hub id")
    parser.add_argument("--data", required=True, help="folder of the packed corpus of the prompts")
    parser.add_argument("--context", type=int, required=True, help="tokens of a sequence")
    parser.add_argument("--sequences", type=int, required=True, help="how many to generate")
    parser.add_argument("--prompt-tokens", type=int, required=True, help="taken from the corpus")
    parser.add_argument("--temperature", type=float, default=1.0, help="(default: 1)")
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus (default: 1, all)")
    parser.add_argument("--seed", type=int, default=0, help="of order and sampling (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the packed corpus")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences at a time")
    parser.add_argument("--force", action="store_true", help="generate again from the start")
    options = parser.parse_args(arguments)
    return exit_code("generate", lambda: run_options(options, Generation, run))
