"""State updates: from the linear form of `S[t]` in the previous state to decay, writes and erases."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from smir.ir.dims import ONE, Dim
from smir.ir.expr import const, rotate
from smir.ir.graph import Node, walk
from smir.ir.interval import Interval
from smir.ir.mixer import State, matrix_shape
from smir.ir.operator import BACKWARD, BEFORE, DECAYED, FORWARD, Decay, Erase, MicroStep, Rotation, Write
from smir.passes.expressions.algebra import Factors, expand, pieces, plus, product, same, tidy, total, without
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.expressions.decay_logs import diagonal
from smir.passes.recognition.driven_states import drive, driving_state
from smir.passes.recognition.linear_form import COL, ROW, SUMMED, Linear, LinearReader, Term

# Which contraction of the state its reads or erases need.
ROWS, COLS, VALUE = "rows", "cols", "value"


@dataclass(frozen=True)
class DecayFactors:
    """A decay as lists of factors, and a rotation as lists of angles: what erases and reads after them carry too."""

    scalar: Factors = ()
    rows: Factors = ()
    cols: Factors = ()
    turned_rows: Factors = ()
    turned_cols: Factors = ()

    @property
    def is_identity(self) -> bool:
        return not (self.scalar or self.rows or self.cols or self.turned_rows or self.turned_cols)

    def lifted(self, term: Term) -> Term | None:
        """The term over the decayed state that equals this one over the state itself; None when it isn't one."""
        w, a, b = without(term.w, self.scalar), without(term.a, self.rows), without(term.b, self.cols)
        unturned = same(term.turned_rows, self.turned_rows) and same(term.turned_cols, self.turned_cols)
        if w is None or a is None or b is None or not unturned:
            return None
        return replace(term, w=w, a=a, b=b, turned_rows=(), turned_cols=())

    def factors(self) -> Factors:
        """All factors and angles."""
        return self.scalar + self.rows + self.cols + self.turned_rows + self.turned_cols

    def mapped(self, change: Callable[[Node], Node]) -> "DecayFactors":
        """The same of changed expressions."""
        sides = (self.scalar, self.rows, self.cols, self.turned_rows, self.turned_cols)
        return DecayFactors(*(tuple(map(change, side)) for side in sides))

    def diagonals(self, declared: Mapping[str, Interval]) -> Decay:
        return Decay(*(diagonal(items, declared) for items in (self.scalar, self.rows, self.cols)))

    @property
    def rotation(self) -> Rotation:
        return Rotation(total(self.turned_rows), total(self.turned_cols))


@dataclass(frozen=True)
class Update:
    """A state's update as forms over successive values: each micro-step's form is over the one before."""

    state: State
    direction: str
    forms: tuple[Linear, ...]

    def demands(self) -> set[str]:
        """The contractions that the erases need."""
        return {d for form in self.forms for t in form.terms if (d := demand(t, self.state)) != VALUE}


def read_update(state: State) -> Update:
    """The update of one state, linear in its previous value. Raises BrokenLaw."""
    direction, previous = _previous(state)
    reader = LinearReader([previous] if previous else [], [state.name])
    whole = reader.read(state.update)
    for term in whole.terms:
        _check_orientation(term, state)
    forms = _micro_steps(state, previous, reader, whole) if previous else (whole,)
    return Update(state, direction, forms)


def _previous(state: State) -> tuple[str, Node | None]:
    own = [n for n in walk([state.update]) if n.op == "state" and n["name"] == state.name]
    far = next((n for n in own if abs(n["offset"]) > 1), None)
    if far is not None:
        raise BrokenLaw("a recurrence over more than one step", far, "chunked forms need S[t-1] alone; step form only")
    offsets = {n["offset"] for n in own}
    if len(offsets) > 1:
        raise BrokenLaw("a state that needs both its past and its future", own[-1])
    return (BACKWARD if 1 in offsets else FORWARD), (own[0] if own else None)


def is_full(term: Term, state: State) -> bool:
    """Whether the term is the state itself up to a diagonal, in its own orientation."""
    rows, cols = matrix_shape(state.dims)
    return term.k == (SUMMED if rows == ONE else ROW) and term.v == (SUMMED if cols == ONE else COL)


