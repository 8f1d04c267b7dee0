"""Elementwise states: recurrences that every entry of a state goes through on its own.

Such a state is used by value. Its update is linear in one of three semirings over its own previous value `h-`:

    sum     h = decay * h- + write
    max     h = max(decay + h-, write)
    logsum  h = logaddexp(decay + h-, write)

where decay and write are any expressions without the state itself, earlier states included. `tile.scan` runs one
over a chunk. Whether a state is better contracted (`ir/operator.py`) depends on how it is read; this pass only looks
at its update.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from smir.ir.dims import ONE
from smir.ir.expr import const, pointwise, transpose
from smir.ir.graph import Node, reaches, walk
from smir.ir.mixer import Mixer, State
from smir.ir.operator import BACKWARD, FORWARD, Elementwise
from smir.ir.tile import LOGSUM, MAX, SUM
from smir.passes.expressions.algebra import UNITY, ZERO, inverse, is_const, negated, pieces, plus, product, total
from smir.passes.expressions.broken_laws import BrokenLaw, nonlinear

NOTHING = {SUM: ZERO, MAX: const(float("-inf")), LOGSUM: const(float("-inf"))}
_JOIN = {MAX: "max", LOGSUM: "logaddexp"}
BY_VALUE = "scan and chunked forms need h = a * h- + w, max(a + h-, w) or logaddexp(a + h-, w); step form only"


def read_elementwise(state: State) -> Elementwise:
    """The recurrence of one state. Raises BrokenLaw, with the sub-expression that is none of the three."""
    direction, own = previous(state)
    if own is None:
        return Elementwise(state.name, direction, SUM, ZERO, state.update)
    law: BrokenLaw | None = None
    for kind in (SUM, MAX, LOGSUM):
        try:
            part = _Reader(kind, own, state.update).read(state.update)
        except BrokenLaw as broken:
            law = law or broken
            continue
        if part.turned:
            raise BrokenLaw("an update that reads the transposed state", state.update)
        return Elementwise(state.name, direction, kind, *_broadcastable(kind, part))
    assert law is not None
    raise law


def elementwise_states(mixer: Mixer) -> dict[str, Elementwise]:
    """The elementwise states of a mixer by name; the others are left out."""
    found = {}
    for state in mixer.states:
        try:
            found[state.name] = read_elementwise(state)
        except BrokenLaw:
            continue
    return found


@dataclass(frozen=True)
class _Part:
    """`decay h- + write` in the semiring at hand, of the transposed state if `turned`. A missing decay forgets h-."""

    decay: Node | None
    write: Node | None
    turned: bool = False


def split_sum(root: Node, own: Node) -> tuple[Node | None, Node | None]:
    """Coefficient c and rest w of `root = c * own + w`, elementwise; None is zero. Raises BrokenLaw."""
    part = _Reader(SUM, own, root).read(root)
    if part.turned:
        raise BrokenLaw("an update that reads the transposed state", root)
    return part.decay, part.write


def _broadcastable(kind: str, part: _Part) -> tuple[Node, Node]:
    return (NOTHING[kind] if part.decay is None else part.decay), (NOTHING[kind] if part.write is None else part.write)


def previous(state: State) -> tuple[str, Node | None]:
    """The direction of time, and the leaf of the state's previous value if the update has one."""
    own = [n for n in walk([state.update]) if n.op == "state" and n["name"] == state.name]
    far = next((n for n in own if abs(n["offset"]) > 1), None)
    if far is not None:
        raise BrokenLaw("a recurrence over more than one step", far, "chunked forms need S[t-1] alone; step form only")
    if len({n["offset"] for n in own}) > 1:
        raise BrokenLaw("a state that needs both its past and its future", own[-1])
    return (BACKWARD if own and own[0]["offset"] == 1 else FORWARD), (own[0] if own else None)


class _Reader:
    """Splits expressions over the previous value `own` in one semiring."""

    def __init__(self, kind: str, own: Node, root: Node) -> None:
        self.kind, self.own = kind, own
        self.dependent = reaches([root], lambda n: n is own)
        self.memo: dict[Node, _Part] = {}

    def read(self, node: Node) -> _Part:
        """Raises BrokenLaw where the node leaves the semiring."""
        if node not in self.memo:
            self.memo[node] = self._read(node)
        return self.memo[node]

    def _read(self, node: Node) -> _Part:
        if node not in self.dependent:
            return _Part(None, node)
        if node is self.own:
            return _Part(UNITY if self.kind == SUM else ZERO, None)
        rule = (_SUM_RULES if self.kind == SUM else _LOG_RULES).get(node.op)
        if rule is None:
            raise by_value(nonlinear(node))
        return rule(self, node)

    def split(self, node: Node) -> tuple[_Part, Node, bool]:
        """A binary operation with one dependent side: that side, the other one, and whether the first depends."""
        a, b = node.args
        if (a in self.dependent) == (b in self.dependent):
            raise by_value(nonlinear(node))
        first = a in self.dependent
        return self.read(a if first else b), (b if first else a), first

    def same_way(self, node: Node) -> list[_Part]:
        """The parts of all arguments that may hold the state, which must all hold it in one orientation."""
        parts = [self.read(a) for a in node.args[-2:]]
        ways = {p.turned for p in parts if p.decay is not None}
        if len(ways) > 1:
            raise BrokenLaw("an update that reads the transposed state", node)
        return [replace(p, turned=True in ways) for p in parts]

    def joined(self, a: Node | None, b: Node | None) -> Node | None:
        """The semiring's own sum."""
        if a is None or b is None:
            return b if a is None else a
        return plus(a, b) if self.kind == SUM else pointwise(_JOIN[self.kind], a, b)


