"""Reverse-mode rules: for every tile operation, the adjoints of its arguments in terms of the adjoint of its result.

The rules only use tile operations, and all of these have rules: programs are closed under differentiation, any number
of times. A rule returns one adjoint for each argument, or None where the argument has no influence (conditions,
constants).
"""

from collections.abc import Callable, Set

from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.ops import POINTWISE

Adjoints = tuple[Node | None, ...]
Rule = Callable[[Node, Node], Adjoints]

p = tile.pointwise
# Beyond the end of the sequence, where inputs are zero, these may give 0/0 or -inf.
RISKY = frozenset({"div", "log", "pow", "sqrt"})


def vjp(
    node: Node,
    adjoint: Node,
    undefined: Set[Node] = frozenset(),
    infinite: Set[Node] = frozenset(),
    multiplied: Set[Node] = frozenset(),
) -> Adjoints:
    """The adjoints of the node's arguments, each with the argument's own axes.

    `undefined` has the values with nonsense in the rows beyond the end of the sequence. A forward pass drops such rows;
    an adjoint would sum them, so they become zero first. `infinite` has values that may be -inf: their products with
    an adjoint of zero are zero. `multiplied` has the operands of products: the angle of a rotated one sees what these
    take, since gradients of angles are sums over tokens in which the products' other sides cancel.
    """
    if node.op == "dot" and node.args[0] in undefined:
        node = tile.dot(tile.valid_rows(node.args[0]), node.args[1])
    turned = node.op == "rotate" and node in multiplied
    raw = _rotate(node, adjoint, p("rounded", node)) if turned else RULES[node.op](node, adjoint)
    if node.op == "mul" and not infinite.isdisjoint(node.args):
        raw = tuple(g and unless_zero(adjoint, g) for g in raw)
    # rows beyond the end hand a state on unchanged: what comes back through them belongs to it
    if node.op not in ("scan", "shift") and (node in undefined or (node.op in RISKY and node.type.rows == tile.CHUNK)):
        raw = tuple(g and (tile.valid_rows(g) if g.type.rows == tile.CHUNK else g) for g in raw)
    return tuple(None if g is None else summed_to(g, a) for g, a in zip(raw, node.args, strict=True))


def summed_to(adjoint: Node, argument: Node) -> Node:
    """Undoes broadcasting: sums over the axes along which the argument was repeated."""
    if adjoint.type.rows != argument.type.rows and argument.type.rows == tile.ONE:
        adjoint = tile.reduce_sum(adjoint, 0)
    if adjoint.type.cols != argument.type.cols and argument.type.cols == tile.ONE:
        adjoint = tile.reduce_sum(adjoint, 1)
    return tile.broadcast(adjoint, argument.type.rows, argument.type.cols)


def _number(value: float) -> Node:
    return tile.const(value)


# ---- pointwise --------------------------------------------------------------------------------------------------


def unless_zero(g: Node, adjoint: Node) -> Node:
    """An adjoint of zero stays zero, also where the derivative is infinite: a branch not taken, a decay of zero."""
    return p("where", p("eq", g, _number(0.0)), _number(0.0), adjoint)


def _mul(y: Node, g: Node) -> Adjoints:
    a, b = y.args
    return p("mul", g, b), p("mul", g, a)


def _div(y: Node, g: Node) -> Adjoints:
    """A vector divided by a number is multiplied with one number per row; the number's own is a sum over the vector.

    Where the number is zero its quotient isn't finite, so that nothing sees it in whose gradient it would count.
    """
    b = y.args[1]
    if b.type.cols == tile.ONE != y.type.cols:
        inverse = p("where", p("eq", b, _number(0.0)), _number(0.0), p("div", _number(1.0), b))
        inverse = tile.valid_rows(inverse) if b.type.rows == tile.CHUNK else inverse
        total = tile.reduce_sum(unless_zero(g, p("mul", g, y)), 1)
        return p("mul", g, inverse), p("neg", p("mul", total, inverse))
    da = p("div", g, b)
    return unless_zero(g, da), unless_zero(g, p("neg", p("mul", da, y)))


def _pow(y: Node, g: Node) -> Adjoints:
    """d(a^b): b a^(b-1) da, and y log(a) db, which is zero where a is zero."""
    a, b = y.args
    da = p("mul", g, p("mul", b, p("pow", a, p("sub", b, _number(1.0)))))
    da = unless_zero(g, da)
    if b.op == "const":
        return da, None
    safe = p("where", p("lt", _number(0.0), a), a, _number(1.0))
    return da, p("mul", g, p("mul", y, p("log", safe)))


