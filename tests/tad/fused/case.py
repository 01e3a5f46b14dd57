"""A random problem for the fused loss, and the reference's answer to it."""

import torch

from tad import divergences
from tad.fused import Head, distillation_loss

FUNCTIONS = {
    "vanilla_kd": divergences.forward_kl,
    "rkl": divergences.reverse_kl,
    "tad": divergences.tail_aware,
    "dkd": divergences.decoupled,
}
METHODS = ("clm", *FUNCTIONS)


class Case:
    """A batch with two heads, and its loss by the reference."""

    def __init__(
        self,
        seed: int = 0,
        *,
        batch: int = 3,
        tokens: int = 6,
        vocab: int = 150,
        widths: tuple[int, int] = (5, 7),
        dtype: torch.dtype = torch.float64,
        kind: str = "random",
        bias: bool = False,
        softcaps: tuple[float | None, float | None] = (None, None),
        scales: tuple[float, float] = (1.0, 1.0),
        masked: bool = True,
        documents: bool = False,
    ):
        g = torch.Generator().manual_seed(seed)
        self.leaves, self.heads, self.hidden = [], [], []
        for width, softcap, scale in zip(widths, softcaps, scales, strict=True):
            hidden = torch.randn(batch, tokens, width, generator=g, dtype=torch.float64)
            weight = torch.randn(vocab, width, generator=g, dtype=torch.float64)
            offset = torch.randn(vocab, generator=g, dtype=torch.float64) if bias else None
            if kind == "ties":  # integer logits: many are equal, at the K-th place too
                hidden, weight = hidden.round(), weight.round()
                offset = None if offset is None else offset.round()
            elif kind == "peaked":
                weight = 12 * weight
            self.hidden.append(hidden.to(dtype))
            self.heads.append(
                Head(weight.to(dtype), None if offset is None else offset.to(dtype), softcap, scale)
            )
        if kind == "equal":
            self.hidden[1], self.heads[1] = self.hidden[0].clone(), self.heads[0]
        head = self.heads[0]
        self.hidden[0].requires_grad_()
        student = Head(
            head.weight.clone().requires_grad_(),
            None if head.bias is None else head.bias.clone().requires_grad_(),
            head.softcap,
            head.scale,
        )
        self.heads[0] = student
        self.leaves = [self.hidden[0], student.weight]
        self.leaves += [] if student.bias is None else [student.bias]
        self.labels = torch.randint(vocab, (batch, tokens), generator=g)
        self.labels[torch.rand(batch, tokens, generator=g) < 0.2] = -100
        self.mask = torch.rand(batch, tokens, generator=g) < 0.8
        self.mask = self.mask if masked else torch.ones_like(self.mask)
        self.segments = None
        if documents:
            self.segments = torch.randint(2, (batch, tokens), generator=g).cumsum(1)

    def double(self) -> "Case":
        """The same numbers in float64."""
        other = object.__new__(Case)
        other.__dict__.update(self.__dict__)
        other.hidden = [x.detach().double() for x in self.hidden]
        other.heads = [
            Head(
                x.weight.detach().double(),
                None if x.bias is None else x.bias.detach().double(),
                x.softcap,
                x.scale,
            )
            for x in self.heads
        ]
        other.leaves = [other.hidden[0], other.heads[0].weight]
        other.leaves += [] if other.heads[0].bias is None else [other.heads[0].bias]
        for leaf in other.leaves:
            leaf.requires_grad_()
        return other

    def logits(self, side: int, vocab: int | None = None) -> torch.Tensor:
        head = self.heads[side]
        logits = self.hidden[side] @ head.weight.t()
        logits = logits if head.bias is None else logits + head.bias
        logits = logits * head.scale
        if head.softcap is not None:
            logits = head.softcap * torch.tanh(logits / head.softcap)
        return logits[..., :vocab]

    def reference(self, method: str, *, vocab=None, k=3, beta=2.0, temperature=1.0, target=1.0):
        """Sum and count of CLM, sum and count of the divergence, from full logits."""
        student, teacher = self.logits(0, vocab), self.logits(1, vocab)
        labelled = self.mask & (self.labels != -100)
        clm = divergences.causal_lm(student, self.labels, mask=self.mask).sum()
        options = {"temperature": temperature, "mask": self.mask}
        if method == "clm":
            return clm, labelled.sum(), torch.zeros_like(clm), 0
        if method == "dkd":
            options |= {"alpha": target, "beta": beta}
            value = divergences.decoupled(student, teacher, self.labels, **options)
            return clm, labelled.sum(), value.sum(), labelled.sum()
        if method == "tad":
            options |= {"k": k, "beta": beta, "segment_ids": self.segments}
        loss = {"vanilla_kd": "forward_kl", "rkl": "reverse_kl", "tad": "tail_aware"}[method]
        value = getattr(divergences, loss)(student, teacher, **options)
        return clm, labelled.sum(), value.sum(), self.mask.sum()

    def fused(self, method, *, k=3, beta=2.0, target=1.0, vocab=None, function=False, **options):
        """Our loss; with `function`, of the reference as if it were a user's own function."""
        parameters = {"tad": {"k": k, "beta": beta}, "dkd": {"alpha": target, "beta": beta}}
        if function:
            options["scope"] = "sequence" if method == "tad" else "token"
        return distillation_loss(
            self.hidden[0],
            self.heads[0],
            self.hidden[1],
            self.heads[1],
            self.labels,
            self.mask,
            method=FUNCTIONS[method] if function else method,
            segment_ids=self.segments if method == "tad" else None,
            vocab_size=vocab,
            **parameters.get(method, {}),
            **options,
        )


def assert_equal_to_reference(
    case: Case, method: str, tolerance: float, chunk, function=False, **options
):
    clm, clm_count, div, div_count = case.reference(method, **options)
    total = clm / max(clm_count, 1) + div / max(div_count, 1)
    expected = torch.autograd.grad(total, case.leaves)
    terms = case.fused(method, chunk_tokens=chunk, function=function, **options)
    actual = torch.autograd.grad(terms.total, case.leaves)
    assert terms.clm_count == clm_count and terms.divergence_count == div_count
    pairs = [(terms.clm_sum, clm), (terms.divergence_sum, div), (terms.total, total)]
    pairs += list(zip(actual, expected, strict=True))
    for got, want in pairs:
        assert got.dtype == want.dtype
        error = (got - want).abs().max()
        assert error <= tolerance * want.abs().max() + tolerance * 1e-3, (error, want.abs().max())
