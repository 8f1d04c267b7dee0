"""Quotients of pair reads as softmax: `sum_j w_ij u_j x_j / sum_j w_ij u_j` with exponential weights.

The quotient doesn't change when all weights of a row are multiplied by one number, so it is computed with the largest
exponent taken out: what overflows as numerator and denominator is harmless as a softmax.
"""

from collections.abc import Mapping, MutableMapping, Sequence

from smir.ir.dims import ONE
from smir.ir.expr import const, input_of, pointwise, read
from smir.ir.graph import Node, substitute, walk
from smir.ir.pairs import SOFTMAX, SUM, PairRead
from smir.passes.expressions.algebra import UNITY
from smir.passes.masks.index_formulas import AT_J
from smir.passes.recognition.pair_weights import added, log_weights


def quotients_to_softmax(
    output: Node, reads: Sequence[PairRead], columns: MutableMapping[str, Node]
) -> tuple[Node, tuple[PairRead, ...]]:
    """The output and the reads with such quotients replaced; `columns` gets the columns that new formulas name."""
    known = {r.name: r for r in reads}
    replaced: dict[Node, Node] = {}
    for node in list(walk([output])):
        if node.op == "div" and node.args[1].op == "read":
            found = _quotient(node, known, columns)
            if found is not None:
                known[found[1].name], replaced[node] = found[1], found[0]
    return substitute(output, replaced) if replaced else output, tuple(known.values())


def _quotient(
    node: Node, known: Mapping[str, PairRead], columns: MutableMapping[str, Node]
) -> tuple[Node, PairRead] | None:
    below = known[node.args[1]["name"]]
    for factor in _factors(node.args[0]):
        above = known.get(factor["name"]) if factor.op == "read" else None
        made = _softmax(above, below, columns) if above is not None else None
        if made is not None:
            value = read(made.name, made.value.type.rows if made.value is not None else ONE)
            return substitute(node.args[0], {factor: value}), made
    return None


def _softmax(above: PairRead, below: PairRead, columns: MutableMapping[str, Node]) -> PairRead | None:
    """The softmax read that the quotient of two sums is."""
    weights = log_weights(above.scores)
    if (above.kind, below.kind) != (SUM, SUM) or weights is None:
        return None
    if (above.scores, above.mask) != (below.scores, below.mask):
        return None
    scores, mask = weights.log, above.mask
    if weights.mask is not None:
        mask = weights.mask if mask is None else pointwise("and", mask, weights.mask)
    name = f"softmax_of_{above.name}"
    if below.value is None:
        return PairRead(name, SOFTMAX, scores, mask, above.value)
    if below.value.op != "exp" or above.value is None:
        return None
    rest = _without(above.value, below.value)
    exponent = below.value.args[0]
    if rest is None:
        return None
    if exponent.type.is_scalar:
        return PairRead(name, SOFTMAX, added("add", scores, _at_j(exponent, columns)), mask, rest)
    if rest.type.shape != exponent.type.shape:
        return None
    return PairRead(name, SOFTMAX, scores, mask, rest, exponent)


def _factors(node: Node) -> list[Node]:
    return [f for a in node.args for f in _factors(a)] if node.op == "mul" else [node]


def _without(product: Node, factor: Node) -> Node | None:
    """The product without one of its factors; None if it isn't one."""
    factors = _factors(product)
    if factor not in factors:
        return None
    factors.remove(factor)
    rest = UNITY
    for f in factors:
        rest = f if rest is UNITY else pointwise("mul", rest, f)
    return rest


def _at_j(column: Node, columns: MutableMapping[str, Node]) -> Node:
    """A scalar of every step as the formula of position j."""
    if column.op == "const":
        return const(column["value"])
    if column.op == "input":
        return input_of(column["name"], AT_J, ONE, column["offset"])
    name = next((n for n, c in columns.items() if c is column), f"%{len(columns)}")
    columns[name] = column
    return input_of(name, AT_J, ONE)
