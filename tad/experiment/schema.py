"""The entries of a configuration: what each key holds, and what is allowed there.

``tad.experiment.config`` reads the files and checks one entry against another. Light to import.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from tad.experiment.families import Family

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]
Stage = Literal["scratch", "continued", "math", "supervised"]
Sharding = Literal["none", "fsdp"]
TeacherDtype = Literal["auto", "bfloat16", "float32"]


class Strict(BaseModel):
    """Unknown keys are errors, values are not coerced from strings, objects are immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Shape(Strict):
    """Sizes of a decoder; ``vocab_size`` None means the tokenizer's."""

    hidden_size: Count
    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    intermediate_size: Count
    vocab_size: Count | None = None
    tied: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads={self.heads} is no multiple of kv_heads={self.kv_heads}; "
                "every key/value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} is odd; rotary embedding needs pairs")
        return self


class Checkpoint(Strict):
    """Where a model's weights come from: exactly one of hub, path, tokens and package.

    ``hub`` is a model id, ``path`` a local folder in the transformers layout, ``tokens`` says that
    the model is pre-trained here on that many tokens in all (earlier checkpoints counted in).
    ``package`` is an installed Python distribution that brings the weights as one GGUF file; a
    ``hub`` beside it is where they come from where that is not installed. Either way they are
    written below the work root once, as safetensors.
    """

    hub: str | None = None
    path: str | None = None
    tokens: Count | None = None
    package: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.path, self.tokens, self.package]
        if self.package is None:
            given.append(self.hub)
        if sum(source is not None for source in given) != 1:
            raise ValueError(
                "give exactly one of hub, path, tokens, package, or a package and the hub id to "
                "take where it is not installed (`hub: null` removes it)"
            )
        return self

    @property
    def made(self) -> bool:
        """Whether a job writes the weights below the work root."""
        return self.tokens is not None or self.package is not None


class Model(Strict):
    """A teacher, or a model that a student starts from. Checkpoints are listed earliest first.

    ``corpus`` is what it is pre-trained on here, and ``seed`` the seed of that, by default those of
    ``pretraining``.
    """

    family: Family
    tokenizer: str
    shape: Shape
    corpus: str | None = None
    seed: Seed | None = None
    checkpoints: Annotated[dict[str, Checkpoint], Field(min_length=1)]

    @model_validator(mode="after")
    def _source(self) -> Self:
        points = self.checkpoints.values()
        if any(p.package for p in points) and any(p.tokens for p in points):
            raise ValueError("checkpoints: of a package, and pre-trained here: give one model each")
        return self


class Student(Strict):
    """Where a student comes from: a shape, layers of its teacher, or a model of its own.

    ``shape`` is made from the teacher by the paper's recipe (Table 9): attention and embeddings
    copied, MLPs random. ``layers_of_teacher`` keeps that many of the teacher's layers, evenly
    spaced and whole, with its embeddings, norms and head (as people prune who distil then); of
    such a student ``frozen`` names the parts that do not train. ``model`` is another model, which
    starts at the checkpoint that ``start`` gives for each stage.
    """

    shape: Shape | None = None
    layers_of_teacher: Count | None = None
    frozen: list[Literal["embeddings"]] = []
    model: str | None = None
    start: dict[Stage, str] = {}

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = (self.shape, self.layers_of_teacher, self.model)
        if sum(source is not None for source in given) != 1:
            raise ValueError(
                "give one of shape (made from the teacher), layers_of_teacher (cut out of it) and "
                "model (`model: null` removes it)"
            )
        if self.frozen and self.layers_of_teacher is None:
            raise ValueError("frozen is of students with layers_of_teacher")
        if (self.model is None) != (not self.start):
            raise ValueError("start names a checkpoint of model: give both or neither")
        return self


