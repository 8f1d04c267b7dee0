"""Linear forms: a value as a state-free part plus linear terms in the states it depends on.

A term over a state S (K x V) has the entries `w * sum of a[k] * b[v] * S[k, v]`. Each axis of S either becomes
the value's rows or columns, or is summed over; `a` and `b` weigh the state's rows and columns, and `w` scales
along the value's free axes. An axis of size one counts as summed over. The state may have been rotated along either
axis before all that: then S stands for the rotated state.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from smir.ir.dims import ONE, Dim
from smir.ir.expr import ones, pointwise, rotate, transpose
from smir.ir.graph import Node, walk
from smir.passes.expressions.algebra import (
    MINUS_ONE,
    UNITY,
    ZERO,
    Factors,
    Piece,
    expand,
    factors,
    inverse,
    is_matrix,
    is_zero,
    multiply,
    negated,
    pieces,
    plus,
    product,
    sum_rows,
)
from smir.passes.expressions.broken_laws import BrokenLaw, nonlinear

ROW, COL, SUMMED = "row", "col", "summed"
_FLIP = {ROW: COL, COL: ROW, SUMMED: SUMMED}


@dataclass(frozen=True)
class Term:
    """One linear term: where the axes of `atom` go (`k`, `v`), and the weights as lists of factors."""

    atom: Node
    k: str
    v: str
    a: Factors = ()
    b: Factors = ()
    w: Factors = ()
    # angles by which pairs of the state's rows (columns) were turned before they were weighed
    turned_rows: Factors = ()
    turned_cols: Factors = ()

    @property
    def vanishes(self) -> bool:
        return is_zero(self.a + self.b + self.w)

    @property
    def transposed(self) -> "Term":
        """The term of the transposed value."""
        return replace(self, k=_FLIP[self.k], v=_FLIP[self.v], w=tuple(map(transpose, self.w)))

    @property
    def of_transposed_state(self) -> "Term":
        """The same value as a term over the transposed state."""
        return replace(self, k=self.v, v=self.k, a=self.b, b=self.a,
                       turned_rows=self.turned_cols, turned_cols=self.turned_rows)  # fmt: skip

    @property
    def row_taken(self) -> bool:
        return ROW in (self.k, self.v)

    @property
    def col_taken(self) -> bool:
        return COL in (self.k, self.v)


@dataclass(frozen=True)
class Linear:
    """`const` (None is zero) plus the terms; rows x cols is the value's shape, to which parts may broadcast."""

    const: Node | None
    terms: tuple[Term, ...]
    rows: Dim
    cols: Dim

    @property
    def transposed(self) -> "Linear":
        const = None if self.const is None else transpose(self.const)
        return Linear(const, tuple(t.transposed for t in self.terms), self.cols, self.rows)


class LinearReader:
    """Reads linear forms off expressions. `atoms` are the nodes that count as states; whatever else they hold, other
    states too, is a coefficient. The states named `own` must not occur except through the atoms."""

    def __init__(self, atoms: Iterable[Node], own: Collection[str] = ()) -> None:
        self.atoms, self.own = frozenset(atoms), frozenset(own)
        self.dependent: dict[Node, bool] = {}
        self.memo: dict[Node, Linear] = {}

    def read(self, node: Node) -> Linear:
        """The linear form of a node. Raises BrokenLaw where it isn't linear."""
        if node not in self.memo:
            self.memo[node] = self._read(node)
        return self.memo[node]

    def _read(self, node: Node) -> Linear:
        rows, cols = node.type.shape
        if node in self.atoms:
            k, v = (SUMMED if rows == ONE else ROW), (SUMMED if cols == ONE else COL)
            return Linear(None, (Term(node, k, v),), rows, cols)
        if not self.depends(node):
            return Linear(node, (), rows, cols)
        rule = _RULES.get(node.op)
        if rule is None:
            raise nonlinear(node, within=self.depends)
        form = rule(self, node)
        return Linear(form.const, tuple(t for t in form.terms if not t.vanishes), rows, cols)

    def depends(self, node: Node) -> bool:
        """Whether the value changes with the atoms."""
        if node not in self.dependent:
            for n in walk([node]):
                state = n.op == "state" and n["name"] in self.own
                self.dependent[n] = state or n in self.atoms or any(self.dependent[a] for a in n.args)
        return self.dependent[node]


