"""How every figure looks: print size, one look a method, colours safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tad.methods import Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT_WIDTH = 5.5
"""Width of a text column in inches (ICLR, NeurIPS); figures are drawn at the size they print."""

CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito (2008), as in ``tad.methods``, for what is no method."""

BLACK, GREY = "#000000", "#7F7F7F"


def row_name(row: str) -> str:
    """How tables call a method id, or in its place a checkpoint (``tinyllama-1.1b/1t``) or a model
    of others (``references/llemma-7b``)."""
    if "/" not in row:
        return Method.parse(row).label
    model, point = row.split("/")
    if model == "references":
        return point
    return model if point == "final" else f"{model} at {point.upper()}"


def method_look(method: Method) -> dict[str, Any]:
    """Colour, line style and marker of a method, the same in every figure."""
    row = method.row
    return {"color": row.colour, "linestyle": row.line, "marker": row.marker}


@contextmanager
def paper_style() -> Iterator[None]:
    """A matplotlib context for figures at print size, with fonts that submission checks accept."""
    import matplotlib

    settings = {
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.titlesize": 8,
        "legend.fontsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E6E6E6",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "lines.linewidth": 1.3,
        "lines.markersize": 3.5,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.hashsalt": "tad",
    }
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    try:
        with matplotlib.rc_context(settings):
            yield
    finally:
        matplotlib.use(backend)


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` as PDF and PNG (200 dpi), the same bytes for the same figure.

    ``path`` has no suffix. The dates that matplotlib would write are left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Producer": None})
    figure.savefig(path.with_suffix(".png"), dpi=200, metadata={"Software": None})