class GpuRange(Strict):
    """How many GPUs a training takes: as many as it is given, of ``min`` to ``max``. Written as
    {min: 1, max: 8}, [1, 8], or 2 for neither more nor fewer."""

    min: Count
    max: Count

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        if type(value) is int:
            return {"min": value, "max": value}
        if isinstance(value, list) and len(value) == 2:
            return {"min": value[0], "max": value[1]}
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min={self.min} is above max={self.max}: write the smaller first")
        return self


_A_COUNT = {"type": "integer", "minimum": 1}
_BOTH_ENDS = {"min": _A_COUNT, "max": _A_COUNT}
_WRITTEN_RANGE = {
    "anyOf": [
        _A_COUNT,
        {"type": "array", "items": _A_COUNT, "minItems": 2, "maxItems": 2},
        {"type": "object", "properties": _BOTH_ENDS, "additionalProperties": False},
    ]
}


class Pair(Strict):
    """A teacher and a student, with the token budget of each stage the pair takes part in.

    Runs of the seeds in ``teachers_of_seeds`` (model: seeds) learn from that model instead, which
    differs from ``teacher`` in its weights alone.
    ``hidden_cosine`` adds the cosine loss on last hidden states (Section 3.2.2). ``gpus`` is how
    many the pair trains on where there are GPUs, with the same batch on any number; a value of
    ``micro_batch_size``, ``gradient_checkpointing`` or ``sharding`` replaces that of the stages.
    ``printed`` is what the paper calls the student, ``printed_size`` what it says of its size and
    ``printed_gpus`` how many it trained on (Appendix A), if the pair is in the paper.
    """

    printed: str | None = None
    teacher: str
    teachers_of_seeds: dict[str, list[Seed]] = {}
    student: Student
    tokens: dict[Stage, Count]
    hidden_cosine: bool = False
    gpus: Annotated[GpuRange, WithJsonSchema(_WRITTEN_RANGE)] = GpuRange(min=1, max=1)
    micro_batch_size: Count | None = None
    gradient_checkpointing: bool | None = None
    sharding: Sharding | None = None
    printed_size: str | None = None
    printed_gpus: Count = 1


class MiniPLM(Strict):
    """Difference sampling: the ``delta`` of a candidate pool that the teacher prefers to a small
    ``reference`` model (by stage), the pool being 1 / delta times the training budget."""

    delta: Annotated[float, Field(gt=0, le=1)]
    reference: dict[Stage, str]


class Sampling(Strict):
    """How text is written: after ``prompt_tokens`` of a corpus sequence, to its full length."""

    prompt_tokens: Count
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


class OnPolicySampling(Sampling):
    """MiniLLM: the student writes at every step, which is slow; so it gets ``token_share`` of the
    pair's budget."""

    token_share: Annotated[float, Field(gt=0, le=1)] = 1.0


class Baselines(Strict):
    """What methods need that are no loss on the corpus alone."""

    miniplm: MiniPLM
    seq_kd: Sampling
    minillm: OnPolicySampling


class Loop(Strict):
    """How a training loop runs. Sizes are in sequences of ``context`` tokens.

    ``micro_batch_size`` sequences pass through the model at once (on each GPU) and are accumulated
    to ``batch_size``. ``evaluations`` held-out points are spread evenly over training, each over
    ``evaluation_sequences`` sequences. The losses work in ``memory_budget_mb`` (10^6 bytes) beyond
    inputs and gradients; ``compiled`` runs their element-wise passes under torch.compile (default:
    on CUDA). ``gradient_checkpointing`` computes each layer again in the backward pass instead of
    keeping its activations. ``sharding: fsdp`` spreads weights, gradients and optimizer of student
    and teacher over the GPUs of a run (FSDP2), where ``none`` keeps all on each.
    """

    corpus: str
    batch_size: Count
    micro_batch_size: Count | None = None
    context: Annotated[int, Field(ge=8)]
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    max_grad_norm: Positive = 1.0
    memory_budget_mb: Positive = 256.0
    compiled: bool | None = None
    gradient_checkpointing: bool = False
    sharding: Sharding = "none"
    evaluations: Count = 20
    evaluation_sequences: Count = 64
    checkpoint_every_steps: Count = 500

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % (self.micro_batch_size or self.batch_size):
            raise ValueError(
                f"batch_size={self.batch_size} is no multiple of "
                f"micro_batch_size={self.micro_batch_size}"
            )
        return self


