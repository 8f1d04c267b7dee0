"""Quotients that don't change when what both sides are linear in is scaled, and the digits that their gradients need.

Where a numerator N and a denominator n are linear in the same rows u, as linear attention with a normaliser is in its
queries, Euler's identity gives the adjoint of n without the quotient: with x the adjoint of u by way of N alone,

    d_n = -sum(d_N N) / n = -sum(u x) / n

x is needed in any case, products that would make N again aren't, and the two parts of d_u = x + d_n (dn/du) cancel as
far as u d_u = 0 says, whatever rounding did to x: with separate roundings, what is left of two large parts would be
their errors. The other directions of x need digits of their own: its last products take what they multiply with
unrounded (`precise`), states and what is written to them included.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from smir.ir import tile
from smir.ir.graph import Node, rebuild, substitute, walk
from smir.ir.tile import CHUNK, ONE, TOKEN
from smir.ir.tile_program import TileProgram

_SUMS = frozenset({"add", "sub"})
_MASKS = frozenset({"mask", "valid_rows", "level_mask"})
# From the adjoint of u down to the products that it is the sum of.
_SUMMANDS = frozenset({"add", "sub", "neg", "mul", "valid_rows"})


def shared_rows(quotient: Node) -> Node | None:
    """The rows, a vector per token, in which both sides of a quotient of vectors by numbers are linear; the innermost.

    Linear token by token: no row of the quotient reads another row of them.
    """
    if quotient.op != "div":
        return None
    above, below = quotient.args
    if above.type.rows != CHUNK or above.type.cols == ONE or below.type.cols != ONE:
        return None
    linear = _Linear()
    both = linear.rows(above) & linear.rows(below)
    vectors = (n for n in walk(quotient.args) if n in both and n.type.cols not in (ONE, CHUNK))
    return next(vectors, None)


class _Linear:
    """The values with rows of tokens in which a value is linear, row by row."""

    def __init__(self) -> None:
        self.known: dict[Node, frozenset[Node]] = {}

    def rows(self, node: Node) -> frozenset[Node]:
        """Those below the node, and the node itself."""
        if node.type.rows != CHUNK:
            return frozenset()
        if node not in self.known:
            self.known[node] = self._below(node) | {node}
        return self.known[node]

    def _below(self, node: Node) -> frozenset[Node]:
        if node.op in _SUMS:
            return self.rows(node.args[0]) & self.rows(node.args[1])
        if (node.op in _MASKS and node.get("fill", 0.0) == 0.0) or node.op in ("neg", "level_sum"):
            return self.rows(node.args[0])
        if node.op == "sum" and node["axis"] == 1:
            return self.rows(node.args[0])
        if node.op == "mul":
            return self._beside(*node.args) | self._beside(*reversed(node.args))
        return self._beside(*node.args) if node.op in ("dot", "div") else frozenset()

    def _beside(self, factor: Node, other: Node) -> frozenset[Node]:
        """Of a product, linear in its factor where the other one doesn't depend on the same rows."""
        return self.rows(factor) - set(walk([other]))


def with_precise_products(adjoint: Node) -> Node:
    """The adjoint of rows, in which the last products keep the digits of what they multiply with."""
    if adjoint.op in _SUMMANDS:
        return rebuild(adjoint, (with_precise_products(a) for a in adjoint.args))
    if adjoint.op == "dot" and not _is_thin(adjoint) and adjoint.args[0].op != "level_mask":
        return tile.dot(adjoint.args[0], precise(adjoint.args[1]))
    return adjoint


def precise_wherever(programs: Iterable[TileProgram]) -> tuple[TileProgram, ...]:
    """The programs with every product precise that is so anywhere, and those that make the states in them.

    The backward pass reads states that the forward pass wrote, so both of a mixer's programs belong together.
    """
    programs = tuple(programs)
    marked = {n for program in programs for n in program.nodes() if n.op == "dot" and _inside(n.args[1]) is not None}
    better = {tile.dot(n.args[0], _unmarked(n.args[1])): n for n in marked}
    states = {_inside(n.args[1]) for n in marked}
    for carry in (c for program in programs for c in program.carries if c.load in states):
        better |= _writes(carry.next)
    return tuple(substituted(program, better) for program in programs)


def _writes(state: Node) -> dict[Node, Node]:
    """The products with transposed rows of tokens that are added to a state, precise."""
    found: dict[Node, Node] = {}
    for node in (n for n in walk([state]) if n.op == "dot" and n.args[0].op == "transpose" and not _is_thin(n)):
        left, right = node.args
        if left.type.cols == CHUNK and (exact := precise(left)) is not left:
            found[node] = tile.dot(exact, right)
    return found


def precise(operand: Node) -> Node:
    """The operand, marked below its transposition; inputs are exact in the type of products as they are."""
    if operand.op == "transpose":
        inner = precise(operand.args[0])
        return operand if inner is operand.args[0] else tile.transpose(inner)
    return operand if operand.op == "load" and operand["kind"] == TOKEN else tile.pointwise("precise", operand)


def _inside(operand: Node) -> Node | None:
    """What a precise operand is, without its transposition."""
    inner = operand.args[0] if operand.op == "transpose" else operand
    return inner.args[0] if inner.op == "precise" else None


def _unmarked(operand: Node) -> Node:
    if operand.op == "transpose":
        return tile.transpose(_unmarked(operand.args[0]))
    return operand.args[0] if operand.op == "precise" else operand


def _is_thin(product: Node) -> bool:
    return ONE in (product.type.rows, product.type.cols, product.args[0].type.cols)


def substituted(program: TileProgram, better: Mapping[Node, Node]) -> TileProgram:
    if not better:
        return program
    scans = tuple(
        replace(
            s,
            carries=tuple(replace(c, next=substitute(c.next, better)) for c in s.carries),
            exports=tuple((name, substitute(value, better)) for name, value in s.exports),
            each=tuple((name, substitute(value, better)) for name, value in s.each),
        )
        for s in program.scans
    )
    outputs = tuple(replace(o, value=substitute(o.value, better)) for o in program.outputs)
    return replace(program, scans=scans, outputs=outputs)
