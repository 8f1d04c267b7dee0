"""Recognition of masked operators whose T x T matrix has an index formula but doesn't factor into states.

Every product `A @ x` of a T x T matrix and a sequence becomes a read of the pair IR. Sums and multiples of a softmax
are linear in it and stay outside the read; a quotient of two reads with the same exponential weights is a softmax
(`pair_ratios`).
"""

from smir.ir.dims import ONE
from smir.ir.expr import param_at, pointwise, read
from smir.ir.graph import Node, walk
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle
from smir.ir.pairs import SOFTMAX, SUM, PairProgram, PairRead
from smir.passes.expressions.algebra import UNITY, is_const
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.masks.index_formulas import AT_I, AT_J, NO_FACTORS
from smir.passes.masks.kernel_states import StateBuilder
from smir.passes.masks.masks_to_states import Rewriter, is_kernel
from smir.passes.recognition.pair_ratios import quotients_to_softmax
from smir.passes.recognition.pair_weights import condition


def recognise_pairs(mixer: Mixer) -> PairProgram | tuple[Obstacle, ...]:
    """The pair program of a masked operator, or the obstacle: the law that it breaks."""
    rewriter = _Reads(mixer)
    try:
        output = rewriter.column(mixer.output)
    except BrokenLaw as broken:
        return (broken.obstacle(mixer),)
    output, reads = quotients_to_softmax(output, rewriter.reads, rewriter.columns)
    used = {n["name"] for n in walk([output]) if n.op == "read"}
    kept = tuple(r for r in reads if r.name in used)
    formulas = [f for r in kept for f in r.formulas()]
    named = {n["name"] for n in walk(formulas) if n.op == "input_of"}
    vectors = tuple((name, column) for name, column in rewriter.columns.items() if name in named)
    columns = [c for r in kept for c in r.columns()]
    if any(n.op == "read" for n in walk([*formulas, *columns, *(column for _, column in vectors)])):
        return (Obstacle("a sum over positions of what is itself a sum over positions", mixer.span(mixer.output)),)
    return PairProgram(mixer, vectors, kept, output)


class _Reads(Rewriter):
    """Rewrites the output as an expression over `read` leaves."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__(StateBuilder(set()))
        self.taken = {d.name for d in mixer.declarations}
        self.reads: list[PairRead] = []

    def applied(self, kernel: Node, values: Node | None) -> Node:
        """Row t of `kernel @ values`: what is linear in a softmax is taken out of the read."""
        if kernel.op == "softmax":
            scores, mask = self.entry(kernel.args[0]), None
            if len(kernel.args) > 1:
                mask = condition(self.entry(kernel.args[1]))
            return self._made(SOFTMAX, scores, mask, None if values is None else self.column(values))
        if _rowwise(kernel) or any(n.op == "softmax" for n in walk([kernel])):
            return self._linear(kernel, values)
        return super().applied(kernel, values)

    def _linear(self, kernel: Node, values: Node | None) -> Node:
        if kernel.op in ("add", "sub") and all(is_kernel(a) for a in kernel.args):
            return pointwise(kernel.op, *(self.applied(a, values) for a in kernel.args))
        if kernel.op == "neg":
            return pointwise("neg", self.applied(kernel.args[0], values))
        if (parts := _rowwise(kernel)) is not None:
            return pointwise(kernel.op, self.applied(parts[0], values), self.column(parts[1]))
        raise BrokenLaw("a softmax over positions inside a T x T matrix that is not linear in it", kernel, NO_FACTORS)

    def read(self, formula: Node, column: Node | None) -> Node:
        scores, mask = formula, None
        if formula.op == "where" and is_const(formula.args[2], 0.0):
            scores, mask = formula.args[1], condition(formula.args[0])
        return self._made(SUM, scores, mask, column)

    def _made(self, kind: str, scores: Node, mask: Node | None, value: Node | None) -> Node:
        value = None if value is UNITY else value
        parts = (kind, scores, mask, value)
        known = next((r for r in self.reads if (r.kind, r.scores, r.mask, r.value) == parts), None)
        if known is None:
            known = PairRead(self._name(kind), kind, scores, mask, value)
            self.reads.append(known)
        return read(known.name, known.value.type.rows if known.value is not None else ONE)

    def _name(self, stem: str) -> str:
        name, number = f"{stem}_read", 1
        while name in self.taken:
            number += 1
            name = f"{stem}_read{number}"
        self.taken.add(name)
        return name

    def entry(self, node: Node) -> Node:
        if node.op == "param" and is_kernel(node):
            return param_at(node["name"], AT_I, AT_J)
        return super().entry(node)


def _rowwise(kernel: Node) -> tuple[Node, Node] | None:
    """A T x T matrix multiplied (or divided) by a number for each row, or for all: the matrix and the factor."""
    if kernel.op not in ("mul", "div"):
        return None
    a, b = kernel.args
    if kernel.op == "mul" and not is_kernel(a):
        a, b = b, a
    return (a, b) if is_kernel(a) and b.type.cols == ONE else None