class Training(Loop):
    """How one stage distills.

    ``epochs`` replaces the pair's token budget; ``after`` names the stage whose result, by the
    same pair, method and seed, is the start. ``teacher_dtype`` is the precision of the weights of
    the teacher beside the student: by default bfloat16 on a GPU, float32 elsewhere. ``packed`` lays
    the examples of instruction data that pass through the model at once end to end in one row,
    without padding and without attention from one to another: the same batches and losses in less
    time.
    """

    temperature: Positive
    teacher_dtype: TeacherDtype = "auto"
    epochs: Count | None = None
    after: Stage | None = None
    packed: bool = Field(default=False, exclude_if=lambda value: not value)


class Pretraining(Loop):
    """How the models of a scale are pre-trained (plain next-token prediction)."""

    seed: Seed = 0


class Corpus(Strict):
    """Documents and how many of their tokens are used.

    ``source`` is installed-docs (documentation strings of ``packages``), local (``path``: a folder
    or glob of .jsonl, .jsonl.gz, .parquet, .txt) or hub (``id``, which may be a local folder).
    ``also`` names corpora whose documents are mixed in, in proportion to their size.
    ``validation_fraction`` of the documents, chosen by content hash, never train; budgets are in
    tokens of the tokenizer at hand. Of a hub set, shards are read until they hold the budgets.
    ``holds`` says how many tokens the source has in all: ``tokens``, MiniPLM's pool and the budget
    of ``clm_matched`` are clipped to what of them trains, which manifests and tables tell.
    """

    source: Literal["installed-docs", "local", "hub"]
    packages: list[str] = []
    path: str | None = None
    id: str | None = None
    subset: str | None = None
    split: str = "train"
    text_field: str = "text"
    also: list[str] = []
    tokens: Count
    validation_tokens: Count
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    holds: Count | None = Field(default=None, exclude_if=lambda value: value is None)
    seed: Seed = 0

    @property
    def train_tokens(self) -> int:
        """Tokens to train on: ``tokens``, as far as the source holds them."""
        if self.holds is None:
            return self.tokens
        return min(self.tokens, int(self.holds * (1 - self.validation_fraction)))

    @model_validator(mode="after")
    def _check(self) -> Self:
        needed = {"installed-docs": "packages", "local": "path", "hub": "id"}[self.source]
        if not getattr(self, needed):
            raise ValueError(f"source {self.source} needs the key {needed!r}")
        return self


class Loaded(Strict):
    """What comes from elsewhere: exactly one of ``hub`` (an id there) and ``path`` (local)."""

    hub: str | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.hub is None) == (self.path is None):
            raise ValueError("give exactly one of hub and path (`hub: null` takes one away)")
        return self


class Reference(Loaded):
    """A finished model of others, a folder in the transformers layout if ``path``, that a table
    compares with; ``printed`` is what the paper calls it."""

    printed: str


class InstructionSource(Loaded):
    """Questions with answers, a dataset of the hub or a .jsonl file.

    ``question`` and ``answer`` are the fields that hold them. ``layout`` says how they become
    text: ``question`` writes "Question: ...\\nAnswer: ...", as the math evaluation asks;
    ``chat`` takes the student tokenizer's chat template; ``plain`` takes both as they stand.
    """

    split: str = "train"
    question: str = "question"
    answer: str = "answer"
    layout: Literal["question", "chat", "plain"] = "question"


class Instructions(Strict):
    """Instruction data of the supervised stage: how many examples are drawn from its sources."""

    sources: Annotated[list[InstructionSource], Field(min_length=1)]
    examples: Count
    validation_examples: Count
    seed: Seed = 0


