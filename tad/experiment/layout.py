"""Where everything lies: one place that the DAG, the command lines and the analysis share.

A root is ``work/{scale}`` (made by runs on this machine) or ``results/{scale}`` (committed
records). All paths are relative to the project folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tad.experiment.run_id import RunId

MODEL_FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
"""What a folder with a model holds, besides ``manifest.json``, which is written last."""


@dataclass(frozen=True)
class Layout:
    """Paths below one root."""

    root: Path

    @classmethod
    def work(cls, scale: str) -> Layout:
        """The root that training and evaluation write to."""
        return cls(Path("work") / scale)

    def tokenizer(self, name: str) -> Path:
        """Folder of ``tokenizer.json`` and ``tokenizer_config.json``."""
        return self.root / "tokenizers" / name

    def tokens(self, corpus: str, tokenizer: str) -> Path:
        """Folder of a packed corpus: ``train.bin``, ``validation.bin``, ``manifest.json``."""
        return self.root / "data" / corpus / tokenizer

    def model(self, name: str, checkpoint: str) -> Path:
        """Folder of a model pre-trained at this scale."""
        return self.root / "models" / name / checkpoint

    def reference(self, name: str) -> Path:
        """Folder of the records of a model of others; its weights stay where they are."""
        return self.root / "references" / name

    def analogues(self, corpus: str) -> Path:
        """Folder of the few-shot analogues made from a corpus, one subfolder a task."""
        return self.root / "analogues" / corpus

    def selection(self, stage: str, pair: str, seed: int) -> Path:
        """Folder of a difference sampling: ``scores.npz`` and ``selection.json``."""
        return self.root / "selections" / stage / pair / f"seed{seed}"

    def generated(self, stage: str, pair: str, seed: int) -> Path:
        """Folder of text that a teacher wrote, a packed corpus."""
        return self.root / "generated" / stage / pair / f"seed{seed}"

    def states(self, stage: str, pair: str, seed: int) -> Path:
        """Folder of a teacher's states on the rows of a stage: ``states.bin``, ``states.json``."""
        return self.root / "states" / stage / pair / f"seed{seed}"

    def problems(self) -> Path:
        """Folder of the generated math problems: text, instructions and test items."""
        return self.root / "problems"

    def run(self, run: RunId | str) -> Path:
        """Folder of a run: the student's MODEL_FILES, ``manifest.json`` and its records."""
        return self.root / "runs" / str(run)

    def checkpoints(self, job: str) -> Path:
        """Folder of an unfinished training's checkpoints, removed when it is done."""
        return self.root / "checkpoints" / job
