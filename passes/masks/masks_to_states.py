"""Masks to states: a masked operator over whole sequences rewritten as step equations.

A T x n matrix becomes a column per step, a T x T matrix an index formula in i and j, and every product of the
two a read of new states or a finite sum of delayed inputs (kernel_states).
"""

from dataclasses import replace

from smir.ir.dims import ONE, TIME
from smir.ir.expr import (
    CONST,
    ValueType,
    input_at,
    input_of,
    matmul,
    param_at,
    pointwise,
    position,
    rotate,
    softmax,
    sum_over,
    transpose,
)
from smir.ir.graph import Node, make, walk
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle
from smir.ir.ops import POINTWISE
from smir.passes.expressions.algebra import UNITY, expand, simple
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.masks.index_formulas import AT_I, AT_J, NO_FACTORS, Leaves
from smir.passes.masks.kernel_states import Kernel, StateBuilder


def masks_to_states(mixer: Mixer) -> Mixer | tuple[Obstacle, ...]:
    """The same mixer as step equations, or the obstacle: the law that the masked operator breaks."""
    names = {d.name for d in mixer.declarations} | {s.name for s in mixer.states}
    builder = StateBuilder(names)
    try:
        output = Rewriter(builder).column(mixer.output)
    except BrokenLaw as broken:
        return (broken.obstacle(mixer),)
    span = mixer.span(mixer.output)
    states = tuple(replace(s, span=span) for s in builder.states)
    return replace(mixer, states=mixer.states + states, output=output, names=())


def is_kernel(node: Node) -> bool:
    """Whether the node is a T x T matrix."""
    return bool(node.type.shape == (TIME, TIME))


def _is_ones(node: Node) -> bool:
    """Whether the node is a column of ones over the positions."""
    return node.op == "ones" and bool(node.type.rows == TIME)


