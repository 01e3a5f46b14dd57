"""The methods: one row each, and everything that differs between them asks the row.

A row says what a method is called, which divergence it minimises, what it needs before training,
what it costs and how it looks. To add a divergence, write its function and one row here, or leave
the code alone and name the function in a configuration file::

    methods: {my_kl: {divergence: "my_package.losses:my_kl", parameters: {alpha: 0.1}}}

Divergences are named by import path, so that this table needs no torch. What every method can be
given besides its own parameters stands in ``SHARED``: ``vanilla_kd-w5``, ``tad-k10-b2-r0.5``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from tad.parameters import SHARED, MethodError, Parameter, meaning

Scope = Literal["token", "sequence", "step"]
Rows = Literal["corpus", "selected", "teacher_text", "own_text"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one method is.

    ``divergence`` is the import path of its function of logits, ``module:function``; None trains
    by plain CLM. ``fused`` names its closed form in ``tad.fused``; without one it is evaluated by
    autograd, a chunk of logits at a time (``scope`` token) or whole sequences (``sequence``, as
    beta(X) couples). ``scope`` step: the divergence is scaled, by a coefficient without gradient
    over all micro-batches and ranks of an optimizer step, to the value that the method
    ``matched_to`` has there, whose parameters the row shares. ``rows`` is what it trains on: the
    corpus, ``selected`` rows of it, text that the teacher wrote ahead of training, or text that the
    student writes during it. ``budget``: the pair's ``tokens``, tokens ``matched`` to the FLOPs of
    TAD, or a ``share`` of them.
    ``clm`` is whether CLM is in the loss beside the divergence, ``cosine`` whether the cosine term
    of a pair is, ``starts_as`` the method whose run of the stage before is the start (None: its
    own).
    ``operations`` is its elementwise cost a vocabulary entry, forward and backward. ``label`` is
    what tables call it, as the paper does if it has it; ``control`` marks what is there to be
    compared with and stands in a block of its own.
    """

    name: str
    label: str
    divergence: str | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    scope: Scope = "token"
    fused: str | None = None
    matched_to: str | None = None
    rows: Rows = "corpus"
    budget: Literal["tokens", "matched", "share"] = "tokens"
    clm: bool = True
    cosine: bool = True
    control: bool = False
    starts_as: str | None = None
    operations: int = 6
    colour: str = "#7F7F7F"
    line: str = "-"
    marker: str = "o"
    custom: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether training runs the teacher beside the student."""
        return self.divergence is not None

    @property
    def shared(self) -> dict[str, Parameter]:
        """Those of ``SHARED`` that mean something here.

        No weights where there is one term only, of which nothing but the ratio counts for Adam;
        no budget of its own where the rows are made ahead of training, for the pair's whole one.
        """
        without = set() if self.clm and self.needs_teacher else {"c"}
        without |= set() if self.needs_teacher else {"w"}
        without |= {"x"} if self.rows in ("selected", "teacher_text") else set()
        return {key: one for key, one in SHARED.items() if key not in without}

    @property
    def example(self) -> str:
        """An id of this method, for messages."""
        return str(Method(self.name))

    def function(self) -> Callable[..., Any]:
        """The divergence itself. Raises MethodError where it cannot be imported."""
        module, _, name = (self.divergence or "").partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise MethodError(
                f"methods.{self.name}.divergence: {self.divergence!r} cannot be imported ({error}):"
                " write package.module:function of something that Python finds from this folder"
            ) from None


# The palette of Okabe and Ito (2008), safe for colour-blind readers.
_BLUE, _ORANGE, _GREEN, _VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
_PURPLE, _SKY, _BLACK, _GREY = "#CC79A7", "#56B4E9", "#000000", "#7F7F7F"

_KL = {"divergence": "tad.divergences:forward_kl", "fused": "forward_kl", "operations": 16}
_RKL = {"divergence": "tad.divergences:reverse_kl", "fused": "reverse_kl", "operations": 18}

_K = Parameter(letter="k", default=10, low=1, open=False, kind=int, symbol="K")
_BETA = Parameter(letter="b", default=2.0, symbol="β", usual=True)
_TAD = {
    "divergence": "tad.divergences:tail_aware",
    "fused": "tail_aware",
    "scope": "sequence",
    "operations": 22,
    "parameters": {"k": _K, "beta": _BETA},
}

_VANILLA = Row(name="vanilla_kd", label="Vanilla KD", **_KL, colour=_BLUE, line="--")
_REVERSE = Row(name="rkl", label="RKL", **_RKL, colour=_GREEN, line="-.", marker="^")
# Zhao et al. (2022), with the weights of that paper.
_DKD = Row(name="dkd", label="DKD", divergence="tad.divergences:decoupled", fused="decoupled",
    operations=20, colour=_PURPLE, line=":", marker="v",
    parameters={
        "alpha": Parameter(letter="a", default=1.0, symbol="α", quiet=True),
        "beta": Parameter(letter="b", default=8.0, symbol="β", quiet=True),
    })  # fmt: skip

# Other divergences of the field, each with the values of its paper; sources: tad.divergences.
_SKEW = Parameter(letter="a", default=0.1, high=1.0, symbol="α", quiet=True)
_FIELD = (
    Row(name="gjsd", label="Generalised JSD", divergence="tad.divergences:generalised_js",
        operations=34, colour=_ORANGE, line="-.", marker="p",
        parameters={"beta": Parameter(letter="b", default=0.5, high=1.0, symbol="β", quiet=True)}),
    Row(name="skl", label="Skewed KL", divergence="tad.divergences:skewed_kl", operations=28,
        colour=_SKY, line="-.", marker="<", parameters={"alpha": _SKEW}),
    Row(name="srkl", label="Skewed RKL", divergence="tad.divergences:skewed_reverse_kl",
        operations=28, colour=_GREEN, line="--", marker=">", parameters={"alpha": _SKEW}),
    Row(name="akl", label="Adaptive KL", divergence="tad.divergences:adaptive_kl", operations=48,
        colour=_PURPLE, line="-.", marker="h",
        parameters={"mu": Parameter(letter="m", default=0.5, high=1.0, symbol="μ", quiet=True)}),
    Row(name="jeffreys", label="Jeffreys", divergence="tad.divergences:jeffreys",
        operations=28, colour=_BLACK, line="-.", marker="X"),
)  # fmt: skip


def _matched(row: Row, **look: str) -> Row:
    """A control: a divergence at the value that TAD has at each step, so only the shape differs.

    Its parameters are those of TAD; its divergence keeps its own at their defaults, which a closed
    form would not know.
    """
    values = {key: replace(one, quiet=True) for key, one in _TAD["parameters"].items()}
    return replace(
        row,
        name=f"{row.name}_matched",
        label=f"{row.label}, matched",
        scope="step",
        matched_to="tad",
        parameters=values,
        fused=None if row.parameters else row.fused,
        operations=row.operations + _TAD["operations"],
        control=True,
        **{"line": ":"} | look,
    )


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(name="clm", label="CLM (no KD)", colour=_GREY, line=":", marker="x"),
        Row(name="clm_matched", label="CLM (Mat.)", budget="matched", colour=_GREY, line="-.",
            marker="+"),
        _VANILLA,
        Row(name="vanilla_kd_nocosine", label="Vanilla KD, no cosine", **_KL, cosine=False,
            control=True, colour=_SKY, line="--"),
        _REVERSE,
        Row(name="rkl_nocosine", label="RKL, no cosine", **_RKL, cosine=False, control=True,
            colour=_SKY, line="-.", marker="^"),
        Row(name="tad", label="TAD", **_TAD, colour=_VERMILION, marker="s"),
        _matched(_VANILLA, marker="d"),
        _DKD,
        Row(name="miniplm", label="MiniPLM", rows="selected", colour=_ORANGE, line="--",
            marker="D"),
        Row(name="seq_kd", label="Seq-KD", rows="teacher_text", colour=_SKY, line=":", marker="P"),
        Row(name="minillm", label="MiniLLM", **_RKL, rows="own_text", budget="share",
            colour=_BLACK, line=":", marker="*"),
        # Section 3.4: instruction data after plain pre-training.
        Row(name="sft", label="CLM + SFT", starts_as="clm", colour=_GREY, line="--", marker="x"),
        # Controls: the divergences alone, TAD without one of its parts.
        Row(name="kd_only", label="Vanilla KD, no CLM", **_KL, clm=False, control=True,
            colour=_BLUE, marker="o"),
        Row(name="tad_only", label="TAD, no CLM", **_TAD, clm=False, control=True,
            colour=_VERMILION, line="--", marker="s"),
        Row(name="tad_nocosine", label="TAD, no cosine", **_TAD, cosine=False, control=True,
            colour=_SKY, marker="s"),
        # Before Eq. 3 the paper says that without the mean of alpha_K "the loss does not converge".
        Row(name="tad_nonorm", label="TAD, not normalised",
            **_TAD | {"divergence": "tad.divergences:tail_weighted", "fused": "tail_weighted",
                      "scope": "token"},
            control=True, colour=_VERMILION, line=":", marker="s"),
        *_FIELD,
        _matched(_REVERSE, line="-.", marker="d"),
        _matched(_DKD, line="-."),
        *(_matched(row) for row in _FIELD),
    )
}  # fmt: skip
"""All methods by name, in the order in which runs and rows are listed; ``register`` adds to it."""

BASELINE = "vanilla_kd"
"""The id that others are compared with: Rel in the tables, paired differences (Section 3.2.1)."""

MATCHED_TO = "tad"
"""The method whose FLOPs a ``matched`` budget of tokens has (Table 4, CLM (Mat.))."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VALUE = re.compile(r"([a-z_]+?)(\d+(?:\.\d+)?)")
_LOOKS = [(c, m) for m in "vX>p<h" for c in (_PURPLE, _ORANGE, _GREEN, _SKY, _BLUE, _BLACK)]


