"""Students made from their teacher (Sections 3.2 and 3.2.2, Table 9), and parameter accounts.

    tad describe phi2_1b                                # the paper's own sizes
    tad describe all --config config/smoke.yaml         # those of a scale

prints the sizes of a pair's teacher and student, counted on the meta device: nothing is downloaded.

The paper initialises "the student's attention layers with the teacher's attention weights,
truncated to the student's hidden dimension for each head", leaves the MLP random, and copies and
freezes the embeddings. What it leaves open is settled here as follows.

Layers. Student layer i starts from teacher layer floor(i * L_t / L_s): the first is always kept,
equal depths are the identity, half the depth keeps every other layer (as Sanh et al. 2019). Of
whole layers, MLPs included, the last is kept too, layer i from round(i * (L_t - 1) / (L_s - 1)): it
writes what the last norm and the head read, and students without it learn far more slowly. Where
sliding layers have rotary frequencies of their own (Gemma 3), it is the nearest layer of its type.

Hidden dimensions. The leading d_S, the same ones in embeddings, norms, attention and output head.

Head dimensions. A rotary head is a list of planes, dimension j with j + r/2 (r rotated dimensions),
plane j turning at base^(-2j/r). The student turns its own plane i at base^(-2i/r_S), so it takes
the whole teacher plane nearest in (log) frequency, j = round(i * r_T / r_S). Where r_S divides r_T,
as in 128 to 64, the frequencies are equal, and a student score is the teacher's restricted to the
kept planes at every distance. The leading planes would all be given a wrong frequency, the leading
dimensions would pair halves of different planes. Norms of queries and keys (Qwen3, Gemma 3, OLMo 2)
are cut like what they scale. Dimensions that do not rotate (values; Phi's
pass-through part, handled apart) have no order: the leading ones are kept.

Heads. Every kept query head keeps its own key/value head where the student's groups are no larger
than the teacher's: evenly spaced key/value heads, and evenly spaced query heads in each group.
Where groups are larger (multi-head to grouped), each student key/value head stands for a block of
the teacher's and is the mean of those its query heads used, which Ainslie et al. (2023)
found better than choosing one; rotation is linear, so it commutes with the mean.

Softmax scale. A teacher logit is a sum over d_T dimensions times d_T^-1/2. With terms of similar
size and no common sign, a sum over d_S of them times d_S^-1/2 has the same spread, so a student
keeps its architecture's own scale. Gemma2's query_pre_attn_scalar shrinks with the head dimension
for that reason (256 to 224 in Table 9). Nothing makes up for the lost hidden dimensions.

Embeddings. Where hidden sizes agree they are frozen: a tied output head with them, while an untied
one is copied and trains (this meets the active sizes of Section 3.2.2). Otherwise truncated, they
train. A tied student of an untied teacher has a head that the teacher never trained as one, so
there the matrix is not frozen either. Dropout is zero whatever the teacher's configuration says.

``prune`` is what people do who prune and distil (Muralidharan et al. 2024): whole layers, MLPs
included, chosen by the same rule, and nothing random. The paper has no such student.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tad.command import PROJECT, command_line, exit_code
from tad.experiment.config import ConfigError, Suite, load_suite, scale_options
from tad.experiment.schema import Model, Pair, Shape
from tad.models.architectures import (
    ArchitectureError,
    family_of,
    new_model,
    paper_model,
    rotary_dims,
    rotary_kinds,
    shape_of,
    sized_config,
)

PAPER = PROJECT / "config" / "paper.yaml"

_DROPOUT = ("attention_dropout", "embd_pdrop", "resid_pdrop")


class StudentError(ArchitectureError):
    """A student that cannot be made from its teacher; one line with the values and the cure."""


def build_student(
    teacher: PreTrainedModel, shape: Shape, *, seed: int, copy_mlps: bool = False
) -> PreTrainedModel:
    """A student of the teacher's architecture in the sizes of `shape`, by the rules above.

    The student is in training mode, in float32 on the CPU (on the meta device for a teacher there),
    and shares no storage with the teacher, which is left unchanged. `seed` fixes the random weights
    (MLPs); the global random state is not touched. `shape.vocab_size` None means the teacher's.
    `copy_mlps` fills them from the leading rows and columns of the teacher's, of layers that are
    then spaced up to the last; nothing is random.

    Raises ArchitectureError for a teacher of no known family, and StudentError for a size above the
    teacher's (only the MLP's is free), another vocabulary, grouped heads that do not divide, and
    scaled rotary embedding where the head dimension changes.
    """
    config = student_config(teacher.config, shape)
    on_meta = teacher.device.type == "meta"
    with torch.device("meta" if on_meta else "cpu"):
        student = new_model(config, seed=seed).float()
    if not on_meta:
        _copy_weights(student, teacher, copy_mlps)
    if keeps_embeddings_frozen(teacher.config, config):
        student.get_input_embeddings().weight.requires_grad_(False)
    return student


def prune(teacher: PreTrainedModel, layers: int, *, frozen: Sequence[str] = ()) -> PreTrainedModel:
    """A student of `layers` whole layers of the teacher, with its embeddings, norms and head.

    `frozen` may name ``embeddings``: they do not train then, nor does a head that is tied to them.
    Nothing is random. Otherwise as `build_student`, and raises like it.
    """
    shape = shape_of(teacher.config).model_copy(update={"layers": layers})
    student = build_student(teacher, shape, seed=0, copy_mlps=True)
    student.get_input_embeddings().weight.requires_grad_("embeddings" not in frozen)
    return student


def student_config(teacher: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    """The teacher's configuration in the student's sizes. Raises like `build_student`."""
    family, before = family_of(teacher), shape_of(teacher)
    shape = shape.model_copy(update={"vocab_size": shape.vocab_size or before.vocab_size})
    _check_sizes(before, shape)
    values = teacher.to_dict()
    if values.get("qk_layernorm"):
        raise StudentError("qk_layernorm=True: norms of queries and keys cannot be truncated here")
    values["dtype"] = "float32"
    values |= {name: 0.0 for name in values if name in _DROPOUT}
    if shape.layers != before.layers:
        # One entry a layer; the class fills in the family's own alternation.
        values.pop("layer_types", None)
    if "query_pre_attn_scalar" in values:
        scalar = values["query_pre_attn_scalar"] * shape.head_dim / before.head_dim
        values["query_pre_attn_scalar"] = round(scalar)
    config = sized_config(family, shape, values)
    scaled = {kind["rope_type"] for kind in rotary_kinds(config).values()} - {"default"}
    if scaled and shape.head_dim != before.head_dim:
        raise StudentError(
            f"rope_type={min(scaled)!r}: scaled rotary frequencies cannot be truncated from "
            f"head_dim={before.head_dim} to {shape.head_dim}; keep the head dimension"
        )
    return config


def _check_sizes(teacher: Shape, student: Shape) -> None:
    for name in ("hidden_size", "layers", "heads", "kv_heads", "head_dim"):
        have, want = getattr(teacher, name), getattr(student, name)
        if want > have:
            raise StudentError(
                f"student {name}={want} is larger than the teacher's {have}; a student is cut out "
                f"of its teacher, so give at most {have}"
            )
    if student.vocab_size != teacher.vocab_size:
        raise StudentError(
            f"student vocab_size={student.vocab_size} is not the teacher's {teacher.vocab_size}; "
            "leave it out to take the teacher's embedding rows"
        )
    grows = student.heads // student.kv_heads > teacher.heads // teacher.kv_heads
    if grows and teacher.kv_heads % student.kv_heads:
        raise StudentError(
            f"student kv_heads={student.kv_heads} does not divide the teacher's "
            f"{teacher.kv_heads}, so key/value heads cannot be merged evenly; choose a divisor"
        )


def keeps_embeddings_frozen(teacher: PreTrainedConfig, student: PreTrainedConfig) -> bool:
    """Whether the input embedding is the teacher's and stays so (Section 3.2.2)."""
    new_role = student.tie_word_embeddings and not teacher.tie_word_embeddings
    return student.hidden_size == teacher.hidden_size and not new_role


