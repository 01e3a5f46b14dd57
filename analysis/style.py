"""How every figure looks: print size, one look a method, colours safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tad.run_id import Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT_WIDTH = 5.5
"""Width of a text column in inches (ICLR, NeurIPS); figures are drawn at the size they print."""

# The palette of Okabe and Ito (2008).
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#7F7F7F"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)

_LOOKS: dict[str, dict[str, Any]] = {
    "clm": {"color": GREY, "linestyle": ":", "marker": "x"},
    "clm_matched": {"color": GREY, "linestyle": "-.", "marker": "+"},
    "vanilla_kd": {"color": BLUE, "linestyle": "--", "marker": "o"},
    "vanilla_kd_nocosine": {"color": SKY, "linestyle": "--", "marker": "o"},
    "rkl_nocosine": {"color": SKY, "linestyle": "-.", "marker": "^"},
    "rkl": {"color": GREEN, "linestyle": "-.", "marker": "^"},
    "tad": {"color": VERMILION, "linestyle": "-", "marker": "s"},
    "dkd": {"color": PURPLE, "linestyle": ":", "marker": "v"},
    "miniplm": {"color": ORANGE, "linestyle": "--", "marker": "D"},
    "seq_kd": {"color": SKY, "linestyle": ":", "marker": "P"},
    "minillm": {"color": BLACK, "linestyle": ":", "marker": "*"},
    "sft": {"color": GREY, "linestyle": "--", "marker": "x"},
}
_NAMES = {
    "clm": "CLM (no KD)",
    "clm_matched": "CLM (Mat.)",
    "vanilla_kd": "Vanilla KD",
    "vanilla_kd_nocosine": "Vanilla KD, no cosine",
    "rkl": "RKL",
    "rkl_nocosine": "RKL, no cosine",
    "dkd": "DKD",
    "miniplm": "MiniPLM",
    "seq_kd": "Seq-KD",
    "minillm": "MiniLLM",
    "sft": "CLM + SFT",
}


def method_name(method: Method) -> str:
    """How tables and legends call a method, as the paper does: ``TAD (K = 10)``.

    beta is named where it is not the paper's 2.
    """
    if method.name != "tad":
        return _NAMES[method.name]
    beta = "" if method.beta == 2 else f", β = {method.beta:g}"
    return f"TAD (K = {method.k}{beta})"


def row_name(row: str) -> str:
    """How tables call a method id, or in its place a checkpoint (``tinyllama-1.1b/1t``) or a model
    of others (``references/llemma-7b``)."""
    if "/" not in row:
        return method_name(Method.parse(row))
    model, point = row.split("/")
    if model == "references":
        return point
    return model if point == "final" else f"{model} at {point.upper()}"


def method_look(method: Method) -> dict[str, Any]:
    """Colour, line style and marker of a method, the same in every figure."""
    return dict(_LOOKS[method.name])


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