class Rewriter:
    """Rewrites values over the whole sequence as columns per step; T x T matrices that are applied become reads."""

    def __init__(self, builder: StateBuilder) -> None:
        self.builder = builder
        self.columns: dict[str, Node] = {}
        self.leaves = Leaves(self.columns)
        self.done: dict[Node, Node] = {}

    # ---- T x n, n x T: one column per step ----------------------------------------------------------------------

    def column(self, node: Node) -> Node:
        """The row t of a T x n value (or the column t of an n x T one) as an n x 1 column per step."""
        if node not in self.done:
            self.done[node] = self._column(node)
        return self.done[node]

    def _column(self, node: Node) -> Node:
        if node.type.time == CONST:
            return self._constant(node)
        if node.op == "sequence":
            return input_at(node["name"], node.type.cols)
        if node.op == "transpose":
            return self.column(node.args[0])
        if node.op in POINTWISE:
            return pointwise(node.op, *(self.column(a) for a in node.args))
        rules = {"matmul": self._matmul, "sum": self._sum, "cumsum": self._cumsum, "softmax": self._softmax,
                 "rotate": self._rotate}  # fmt: skip
        if node.op not in rules:
            raise BrokenLaw("a value over the whole sequence that is no column per step", node, NO_FACTORS)
        return rules[node.op](node)

    def _constant(self, node: Node) -> Node:
        """A constant row (1 x n) or column (n x 1) is the same at every step; so are ones over T."""
        if _is_ones(node):
            return UNITY
        if TIME in node.type.shape:
            raise BrokenLaw("a parameter over positions", node, NO_FACTORS)
        return node if node.type.cols == ONE else transpose(node)

    def _total_over_time(self, node: Node, summed: Node) -> Node:
        """A sum over all positions (`sum(x, T)`), the same at every step."""
        if is_kernel(summed):
            raise BrokenLaw("a value over the whole sequence that is no column per step", node, NO_FACTORS)
        return self.read(UNITY, self.column(summed))

    def _matmul(self, node: Node) -> Node:
        a, b = node.args
        if node.type.cols == TIME:
            return self._matmul_rows(transpose(b), transpose(a))
        if TIME not in node.type.shape and a.type.cols != TIME:
            # A total over time, times a constant.
            return matmul(transpose(b), self.column(a)) if b.type.time == CONST else matmul(a, self.column(b))
        if node.type.rows != TIME:
            ones_side, other = (a, b) if _is_ones(transpose(a)) else (transpose(b), transpose(a))
            if not _is_ones(transpose(ones_side)):
                raise BrokenLaw("a matrix product over the whole sequence", node, NO_FACTORS)
            return self._total_over_time(node, other)
        return self._matmul_rows(a, b)

    def _matmul_rows(self, a: Node, b: Node) -> Node:
        """Row t of a @ b, where a has T rows."""
        if is_kernel(a):
            if a.op == "matmul" and is_kernel(a.args[0]) and is_kernel(a.args[1]):
                return self._matmul_rows(a.args[0], _product(a.args[1], b))
            return self.applied(a, b)
        if b.type.time == CONST:
            return matmul(transpose(b), self.column(a))
        if b.op == "matmul" and b.args[0].type.cols == TIME:
            return self._matmul_rows(_product(a, b.args[0]), b.args[1])
        if b.op == "transpose" and b.args[0].op == "matmul":
            inner = b.args[0]
            return self._matmul_rows(a, _product(transpose(inner.args[1]), transpose(inner.args[0])))
        raise BrokenLaw("a matrix product that mixes the sequence", b, NO_FACTORS)

    def applied(self, kernel: Node, values: Node | None) -> Node:
        column = None if values is None or _is_ones(values) else self.column(values)
        try:
            return self.read(self.entry(kernel), column)
        except BrokenLaw as broken:
            broken.near = broken.near or kernel
            raise

    def read(self, formula: Node, column: Node | None) -> Node:
        """The sum over all positions j of the formula's value at (t, j) times the column at j (without it: times 1)."""
        return Kernel(formula, column, self.leaves, self.builder).applied()

    def _sum(self, node: Node) -> Node:
        (arg,) = node.args
        if is_kernel(arg):
            return self.applied(arg if node["axis"] == 1 else transpose(arg), None)
        if arg.type.shape[node["axis"]] == TIME:
            return self._total_over_time(node, arg)
        return sum_over(self.column(arg), 0)

    def _cumsum(self, node: Node) -> Node:
        i, j = position(AT_I), position(AT_J)
        causal = pointwise("where", pointwise("le", j, i), UNITY, simple("sub", UNITY, UNITY))
        return self.read(causal, self.column(node.args[0]))

    def _softmax(self, node: Node) -> Node:
        if node.type.cols == TIME or len(node.args) > 1:
            raise BrokenLaw("a softmax over positions does not factor (its exponential is no finite sum of products)",
                            node, NO_FACTORS)  # fmt: skip
        return transpose(softmax(transpose(self.column(node.args[0]))))

    def _rotate(self, node: Node) -> Node:
        theta, turned = node.args
        if node.type.cols != TIME or theta.type.time != CONST:
            raise BrokenLaw("a rotation of a whole sequence", node, NO_FACTORS)
        return rotate(theta, self.column(turned), node["inverse"])

    # ---- T x T: an index formula --------------------------------------------------------------------------------

    def entry(self, node: Node) -> Node:
        """The entry (i, j) of a T x T value."""
        if node.op == "pairwise":
            return node.args[0]
        if node.type.time == CONST and node.type.is_scalar:
            return node
        if not is_kernel(node):
            return self._edge_entry(node)
        if node.op == "transpose":
            return _mirrored(self.entry(node.args[0]))
        if node.op in POINTWISE:
            return pointwise(node.op, *(self.entry(a) for a in node.args))
        if node.op == "matmul" and not is_kernel(node.args[0]):
            a, b = node.args
            return matmul(transpose(self._leaf(self._full(a), AT_I)), self._leaf(self._full(transpose(b)), AT_J))
        if node.op == "softmax":
            self._softmax(node)
        raise BrokenLaw("a T x T matrix without an index formula that factors", node, NO_FACTORS)

    def _full(self, rows: Node) -> Node:
        return expand(self.column(rows), rows.type.cols, ONE)

    def _edge_entry(self, node: Node) -> Node:
        """A T x 1 or 1 x T factor of a T x T value: a scalar of i or of j."""
        column = self.column(node)
        if not column.type.is_scalar:
            raise BrokenLaw("a T x T matrix without an index formula that factors", node, NO_FACTORS)
        return self._leaf(column, AT_I if node.type.rows == TIME else AT_J)

    def _leaf(self, column: Node, index: str) -> Node:
        if column.op == "input":
            return input_of(column["name"], index, column.type.rows, column["offset"])
        name = next((n for n, c in self.columns.items() if c is column), f"%{len(self.columns)}")
        self.columns[name] = column
        return input_of(name, index, column.type.rows)


def _product(a: Node, b: Node) -> Node:
    return make("matmul", (a, b), ValueType(a.type.rows, b.type.cols, "seq"))


def _mirrored(formula: Node) -> Node:
    """The formula with i and j exchanged."""
    other = {AT_I: AT_J, AT_J: AT_I}
    done: dict[Node, Node] = {}
    for node in walk([formula]):
        if node.op in ("position", "input_of") and node["index"] in other:
            attrs = {**dict(node.attrs), "index": other[node["index"]]}
            done[node] = make(node.op, (), node.type, **attrs)
        elif node.op == "param_at":
            done[node] = param_at(node["name"], other[node["row"]], other[node["col"]])
        else:
            done[node] = make(node.op, (done[a] for a in node.args), node.type, **dict(node.attrs))
    return done[formula]
