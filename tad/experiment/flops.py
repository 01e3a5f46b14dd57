"""FLOPs of every method, per token, from model shapes (Table 3, Section 3.2.2).

    tad flops                                # all pairs and methods of the paper
    tad flops --config config/smoke.yaml     # those of another scale

Counted are matrix multiplications: two FLOPs a multiply-add, forward once, and backward twice more
(once for inputs, once for weights; a frozen matrix has no second part). Norms, rotary embedding,
softmax, biases and the optimiser are left out: below a percent together. What the loss itself
costs is elementwise and reported apart. Light to import: the exact count needs only the shape
(tests keep it equal to a count over the modules of a transformers model, and to torch's counter).

All counts are per token of the student's training data unless said otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tad.command import PROJECT, UserError, command_line, exit_code
from tad.experiment.config import Suite, load_suite, scale_options
from tad.experiment.families import FAMILIES, Family
from tad.experiment.run_id import RunId
from tad.experiment.schema import Shape
from tad.methods import MATCHED_TO, ROWS, row

MILLION = 1_000_000


class FlopsError(UserError, ValueError):
    """A count that cannot be made; one line with the reason and the cure."""


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """What is counted. The defaults are those that fit the paper's printed figures best.

    ``output_matrix``: ``once`` counts the multiplication by the output matrix, and nothing for the
    input embedding, which is a lookup; ``stored`` counts each stored vocabulary matrix as if it
    were multiplied by (the 6 N rule with all parameters; twice where they are untied).

    ``attention``: scores and weighted values over ``full`` T x T pairs, as kernels without a causal
    mask compute them; over the ``causal`` pairs alone (and within a sliding window); or ``none``.

    ``frozen``: whether the student's vocabulary matrix gets a weight gradient. ``always`` spares it
    in every student that is made from its teacher (Section 3.2.2 says so of the larger pairs;
    where hidden sizes differ it cannot be meant literally); ``as_built`` only where this project
    really freezes a matrix that is multiplied by; ``never`` in none.
    """

    output_matrix: Literal["once", "stored"] = "once"
    attention: Literal["full", "causal", "none"] = "full"
    frozen: Literal["always", "as_built", "never"] = "always"


PAPER = Conventions()
EXECUTED = Conventions(attention="causal", frozen="as_built")
"""What training here computes, with an attention kernel that skips masked pairs."""


@dataclass(frozen=True)
class Account:
    """A model's forward FLOPs a token, by part, and what attention needs to know.

    ``linear`` all maps within layers; ``output`` the output matrix; ``stored`` the input embedding
    where it is a matrix of its own (only the ``stored`` convention counts it). ``pair`` is the cost
    of one query meeting one key in all layers (scores and weighted values), and ``windows`` the
    keys that each layer's queries see at most.
    """

    linear: int
    output: int
    stored: int
    pair: int
    windows: tuple[int | None, ...]

    def attention(self, context: int, conventions: Conventions) -> float:
        """Scores and weighted values, averaged over the tokens of a context."""
        if conventions.attention == "none":
            return 0.0
        if conventions.attention == "full":
            return float(self.pair * context)
        keys = [_mean_keys(context, window) for window in self.windows]
        return self.pair * sum(keys) / len(keys)

    def vocabulary(self, conventions: Conventions) -> int:
        """The output matrix, and what the convention adds to it."""
        return self.output + (self.stored if conventions.output_matrix == "stored" else 0)

    def forward(self, context: int, conventions: Conventions = PAPER) -> float:
        """FLOPs of a forward pass with all logits."""
        attention = self.attention(context, conventions)
        return self.linear + attention + self.vocabulary(conventions)

    def training(
        self, context: int, conventions: Conventions = PAPER, *, frozen: bool = False
    ) -> float:
        """FLOPs of a training step; ``frozen`` spares the vocabulary's weight gradient."""
        body = 3 * (self.linear + self.attention(context, conventions))
        return body + (2 if frozen else 3) * self.vocabulary(conventions)

    def decoding(self, context: int, conventions: Conventions = PAPER) -> float:
        """FLOPs of generating a token with cached keys and values, at positions 1 to ``context``.

        A new token meets its predecessors alone, so attention is causal under any convention.
        """
        seen = Conventions(attention="none" if conventions.attention == "none" else "causal")
        return self.linear + self.attention(context, seen) + self.output


