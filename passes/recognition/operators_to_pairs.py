"""Recognised recurrences as weighted sums over pairs of positions, for states that start at zero and are not asked for.

A read `q_i^T S` of a state with identity or scalar decay is the sum over j of `e^D_ij (q_i . k_j) v_j`, D_ij the decays
between the two positions. In this form it has backward kernels over pairs of chunks.
"""

from collections.abc import Iterator

from smir.ir.expr import CONST, input_at, input_of, matmul, pointwise, position, reduce_range, transpose
from smir.ir.expr import read as read_leaf
from smir.ir.graph import Node, substitute, walk
from smir.ir.operator import AFTER, BEFORE, FORWARD, Operator, OperatorProgram, Read
from smir.ir.pairs import SUM, PairProgram, PairRead
from smir.passes.expressions.algebra import UNITY
from smir.passes.masks.index_formulas import AT_I, AT_J

_BOUND = "m"


def operators_to_pairs(program: OperatorProgram) -> PairProgram | None:
    """The reads as sums over pairs; None where a state does more than decay by one number and take writes."""
    if not all(_expressible(program, o) for o in program.operators) or program.elementwise:
        return None
    if any(r.when == BEFORE or _has_reads(r.query) for r in program.reads):
        return None
    made = _Reads(program)
    totals = {read_leaf(r.name, program.operator(r.state).cols): made.total(r) for r in program.reads}
    output = substitute(program.output, totals)
    return PairProgram(program.mixer, tuple(made.columns.items()), tuple(made.reads), output)


def _expressible(program: OperatorProgram, o: Operator) -> bool:
    decay, state = o.decay, program.mixer.state(o.state)
    plain = len(o.steps) == 1 and not o.erases and not o.drives and not o.rotation.kind and state.initial == 0.0
    alone = decay.rows is None and decay.cols is None and (decay.scalar is None or decay.scalar.sign is None)
    return plain and alone and not any(map(_has_reads, o.vectors()))


def _has_reads(node: Node) -> bool:
    return any(n.op in ("read", "state") for n in walk([node]))


class _Reads:
    """The pair reads made so far, and the columns that their formulas name."""

    def __init__(self, program: OperatorProgram) -> None:
        self.program = program
        self.columns: dict[str, Node] = {}
        self.reads: list[PairRead] = []

    def total(self, read: Read) -> Node:
        """The read as a sum of pair reads, one for each write of its state."""
        found: Node | None = None
        for pair in self._of(read):
            self.reads.append(pair)
            width = self.program.operator(read.state).cols
            found = _plus(found, read_leaf(pair.name, width))
        return found if found is not None else pointwise("mul", UNITY, UNITY)

    def _of(self, read: Read) -> Iterator[PairRead]:
        operator = self.program.operator(read.state)
        i, j = position(AT_I), position(AT_J)
        first, last = (j, i) if operator.direction == FORWARD else (i, j)
        mask = pointwise("le" if read.when == AFTER else "lt", first, last)
        query = transpose(self._at(read.query, AT_I))
        for number, write in enumerate(operator.steps[0].writes):
            scores = matmul(query, self._at(write.left, AT_J))
            if operator.decay.scalar is not None:
                between = self._between(operator, operator.decay.scalar.log, first, last)
                scores = pointwise("mul", scores, pointwise("exp", between))
            yield PairRead(f"{read.name}_{number}", SUM, scores, mask, write.value)

    def _between(self, operator: Operator, log: Node, first: Node, last: Node) -> Node:
        """The decays after the first position up to the last one; a backward state's own come one position later."""
        log = log if operator.direction == FORWARD else _moved(log, -1)
        body = self._at(log, _BOUND)
        return reduce_range("sum", _BOUND, pointwise("add", first, UNITY), last, body)

    def _at(self, column: Node, index: str) -> Node:
        if column.type.time == CONST:
            return column
        if column.op == "input":
            return input_of(column["name"], index, column.type.rows, column["offset"])
        name = next((n for n, c in self.columns.items() if c is column), f"%{len(self.columns)}")
        self.columns[name] = column
        return input_of(name, index, column.type.rows)


def _plus(a: Node | None, b: Node) -> Node:
    return b if a is None else pointwise("add", a, b)


def _moved(node: Node, by: int) -> Node:
    """The expression at another step."""
    inputs = [n for n in walk([node]) if n.op == "input"]
    return substitute(node, {n: input_at(n["name"], n.type.rows, n.type.cols, n["offset"] + by) for n in inputs})
