"""Peak memory and speed of ``tad data`` on a generated corpus of any size.

    python benchmarks/data_memory.py                 # 2 GB
    python benchmarks/data_memory.py --gigabytes 0.2

Generates a .jsonl corpus in a temporary folder (needs about twice its size on disk), trains a
tokenizer on it and packs it, each in a process of its own, and prints what the kernel says of them.
Exit code 1 if a peak is above the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT_GB = 1.5
CHARACTERS_PER_TOKEN = 8  # more than there are, so that the budgets below are sure to be met


def generate(path: Path, size: int, seed: int = 0) -> int:
    """Write ``size`` bytes of documents with word frequencies as in text; returns their number.

    Words are drawn by Zipf's law from 50,000 made-up ones into sentences, sentences into documents
    of 1 to 40; the number at its end makes every document a different one.
    """
    rng = random.Random(seed)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3, 4)))) for _ in range(50_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    drawn = iter(rng.choices(words, weights, k=2_000_000))
    sentences = [
        " ".join(next(drawn) for _ in range(rng.randint(6, 30))).capitalize() + "."
        for _ in range(100_000)
    ]
    written = number = 0
    with (
        path.open("w", encoding="utf-8") as out,
        tqdm(total=size, unit="B", unit_scale=True) as bar,
    ):
        while written < size:
            text = f"{' '.join(rng.choices(sentences, k=rng.randint(1, 40)))} {number}"
            written += out.write(json.dumps({"text": text}) + "\n")
            number += 1
            bar.update(written - bar.n)
    return number


def write_config(folder: Path, size: int, vocab_size: int) -> Path:
    """A suite of nothing but the corpus, with budgets of about half of it."""
    shutil.copy(REPOSITORY / "config" / "experiments.yaml", folder)
    corpus = {
        "source": "local",
        "path": "corpus.jsonl",
        "tokens": size // CHARACTERS_PER_TOKEN,
        "validation_tokens": size // CHARACTERS_PER_TOKEN // 200,
        "validation_fraction": 0.01,
    }
    suite = {
        "scale": "benchmark",
        "seeds": [0],
        "select": {"items": [], "pairs": [], "methods": []},
        "corpora": {"general": corpus},
        "tokenizers": {"bpe": {"vocab_size": vocab_size, "corpora": ["general"]}},
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def measure(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run ``tad data`` there; returns (wall seconds, peak resident GB)."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "tad", "data", *arguments], cwd=folder, env=environment
    )
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - start
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(arguments)}: failed, see above")
    return seconds, usage.ru_maxrss * 1024 / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the corpus")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--folder", help="where to put the temporary folder")
    options = parser.parse_args()
    size = int(options.gigabytes * 1e9)
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        documents = generate(folder / "corpus.jsonl", size)
        config = ["--config", str(write_config(folder, size, options.vocab_size))]
        train = ["tokenizer", *config, "--tokenizer", "bpe"]
        pack = ["pack", *config, "--corpus", "general", "--tokenizer", "bpe"]
        for step, arguments in {"tokenizer": train, "pack": pack}.items():
            rows.append((step, *measure(arguments, folder)))
    print(f"\n{documents:,} documents, {size / 1e9:g} GB, {os.cpu_count()} cores\n")
    print("| step | seconds | MB/s | peak RSS, GB | limit, GB |\n|---|---|---|---|---|")
    for step, seconds, peak in rows:
        speed = f"{size / 1e6 / seconds:.1f}" if step == "pack" else "-"  # tokenizer: part of it
        print(f"| {step} | {seconds:.0f} | {speed} | {peak:.2f} | {LIMIT_GB} |")
    return int(any(peak > LIMIT_GB for *_, peak in rows))


if __name__ == "__main__":
    sys.exit(main())
