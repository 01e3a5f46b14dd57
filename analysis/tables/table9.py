"""Table 9: the students' shapes and parameter accounts, next to the printed ones (Appendix A).

Always of the paper's own students (config/paper.yaml), whatever the root. Accounts are counted on
models of the real classes on the meta device. Table 9 prints neither key/value heads nor tied
embeddings nor the kind of MLP, so each student stands beside the readings that the printed size
could mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.reported import values as reported
from analysis.results import pair_name, paper_suite
from analysis.writing.render import Table, blocks
from tad.command import UserError
from tad.experiment.config import Suite
from tad.experiment.schema import Shape

BILLION = 1e9
COUNTS = ("non_embedding", "one_matrix", "two_matrices")
"""What a size may count: no vocabulary matrix, one (tied, or the output alone), or both."""

COUNT_NAMES = {
    "non_embedding": "non-embedding",
    "one_matrix": "with one vocabulary matrix",
    "two_matrices": "with two",
}
_PRINTED_SHAPE = {
    "vocab": "vocab_size",
    "d_s": "hidden_size",
    "l_s": "layers",
    "n_h": "heads",
    "d_h": "head_dim",
    "d_ffn": "intermediate_size",
}
"""Columns of the printed table by the name that our shapes have for them."""


class Table9Error(UserError, ValueError):
    """A configuration that does not hold the students of Table 9."""


@dataclass(frozen=True)
class Reading:
    """One way to read a printed row: what is changed of our student, if anything.

    ``reading`` is empty for our student itself. ``changes`` are fields of its shape;
    ``gated_mlp`` adds the third matrix that gated MLPs have to one that has two.
    """

    pair: str
    reading: str = ""
    changes: tuple[tuple[str, int], ...] = ()
    gated_mlp: bool = False


def readings(suite: Suite, pair: str, gated: bool) -> Iterator[Reading]:
    """Our student, then the other readings that the print leaves open; ``gated``: its MLP is."""
    yield Reading(pair)
    entry = suite.pairs[pair]
    teacher, student = suite.models[entry.teacher], entry.student.shape
    if not gated:
        yield Reading(pair, "gated MLP", gated_mlp=True)
    if student.kv_heads != student.heads and student.head_dim == teacher.shape.head_dim:
        kv_heads = (("kv_heads", student.heads),)
        yield Reading(pair, f"{student.heads} key/value heads", kv_heads)
    same_width = student.hidden_size == teacher.shape.hidden_size
    if same_width and student.head_dim != teacher.shape.head_dim:
        width = teacher.shape.head_dim
        yield Reading(pair, f"the teacher's d_H = {width}", (("head_dim", width),))


def table9_frame(suite: Suite) -> pd.DataFrame:
    """One row a printed row and reading.

    Columns: pair, reading; printed shape (``printed_vocab``, ...) and ours (``hidden_size``, ...);
    kv_heads, tied, teacher_head_dim; non_embedding, one_matrix, two_matrices, stored (numbers of
    parameters); printed_size (billions), ``fits`` (the counts that round to it). ``suite`` must be
    the paper's scale. Raises Table9Error where it lacks a student.
    """
    rows = []
    for printed in reported.table(9).to_dict("records"):
        pair = printed["pair"]
        if pair not in suite.pairs or suite.pairs[pair].student.shape is None:
            raise Table9Error(f"pair {pair} of Table 9 is no student made from its teacher here")
        own, shape = _account(suite, Reading(pair)), suite.pairs[pair].student.shape
        gated = own.mlp > 2.5 * shape.layers * shape.hidden_size * shape.intermediate_size
        for reading in readings(suite, pair, gated):
            account = _account(suite, reading) if reading.changes else own
            rows.append(_row(suite, printed, reading, account))
    return pd.DataFrame(rows)


def _shape(suite: Suite, reading: Reading) -> Shape:
    pair = suite.pairs[reading.pair]
    shape = pair.student.shape
    vocabulary = shape.vocab_size or suite.models[pair.teacher].shape.vocab_size
    return shape.model_copy(update={"vocab_size": vocabulary, **dict(reading.changes)})


def _account(suite: Suite, reading: Reading) -> Any:
    from tad.models.architectures import paper_model
    from tad.models.students import parameter_account

    teacher, shape = suite.models[suite.pairs[reading.pair].teacher], _shape(suite, reading)
    return parameter_account(paper_model(teacher.model_copy(update={"shape": shape})))


def _row(suite: Suite, printed: dict, reading: Reading, account: Any) -> dict[str, object]:
    teacher = suite.models[suite.pairs[reading.pair].teacher]
    shape = _shape(suite, reading)
    matrix = account.embedding
    body = account.attention + account.mlp + account.norm
    if reading.gated_mlp:
        body += shape.layers * shape.hidden_size * shape.intermediate_size
    counts = dict(zip(COUNTS, (body, body + matrix, body + 2 * matrix), strict=True))
    size = printed["student_params"]
    return {
        "pair": reading.pair,
        "reading": reading.reading,
        **{f"printed_{name}": int(printed[name]) for name in _PRINTED_SHAPE},
        **shape.model_dump(),
        "teacher_head_dim": teacher.shape.head_dim,
        "teacher_hidden_size": teacher.shape.hidden_size,
        **counts,
        "stored": counts["one_matrix" if shape.tied else "two_matrices"],
        "printed_size": float(size.removesuffix("B")),
        "fits": "; ".join(name for name, count in counts.items() if rounds_to(count, size)),
    }


def rounds_to(count: int, printed: str) -> bool:
    """Whether a number of parameters is the printed one (``1.2B``) when rounded as that is."""
    digits = printed.removesuffix("B")
    decimals = len(digits.partition(".")[2])
    return f"{count / BILLION:.{decimals}f}" == digits


# --- The table -----------------------------------------------------------------------------------


def table9(frame: pd.DataFrame) -> Table:
    """The table to read, from ``table9_frame``."""
    header = ["Student", "Reading", "|V|", "d_S", "L_S", "n_H", "KV heads", "d_H", "d_FFN"]
    header += ["Non-emb.", "+ 1 matrix", "+ 2 matrices", "Printed", "Counts that round to it"]
    rows = []
    for row in frame.to_dict("records"):
        ours = not row["reading"]
        shape = [_cell(row, name) for name in ("vocab", "d_s", "l_s", "n_h")]
        shape += [str(row["kv_heads"]), _cell(row, "d_h"), _cell(row, "d_ffn")]
        counts = [f"{row[name] / BILLION:.3f}B" for name in COUNTS]
        fits = [COUNT_NAMES[name] for name in row["fits"].split("; ") if name]
        kind = "as configured" if ours else row["reading"]
        name = pair_name(row["pair"]) if ours else ""
        printed = f"{row['printed_size']:g}B"
        rows.append([name, kind, *shape, *counts, printed, ", ".join(fits) or "none"])
    return Table(
        title="Table 9. Architectures of the paper's students, ours and printed",
        header=header,
        rows=rows,
        notes=[_HOW, *discrepancies(frame)],
        left=2,
        blocks=blocks(frame["pair"].tolist()),
    )


_HOW = (
    "As configured: what this project trains at paper scale; a cell that differs from the print "
    "shows it in brackets. Other rows: readings that the print leaves open. One matrix: vocabulary "
    "times hidden size, tied or the output alone. Not printed in the paper: key/value heads, tied "
    "embeddings, the kind of MLP."
)


def _cell(row: dict, name: str) -> str:
    ours, printed = row[_PRINTED_SHAPE[name]], row[f"printed_{name}"]
    return f"{ours}" if ours == printed else f"{ours} (printed {printed})"


def discrepancies(frame: pd.DataFrame) -> list[str]:
    """What does not fit in the printed table and the sentences about it, each from the counts."""
    ours = frame[frame["reading"] == ""].set_index("pair")
    makers = (_active, _sizes, _other_readings, _vocabulary, _head_width, _rotary)
    return [note for maker in makers for note in maker(frame, ours)]


def _active(frame: pd.DataFrame, ours: pd.DataFrame) -> Iterator[str]:
    """Section 3.2.1 calls the active parameters non-embedding."""
    claimed, parts = reported.quantities("active"), []
    for pair, active in claimed.items():
        row = ours.loc[pair]
        parts.append(
            f"{pair_name(pair)} printed {active / BILLION:g}B, non-embedding "
            f"{row['non_embedding'] / BILLION:.3f}B, with the output matrix "
            f"{row['one_matrix'] / BILLION:.3f}B"
        )
    yield (
        '"Active (non-embedding)" parameters of Section 3.2.1 fit the count with the output '
        f"matrix, not the non-embedding one: {'; '.join(parts)}."
    )
    rest = [
        f"{pair_name(pair)} {row['non_embedding'] / BILLION:.3f}B"
        for pair, row in ours.iterrows()
        if pair not in claimed
    ]
    yield f'"About 1B active" (Appendix A) against non-embedding: {", ".join(rest)}.'


def _sizes(frame: pd.DataFrame, ours: pd.DataFrame) -> Iterator[str]:
    """Which way of storing the embeddings a printed size needs, or that none does."""
    for pair, row in ours.iterrows():
        name, fits = pair_name(pair), row["fits"].split("; ")
        needs = {"one_matrix": "tied", "two_matrices": "untied"}
        stored = [way for count, way in needs.items() if count in fits]
        if len(stored) == 1:
            yield f"{name}: the printed {row['printed_size']:g}B needs {stored[0]} embeddings."
        elif not row["fits"]:
            counts = " or ".join(f"{row[count] / BILLION:.3f}B" for count in COUNTS[:2])
            yield (
                f"{name}: the printed {row['printed_size']:g}B fits no count with "
                f"{row['kv_heads']} key/value heads ({counts})."
            )


def _other_readings(frame: pd.DataFrame, ours: pd.DataFrame) -> Iterator[str]:
    for row in frame[frame["reading"] != ""].to_dict("records"):
        fits = [COUNT_NAMES[name] for name in row["fits"].split("; ") if name]
        found = f"is met by the count {' and '.join(fits)}" if fits else "is met by no count"
        name = pair_name(row["pair"])
        yield f"{name}, read with {row['reading']}: the printed size {found}."


def _vocabulary(frame: pd.DataFrame, ours: pd.DataFrame) -> Iterator[str]:
    for pair, row in ours[ours["vocab_size"] != ours["printed_vocab"]].iterrows():
        yield (
            f"{pair_name(pair)}: vocabulary printed as {row['printed_vocab']:,}, the "
            f"teacher has {row['vocab_size']:,}; copied embeddings and a divergence over logits "
            "need the teacher's."
        )


def _head_width(frame: pd.DataFrame, ours: pd.DataFrame) -> Iterator[str]:
    same_width = ours["hidden_size"] == ours["teacher_hidden_size"]
    for pair, row in ours[same_width & (ours["head_dim"] != ours["teacher_head_dim"])].iterrows():
        heads, width = row["heads"], row["teacher_head_dim"]
        yield (
            f"{pair_name(pair)}: d_H is {row['head_dim']}, the teacher's is {width}, "
            'against "the same dimensions as the teacher\'s" (Section 3.2.2); the print keeps '
            f"d_H × n_H = d_S = {row['hidden_size']:,}, the teacher has {heads * width:,}."
        )

    holds = (frame["printed_d_h"] * frame["printed_n_h"] == frame["printed_d_s"]).all()
    yield f"d_H × n_H = d_S {'holds' if holds else 'does not hold'} in every printed row."


def _rotary(frame: pd.DataFrame, ours: pd.DataFrame) -> Iterator[str]:
    cut = [
        f"{pair_name(pair)} {row['teacher_head_dim']} to {row['head_dim']}"
        for pair, row in ours[ours["head_dim"] != ours["teacher_head_dim"]].iterrows()
    ]
    yield (
        f"Heads are truncated in {', '.join(cut)}. Keeping the leading dimensions would break the "
        "pairing of rotary halves; the paper does not say what it keeps (ours: "
        "tad.models.students)."
    )


def write(name: str, suite: Suite, root: Path) -> None:
    """Write the table below ``root``."""
    frame = table9_frame(paper_suite())
    table9(frame).write(root / "tables", name, frame)