def register(
    name: str,
    divergence: str,
    parameters: Mapping[str, float] | None = None,
    *,
    scope: Literal["token", "sequence"] = "token",
    label: str | None = None,
    colour: str | None = None,
) -> Row:
    """Make a divergence a method, as ``methods:`` of a configuration does; returns its row.

    ``parameters`` are its keyword arguments with their defaults, positive numbers, which its ids
    always name. The same name again replaces a method registered before. Raises MethodError for a
    name of this table, for names or import paths that are not well formed, and for a parameter that
    has the name of one in ``SHARED``.
    """
    known = ROWS.get(name)
    if known is not None and not known.custom:
        raise MethodError(f"methods.{name}: is a method of this project; choose another name")
    for text in (name, *(parameters or {})):
        if not _NAME.fullmatch(text) or text[-1].isdigit() and text != name:
            raise MethodError(
                f"methods.{name}: {text!r}: use lower-case letters, digits and '_', a letter "
                "first, and no digit at the end of a parameter"
            )
    for key in set(parameters or {}) & set(SHARED):
        raise MethodError(f"methods.{name}: {key!r} is a parameter of every method; rename yours")
    if not re.fullmatch(r"[\w.]+:\w+", divergence):
        raise MethodError(f"methods.{name}.divergence: {divergence!r}: write module:function")
    customs = [row for row in ROWS.values() if row.custom and row.name != name]
    look = _LOOKS[len(customs) % len(_LOOKS)]
    made = Row(
        name=name,
        label=label or name,
        divergence=divergence,
        scope=scope,
        operations=_KL["operations"],
        colour=colour or look[0],
        line="-.",
        marker=look[1],
        custom=True,
        parameters={
            key: Parameter(letter=key, default=float(value), open=False, symbol=key)
            for key, value in (parameters or {}).items()
        },
    )
    for key, one in made.parameters.items():
        one.check(name, key, one.default)
    ROWS[name] = made
    return made