# --- Which parts of the teacher are kept ---------------------------------------------------------


def _evenly_spaced(count: int, total: int) -> list[int]:
    """`count` of `total` indices, the first always among them: floor(i * total / count)."""
    return [i * total // count for i in range(count)]


def _head_dims(total: int, rotated: int, kept: int, kept_rotated: int) -> list[int]:
    """Dimensions of a query or key head to keep, in the student's order; see the module's text."""
    if not kept_rotated:
        return list(range(kept))
    planes = [
        (2 * i * rotated + kept_rotated) // (2 * kept_rotated)  # round(i * rotated / kept_rotated)
        for i in range(kept_rotated // 2)
    ]
    halves = planes + [plane + rotated // 2 for plane in planes]
    return halves + list(range(rotated, rotated + kept - kept_rotated))


@dataclass(frozen=True)
class _HeadPlan:
    """What of the teacher's attention a student takes.

    `queries` and `keys` list, for each student head, the teacher heads whose mean it is: one, but
    for merged key/value heads, of which every block merges equally many. `rotary_dims` and
    `value_dims` are the dimensions kept of a query or key head and of a value head.
    """

    teacher: Shape
    student: Shape
    queries: list[list[int]]
    keys: list[list[int]]
    rotary_dims: list[int]
    value_dims: list[int]

    @classmethod
    def make(cls, teacher: PreTrainedConfig, student: PreTrainedConfig) -> _HeadPlan:
        before, after = shape_of(teacher), shape_of(student)
        queries = _query_heads(before, after)
        group, size = after.heads // after.kv_heads, before.heads // before.kv_heads
        served = [queries[i : i + group] for i in range(0, after.heads, group)]
        dims = _head_dims(
            before.head_dim, rotary_dims(teacher), after.head_dim, rotary_dims(student)
        )
        return cls(
            teacher=before,
            student=after,
            queries=[[head] for head in queries],
            keys=[sorted({head // size for head in heads}) for heads in served],
            rotary_dims=dims,
            value_dims=list(range(after.head_dim)),
        )


def _query_heads(teacher: Shape, student: Shape) -> list[int]:
    """The teacher query head of each student query head."""
    size, kept = teacher.heads // teacher.kv_heads, student.heads // student.kv_heads
    if kept <= size:
        starts = [kv_head * size for kv_head in _evenly_spaced(student.kv_heads, teacher.kv_heads)]
    else:
        size = teacher.heads // student.kv_heads  # whole blocks of teacher groups
        starts = [block * size for block in range(student.kv_heads)]
    return [start + head for start in starts for head in _evenly_spaced(kept, size)]


# --- Copying -------------------------------------------------------------------------------------


@torch.no_grad()
def _copy_weights(student: PreTrainedModel, teacher: PreTrainedModel, mlps: bool) -> None:
    """Fill all of the student from the teacher, but its MLPs unless asked to."""
    plan = _HeadPlan.make(teacher.config, student.config)
    layers, teacher_layers = student.base_model.layers, teacher.base_model.layers
    sources = source_layers(student.config, teacher.config, to_last=mlps)
    for layer, source in zip(layers, sources, strict=True):
        _copy_attention(layer.self_attn, teacher_layers[source].self_attn, plan)
        _copy_norms(layer, teacher_layers[source])
        if mlps:
            _copy_mlp(layer.mlp, teacher_layers[source].mlp)
    _copy_norms(student.base_model, teacher.base_model)
    _copy_embeddings(student, teacher)


def _copy_mlp(student: nn.Module, teacher: nn.Module) -> None:
    """Fill an MLP from the leading rows and columns of the teacher's."""
    theirs = dict(teacher.named_parameters())
    for name, parameter in student.named_parameters():
        source = theirs[name]
        if "gate_up" in name:  # two matrices in one, each with rows of its own
            source = torch.cat([half[: len(parameter) // 2] for half in source.chunk(2)])
        parameter.copy_(source[tuple(slice(n) for n in parameter.shape)])


def source_layers(
    student: PreTrainedConfig, teacher: PreTrainedConfig, *, to_last: bool = False
) -> list[int]:
    """The teacher layer that each student layer starts from; ``to_last``: the last one included."""
    kept, count = student.num_hidden_layers, teacher.num_hidden_layers
    even = _evenly_spaced(kept, count)
    if to_last and kept > 1:
        even = [(2 * i * (count - 1) + kept - 1) // (2 * (kept - 1)) for i in range(kept)]
    if len(rotary_kinds(teacher)) == 1:
        return even
    types = teacher.layer_types
    return [
        min((j for j, kind in enumerate(types) if kind == own), key=lambda j: abs(j - i), default=i)
        for i, own in zip(even, student.layer_types, strict=True)
    ]


def _copy_attention(student: nn.Module, teacher: nn.Module, plan: _HeadPlan) -> None:
    """Fill the projections of one attention module from the teacher's."""
    for ours, theirs in zip(
        _projections(student, plan.student), _projections(teacher, plan.teacher), strict=True
    ):
        query, key, value = ours
        query.copy_(_take(theirs[0], plan.queries, plan.rotary_dims, plan))
        key.copy_(_take(theirs[1], plan.keys, plan.rotary_dims, plan))
        value.copy_(_take(theirs[2], plan.keys, plan.value_dims, plan))
    for name, heads in (("q_norm", plan.queries), ("k_norm", plan.keys)):
        if hasattr(student, name):
            _copy_head_norm(getattr(student, name), getattr(teacher, name), heads, plan)
    ours, theirs = _output(student), _output(teacher)
    # (hidden, heads * head_dim): the columns are what the kept heads put out.
    ours.weight.copy_(_take(theirs.weight.t(), plan.queries, plan.value_dims, plan).t())
    if ours.bias is not None:
        ours.bias.copy_(theirs.bias[: plan.student.hidden_size])


def _copy_head_norm(
    ours: nn.Module, theirs: nn.Module, heads: list[list[int]], plan: _HeadPlan
) -> None:
    """Fill a norm of queries or keys, of each head (Qwen3, Gemma 3) or of all together (OLMo 2)."""
    weight = theirs.weight
    if len(weight) == plan.teacher.head_dim:
        ours.weight.copy_(weight[plan.rotary_dims])
    else:
        ours.weight.copy_(_take(weight, heads, plan.rotary_dims, plan))


def _projections(attention: nn.Module, shape: Shape) -> list[tuple[Tensor, ...]]:
    """(query, key, value) weights and then biases, if any, as views of heads * head_dim rows."""
    if hasattr(attention, "qkv_proj"):
        kv_rows = shape.kv_heads * shape.head_dim
        rows = [shape.heads * shape.head_dim, kv_rows, kv_rows]
        return [attention.qkv_proj.weight.split(rows)]
    modules = (attention.q_proj, attention.k_proj, attention.v_proj)
    found = [tuple(module.weight for module in modules)]
    if modules[0].bias is not None:
        found.append(tuple(module.bias for module in modules))
    return found


def _output(attention: nn.Module) -> nn.Linear:
    return attention.dense if hasattr(attention, "dense") else attention.o_proj


def _take(rows: Tensor, heads: list[list[int]], dims: list[int], plan: _HeadPlan) -> Tensor:
    """The student's part of a weight (heads * head_dim, hidden) or bias (heads * head_dim,)."""
    if rows.dim() == 2:
        rows = rows[:, : plan.student.hidden_size]
    per_head = rows.float().unflatten(0, (-1, plan.teacher.head_dim))[:, dims]
    merged = per_head[torch.tensor(heads, device="cpu")].mean(1)  # a mean of one is exact
    return merged.flatten(0, 1)


def _copy_norms(student: nn.Module, teacher: nn.Module) -> None:
    """Fill the norms that are direct children of a layer or of the model; leading dimensions."""
    for name, module in student.named_children():
        if "norm" in name:
            for part, parameter in module.named_parameters():
                source = teacher.get_submodule(name).get_parameter(part)
                parameter.copy_(source[: len(parameter)])


def _copy_embeddings(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Fill the input embedding and the output head; leading hidden dimensions."""
    width = student.config.hidden_size
    ours, theirs = student.get_output_embeddings(), teacher.get_output_embeddings()
    ours.weight.copy_(theirs.weight[:, :width])
    if ours.bias is not None:
        ours.bias.copy_(theirs.bias)
    # Last, so that a tied student has the teacher's input embedding.
    embedding = teacher.get_input_embeddings().weight
    student.get_input_embeddings().weight.copy_(embedding[:, :width])


# --- Parameter accounts --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ParameterAccount:
    """Numbers of parameters, a tied matrix counted once (as embedding).

    The first five add up to `total`, and so do `frozen` and `trainable`.
    """

    embedding: int
    attention: int
    mlp: int
    norm: int
    head: int
    total: int
    frozen: int
    trainable: int


def parameter_account(model: PreTrainedModel) -> ParameterAccount:
    """Count a model's parameters by part and by whether they train; the meta device will do.

    Raises ArchitectureError for a parameter that belongs to no known part.
    """
    parts = dict.fromkeys(_PARTS, 0)
    frozen = 0
    for name, parameter in model.named_parameters():
        part = next((part for part, mark in _PARTS.items() if mark in name), None)
        if part is None:
            raise ArchitectureError(f"parameter {name!r} belongs to no part that is counted")
        parts[part] += parameter.numel()
        frozen += 0 if parameter.requires_grad else parameter.numel()
    total = sum(parts.values())
    return ParameterAccount(**parts, total=total, frozen=frozen, trainable=total - frozen)


_PARTS = {
    "embedding": "embed_tokens",
    "attention": "self_attn",
    "mlp": ".mlp.",
    "norm": "norm",
    "head": "lm_head",
}
"""What the names of a part's parameters contain, in all families; the first match counts."""


# --- Command line --------------------------------------------------------------------------------


def describe(
    pair_id: str, pair: Pair, models: dict[str, Model], *, vocabularies: dict[str, int | None]
) -> str:
    """A pair's teacher and student in numbers, as text; built on the meta device.

    `vocabularies` maps a tokenizer to its size, for shapes that do not give one. Raises
    ArchitectureError where a model or student cannot be made.
    """
    teacher = paper_model(
        models[pair.teacher], vocab_size=vocabularies.get(models[pair.teacher].tokenizer)
    )
    if pair.student.shape is not None:
        student, origin = build_student(teacher, pair.student.shape, seed=0), "made from it"
    elif pair.student.layers_of_teacher is not None:
        layers, frozen = pair.student.layers_of_teacher, pair.student.frozen
        student, origin = prune(teacher, layers, frozen=frozen), "whole layers of it"
    else:
        start = models[pair.student.model]
        student = paper_model(start, vocab_size=vocabularies.get(start.tokenizer))
        starts = ", ".join(f"{stage} at {name}" for stage, name in pair.student.start.items())
        origin = f"{pair.student.model}, which starts {starts}"
    lines = [f"{pair_id}: teacher {pair.teacher}, student {origin}"]
    for role, model in (("teacher", teacher), ("student", student)):
        sizes = shape_of(model.config).model_dump().items()
        lines.append(f"  {role}: " + " ".join(f"{name}={value}" for name, value in sizes))
    accounts = asdict(parameter_account(teacher)), asdict(parameter_account(student))
    lines.append(f"  {'parameters':<12}{'teacher':>24}{'student':>24}")
    for name in accounts[0]:
        cells = "".join(f"{account[name]:>16,} {account[name] / 1e9:6.3f}B" for account in accounts)
        lines.append(f"  {name:<12}{cells}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 2 for a wrong argument."""
    parser = command_line("describe", __doc__.partition("\nThe paper initialises")[0])
    parser.add_argument("pair", nargs="?", default="all", help="a pair's id (default: all)")
    scale_options(parser, default=str(PAPER))
    options = parser.parse_args(arguments)
    scale = (options.config, options.overrides)
    return exit_code("describe", lambda: _print(options.pair, load_suite(*scale)))


def _print(wanted: str, suite: Suite) -> None:
    if wanted not in ("all", *suite.pairs):
        allowed = ", ".join(["all", *suite.pairs])
        raise ConfigError(f"pair {wanted!r} is unknown (allowed: {allowed})")
    vocabularies = {name: entry.vocab_size for name, entry in suite.tokenizers.items()}
    for pair in suite.pairs if wanted == "all" else [wanted]:
        print(describe(pair, suite.pairs[pair], suite.models, vocabularies=vocabularies))
        size = suite.pairs[pair].printed_size if suite.scale == "paper" else None
        print(f"  printed {size}\n" if size else "")
