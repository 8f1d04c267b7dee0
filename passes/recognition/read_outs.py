"""Read-outs: from an expression over states to reads `query^T S` and a pointwise rest.

Each state is contracted where the spec contracts it, and everything around stays as it was written. A value made of
states that isn't contracted yet is open; it closes where every one of its terms is. What is closed is a coefficient for
everything above it: a query may hold the reads of other states.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from smir.ir.dims import ONE, Dim
from smir.ir.expr import STEP, ValueType, matmul, ones, rotate, transpose
from smir.ir.graph import Node, make, rebuild, substitute, walk
from smir.ir.mixer import Mixer, matrix_shape
from smir.ir.operator import AFTER, BEFORE, DECAYED, Read
from smir.passes.expressions.algebra import UNITY, ZERO, Factors, expand, product, tidy, total
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.recognition.driven_states import moment
from smir.passes.recognition.linear_form import ROW, SUMMED, Linear, LinearReader, Term
from smir.passes.recognition.state_updates import VALUE, DecayFactors, demand, unturned


class Outline:
    """One expression over states, with every contraction of states taken out of it.

    `rest` is what remains: where states were contracted, or read by value, it has `closed` leaves, and `forms` has
    what each of them stands for, the innermost first. `elementwise` states stay in the expression as they are.
    """

    def __init__(self, mixer: Mixer, root: Node, elementwise: Collection[str] = ()) -> None:
        self.mixer, self.root = mixer, root
        states = [n for n in walk([root]) if n.op == "state" and n["name"] not in elementwise]
        self.reader = LinearReader(states)
        self.forms: dict[Node, Linear] = {}
        self.written: dict[Node, Node] = {}
        built: dict[Node, Node] = {}
        for node in walk([root]):
            built[node] = self._built(node, tuple(built[a] for a in node.args))
        rest = built[root]
        self.rest = self._by_value(rest) if self.reader.depends(rest) else rest
        self._drop_unused()

    def demands(self) -> dict[str, set[str]]:
        """Which contractions of each state the expression needs."""
        found: dict[str, set[str]] = {s.name: set() for s in self.mixer.states}
        for term in (t for form in self.forms.values() for t in form.terms):
            found[term.atom["name"]].add(self._demand(term))
        return found

    def _demand(self, term: Term) -> str:
        return demand(term, self.mixer.state(term.atom["name"]))

    def _built(self, node: Node, args: tuple[Node, ...]) -> Node:
        """The node over closed leaves; a leaf itself where all of its terms are contracted. Raises BrokenLaw."""
        new = rebuild(node, args)
        self.written.setdefault(new, node)
        if not self.reader.depends(new):
            return new
        try:
            form = self.reader.read(new)
        except BrokenLaw as broken:
            self._as_written(broken)
            closed = (self._by_value(a, broken) if self.reader.depends(a) else a for a in args)
            new = rebuild(node, closed)
            self.written.setdefault(new, node)
            return new
        return self._closed(new) if all(self._is_closed(t) for t in form.terms) else new

    def _closed(self, node: Node) -> Node:
        """A leaf in place of a linear value of states."""
        leaf = make("closed", (), node.type, number=len(self.forms))
        known = next((known for known, form in self.forms.items() if form is self.reader.read(node)), None)
        if known is None:
            self.forms[leaf] = self.reader.read(node)
            self.written[leaf] = self.written[node]
        return known or leaf

    def _is_closed(self, term: Term) -> bool:
        state = self.mixer.state(term.atom["name"])
        return self._demand(term) != VALUE or matrix_shape(state.dims) == (ONE, ONE)

    def _by_value(self, node: Node, broken: BrokenLaw | None = None) -> Node:
        """Vector states can still be read as they are."""
        if not all(self._is_closed(t) or self._is_vector(t) for t in self.reader.read(node).terms):
            raise broken or BrokenLaw("a state that is read out without contracting it", self.written[node],
                                      "write a read-out like `S[t].T @ q[t]`; step form only")  # fmt: skip
        return self._closed(node)

    def _is_vector(self, term: Term) -> bool:
        return ONE in matrix_shape(self.mixer.state(term.atom["name"]).dims)

    def _as_written(self, broken: BrokenLaw) -> None:
        broken.node = self.written.get(broken.node, broken.node)

    def _drop_unused(self) -> None:
        """Only the leaves that the rest is made from, directly or through others."""
        used = {n for n in walk([self.rest]) if n in self.forms}
        for leaf in reversed(list(self.forms)):
            if leaf in used:
                used |= {n for n in walk(_parts(self.forms[leaf])) if n in self.forms}
        self.forms = {leaf: form for leaf, form in self.forms.items() if leaf in used}


def _parts(form: Linear) -> list[Node]:
    """Every coefficient of a linear form, and its constant."""
    factors = [f for t in form.terms for f in (*t.a, *t.b, *t.w, *t.turned_rows, *t.turned_cols)]
    return factors if form.const is None else [*factors, form.const]


@dataclass(frozen=True)
class Oriented:
    """What read-outs need to know of an operator."""

    transposed: bool
    direction: str
    decay: DecayFactors


class ReadOut:
    """Replaces states, once they are among the `operators`, by reads in expressions. `reads` are all of them."""

    def __init__(self, mixer: Mixer, taken: Iterable[str]) -> None:
        self.mixer = mixer
        self.operators: dict[str, Oriented] = {}
        self.taken = set(taken)
        self.reads: dict[tuple[str, Node, str], Read] = {}

    def rewritten(self, outline: Outline) -> Node:
        """The expression over inputs, parameters, `read` leaves and elementwise states. Raises BrokenLaw."""
        built: dict[Node, Node] = {}
        for leaf, form in outline.forms.items():
            try:
                built[leaf] = self._closed(form, leaf, built)
            except BrokenLaw as broken:
                broken.near = broken.near or outline.written[leaf]
                raise
        return substitute(outline.rest, built)

    def _closed(self, form: Linear, leaf: Node, built: Mapping[Node, Node]) -> Node:
        parts = [self._value(_filled(term, built)) for term in form.terms]
        const = [] if form.const is None else [substitute(form.const, built)]
        result = total([*parts, *const])
        return expand(ZERO if result is None else result, *leaf.type.shape)

    def _value(self, term: Term) -> Node:
        """One term as read-leaf times weights, with the shape that its free axes and the state's axis give."""
        state = self.mixer.state(term.atom["name"])
        operator = self.operators[state.name]
        rows, cols = matrix_shape(state.dims)
        if operator.transposed:
            term, rows, cols = term.of_transposed_state, cols, rows
        if rows != ONE and term.k != SUMMED:
            raise BrokenLaw("a state that is read out along both axes", term.atom)
        when, lifted = self._moment(term, operator)
        own, angle = unturned(lifted, rows), total(lifted.turned_cols)
        if cols != ONE and term.v == SUMMED:
            # A state by value, contracted afterwards: `z.T @ q` where z is also used as it is.
            value = _turned(angle, self._read(state.name, UNITY, when, cols))
            return product((*own.w, matmul(transpose(expand(product(own.b), cols, ONE)), value)))
        query = expand(product(own.a), rows, ONE) if own.a or rows == ONE else ones(rows)
        column = product((_turned(angle, self._read(state.name, tidy(query), when, cols)), *own.b))
        return product((*own.w, column if term.v in (ROW, SUMMED) else transpose(column)))

    def _moment(self, term: Term, operator: Oriented) -> tuple[str, Term]:
        if moment(term.atom, operator.direction) == AFTER:
            return AFTER, term
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


def _filled(term: Term, built: Mapping[Node, Node]) -> Term:
    """The term with the leaves in its coefficients replaced."""

    def filled(factors: Factors) -> Factors:
        return tuple(substitute(f, built) for f in factors)

    return replace(term, a=filled(term.a), b=filled(term.b), w=filled(term.w),
                   turned_rows=filled(term.turned_rows), turned_cols=filled(term.turned_cols))  # fmt: skip


def _turned(angle: Node | None, column: Node) -> Node:
    return column if angle is None else rotate(angle, column)