def row(name: str) -> Row:
    """The row of a method's name. Raises MethodError, with those there are."""
    if name not in ROWS:
        raise MethodError(f"method {name!r} is unknown (allowed: {', '.join(ROWS)})")
    return ROWS[name]


@dataclass(frozen=True, order=True)
class Method:
    """A method with its parameters; ``str(method)`` is its id, as in paths: ``tad-k10-b2``.

    ``values`` are those of the row's parameters in its order, ``shared_values`` those of
    ``tad.parameters.SHARED``; none means the defaults. ``method["k"]`` is one of the first,
    ``method.shared["w"]`` of the second. Raises MethodError for an unknown name or a value out of
    range.
    """

    name: str
    values: tuple[float, ...] = ()
    shared_values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        known = row(self.name).parameters
        values = self.values or tuple(one.default for one in known.values())
        if len(values) != len(known):
            names = ", ".join(known) or "none"
            raise MethodError(f"method {self.name!r}: {len(values)} values for parameters: {names}")
        object.__setattr__(self, "values", self._checked(known, values))
        shared = self.shared_values or tuple(one.default for one in SHARED.values())
        object.__setattr__(self, "shared_values", self._checked(SHARED, shared))
        for key, value in self.shared.items():
            if value != SHARED[key].default and key not in self.row.shared:
                raise MethodError(f"method {self.name} takes no {key} ({meaning(key)})")

    def _checked(
        self, known: Mapping[str, Parameter], values: tuple[float, ...]
    ) -> tuple[float, ...]:
        pairs = zip(known.items(), values, strict=True)
        return tuple(one.check(self.name, key, value) for (key, one), value in pairs)

    @classmethod
    def of(cls, name: str, **parameters: float) -> Self:
        """``Method.of("tad", k=5)``; what is not given has its default. Raises MethodError."""
        known = row(name).parameters
        for key in parameters:
            if key not in (*known, *SHARED):
                allowed = ", ".join(known) or "it has none"
                raise MethodError(f"method {name!r} has no parameter {key!r} (allowed: {allowed})")
        own, shared = (
            tuple(parameters.get(key, one.default) for key, one in table.items())
            for table in (known, SHARED)
        )
        return cls(name, own, shared)

    @classmethod
    def named(cls, method: str | Method, **parameters: float) -> Method:
        """A method by its name and ``parameters``, by its id, or as it is.

        The last two have their parameters in them. Raises MethodError where more are given.
        """
        if isinstance(method, str) and method in ROWS:
            return cls.of(method, **parameters)
        if parameters:
            given = ", ".join(parameters)
            raise MethodError(f"method {str(method)!r} names its parameters; {given}: leave out")
        return cls.parse(method) if isinstance(method, str) else method

    @classmethod
    def of_loss(cls, method: str | Method, **parameters: float) -> Method:
        """The same where no run is: raises MethodError for a learning rate or budget too."""
        found = cls.named(method, **parameters)
        if found != found.loss:
            raise MethodError(
                f"method {found}: a loss has no learning rate or budget; write {found.loss}"
            )
        return found

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id: ``clm``, ``vanilla_kd-w5``, ``tad-k10-b2``. Raises MethodError."""
        name, *parts = text.split("-")
        known = {**row(name).parameters, **row(name).shared}
        letters = {one.letter: key for key, one in known.items()}
        values: dict[str, float] = {}
        for part in parts:
            match = _VALUE.fullmatch(part)
            key = letters.get(match[1]) if match else None
            if key is None or key in values:
                raise MethodError(f"method {text!r}: {_form(name)}")
            values[key] = float(match[2]) if known[key].kind is float else _whole(text, match[2])
        method = cls.of(name, **values)
        if str(method) != text:
            lacking = any(not one.quiet and key not in values for key, one in known.items())
            hint = _form(name) if lacking else f"is written {str(method)!r}"
            raise MethodError(f"method {text!r}: {hint}")
        return method

    @property
    def row(self) -> Row:
        """What this method is."""
        return row(self.name)

    @property
    def parameters(self) -> dict[str, float]:
        """The values of the row's own parameters by name."""
        return dict(zip(self.row.parameters, self.values, strict=True))

    @property
    def shared(self) -> dict[str, float]:
        """The values of ``SHARED`` by name: ``w``, ``c``, ``r``, ``x``."""
        return dict(zip(SHARED, self.shared_values, strict=True))

    @property
    def weights(self) -> tuple[float, float]:
        """Of CLM and of the divergence in the loss."""
        return self.shared["c"] if self.row.clm else 0.0, self.shared["w"]

    @property
    def loss(self) -> Method:
        """Itself without learning rate and budget, which are of a run and not of a loss."""
        return Method.of(self.name, **self.parameters, w=self.shared["w"], c=self.shared["c"])

    @property
    def control(self) -> bool:
        """Whether its row is a control, or one of the shared values is not the default."""
        return self.row.control or self != replace(self, shared_values=())

    def __getitem__(self, name: str) -> float:
        return self.parameters[name]

    def _named(self) -> list[tuple[Parameter, float]]:
        """All parameters with their values, but for quiet ones at their default."""
        known = [*self.row.parameters.values(), *SHARED.values()]
        pairs = zip(known, self.values + self.shared_values, strict=True)
        return [(one, value) for one, value in pairs if not one.quiet or value != one.default]

    @property
    def label(self) -> str:
        """How tables and legends call it, as the paper does: ``TAD (K = 10)``."""
        shown = [
            one.shown.format(symbol=one.symbol, value=value)
            for one, value in self._named()
            if not one.usual or value != one.default
        ]
        return f"{self.row.label} ({', '.join(shown)})" if shown else self.row.label

    def __str__(self) -> str:
        return "-".join([self.name] + [one.text(value) for one, value in self._named()])

    def divergence(self) -> Callable[..., Any]:
        """The function of logits: ``f(student, teacher, mask=..., labels=...)`` -> (B, N), in nats.

        Its parameters are bound. What a function does not take of ``labels`` and ``segment_ids``
        (documents of packed rows) is not passed to it. Raises MethodError for a method without
        one, or one that cannot be imported.
        """
        if self.row.divergence is None:
            raise MethodError(f"method {self}: trains by plain CLM and has no divergence")
        shared = self.row.matched_to is not None  # its parameters are those of the other method
        return bind(self.row.function(), {} if shared else self.parameters)

    @property
    def matched_to(self) -> Method | None:
        """The method to whose value at each step this one's divergence is scaled."""
        other = self.row.matched_to
        return None if other is None else Method(other, self.values)


def bind(function: Callable[..., Any], parameters: Mapping[str, float]) -> Callable[..., Any]:
    """A divergence with its parameters filled in; see ``Method.divergence``."""
    taken = inspect.signature(function).parameters
    optional = {key for key in ("labels", "segment_ids") if key in taken}

    def divergence(student: Any, teacher: Any, *, mask: Any = None, **given: Any) -> Any:
        passed = {key: value for key, value in given.items() if key in optional}
        return function(student, teacher, mask=mask, **parameters, **passed)

    return divergence


def _form(name: str) -> str:
    """How ids of a method are written."""
    known = row(name).parameters.items()
    shown = [f"-{one.letter}{key.upper()}" for key, one in known if not one.quiet]
    quiet = [f"[-{one.letter}{key.upper()}]" for key, one in known if one.quiet]
    shared = " ".join(f"-{key}{key.upper()}" for key in row(name).shared)
    form = f"write {name}{''.join(shown + quiet)}, for example {row(name).example}"
    return f"{form} ({shared} may follow)"


def _whole(text: str, digits: str) -> int:
    if not digits.isdigit():
        raise MethodError(f"method {text!r}: {digits} must be a whole number")
    return int(digits)