Rule = Callable[[LinearReader, Node], Linear]


def _sum_of(a: Linear, b: Linear) -> Linear:
    return Linear(plus(a.const, b.const), a.terms + b.terms, a.rows, a.cols)


def _scaled_by(form: Linear, scale: Factors, node: Node) -> Linear:
    """The form times state-free factors, elementwise with broadcasting."""
    const = None if form.const is None or is_zero(scale) else product((form.const, *scale))
    return Linear(const, tuple(_scaled_term(t, scale, node) for t in form.terms), *node.type.shape)


def _scaled_term(term: Term, scale: Factors, node: Node) -> Term:
    for f in scale:
        on_rows, on_cols = f.type.rows != ONE and term.row_taken, f.type.cols != ONE and term.col_taken
        if not on_rows and not on_cols:
            term = replace(term, w=(*term.w, f))
        elif is_matrix(f):
            raise BrokenLaw("an elementwise factor that is no product of a column and a row", node,
                            "chunked forms need decays over K and V that factor; step form only")  # fmt: skip
        else:
            term = _weigh(term, ROW if on_rows else COL, (f if on_rows else transpose(f),))
    return term


def _weigh(term: Term, axis: str, columns: Factors) -> Term:
    """Weights along the state axis that lies on the value's `axis`."""
    if term.k == axis:
        return replace(term, a=term.a + columns)
    return replace(term, b=term.b + columns)


# ---- rules ------------------------------------------------------------------------------------------------------


def _add(reader: LinearReader, node: Node) -> Linear:
    return _sum_of(*(reader.read(a) for a in node.args))


def _sub(reader: LinearReader, node: Node) -> Linear:
    a, b = (reader.read(x) for x in node.args)
    return _sum_of(a, _minus(b))


def _neg(reader: LinearReader, node: Node) -> Linear:
    return _minus(reader.read(node.args[0]))


def _minus(form: Linear) -> Linear:
    const = None if form.const is None else negated(form.const)
    return replace(form, const=const, terms=tuple(replace(t, w=(MINUS_ONE, *t.w)) for t in form.terms))


def _mul(reader: LinearReader, node: Node) -> Linear:
    a, b = node.args
    if reader.depends(a) and reader.depends(b):
        raise nonlinear(node, "a product of two values that depend on the state", reader.depends)
    scaled, scale = (reader.read(a), b) if reader.depends(a) else (reader.read(b), a)
    if not is_matrix(scale):
        return _scaled_by(scaled, factors(scale), node)
    form = Linear(None, (), *node.type.shape)
    for piece in pieces(scale):
        if piece.diagonal:
            raise BrokenLaw("the diagonal of a state", node)
        form = _sum_of(form, _scaled_by(scaled, piece.factors, node))
    return form


def _div(reader: LinearReader, node: Node) -> Linear:
    a, b = node.args
    if reader.depends(b):
        raise nonlinear(node, "a quotient by a value that depends on the state", reader.depends)
    return _scaled_by(reader.read(a), tuple(inverse(f) for f in factors(b)), node)


def _where(reader: LinearReader, node: Node) -> Linear:
    condition, *branches = node.args
    if reader.depends(condition):
        raise nonlinear(node, "a condition on the state", reader.depends)
    chosen = ((UNITY, ZERO), (ZERO, UNITY))
    terms: list[Term] = []
    for branch, (yes, no) in zip(branches, chosen, strict=True):
        indicator = pointwise("where", condition, yes, no)
        terms.extend(_scaled_term(t, (indicator,), node) for t in reader.read(branch).terms)
    consts = [reader.read(b).const for b in branches]
    const = None if consts == [None, None] else pointwise("where", condition, *(c or ZERO for c in consts))
    return Linear(const, tuple(terms), *node.type.shape)


def _transpose(reader: LinearReader, node: Node) -> Linear:
    return reader.read(node.args[0]).transposed


def _matmul(reader: LinearReader, node: Node) -> Linear:
    a, b = node.args
    if reader.depends(a) and reader.depends(b):
        raise nonlinear(node, "a product of two values that depend on the state", reader.depends)
    if reader.depends(b):
        return _applied(reader, a, reader.read(b), node)
    return _applied(reader, transpose(b), reader.read(a).transposed, node).transposed


