"""Read-outs: from an output expression over states to reads `query^T S` and a pointwise rest.

Each state is contracted where the spec contracts it, and everything around stays as it was written. A value
made of states that isn't contracted yet is `open`; it closes where every one of its terms is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smir.ir.dims import ONE, Dim
from smir.ir.expr import STEP, ValueType, matmul, ones, transpose
from smir.ir.graph import Node, make, rebuild, walk
from smir.ir.mixer import Mixer, matrix_shape
from smir.ir.operator import AFTER, BACKWARD, BEFORE, DECAYED, Read
from smir.passes.algebra import UNITY, ZERO, expand, product, tidy, total
from smir.passes.broken_laws import BrokenLaw
from smir.passes.linear_form import ROW, SUMMED, Linear, LinearReader, Term
from smir.passes.state_updates import VALUE, DecayFactors, demand

STAYS, CLOSES, OPEN = "stays", "closes", "open"


class Outline:
    """How every node of the output is made: it stays as written, it closes (becomes reads), or it is still open."""

    def __init__(self, mixer: Mixer) -> None:
        self.mixer = mixer
        states = [n for n in walk([mixer.output]) if n.op == "state"]
        self.reader = LinearReader(states, [mixer.output])
        self.fate: dict[Node, str] = {}
        for node in walk([mixer.output]):
            self.fate[node] = self._fate(node)
        if self.fate[mixer.output] == OPEN:
            self._close_value(mixer.output)
        self.needed = self._needed()

    def _needed(self) -> list[Node]:
        """The nodes that the rewritten output is made from, arguments first: nothing below a closed one."""
        seen: set[Node] = set()
        stack = [self.mixer.output]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack.extend(node.args if self.fate[node] == STAYS else ())
        return [n for n in walk([self.mixer.output]) if n in seen]

    def closed(self) -> list[tuple[Node, Linear]]:
        """The values that become reads, with their linear forms."""
        return [(n, self.reader.read(n)) for n in self.needed if self.fate[n] == CLOSES]

    def demands(self) -> dict[str, set[str]]:
        """Which contractions of each state the output needs."""
        found: dict[str, set[str]] = {s.name: set() for s in self.mixer.states}
        for term in (t for _, form in self.closed() for t in form.terms):
            found[term.atom["name"]].add(self._demand(term))
        return found

    def _demand(self, term: Term) -> str:
        return demand(term, self.mixer.state(term.atom["name"]))

    def _fate(self, node: Node) -> str:
        if node.op != "state":
            if all(self.fate[a] != OPEN for a in node.args):
                return STAYS
            if not self._is_linear(node):
                return STAYS
        return CLOSES if all(self._is_closed(t) for t in self.reader.read(node).terms) else OPEN

    def _is_closed(self, term: Term) -> bool:
        state = self.mixer.state(term.atom["name"])
        return self._demand(term) != VALUE or matrix_shape(state.dims) == (ONE, ONE)

    def _is_linear(self, node: Node) -> bool:
        """Whether the node has a linear form; if not, its open arguments close by value. Raises BrokenLaw."""
        mixed = node.op in ("mul", "matmul") and all(self.reader.depends(a) for a in node.args)
        if mixed and any(self.fate[a] != OPEN for a in node.args):
            self._chained(node)
        try:
            self.reader.read(node)
        except BrokenLaw as broken:
            for arg in (a for a in node.args if self.fate[a] == OPEN):
                self._close_value(arg, broken)
            return False
        return True

    def _chained(self, node: Node) -> None:
        """Column states can still be read by value; a matrix state contracted with another read can't."""
        for arg in (a for a in node.args if self.fate[a] == OPEN):
            if not self._has_value(arg):
                raise BrokenLaw("chained states (the operand of one state's read-out depends on a state)", node,
                                "each state alone must be linear; step form only")  # fmt: skip

    def _has_value(self, node: Node) -> bool:
        forms = self.reader.read(node).terms
        return all(self._is_closed(t) or self._is_vector(t) for t in forms)

    def _is_vector(self, term: Term) -> bool:
        return ONE in matrix_shape(self.mixer.state(term.atom["name"]).dims)

    def _close_value(self, node: Node, broken: BrokenLaw | None = None) -> None:
        if not self._has_value(node):
            raise broken or BrokenLaw("a state that is read out without contracting it", node,
                                      "write a read-out like `S[t].T @ q[t]`; step form only")  # fmt: skip
        self.fate[node] = CLOSES


@dataclass(frozen=True)
class Oriented:
    """What read-outs need to know of an operator."""

    transposed: bool
    direction: str
    decay: DecayFactors


class ReadOut:
    """Builds the reads and the output that remains, once every state's orientation is known."""

    def __init__(self, outline: Outline, operators: Mapping[str, Oriented], taken: Iterable[str]) -> None:
        self.outline, self.operators = outline, operators
        self.taken = set(taken)
        self.reads: dict[tuple[str, Node, str], Read] = {}

    def output(self) -> Node:
        """The output over inputs, parameters and `read` leaves. Raises BrokenLaw."""
        built: dict[Node, Node] = {}
        for node in self.outline.needed:
            closes = self.outline.fate[node] == CLOSES
            built[node] = self._closed(node) if closes else rebuild(node, (built[a] for a in node.args))
        return tidy(built[self.outline.mixer.output])

    def _closed(self, node: Node) -> Node:
        form = self.outline.reader.read(node)
        parts = [self._value(term) for term in form.terms]
        const = [] if form.const is None else [form.const]
        result = total([*parts, *const])
        return expand(ZERO if result is None else result, *node.type.shape)

    def _value(self, term: Term) -> Node:
        """One term as read-leaf times weights, with the shape that its free axes and the state's axis give."""
        state = self.outline.mixer.state(term.atom["name"])
        operator = self.operators[state.name]
        rows, cols = matrix_shape(state.dims)
        if operator.transposed:
            term, rows, cols = term.of_transposed_state, cols, rows
        if rows != ONE and term.k != SUMMED:
            raise BrokenLaw("a state that is read out along both axes", term.atom)
        when, own = self._moment(term, operator)
        if cols != ONE and term.v == SUMMED:
            # A state by value, contracted afterwards: `z.T @ q` where z is also used as it is.
            value = self._read(state.name, UNITY, when, cols)
            return product((*own.w, matmul(transpose(expand(product(own.b), cols, ONE)), value)))
        query = expand(product(own.a), rows, ONE) if own.a or rows == ONE else ones(rows)
        column = product((self._read(state.name, tidy(query), when, cols), *own.b))
        return product((*own.w, column if term.v in (ROW, SUMMED) else transpose(column)))

    def _moment(self, term: Term, operator: Oriented) -> tuple[str, Term]:
        offset = term.atom["offset"]
        if offset == 0:
            return AFTER, term
        if offset != (1 if operator.direction == BACKWARD else -1):
            raise BrokenLaw("a read-out away from the current step", term.atom, "chunked forms read S[t] and S[t-1]")
        lifted = None if operator.decay.is_identity else operator.decay.lifted(term)
        return (BEFORE, term) if lifted is None else (DECAYED, lifted)

    def _read(self, state: str, query: Node, when: str, cols: Dim) -> Node:
        key = (state, query, when)
        if key not in self.reads:
            self.reads[key] = Read(self._fresh(f"{state}_read"), state, query, when)
        return make("read", (), ValueType(cols, ONE, STEP), name=self.reads[key].name)

    def _fresh(self, stem: str) -> str:
        name, number = stem, 1
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        return name