def demand(term: Term, state: State) -> str:
    """Which axis of the state the term contracts: ROWS, COLS, or neither (VALUE: it is the state by value)."""
    rows, cols = matrix_shape(state.dims)
    if term.k == SUMMED and rows != ONE:
        return ROWS
    return COLS if term.v == SUMMED and cols != ONE else VALUE


def _check_orientation(term: Term, state: State) -> None:
    rows, cols = matrix_shape(state.dims)
    if term.k == SUMMED and term.v == SUMMED and rows != ONE and cols != ONE:
        raise BrokenLaw("an erase that contracts both axes of the state", state.update,
                        "low rank means `left @ (a.T @ S)`; step form only")  # fmt: skip
    if term.k == COL or term.v == ROW:
        raise BrokenLaw("an update that reads the transposed state", state.update)


# ---- several micro-steps ----------------------------------------------------------------------------------------


def _micro_steps(state: State, previous: Node, reader: LinearReader, whole: Linear) -> tuple[Linear, ...]:
    """Cuts the update where an intermediate value that erased is erased again; otherwise it stays in one piece."""
    if sum(1 for t in whole.terms if not is_full(t, state)) < 2:
        return (whole,)
    forms: list[Linear] = []
    current = previous
    for node in _gates(state, previous, reader):
        first = _form(node, current, state)
        rest = _form(state.update, node, state)
        if first and rest and _erases(first, state) and _erases(rest, state) and _keeps(rest, state):
            forms.append(first)
            current = node
    last = _form(state.update, current, state)
    return (*forms, last) if last else (whole,)


def _gates(state: State, previous: Node, reader: LinearReader) -> list[Node]:
    """Inner values of the state's shape through which everything that reads the previous state passes."""
    order = [n for n in walk([state.update]) if reader.depends(n) and n is not previous and n is not state.update]
    return [n for n in order if n.type.shape == state.update.type.shape and not _avoids(state.update, previous, n)]


def _avoids(root: Node, target: Node, gate: Node) -> bool:
    """Whether some path from root to target doesn't pass the gate."""
    stack, seen = [root], {gate}
    while stack:
        node = stack.pop()
        if node is target:
            return True
        if node not in seen:
            seen.add(node)
            stack.extend(node.args)
    return False


def _form(root: Node, atom: Node, state: State) -> Linear | None:
    try:
        form = LinearReader([atom], [state.name]).read(root)
    except BrokenLaw:
        return None
    return form if sum(1 for t in form.terms if is_full(t, state)) == 1 else None


def _erases(form: Linear, state: State) -> bool:
    return any(not is_full(t, state) for t in form.terms)


def _keeps(form: Linear, state: State) -> bool:
    return all(not (t.a or t.b or t.w or t.turned_rows or t.turned_cols) for t in form.terms if is_full(t, state))


# ---- forms to operators -----------------------------------------------------------------------------------------


def orient(form: Linear, transposed: bool) -> Linear:
    """The form of the transposed update over the transposed state."""
    if not transposed:
        return form
    turned = form.transposed
    return replace(turned, terms=tuple(t.of_transposed_state for t in turned.terms))


def decay_of(form: Linear, state: State) -> DecayFactors:
    """The diagonal part and the rotation of an oriented update form.

    Raises BrokenLaw when the diagonal is a general K x V matrix, and for a rotation that it doesn't commute with.
    """
    full = [t for t in form.terms if _is_oriented_full(t, form)]
    if not full:
        return DecayFactors(scalar=(const(0.0),))
    first = full[0]
    if len(full) == 1:
        return _commuting(DecayFactors(first.w, first.a, first.b, first.turned_rows, first.turned_cols), state)
    if any(t.turned_rows or t.turned_cols for t in full):
        raise BrokenLaw("a sum of several rotations of the state", state.update,
                        "chunked forms need one rotation, `rot(theta[t]) @ S[t-1]`; step form only")  # fmt: skip
    if all(same(t.b, first.b) for t in full):
        summed = _sum_products([t.w + t.a for t in full])
        return DecayFactors(cols=first.b, **{"scalar" if summed.type.is_scalar else "rows": (summed,)})
    if all(same(t.a, first.a) for t in full):
        return DecayFactors(rows=first.a, cols=(_sum_products([t.w + t.b for t in full]),))
    raise BrokenLaw("an elementwise decay over K and V that is no product of a column and a row", state.update,
                    "step form only")  # fmt: skip