def _mean_keys(context: int, window: int | None) -> float:
    """Keys that a query sees on average under a causal mask and a sliding window."""
    window = min(window or context, context)
    return (window * (window + 1) / 2 + (context - window) * window) / context


def account_of_shape(family: Family, shape: Shape, *, max_positions: int = 8192) -> Account:
    """The account of a family in the sizes of ``shape``, whose ``vocab_size`` must be set.

    ``max_positions`` is that of ``architecture_config``, from which sliding windows follow. Raises
    FlopsError without a vocabulary.
    """
    if shape.vocab_size is None:
        raise FlopsError("the shape has no vocab_size; give the tokenizer's size")
    hidden, width = shape.hidden_size, shape.heads * shape.head_dim
    keys = shape.kv_heads * shape.head_dim
    attention = hidden * (width + 2 * keys) + width * hidden
    mlp = FAMILIES[family].mlp_matrices * hidden * shape.intermediate_size
    vocabulary = 2 * shape.vocab_size * hidden
    return Account(
        linear=2 * shape.layers * (attention + mlp),
        output=vocabulary,
        stored=0 if shape.tied else vocabulary,
        pair=4 * shape.layers * width,
        windows=FAMILIES[family].windows(shape.layers, max_positions),
    )


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What methods cost that the paper does not say in full.

    ``delta``: MiniPLM keeps this fraction of the corpus, so the teacher (and ``reference``, a small
    model's account, if it is to be counted) scores 1 / delta tokens for each one trained on.
    ``minillm_epochs`` passes of policy optimisation over each generated token, and
    ``minillm_corpus`` tokens of plain pre-training beside it (Gu et al. 2024, its published
    defaults): the teacher scores a generated token once.
    """

    delta: float = 0.5
    reference: Account | None = None
    minillm_epochs: int = 4
    minillm_corpus: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.delta <= 1:
            raise FlopsError(f"delta={self.delta}: a fraction of the corpus, so 0 < delta <= 1")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs a token of a method by who spends them; ``loss`` is elementwise, outside ``total``."""

    student: float
    teacher: float = 0.0
    reference: float = 0.0
    generation: float = 0.0
    loss: float = 0.0

    @property
    def total(self) -> float:
        """Matrix multiplications of all models."""
        return self.student + self.teacher + self.reference + self.generation


def method_cost(
    method: str,
    student: Account,
    teacher: Account | None = None,
    *,
    context: int,
    vocabulary: int,
    frozen: bool = False,
    conventions: Conventions = PAPER,
    assumptions: Assumptions | None = None,
) -> Cost:
    """FLOPs of one training token of ``method`` (a name of ``tad.methods``).

    ``context`` is the training context in tokens, ``vocabulary`` the number of logits,
    ``frozen`` whether the student's vocabulary matrix has no weight gradient. Raises FlopsError for
    an unknown method, or one that needs a teacher and has none.
    """
    told, kind = assumptions or Assumptions(), row(method)
    train = student.training(context, conventions, frozen=frozen)
    loss = kind.operations * vocabulary
    if kind.rows == "corpus" and not kind.needs_teacher:
        return Cost(student=train, loss=loss)
    if teacher is None:
        raise FlopsError(f"method {method!r} needs a teacher")
    scoring = teacher.forward(context, conventions)
    if kind.rows == "teacher_text":
        return Cost(student=train, generation=teacher.decoding(context, conventions), loss=loss)
    if kind.rows == "selected":
        small = told.reference.forward(context, conventions) if told.reference else 0.0
        passes = 1 / told.delta
        return Cost(student=train, teacher=passes * scoring, reference=passes * small, loss=loss)
    if kind.rows == "own_text":
        passes = told.minillm_epochs + told.minillm_corpus
        written = student.decoding(context, conventions)
        return Cost(student=passes * train, teacher=scoring, generation=written, loss=passes * loss)
    return Cost(student=train, teacher=scoring, loss=loss)


@dataclass(frozen=True)
class PairAccount:
    """A pair's two models, ready to be costed.

    ``made_from_teacher`` is False for students that start from a checkpoint, whose embeddings train
    (Section 3.3); ``freezes`` is whether this project freezes the output matrix of this one.
    """

    teacher: Account
    student: Account
    vocabulary: int
    made_from_teacher: bool
    freezes: bool

    def cost(
        self,
        method: str,
        *,
        context: int,
        conventions: Conventions = PAPER,
        assumptions: Assumptions | None = None,
    ) -> Cost:
        """FLOPs of one training token of ``method``. Raises FlopsError."""
        frozen = {"always": self.made_from_teacher, "as_built": self.freezes, "never": False}
        return method_cost(
            method,
            self.student,
            self.teacher,
            context=context,
            vocabulary=self.vocabulary,
            frozen=frozen[conventions.frozen],
            conventions=conventions,
            assumptions=assumptions,
        )

    def matched_tokens(
        self,
        tokens: int,
        *,
        context: int,
        method: str = MATCHED_TO,
        conventions: Conventions = PAPER,
    ) -> int:
        """Tokens of plain pre-training (``clm_matched``) for the FLOPs of ``tokens`` of a method.

        Whole tokens, rounded down: never more compute than the method had.
        """
        ours = self.cost(method, context=context, conventions=conventions).total
        plain = self.cost("clm", context=context, conventions=conventions).total
        return math.floor(tokens * (ours / plain))


def pair_shapes(suite: Suite, pair_id: str) -> tuple[tuple[Family, Shape], tuple[Family, Shape]]:
    """Family and shape of a pair's teacher and student, with their vocabularies.

    Raises FlopsError for an unknown pair or size.
    """
    if pair_id not in suite.pairs:
        raise FlopsError(f"pair {pair_id!r} is unknown (allowed: {', '.join(suite.pairs)})")
    pair = suite.pairs[pair_id]
    teacher = suite.models[pair.teacher]
    teacher_shape = _sized(suite, teacher.tokenizer, teacher.shape)
    shape = suite.student_shape(pair_id)
    if shape is not None:
        rows = shape.vocab_size or teacher_shape.vocab_size
        student = teacher.family, shape.model_copy(update={"vocab_size": rows})
    else:
        student = model_shape(suite, pair.student.model)
    return (teacher.family, teacher_shape), student


def pair_account(suite: Suite, pair_id: str) -> PairAccount:
    """The models of a pair at a suite's scale. Raises FlopsError for an unknown pair or size."""
    teacher, student = pair_shapes(suite, pair_id)
    entry = suite.pairs[pair_id].student
    made = entry.model is None
    # An untied output matrix trains here even where the input embedding is frozen (students.py).
    same_role = student[1].tied and teacher[1].tied
    trains = entry.layers_of_teacher is not None and not entry.frozen
    same_width = student[1].hidden_size == teacher[1].hidden_size
    return PairAccount(
        teacher=account_of_shape(*teacher),
        student=account_of_shape(*student),
        vocabulary=student[1].vocab_size,
        made_from_teacher=made,
        freezes=made and not trains and same_role and same_width,
    )


def run_cost(suite: Suite, run: RunId) -> Cost:
    """FLOPs of one training token of a run as they are executed here, with what is done ahead of
    it. Raises FlopsError."""
    # One pass over what is written and one over the corpus, as tad.train.on_policy does.
    assumptions = Assumptions(minillm_epochs=1, minillm_corpus=1.0)
    if run.method.row.rows == "selected":
        chosen = suite.baselines.miniplm
        reference = model_account(suite, chosen.reference[run.stage])
        assumptions = Assumptions(delta=chosen.delta, reference=reference)
    return pair_account(suite, run.pair).cost(
        run.method.name,
        context=suite.stages[run.stage].context,
        conventions=EXECUTED,
        assumptions=assumptions,
    )


def model_shape(suite: Suite, model: str) -> tuple[Family, Shape]:
    """Family and shape of a model of the suite, with its vocabulary. Raises FlopsError."""
    entry = suite.models[model]
    return entry.family, _sized(suite, entry.tokenizer, entry.shape)


def model_account(suite: Suite, model: str) -> Account:
    """The account of a model of the suite in its sizes there. Raises FlopsError."""
    return account_of_shape(*model_shape(suite, model))


def _sized(suite: Suite, tokenizer: str, shape: Shape) -> Shape:
    rows = shape.vocab_size
    if rows is None and tokenizer in suite.tokenizers:
        rows = suite.tokenizers[tokenizer].vocab_size
    if rows is None:
        raise FlopsError(f"tokenizer {tokenizer!r} has no vocab_size here; set it in the shape")
    return shape.model_copy(update={"vocab_size": rows})


def matched_tokens(
    suite: Suite,
    pair_id: str,
    *,
    stage: str = "scratch",
    method: str = MATCHED_TO,
    conventions: Conventions = PAPER,
) -> int:
    """The token budget of ``clm_matched`` for a pair: CLM at the FLOPs of TAD (Table 4).

    Raises FlopsError for an unknown pair, or a stage without a budget.
    """
    account = pair_account(suite, pair_id)
    tokens = suite.pairs[pair_id].tokens.get(stage)
    if tokens is None:
        raise FlopsError(f"pair {pair_id} has no token budget in stage {stage}")
    context = suite.stages[stage].context
    return account.matched_tokens(tokens, context=context, method=method, conventions=conventions)


# --- Command line --------------------------------------------------------------------------------

NOTES = (
    "minillm: 4 epochs over generated tokens, as much plain pre-training; the paper does not say",
    "seq_kd: decoding with cached keys; printed: 12 to 17 teacher passes a token",
)
NAMED = {"paper": PAPER, "executed": EXECUTED}


def petaflops(suite: Suite, pair_id: str, method: str, conventions: Conventions = PAPER) -> float:
    """PetaFLOPs for one million training tokens, the unit of Table 3."""
    context = suite.stages["scratch"].context
    cost = pair_account(suite, pair_id).cost(method, context=context, conventions=conventions)
    return cost.total * MILLION / 1e15


def main(arguments: list[str] | None = None) -> int:
    """Print FLOPs as a table; 0, or 2 after one line about what is wrong."""
    parser = command_line("flops", __doc__)
    scale_options(parser, default=str(PROJECT / "config" / "paper.yaml"))
    parser.add_argument("--conventions", choices=list(NAMED), default="paper")
    options = parser.parse_args(arguments)
    conventions = NAMED[options.conventions]
    scale = (options.config, options.overrides)
    return exit_code("flops", lambda: _print_pairs(load_suite(*scale), conventions))


def _print_pairs(suite: Suite, conventions: Conventions) -> None:
    """PetaFLOPs of a million tokens, a pair a line and a method a column."""
    methods = [row.name for row in ROWS.values() if not row.control and row.budget != "matched"]
    print(f"{'pair':<20}" + "".join(f" {method:>11}" for method in methods) + f"{'matched':>10}")
    for pair in suite.select.pairs:
        cells = [f"{petaflops(suite, pair, m, conventions):12.4g}" for m in methods]
        account, context = pair_account(suite, pair), suite.stages["scratch"].context
        ratio = account.matched_tokens(MILLION, context=context, conventions=conventions) / MILLION
        print(f"{pair:<20}{''.join(cells)}{f'x{ratio:.2f}':>10}")
    print("\n".join(("matched: tokens of clm_matched over those of tad", *NOTES)))
