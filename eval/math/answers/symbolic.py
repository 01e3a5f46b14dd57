"""Whether two formulas are equal, by sympy (runs inside ``worker`` only).

LaTeX is read by grammars: latex2sympy2_extended, which math-verify uses, for strict; sympy's
parse_latex for compat. Nothing evaluates text as Python, and ``check_size`` refuses what would
fill the memory. Time is the worker's affair.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

MAX_DIGITS = 5_000
"""A number whose decimal form is longer is never written out."""

MAX_LATEX = 400
"""Characters of an expression. No gold answer has 300; the grammars need seconds for thousands."""


class TooBig(Exception):
    """An expression that would need more than MAX_DIGITS digits or very many terms."""


@lru_cache(maxsize=500)
def parse(latex: str) -> Any:
    """LaTeX to a sympy object by math-verify's grammar; raises Exception if it is no LaTeX."""
    from latex2sympy2_extended import latex2sympy
    from sympy import E, I, Symbol

    if len(latex) > MAX_LATEX:
        raise TooBig
    found = latex2sympy(latex)
    # A lone i or e in an answer is the number; the grammar reads it as a symbol.
    named = {Symbol("i"): I, Symbol("e"): E}
    if not hasattr(found, "free_symbols") or not found.free_symbols & set(named):
        return found
    check_size(found)  # substitution evaluates
    return found.subs(named)


def check_size(expression: Any) -> None:
    """Raise TooBig before anything tries to write out 9^(9^9) or 10^8 factorial."""
    import sympy as sp

    calculus = (sp.Integral, sp.Limit, sp.Derivative)
    growing = (sp.Pow, sp.factorial, sp.binomial, sp.gamma)
    for node in sp.preorder_traversal(expression):
        if isinstance(node, sp.Sum | sp.Product):
            for _, low, high in node.limits:
                span = high - low
                if span.is_number and span.is_finite and abs(span) > 1_000:
                    raise TooBig
        elif isinstance(node, calculus) or isinstance(node, growing) and _digits(node) > MAX_DIGITS:
            raise TooBig


def _digits(node: Any) -> float:
    """An upper bound of the digits of a number (above or below its fraction bar), at least 1.

    Symbols and functions of moderate value count 1; sizes beyond any float are infinite.
    """
    import sympy

    if isinstance(node, sympy.Rational):
        return max(1.0, math.log10(abs(node.p) or 1), math.log10(node.q))
    if isinstance(node, sympy.Pow):
        base, exponent = node.args
        return _digits(base) * _upper(exponent)
    if isinstance(node, sympy.factorial | sympy.binomial | sympy.gamma):
        size = _upper(node.args[0])
        return size * max(1.0, math.log10(size)) if size < 1e9 else math.inf
    if isinstance(node, sympy.Add | sympy.Mul):
        return sum(_digits(arg) for arg in node.args)
    return 1.0


def _upper(node: Any) -> float:
    """An upper bound of a number's size as a float, infinite if its digits are many; symbols 1."""
    if not node.is_number:
        return 1.0
    if node.is_Rational:
        return abs(node.p) / node.q + 1.0 if _digits(node) < 15 else math.inf
    digits = _digits(node)
    return 10.0**digits if digits < 15 else math.inf


def same_scalar(gold: Any, answer: Any) -> bool:
    """Whether two sympy expressions are equal: exactly, or at sample points if they have symbols.

    Numbers are compared exactly or to 40 digits of their own size, so 2^-99 is not 2^-98 and
    197.92 is not 63 pi; a division by zero or an infinity equals nothing but itself.
    """
    from sympy import Rational, nan, oo, simplify, zoo

    if gold == answer:
        return not gold.has(nan, zoo)
    for side in (gold, answer):
        check_size(side)
    gold, answer = _exact(gold), _exact(answer)
    if gold.has(nan, zoo) or answer.has(nan, zoo):
        return False
    if gold == answer:
        return True
    if gold.has(oo, -oo) or answer.has(oo, -oo):
        return False
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    if not symbols:
        if isinstance(gold, Rational) and isinstance(answer, Rational):
            return False
        close = _close(gold, answer)
        return bool(simplify(gold - answer) == 0) if close is None else close
    agreed = 0
    for point in _sample_points(symbols):
        close = _close(gold.subs(point), answer.subs(point))
        if close is False:
            return False
        agreed += close is True
    return agreed >= 3 or bool(simplify(gold - answer) == 0)


def _exact(expression: Any) -> Any:
    """Carry out what the grammar leaves undone; decimals become exact fractions."""
    from sympy import nsimplify

    done = expression.doit() if hasattr(expression, "doit") else expression
    return nsimplify(done, rational=True)