def _commuting(decay: DecayFactors, state: State) -> DecayFactors:
    if (decay.rows and decay.turned_rows) or (decay.cols and decay.turned_cols):
        raise BrokenLaw("a rotation of channels that decay apart from each other", state.update,
                        "chunked forms rotate pairs of one common decay; step form only")  # fmt: skip
    return decay


def _sum_products(items: list[Factors]) -> Node:
    return total(product(i) for i in items) or const(0.0)


def _is_oriented_full(term: Term, form: Linear) -> bool:
    return term.k == (SUMMED if form.rows == ONE else ROW) and term.v == (SUMMED if form.cols == ONE else COL)


@dataclass
class _Writes:
    """Writes by left vector, in order of appearance; equal left vectors share one write."""

    found: dict[tuple[tuple[int, ...], str], Write] = field(default_factory=dict)

    def add(self, columns: Factors, left: Node, value: Node | None, erase: Erase | None) -> None:
        key = tuple(sorted(map(id, columns)))
        moments = [erase.when] if erase else [DECAYED, BEFORE]
        when = next((m for m in moments if (key, m) in self.found), moments[0])
        old = self.found.get((key, when))
        self.found[key, when] = Write(left, value, erase) if old is None else _merged(old, value, erase)


def _merged(old: Write, value: Node | None, erase: Erase | None) -> Write:
    both = old.erase and erase
    vector = plus(old.erase.vector, erase.vector) if both and old.erase and erase else None
    joint = Erase(vector, erase.when) if vector is not None and erase else old.erase or erase
    return Write(old.left, plus(old.value, value), joint)


def micro_step(
    form: Linear,
    state: State,
    decay: DecayFactors,
    declared: Mapping[str, Interval],
    directions: Mapping[str, str],
) -> MicroStep:
    """One oriented update form as a decay, writes and drives; `directions` are those of other states.

    Raises BrokenLaw.
    """
    writes, drives = _Writes(), []
    for term in form.terms:
        if not _is_oriented_full(term, form):
            _add_erase(writes, term, form, state, decay)
    for piece in pieces(form.const) if form.const is not None else ():
        driven_by = driving_state(piece)
        if driven_by is not None:
            drives.append(drive(piece, driven_by, directions))
            continue
        if piece.dense or piece.diagonal:
            raise BrokenLaw("a write that is no sum of outer products", form.const or state.update,
                            "write `k[t] @ v[t].T`; as it stands, step form only")  # fmt: skip
        value = tidy(expand(product(piece.scalars + piece.rows), form.cols, ONE))
        writes.add(piece.columns, _left(piece.columns, form), value, None)
    return MicroStep(decay.diagonals(declared), tuple(writes.found.values()), decay.rotation, tuple(drives))


def unturned(term: Term, rows: Dim) -> Term:
    """The same with a rotation of contracted rows moved to what contracts them: `a' rot S = (rot' a)' S`."""
    angle = total(term.turned_rows)
    if angle is None:
        return term
    return replace(term, a=(rotate(angle, expand(product(term.a), rows, ONE), inverse=True),), turned_rows=())


def _left(columns: Factors, form: Linear) -> Node:
    return tidy(expand(product(columns), form.rows, ONE))


def _add_erase(writes: _Writes, term: Term, form: Linear, state: State, decay: DecayFactors) -> None:
    lifted = decay.lifted(term)
    when, own = (BEFORE, unturned(term, form.rows)) if lifted is None else (DECAYED, lifted)
    columns = tuple(f for f in own.w if f.type.rows != ONE and f.type.cols == ONE)
    scalars = tuple(f for f in own.w if f.type.is_scalar)
    if own.b or own.turned_cols or len(columns) + len(scalars) != len(own.w):
        raise BrokenLaw("an erase whose read is scaled per column", state.update,
                        "low rank means `left @ (a.T @ S)`; step form only")  # fmt: skip
    vector = tidy(expand(product(own.a + scalars), form.rows, ONE))
    writes.add(columns, _left(columns, form), None, Erase(vector, when))
