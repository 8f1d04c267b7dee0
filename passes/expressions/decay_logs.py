"""Decay logs: a product of decay factors as `sign * e^log`, exactly, with logs of exponentials folded."""

from collections.abc import Mapping

from smir.ir.expr import const, pointwise
from smir.ir.graph import Node
from smir.ir.interval import INF, Interval
from smir.ir.operator import Diagonal
from smir.passes.analysis.ranges import node_ranges
from smir.passes.expressions.algebra import Factors, fold, is_const, negated, plus, product, total

NON_NEGATIVE = Interval(0.0, INF)


def diagonal(items: Factors, declared: Mapping[str, Interval]) -> Diagonal | None:
    """The product of the factors as a Diagonal; None for the identity.

    A factor that its promised ranges prove non-negative has a log; another one a sign and the log of its size.
    """
    logs, signs = [], []
    for f in items:
        ranges = node_ranges([f], declared)
        if not ranges[f].within(NON_NEGATIVE):
            signs.append(sign_of(f))
        logs.append(log_of(f, ranges))
    log = total(x for x in logs if not is_const(x, 0.0)) or const(0.0)
    signs = [s for s in signs if not is_const(s, 1.0)]
    if not signs and is_const(log, 0.0):
        return None
    return Diagonal(log, product(signs) if signs else None)


def sign_of(factor: Node) -> Node:
    """-1 where the factor is negative, otherwise 1."""
    return fold("where", fold("lt", factor, const(0.0)), const(-1.0), const(1.0))


def log_of(factor: Node, ranges: Mapping[Node, Interval]) -> Node:
    """log |factor|, pushed through products, powers and choices so that `log(exp(g))` is g."""
    op, args = factor.op, factor.args
    if op == "const":
        return fold("log", const(abs(factor["value"])))
    if op == "exp":
        return args[0]
    if op == "sigmoid":
        # log sigmoid(x) = -log(1 + e^-x), which neither overflows nor loses digits.
        return negated(pointwise("logaddexp", const(0.0), negated(args[0])))
    if op == "mul":
        return plus(log_of(args[0], ranges), log_of(args[1], ranges)) or const(0.0)
    if op == "div":
        below = negated(log_of(args[1], ranges))
        return below if is_const(args[0], 1.0) else plus(log_of(args[0], ranges), below) or const(0.0)
    if op == "sqrt":
        return pointwise("mul", const(0.5), log_of(args[0], ranges))
    if op == "pow" and (ranges[args[0]].within(NON_NEGATIVE) or args[1].op == "const"):
        return product((args[1], log_of(args[0], ranges)))
    if op == "where":
        return pointwise("where", args[0], log_of(args[1], ranges), log_of(args[2], ranges))
    if op in ("neg", "abs"):
        return log_of(args[0], ranges)
    size = factor if ranges[factor].within(NON_NEGATIVE) else pointwise("abs", factor)
    return pointwise("log", size)
