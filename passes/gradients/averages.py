"""Slots that hold averages of the tokens so far, and the digits that tell one slot from another.

Weights e^(s - l) with l = log sum e^s over the tokens so far are shares: what is written with them is an average, and
while tokens are few, all slots hold nearly the same. The adjoint of a softmax over slots reads nothing but what is
different between them: dS = P (dP - sum P dP), whose rows add up to zero. Two products meet the shares of a chunk's own
tokens there. The one that makes dP keeps the axis of slots, and rounding its other side moves all slots alike: only the
shares need their digits (`precise`). That of dS and the shares contracts the axis, and what cancels has the errors of
both. Products with states are left as they are: before a sequence's first tokens, which all this is about, it has none.
"""

from collections.abc import Iterable, Set

from smir.ir import tile
from smir.ir.graph import Node, rebuild, walk
from smir.ir.tile import CHUNK, LOGSUM, level_dependent
from smir.ir.tile_program import TileProgram
from smir.passes.gradients.ratios import precise, substituted

_SCALED = frozenset({"mul", "valid_rows", "transpose"})


def with_precise_averages(forward: TileProgram, adjoint: TileProgram) -> TileProgram:
    """The adjoint in which products with shares that a softmax weighs keep their digits; of the forward program's own
    products none, whose results are no differences."""
    nodes, known = tuple(adjoint.nodes()), set(forward.nodes())
    shares = {n for n in nodes if _is_share(n)}
    slots = {n.type.cols for n in shares} & _softmax_axes(known)
    if not slots:
        return adjoint
    wanted = {s for s in shares if s.type.cols in slots}
    done: dict[Node, Node] = {}
    for node in nodes:
        same = rebuild(node, (done[a] for a in node.args))
        differs = node.op == "dot" and node not in known and node in level_dependent(node)
        done[node] = _better(same, wanted) if differs else same
    return substituted(adjoint, done)


def _is_share(node: Node) -> bool:
    """Whether it is e^(s - l), with l the log of the sum of e^s up to each row."""
    if node.op != "exp" or node.args[0].op != "sub":
        return False
    written, total = node.args[0].args
    return total.op == "scan" and total["kind"] == LOGSUM and _of_tokens(total.args[1]) is _of_tokens(written)


def _of_tokens(rows: Node) -> Node:
    return rows.args[0] if rows.op == "valid_rows" else rows


def _softmax_axes(nodes: Iterable[Node]) -> set[str]:
    """The axes along which a quotient's divisor is made of the sum of what it divides."""
    quotients = [n.args for n in nodes if n.op == "div"]
    sums = ((above, n) for above, below in quotients for n in walk([below]) if n.op == "sum" and n["axis"] == 1)
    return {above.type.cols for above, n in sums if n.args[0] is above}


def _better(product: Node, shares: Set[Node]) -> Node:
    """Its sides that are made of shares, precise; and what they are contracted with along their slots."""
    of_shares = [_is_made_of(a, shares) for a in product.args]
    contracted = any(of_shares) and product.args[0].type.cols != CHUNK
    sides = (precise(a) if own or contracted else a for a, own in zip(product.args, of_shares, strict=True))
    return tile.dot(*sides)


def _is_made_of(operand: Node, shares: Set[Node]) -> bool:
    """Whether a product's side is shares times anything."""
    return operand in shares or (operand.op in _SCALED and any(_is_made_of(a, shares) for a in operand.args))