def _larger(y: Node, g: Node) -> Adjoints:
    """max: the adjoint goes to the first argument where they are equal."""
    a, b = y.args
    return p("where", p("le", b, a), g, _number(0.0)), p("where", p("lt", a, b), g, _number(0.0))


def _smaller(y: Node, g: Node) -> Adjoints:
    a, b = y.args
    return p("where", p("le", a, b), g, _number(0.0)), p("where", p("lt", b, a), g, _number(0.0))


def _logaddexp(y: Node, g: Node) -> Adjoints:
    """The weights e^(a-y) and e^(b-y), as sigmoids of the difference: defined where both are -inf but one."""
    a, b = y.args
    return p("mul", g, p("sigmoid", p("sub", a, b))), p("mul", g, p("sigmoid", p("sub", b, a)))


def _sqrt(y: Node, g: Node) -> Adjoints:
    return (unless_zero(g, p("div", p("mul", _number(0.5), g), y)),)


def _abs(y: Node, g: Node) -> Adjoints:
    (a,) = y.args
    sign = p("where", p("lt", a, _number(0.0)), _number(-1.0), _number(1.0))
    return (p("mul", g, sign),)


def _one_minus_square(y: Node, g: Node) -> Adjoints:
    return (p("mul", g, p("sub", _number(1.0), p("mul", y, y))),)


def _sigmoid(y: Node, g: Node) -> Adjoints:
    return (p("mul", g, p("mul", y, p("sub", _number(1.0), y))),)


def _where(y: Node, g: Node) -> Adjoints:
    condition = y.args[0]
    return None, p("where", condition, g, _number(0.0)), p("where", condition, _number(0.0), g)


# ---- structural -------------------------------------------------------------------------------------------------


def _dot(y: Node, g: Node) -> Adjoints:
    a, b = y.args
    return tile.dot(g, tile.transpose(b)), tile.dot(tile.transpose(a), g)


def _reduce_max(y: Node, g: Node) -> Adjoints:
    """To every entry that equals the maximum, in equal shares."""
    hit = p("where", p("eq", y.args[0], y), _number(1.0), _number(0.0))
    return (p("div", p("mul", g, hit), tile.reduce_sum(hit, y["axis"])),)


def _cumsum(y: Node, g: Node) -> Adjoints:
    return (tile.cumsum(g, reverse=not y["reverse"], exclusive=y["exclusive"]),)


def _segment_sum(y: Node, g: Node) -> Adjoints:
    """D_ij sums g_m over the segment: g_m collects all (i, j) whose segment holds m, again by direct sums."""
    reverse, exclusive = y["reverse"], y["exclusive"]
    reached = tile.cumsum(g, reverse=not reverse, exclusive=exclusive)
    return (tile.reduce_sum(tile.mask(reached, "strict_upper" if reverse else "strict_lower"), 1),)


def _unit_inverse(y: Node, g: Node) -> Adjoints:
    """d(I+N)^-1 = -T dN T, so dN = -T' g T' where N may be non-zero."""
    t = tile.transpose(y)
    kind = "strict_upper" if y["reverse"] else "strict_lower"
    return (p("neg", tile.mask(tile.dot(tile.dot(t, g), t), kind)),)


def _rotate(y: Node, g: Node, seen: Node | None = None) -> Adjoints:
    """The inverse rotation for the value; an angle moves each pair at right angles to itself: y0 g1 - y1 g0.

    `seen`: the rotated value as its users take it.
    """
    theta, _ = y.args
    axis, inverse = y["axis"], y["inverse"]
    turned = tile.cross_pairs(seen or y, g, axis, str(theta.type.rows if axis == 0 else theta.type.cols))
    return p("neg", turned) if inverse else turned, tile.rotate(theta, g, axis, inverse=not inverse)


def _cross_pairs(y: Node, g: Node) -> Adjoints:
    """Of a0 b1 - a1 b0."""
    a, b = y.args
    return tile.turn_pairs(g, b, y["axis"]), p("neg", tile.turn_pairs(g, a, y["axis"]))