class Tokenizer(Strict):
    """A tokenizer, trained here (``vocab_size`` on ``corpora``) or loaded.

    It is loaded from ``hub``, ``path``, or the GGUF file of an installed ``package``, as a model's
    weights are (``Checkpoint``).
    """

    vocab_size: Annotated[int, Field(ge=264)] | None = None
    corpora: list[str] = []
    hub: str | None = None
    path: str | None = None
    # Left out of what is compared with earlier runs, which knew no packages.
    package: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.vocab_size, self.path, self.package]
        if self.package is None:
            given.append(self.hub)
        if sum(source is not None for source in given) != 1:
            raise ValueError(
                "give exactly one of vocab_size, hub, path, package (a hub may stand beside a "
                "package; `hub: null` removes it)"
            )
        if (self.vocab_size is None) != (not self.corpora):
            raise ValueError("vocab_size and corpora go together: what to train the tokenizer on")
        return self


class CustomMethod(Strict):
    """A divergence of the user's as a method (``tad.methods.register``).

    ``divergence`` is its import path, ``module:function``; ``parameters`` its keyword arguments
    with their defaults, which its ids name: ``my_kl-alpha0.1``. ``scope`` is ``sequence`` where
    the value of a token depends on others of its sequence.
    """

    divergence: str
    parameters: dict[str, float] = {}
    scope: Literal["token", "sequence"] = "token"
    label: str | None = None
    colour: str | None = None


class Item(Strict):
    """A table or figure: the runs behind it, in the paper's row order.

    ``checkpoints`` (model/checkpoint) are evaluated as they are, and so are the ``references`` that
    stand below each pair. ``title`` heads the table. ``seeds`` are those of its runs, by default
    the scale's.
    """

    title: str | None = None
    stage: Stage
    pairs: list[str]
    methods: list[str]
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    checkpoints: list[str] = []
    references: dict[str, list[str]] = {}


class Select(Strict):
    """What of experiments.yaml a scale runs, and which ``references`` it evaluates."""

    items: list[str]
    pairs: list[str]
    methods: list[str]
    references: list[str] = []


class Fewshot(Strict):
    """How students are scored on the eight tasks (Tables 1, 2, 4, 6).

    ``suite`` is an entry of ``eval.fewshot.tasks.SUITES``; an analogue suite gets ``items`` items
    a task, made from the held-out documents of ``corpus`` (None: that of the scratch stage, whose
    held-out budget may be too little text). ``local`` points tasks to folders of JSONL files, not
    the hub. ``shots`` None keeps those of the suite, ``limit`` takes the first items of each task
    only. ``tasks`` is a folder of task files of the user's own.
    """

    suite: Literal["paper", "mini", "smoke"]
    items: Count = 48
    corpus: str | None = None
    shots: Annotated[int, Field(ge=0)] | None = None
    limit: Count | None = None
    batch_size: Count = 32
    local: dict[str, str] = {}
    tasks: str | None = None


class MathEvaluation(Strict):
    """How students are scored on the eight math sets (Tables 7 and 8).

    ``suite`` is ``paper`` (the real sets, from ``data`` or the hub) or ``smoke`` (generated
    analogues, of which ``problems`` a set are to train on). ``prompts`` is a folder of exemplar
    files instead of the packaged ones. The others replace the suite's own values where given.
    """

    suite: Literal["paper", "smoke"]
    problems: Count = 1000
    data: str | None = None
    prompts: str | None = None
    shots: Annotated[int, Field(ge=0)] | None = None
    limit: Count | None = None
    max_new_tokens: Count | None = None
    batch_size: Count | None = None


class Samples(Strict):
    """Text that models write for people to read: ``prompts`` beginnings of held-out text,
    ``prompt_tokens`` long, each continued greedily by at most ``new_tokens``."""

    prompts: Count = 3
    prompt_tokens: Count = 48
    new_tokens: Count = 64


class Evaluation(Strict):
    """How finished models are measured. ``calibration_positions`` None takes all held-out text;
    without ``samples`` no text is written."""

    fewshot: Fewshot | None = None
    math: MathEvaluation | None = None
    samples: Samples | None = None
    calibration_positions: Count | None = None
