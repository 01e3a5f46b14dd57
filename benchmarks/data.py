"""How fast text becomes packed tokens, beside plain ``datasets.map``.

    python benchmarks/data.py                        # 50 MB, one process a core
    python benchmarks/data.py --megabytes 20 --processes 1

Generated text in parquet shards is tokenized by all contestants in turn, each in a process of its
own, with as many processes and one tokenizer. MB/s a core is text by CPU seconds of the process and
its children, without its own imports: clocks of shared machines are not steady, so read the ratios.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
SHARDS = 8

BEGIN = """
if __name__ == "__main__":
    import time
    (Path(sys.argv[1]) / "began").write_text(str(time.process_time()))
"""
"""After the imports."""

PACK = """
import sys
from pathlib import Path
from tad.data import corpora, tokenizing
from tad.data.packing import pack_parts
from tad.data.prepare import load_encoder
from tad.experiment.schema import Corpus

BEGIN
tokenizing.POOL_AFTER = 0  # as if the corpus were large
folder, processes, tokens = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
corpus = Corpus(source="local", path=str(folder / "text"), tokens=tokens,
                validation_tokens=tokens // 1000, validation_fraction=0.01)
if __name__ == "__main__":
    pack_parts(corpora.parts(corpus), load_encoder("bpe", folder / "bpe"), "x", corpus,
               folder / "packed", sources={}, processes=processes)
""".replace("BEGIN", BEGIN)

MAP = """
import sys
from itertools import chain
from pathlib import Path
import datasets
from transformers import AutoTokenizer
BEGIN
datasets.disable_progress_bars()
folder, processes, group = sys.argv[1], int(sys.argv[2]), sys.argv[4] == "group"

def tokenize(batch):
    return {"input_ids": tokenizer(batch["text"], add_special_tokens=False)["input_ids"]}

def grouped(batch):
    ids = list(chain.from_iterable(batch["input_ids"]))
    return {"input_ids": [ids[i:i + 2048] for i in range(0, len(ids) // 2048 * 2048, 2048)]}

if __name__ == "__main__":
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/bpe")
    data = datasets.load_dataset("parquet", data_files=f"{folder}/text/*.parquet", split="train",
                                 cache_dir=f"{folder}/cache-{sys.argv[4]}")
    options = {"batched": True, "num_proc": processes if processes > 1 else None}
    data = data.map(tokenize, remove_columns=["text"], **options)
    if group:
        data = data.map(grouped, **options)
""".replace("BEGIN", BEGIN)

CONTESTANTS = {
    "`datasets.map`, tokens alone": (MAP, "map"),
    "`datasets.map`, tokens, then rows of 2,048": (MAP, "group"),
    "**`tad data pack`**, tokens, duplicates, splits, order": (PACK, "pack"),
}


def write_text(folder: Path, megabytes: float) -> int:
    """SHARDS parquet files of made-up documents; returns their characters."""
    from benchmarks.data_memory import generate
    from tad.data.files import texts

    folder.mkdir()
    generate(folder / "all.jsonl", int(megabytes * 1e6))
    found = list(texts(folder / "all.jsonl", "text"))
    for number in range(SHARDS):
        pq.write_table(pa.table({"text": found[number::SHARDS]}), folder / f"{number}.parquet")
    (folder / "all.jsonl").unlink()
    return sum(map(len, found))


def write_tokenizer(folder: Path, text: Path, vocab_size: int) -> None:
    from tad.data.files import texts
    from tad.data.prepare import train_tokenizer

    train_tokenizer(texts(text / "0.parquet", "text"), vocab_size).save_pretrained(folder)


def measure(code: str, *arguments: object) -> tuple[float, float, float]:
    """Run a program in a process of its own; (wall, CPU seconds, peak GB of its largest)."""
    environment = {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    path = Path(arguments[0]) / "contestant.py"
    path.write_text(code)
    start = time.monotonic()
    child = subprocess.Popen([sys.executable, str(path), *map(str, arguments)], env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("a contestant failed, see above")
    imports = float((path.parent / "began").read_text())
    cpu = usage.ru_utime + usage.ru_stime - imports
    return time.monotonic() - start, cpu, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=50.0, help="of text")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--folder", help="where to put the temporary folder")
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        size = write_text(folder / "text", options.megabytes) / 1e6
        write_tokenizer(folder / "bpe", folder / "text", options.vocab_size)
        tokens = int(size * 1e6 / 8)
        for row, (code, kind) in CONTESTANTS.items():
            rows[row] = measure(code, folder, options.processes, tokens, kind)
    print(f"\n{size:.0f} MB of text, {options.processes} processes\n")
    print("| | MB/s a core | ratio | wall s | CPU s | peak GB of a process |")
    print("|---|---|---|---|---|---|")
    floor = next(iter(rows.values()))[1]
    for row, (wall, cpu, peak) in rows.items():
        speed, ratio = size / cpu, floor / cpu
        print(f"| {row} | {speed:.2f} | {ratio:.2f} | {wall:.1f} | {cpu:.1f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