def _turn_pairs(y: Node, g: Node) -> Adjoints:
    """Of (a b1, -a b0)."""
    a, b = y.args
    half = str(a.type.rows if y["axis"] == 0 else a.type.cols)
    return tile.cross_pairs(g, b, y["axis"], half), p("neg", tile.turn_pairs(a, g, y["axis"]))


def _scan(y: Node, g: Node) -> Adjoints:
    """With c_t the derivative of y_t by y_(t-1): lambda_t = g_t + c_(t+1) lambda_(t+1), a scan the other way.

    The write gets lambda, or where it shares the state with the past its part of it; an additive decay the rest.
    """
    decay, write, start = y.args
    kind, reverse = y["kind"], y["reverse"]
    before = tile.shift(y, start, reverse)
    kept = decay if kind == tile.SUM else _share_of_past(kind, decay, write, before)
    zero = _number(0.0)
    behind = tile.scan(tile.shift(kept, zero, not reverse), g, zero, reverse=not reverse)
    past = p("mul", kept, behind)
    if kind == tile.SUM:
        return p("mul", behind, before), behind, tile.edge_row(past, not reverse)
    return past, p("sub", behind, past), tile.edge_row(past, not reverse)


def _share_of_past(kind: str, decay: Node, write: Node, before: Node) -> Node:
    """The derivative of max(decay + before, write), which is 1 where they are equal, or of their logaddexp."""
    past = p("add", decay, before)
    if kind == tile.MAX:
        return p("where", p("le", write, past), _number(1.0), _number(0.0))
    nothing = p("eq", past, _number(float("-inf")))
    return p("where", nothing, _number(0.0), p("sigmoid", p("sub", past, write)))


def _shift(y: Node, g: Node) -> Adjoints:
    back = tile.shift(g, _number(0.0), not y["reverse"])
    return back, tile.edge_row(g, not y["reverse"])


RULES: dict[str, Rule] = {
    "add": lambda y, g: (g, g),
    "sub": lambda y, g: (g, p("neg", g)),
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "max": _larger,
    "min": _smaller,
    "logaddexp": _logaddexp,
    "neg": lambda y, g: (p("neg", g),),
    "exp": lambda y, g: (p("mul", g, y),),
    "log": lambda y, g: (unless_zero(g, p("div", g, y.args[0])),),
    "sqrt": _sqrt,
    "abs": _abs,
    "floor": lambda y, g: (None,),
    "sigmoid": _sigmoid,
    "tanh": _one_minus_square,
    "cos": lambda y, g: (p("neg", p("mul", g, p("sin", y.args[0]))),),
    "sin": lambda y, g: (p("mul", g, p("cos", y.args[0])),),
    "where": _where,
    "precise": lambda y, g: (g,),
    "rounded": lambda y, g: (g,),
    "widen": lambda y, g: (g,),
    "narrow": lambda y, g: (g,),
    "stop": lambda y, g: (None,),
    **{name: lambda y, g: (None,) * len(y.args) for name, op in POINTWISE.items() if op.boolean},
    "dot": _dot,
    "transpose": lambda y, g: (tile.transpose(g),),
    "broadcast": lambda y, g: (g,),
    "sum": lambda y, g: (tile.broadcast(g, y.args[0].type.rows, y.args[0].type.cols),),
    "reduce_max": _reduce_max,
    "cumsum": _cumsum,
    "segment_sum": _segment_sum,
    "mask": lambda y, g: (tile.mask(g, y["kind"]),),
    "valid_rows": lambda y, g: (tile.valid_rows(g),),
    "unit_inverse": _unit_inverse,
    "pair_distance": lambda y, g: (tile.pair_collect(g, y["reverse"], y["exclusive"]),),
    "pair_collect": lambda y, g: (tile.pair_distance(g, y["reverse"], y["exclusive"]),),
    "level_mask": lambda y, g: (tile.level_mask(g, y["reverse"]),),
    "level_sum": lambda y, g: (g,),
    "rotate": _rotate,
    "cross_pairs": _cross_pairs,
    "turn_pairs": _turn_pairs,
    "scan": _scan,
    "shift": _shift,
    "edge_row": lambda y, g: (tile.place_row(g, y["reverse"]),),
    "place_row": lambda y, g: (tile.edge_row(g, y["reverse"]),),
    "spread": lambda y, g: (tile.fold(g, y["part"]),),
    "fold": lambda y, g: (tile.spread(g, y.args[0].type.cols, y["part"]),),
}
