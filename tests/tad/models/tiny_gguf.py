"""An installed distribution that brings a tiny random Llama as one GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tad.data.prepare import train_tokenizer
from tests.tad.made_up_text import prose

PACKAGE = "tiny-teacher"
SHAPE = {
    "hidden_size": 32, "layers": 4, "heads": 4, "kv_heads": 2, "head_dim": 8,
    "intermediate_size": 64, "vocab_size": 320, "tied": True,
}  # fmt: skip


def install(folder: Path) -> Path:
    """Write the distribution into ``folder``, which is to be on the path; returns the GGUF file."""
    path = folder / "tiny_teacher" / "tiny.gguf"
    path.parent.mkdir(parents=True)
    _write(path)
    info = folder / "tiny_teacher-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1\n")
    (info / "RECORD").write_text("tiny_teacher/tiny.gguf,,\n")
    return path


def _write(path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(SHAPE["layers"])
    writer.add_context_length(256)
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(SHAPE["heads"])
    writer.add_head_count_kv(SHAPE["kv_heads"])
    writer.add_rope_dimension_count(SHAPE["head_dim"])
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(SHAPE["vocab_size"])
    _add_tokenizer(writer)
    for name, weight in _weights().items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer) -> None:
    tokenizer = train_tokenizer(prose(60), SHAPE["vocab_size"])
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, *([1] * (len(tokens) - 1))])  # the first is the end of a text
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    width, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    keys = SHAPE["kv_heads"] * SHAPE["head_dim"]
    shapes = {
        "attn_q": (width, width), "attn_k": (keys, width), "attn_v": (keys, width),
        "attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width),
        "ffn_down": (width, inner), "attn_norm": (width,), "ffn_norm": (width,),
    }  # fmt: skip

    def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = (
            1.0 + 0.1 * rng.normal(size=shape) if "norm" in name else rng.normal(size=shape) / 6
        )
        return values.astype(np.float32)

    found = {"token_embd.weight": drawn("embd", (SHAPE["vocab_size"], width))}
    found["output_norm.weight"] = drawn("norm", (width,))
    for layer in range(SHAPE["layers"]):
        for name, shape in shapes.items():
            found[f"blk.{layer}.{name}.weight"] = drawn(name, shape)
    return found