def _applied(reader: LinearReader, matrix: Node, form: Linear, node: Node) -> Linear:
    """matrix @ form, for a state-free matrix."""
    if matrix.op == "matmul" and matrix.args[0].type.cols != ONE:
        return _applied(reader, matrix.args[0], _applied(reader, matrix.args[1], form, node), node)
    const = None if form.const is None else multiply(matrix, expand(form.const, form.rows, form.const.type.cols))
    parts = pieces(matrix)
    terms = [new for t in form.terms for new in _applied_to_term(matrix, parts, t, form.rows, node)]
    return Linear(const, tuple(terms), matrix.type.rows, form.cols)


def _applied_to_term(matrix: Node, parts: tuple[Piece, ...], term: Term, size: Dim, node: Node) -> list[Term]:
    if not term.row_taken:
        return [_applied_to_free_rows(matrix, term, size)]
    return [_applied_piece(piece, term, node) for piece in parts]


def _applied_to_free_rows(matrix: Node, term: Term, size: Dim) -> Term:
    varying = tuple(f for f in term.w if f.type.rows != ONE)
    others = tuple(f for f in term.w if f.type.rows == ONE)
    column = product(varying)
    if size == ONE and not varying:
        new = factors(matrix)
    elif column.type.cols == ONE:
        new = factors(multiply(matrix, expand(column, size, ONE)))
    else:
        new = factors(multiply(matrix, column))
    return replace(term, w=others + new)


def _applied_piece(piece: Piece, term: Term, node: Node) -> Term:
    if piece.dense:
        raise BrokenLaw("a dense transition (a general matrix applied to the state)", node,
                        "chunked and quadratic forms need diagonal plus low rank; step form only")  # fmt: skip
    if piece.diagonal:
        weighed = _weigh(term, ROW, piece.columns + piece.rows)
        return replace(weighed, w=weighed.w + piece.scalars)
    summed = _weigh(term, ROW, piece.rows)
    where = {"k": SUMMED} if term.k == ROW else {"v": SUMMED}
    return replace(summed, **where, w=summed.w + piece.scalars + piece.columns)  # type: ignore[arg-type]


def _sum(reader: LinearReader, node: Node) -> Linear:
    form = reader.read(node.args[0])
    summed = _summed_rows(reader, form if node["axis"] == 0 else form.transposed, node)
    return summed if node["axis"] == 0 else summed.transposed


def _summed_rows(reader: LinearReader, form: Linear, node: Node) -> Linear:
    if form.rows == ONE:
        return form
    const = None if form.const is None else sum_rows(expand(form.const, form.rows, form.const.type.cols))
    across = transpose(ones(form.rows))
    terms = [new for t in form.terms for new in _applied_to_term(across, (Piece(()),), t, form.rows, node)]
    return Linear(const, tuple(terms), ONE, form.cols)


def _rotate(reader: LinearReader, node: Node) -> Linear:
    theta, turned = node.args
    if reader.depends(theta):
        raise nonlinear(node, "an angle that depends on the state", reader.depends)
    form, back = reader.read(turned), node["inverse"]
    const = None if form.const is None else rotate(theta, expand(form.const, form.rows, form.const.type.cols), back)
    angle = negated(theta) if back else theta
    terms = (_turned(angle, t, node) if t.row_taken else _rotated(theta, back, t, form.rows) for t in form.terms)
    return replace(form, const=const, terms=tuple(terms))


def _turned(angle: Node, term: Term, node: Node) -> Term:
    """A rotation of the state along the axis that makes the value's rows."""
    if term.a if term.k == ROW else term.b:
        raise BrokenLaw("a rotation of channels that decay apart from each other", node,
                        "chunked forms rotate pairs of one common decay; step form only")  # fmt: skip
    if term.k == ROW:
        return replace(term, turned_rows=(*term.turned_rows, angle))
    return replace(term, turned_cols=(*term.turned_cols, angle))


def _rotated(theta: Node, inverse_turn: bool, term: Term, size: Dim) -> Term:
    varying = product(f for f in term.w if f.type.rows != ONE)
    others = tuple(f for f in term.w if f.type.rows == ONE)
    column = expand(varying, size, varying.type.cols)
    return replace(term, w=(*others, rotate(theta, column, inverse_turn)))


_RULES: dict[str, Rule] = {
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "where": _where,
    "transpose": _transpose,
    "matmul": _matmul,
    "sum": _sum,
    "rotate": _rotate,
}