def _sample_points(symbols: list[Any]) -> list[dict[Any, Any]]:
    """Five fixed points, two of them with negative coordinates, none near zero or one."""
    from sympy import Rational

    points = []
    for row in range(5):
        sign = -1 if row >= 3 else 1
        points.append(
            {
                symbol: sign
                * Rational(1009 + 617 * row + 397 * column * (row + 2), 811 + 97 * column)
                for column, symbol in enumerate(symbols)
            }
        )
    return points


def _close(one: Any, other: Any) -> bool | None:
    """Whether two numbers agree to 40 digits of their size; None if they have no finite value."""
    from sympy import N, Rational

    values = []
    for side in (one, other):
        check_size(side)
        value = N(side, 60, maxn=400)
        parts = value.as_real_imag()
        if not all(part.is_number and part.is_finite for part in parts) or value.free_symbols:
            return None
        values.append(parts)
    size = sum(abs(part) for parts in values for part in parts)
    gap = sum(abs(a - b) for a, b in zip(*values, strict=True))
    return bool(gap <= size * Rational(1, 10**40))


def same_relation(gold: Any, answer: Any) -> bool:
    """Whether two equations or inequalities say the same: their difference of sides is
    proportional (for inequalities by a positive factor, or a negative one if turned round)."""
    from sympy import Eq, Ge, Gt, Le, Lt, Ne

    turned = {Eq: Eq, Ne: Ne, Ge: Le, Le: Ge, Gt: Lt, Lt: Gt}
    one, other = _difference(gold), _difference(answer)
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    ratios = []
    for point in _sample_points(symbols):
        bottom = other.subs(point)
        if not symbols or bottom == 0:
            return False
        ratios.append(one.subs(point) / bottom)
    if any(_close(ratio, ratios[0]) is not True for ratio in ratios) or ratios[0] == 0:
        return False
    if type(gold) is type(answer) and type(gold) in (Eq, Ne):
        return True
    positive = bool(ratios[0] > 0)
    return type(gold) is (type(answer) if positive else turned.get(type(answer)))


def _difference(relation: Any) -> Any:
    check_size(relation.lhs)
    check_size(relation.rhs)
    return _exact(relation.lhs - relation.rhs)


def strict_equal(gold: str, answer: str) -> bool:
    """Compare two LaTeX scalars, equations or inequalities; whatever cannot be read is unequal."""
    from math_verify.grader import verify
    from sympy import Expr
    from sympy.core.relational import Relational

    parsed = parse(gold), parse(answer)
    if all(isinstance(side, Relational) for side in parsed):
        return same_relation(*parsed)
    if all(isinstance(side, Expr) for side in parsed):
        return same_scalar(*parsed)
    if any(isinstance(side, Expr | Relational) for side in parsed):
        return False
    for side in parsed:
        check_size(side)
    return verify(*parsed, timeout_seconds=None)  # sets, chains and the like


def compat_equal(gold: str, answer: str) -> bool:
    """Compare as the reference protocol's last rule does, minus its evaluation of text.

    sympy's parse_latex reads a prefix and ignores the rest ("5**2" is 5), and takes pi and i for
    plain symbols: kept on purpose. Numbers beyond any float are not all equal here, though.
    """
    from sympy import Expr
    from sympy.core.relational import Relational

    one, other = _read_leniently(gold), _read_leniently(answer)
    if one == other or str(one) == str(other):
        return not isinstance(one, str) or gold == answer
    if all(isinstance(side, Relational) for side in (one, other)):
        one, other = _difference(one), _difference(other)
        return same_scalar(one, other) or same_scalar(one, -other)
    if not all(isinstance(side, Expr) for side in (one, other)):
        return False
    if same_scalar(one, other):
        return True
    if one.free_symbols or other.free_symbols:
        return False
    return math.isclose(float(one.evalf()), float(other.evalf()), rel_tol=1e-4)


@lru_cache(maxsize=500)  # the same gold answers come up again and again
def _read_leniently(text: str) -> Any:
    """What the reference's first reader makes of a text; the text itself if it cannot read it.

    Only for a set in braces, which that reader rejects, math-verify's stands in for its second.
    """
    from latex2sympy2_extended import latex2sympy
    from sympy.parsing.latex import parse_latex

    if len(text) > MAX_LATEX or not text.isascii():
        return text
    if text.startswith('"') and text.endswith('"'):
        text = text.strip('"')
    read = latex2sympy if text.startswith("{") and text.endswith("}") else parse_latex
    for form in (text.replace("\\\\", "\\"), text):
        try:
            return read(form)
        except ImportError:
            raise
        except Exception:
            continue
    return text


OPERATIONS = {"strict": strict_equal, "compat": compat_equal}
"""What a worker can be asked, by grading mode."""