def by_value(law: BrokenLaw) -> BrokenLaw:
    """The law with what elementwise states would need."""
    return BrokenLaw(law.law, law.node, BY_VALUE)


Rule = Callable[[_Reader, Node], _Part]


def _join(r: _Reader, node: Node) -> _Part:
    a, b = r.same_way(node)
    return _Part(r.joined(a.decay, b.decay), r.joined(a.write, b.write), a.turned)


def _where(r: _Reader, node: Node) -> _Part:
    condition = node.args[0]
    if condition in r.dependent:
        raise by_value(nonlinear(node, "a condition on the state"))
    yes, no = r.same_way(node)
    nothing = NOTHING[r.kind]

    def choose(a: Node | None, b: Node | None) -> Node | None:
        return None if a is None and b is None else pointwise("where", condition, a or nothing, b or nothing)

    return _Part(choose(yes.decay, no.decay), choose(yes.write, no.write), yes.turned)


def _transpose(r: _Reader, node: Node) -> _Part:
    part = r.read(node.args[0])
    return _Part(part.decay and transpose(part.decay), part.write and transpose(part.write), not part.turned)


# ---- sums of products -------------------------------------------------------------------------------------------


def _scaled(part: _Part, scale: Callable[[Node], Node]) -> _Part:
    return replace(part, decay=part.decay and scale(part.decay), write=part.write and scale(part.write))


def _sub(r: _Reader, node: Node) -> _Part:
    a, b = r.same_way(node)
    return _Part(plus(a.decay, b.decay and negated(b.decay)), plus(a.write, b.write and negated(b.write)), a.turned)


def _neg(r: _Reader, node: Node) -> _Part:
    return _scaled(r.read(node.args[0]), negated)


def _mul(r: _Reader, node: Node) -> _Part:
    part, scale, _ = r.split(node)
    return _scaled(part, lambda x: scale if is_const(x, 1.0) else product((scale, x)))


def _div(r: _Reader, node: Node) -> _Part:
    part, below, first = r.split(node)
    if not first:
        raise by_value(nonlinear(node, "a quotient by the state"))
    return _scaled(part, lambda x: inverse(below) if is_const(x, 1.0) else pointwise("div", x, below))


def _matmul(r: _Reader, node: Node) -> _Part:
    """A diagonal matrix scales rows or columns."""
    part, matrix, state_first = r.split(node)
    found = pieces(matrix)
    if ONE in matrix.type.shape or not all(p.diagonal and not p.dense for p in found):
        raise by_value(BrokenLaw("a state that meets another axis", node))
    column = total(product(p.scalars + p.columns + p.rows) for p in found) or ZERO
    scale = transpose(column) if state_first else column
    return _scaled(part, lambda x: scale if is_const(x, 1.0) else product((scale, x)))


_SUM_RULES: dict[str, Rule] = {
    "add": _join,
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "where": _where,
    "transpose": _transpose,
    "matmul": _matmul,
}


# ---- maxima and sums of exponentials ----------------------------------------------------------------------------


def _join_only(op: str) -> Rule:
    def rule(r: _Reader, node: Node) -> _Part:
        if op != _JOIN[r.kind]:
            raise by_value(nonlinear(node))
        return _join(r, node)

    return rule


def _plus(r: _Reader, node: Node) -> _Part:
    part, other, _ = r.split(node)
    return _scaled(part, lambda x: plus(None if is_const(x, 0.0) else x, other) or ZERO)


def _minus(r: _Reader, node: Node) -> _Part:
    part, other, first = r.split(node)
    if not first:
        raise by_value(nonlinear(node))
    return _scaled(part, lambda x: plus(None if is_const(x, 0.0) else x, negated(other)) or ZERO)


_LOG_RULES: dict[str, Rule] = {
    "max": _join_only("max"),
    "logaddexp": _join_only("logaddexp"),
    "add": _plus,
    "sub": _minus,
    "where": _where,
    "transpose": _transpose,
}
