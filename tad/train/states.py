"""The teacher's last hidden states on the rows of a training, computed once for all its runs.

    tad states --teacher DIR --data DIR --context 128 --sequences 1248 --batch-size 16 --out DIR

In: a teacher, and a packed corpus or instructions, whose first ``--sequences`` in the training
order of ``--seed`` it is run over. Out: ``states.bin``, what the teacher puts into its output head,
(sequences, context, H) as it comes, and ``states.json``. A batch that holds these states is not
passed through the teacher (``tad.train.mixin``). A run that trains on the first of the same
sequences reads a part. The bits are those of computing the states in the run, as long as the same
sequences pass through the teacher together; so ``--batch-size`` is what a run takes at a time.

Shapes: B sequences, N tokens, H width.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from tad.baselines.blocks import positive
from tad.command import command_line, exit_code, plain_logging
from tad.data.instruct import collate, open_rows
from tad.data.packing import lock, training_rows
from tad.fused.states import instead_of_logits
from tad.models.fingerprint import model_fingerprint
from tad.models.loading import load_model
from tad.records import fingerprint, matching, provenance, write_json

KEY = "teacher_states"
"""Of a row or batch: the teacher's states, (N, H) or (B, N, H)."""


class WithStates(Dataset):
    """Rows with the teacher's states added; ``states(i, N)`` gives those of row i, (N, H)."""

    def __init__(self, rows: Dataset, states: Callable[[int, int], Tensor]) -> None:
        self.rows, self.states = rows, states

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.rows[index]
        return row | {KEY: self.states(index, len(row["input_ids"]))}


@torch.no_grad()
def computed(
    wrapper: nn.Module, model: nn.Module, rows: Dataset, batch_size: int
) -> Iterator[Tensor]:
    """The states of each row, (N, H) on the CPU; ``model`` is the causal language model that
    ``wrapper`` runs, ``batch_size`` rows at a time."""
    device = next(model.parameters()).device
    for start in range(0, len(rows), batch_size):
        batch = [rows[index] for index in range(start, min(start + batch_size, len(rows)))]
        inputs = {"input_ids": collate(batch)["input_ids"].to(device), "use_cache": False}
        states = instead_of_logits(wrapper, model, inputs, lambda states, head: states).value
        for row, found in zip(batch, states.cpu(), strict=True):
            yield found[: len(row["input_ids"])]


def held_in_memory(
    wrapper: nn.Module, model: nn.Module, rows: Dataset, batch_size: int, limit: float
) -> Dataset:
    """``rows`` with states for as often as they are read, if those take at most ``limit`` bytes."""
    width, item = model.config.get_text_config().hidden_size, model.dtype.itemsize
    if sum(len(rows[i]["input_ids"]) for i in range(len(rows))) * width * item > limit:
        return rows
    found = list(computed(wrapper, model, rows, batch_size))
    return WithStates(rows, lambda index, length: found[index])


# --- On disk -------------------------------------------------------------------------------------


def identity(teacher: str, data: str, context: int, batch_size: int, seed: int) -> str:
    """A fingerprint of all that decides the states; ``data`` is that of the corpus.

    Raises ModelError for a teacher that is not there.
    """
    parts = {"teacher": model_fingerprint(teacher), "data": data, "context": context}
    parts |= {"batch_size": batch_size, "seed": seed}
    # Sums are taken in another order by other hardware, and by another number of threads.
    return fingerprint(parts | {"cuda": torch.cuda.is_available(), "cpu": torch.get_num_threads()})


def stored(folder: Path, rows: Dataset, wanted: str) -> tuple[Dataset, float] | None:
    """``rows`` with the states of ``folder``, and the seconds that theirs took to compute.

    None where there are none of the identity ``wanted``, fewer than rows, or not the whole file:
    the DAG removes ``states.bin`` after the last run.
    """
    path = folder / "states.bin"
    record = matching(folder / "states.json", {"fingerprint": wanted})
    if record is None or record["shape"][0] < len(rows) or not path.is_file():
        return None
    sequences, context, width = record["shape"]
    dtype = getattr(torch, record["dtype"])
    size = width * dtype.itemsize
    if path.stat().st_size != sequences * context * size:
        return None
    file = path.open("rb", buffering=0)

    def read(index: int, length: int) -> Tensor:
        # By position: pages of a memory map would count as memory of this process.
        content = bytearray(os.pread(file.fileno(), length * size, index * context * size))
        return torch.frombuffer(content, dtype=dtype).view(length, width)

    return WithStates(rows, read), record["seconds"] * len(rows) / sequences


def write(
    teacher: str,
    data: str,
    out: Path,
    *,
    context: int,
    sequences: int,
    batch_size: int,
    seed: int = 0,
) -> None:
    """Write the states of a teacher to ``out``, whole or not at all. Raises UserError."""
    positive(context=context, sequences=sequences, batch_size=batch_size)
    source = open_rows(data, "train", context)
    rows = Subset(source, training_rows(len(source), sequences, seed).tolist())
    model = load_model(teacher, training=False, vocab_size=source.vocab_size)
    model.requires_grad_(False).eval()
    half = torch.cuda.is_available() and torch.cuda.is_bf16_supported()  # as in training
    accelerator = Accelerator(mixed_precision="bf16" if half else "no")
    wrapper = accelerator.prepare_model(model, evaluation_mode=True)
    record = {
        "fingerprint": identity(teacher, source.fingerprint, context, batch_size, seed),
        "teacher": teacher,
        "data": data,
    }
    store(out, computed(wrapper, model, rows, batch_size), sequences, context, record)


def store(
    out: Path, found: Iterable[Tensor], sequences: int, context: int, record: dict[str, Any]
) -> None:
    """Write the states of each row, (N, H) with N at most ``context``, whole or not at all.

    ``record`` has the ``fingerprint`` of what decides them. Raises UserError where another process
    writes them.
    """
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / ".states.tmp"
    with lock(out / ".lock", "states"), temporary.open("wb") as file:
        (out / "states.json").unlink(missing_ok=True)  # never beside states that it does not fit
        for number, states in enumerate(found):
            row_bytes = context * states.shape[1] * states.dtype.itemsize
            file.seek(number * row_bytes)
            file.write(states.contiguous().view(torch.uint8).numpy())
        file.truncate(sequences * row_bytes)
    os.replace(temporary, out / "states.bin")
    sizes = {
        "shape": [sequences, context, states.shape[1]],
        "dtype": str(states.dtype).removeprefix("torch."),
        "seconds": round(time.monotonic() - began, 3),
    }
    write_json(out / "states.json", record | sizes | provenance())


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when the states are written, 2 for bad input."""
    parser = command_line("states", __doc__)
    parser.add_argument("--teacher", required=True, help="folder or hub id")
    parser.add_argument("--data", required=True, help="folder of a packed corpus or instructions")
    parser.add_argument("--context", type=int, required=True, help="tokens of a sequence")
    parser.add_argument("--sequences", type=int, required=True, help="how many")
    parser.add_argument("--batch-size", type=int, required=True, help="sequences at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the training order (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    options = vars(parser.parse_args(arguments))
    plain_logging()
    return exit_code("states", lambda: write(**options))
