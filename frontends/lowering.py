"""Syntax trees to typed nodes of the mixer IR. Every type error gets the place where it was made."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from smir.errors import SpecNameError, SpecTypeError
from smir.frontends import syntax
from smir.frontends.calls import choose_function, choose_mask
from smir.frontends.constants import whole_number
from smir.frontends.construct import matmul, number, pointwise, transpose
from smir.frontends.dimensions import dimension
from smir.frontends.functions import DIMENSION, FUNCTIONS, INDEX, Function
from smir.frontends.limits import MAX_GRAPH_DEPTH, MAX_OFFSET
from smir.frontends.masks import BOUND, COLUMN, MASKS, ROW
from smir.frontends.names import TIME_INDEX, check_spelling, listing
from smir.frontends.positions import at_position
from smir.frontends.symbols import Symbols, check_dimensions_known
from smir.frontends.unknown import unknown_name, wrong_index
from smir.ir import expr
from smir.ir.dims import Dim
from smir.ir.graph import Node
from smir.ir.mixer import INPUT, matrix_shape
from smir.source import Span

_OPERATORS = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow",
    "<": "lt", "<=": "le", "==": "eq", "!=": "ne", "and": "and", "or": "or",
}  # fmt: skip
_SWAPPED = {">": "<", ">=": "<="}


@dataclass(frozen=True)
class Scope:
    """The indices that an equation may use: `t`, or in an index formula the names bound there, as (index, offset)."""

    formula: bool = False
    bound: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    sums: int = 0


STEP_SCOPE = Scope()


class Lowerer:
    """Lowers expressions; remembers where every node was first written."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.defined: dict[str, Node] = {}
        self.spans: dict[Node, Span] = {}
        self._depths: dict[Node, int] = {}

    def define(self, name: str) -> Node:
        """Lowers a local definition; those that it reads must have been lowered before. Raises SmirError."""
        definition = self.symbols.definitions[name]
        if definition.indices:
            entry = self._formula(definition, ((ROW, 0), (COLUMN, 0)))
            node = self._located(definition.value.span, expr.pairwise, entry)
        else:
            node = self.lower(definition.value)
        self._check_depth(node, definition.value.span)
        self.defined[name] = node
        return node

    def equation(self, definition: syntax.Definition) -> Node:
        """Lowers the right side of a state's update or of the output. Raises SmirError."""
        node = self.lower(definition.value)
        self._check_depth(node, definition.value.span)
        return node

    def lower(self, tree: syntax.Expr, scope: Scope = STEP_SCOPE) -> Node:
        """The node of an expression. Raises SmirError."""
        match tree:
            case syntax.Number(value=value):
                node = number(value)
            case syntax.Name():
                node = self._name(tree, scope)
            case syntax.Index():
                node = self._read(tree, scope)
            case syntax.Call():
                node = self._call(tree, scope)
            case syntax.Transpose(arg=arg):
                node = self._located(tree.span, transpose, self.lower(arg, scope))
            case syntax.Negate(arg=arg):
                node = self._located(tree.span, pointwise, "neg", self.lower(arg, scope))
            case syntax.Binary(op=op, left=left, right=right):
                sides = self.lower(left, scope), self.lower(right, scope)
                if op in _SWAPPED:
                    op, sides = _SWAPPED[op], (sides[1], sides[0])
                build: Callable[..., Node] = matmul if op == "@" else lambda a, b: pointwise(_OPERATORS[op], a, b)
                node = self._located(tree.span, build, *sides)
            case _:
                raise AssertionError(tree)
        if scope.formula and node.type.time not in (expr.CONST, expr.PAIR):
            hint = "read sequences and formulas at an index, `f[i]`, `N[i, j]`; multiply masks outside: `M * causal`"
            raise SpecTypeError(f"`{tree.span.text[:40]}` is not a number at one (i, j)", tree.span, hint)
        self.spans.setdefault(node, tree.span)
        return node

    # ---- names ------------------------------------------------------------------------------------------------------

    def _name(self, tree: syntax.Name, scope: Scope) -> Node:
        name, symbols = tree.name, self.symbols
        if name in scope.bound:
            index, offset = scope.bound[name]
            position = expr.position(index)
            op = "add" if offset > 0 else "sub"
            return pointwise(op, position, number(abs(offset))) if offset else position
        if name in symbols.constants:
            return number(symbols.constants[name])
        if name in self.defined:
            return self.defined[name]
        if name in MASKS and not MASKS[name].arity:
            return MASKS[name].build()
        declaration = symbols.declarations.get(name)
        if declaration is None:
            raise unknown_name(tree, symbols, scope.bound)
        rows, cols = matrix_shape(declaration.dims)
        if declaration.kind != INPUT:
            return expr.param(name, rows, cols)
        if scope.formula:
            hint = f"write `{name}[i]` with an index of the formula"
            raise SpecTypeError(f"`{name}` is the whole sequence; an index formula reads one position", tree.span, hint)
        if len(declaration.dims) > 1:
            hint = f"read it at a time step, `{name}[t]`, in a step equation"
            raise SpecTypeError(f"`{name}` has two dimensions, so it has no T x n matrix", tree.span, hint)
        return expr.sequence(name, rows)

    # ---- reads at a position ----------------------------------------------------------------------------------------

    def _read(self, tree: syntax.Index, scope: Scope) -> Node:
        if not isinstance(tree.base, syntax.Name):
            hint = "index the names inside: `x[t].T`"
            raise SpecTypeError("only names can be read at an index", tree.base.span, hint)
        name, symbols = tree.base.name, self.symbols
        if name not in symbols.introduced or name in symbols.constants:
            raise wrong_index(tree, tree.base, symbols)
        if len(tree.indices) == 2 and name in symbols.definitions and symbols.definitions[name].indices:
            positions = self._position(tree.indices[0], scope), self._position(tree.indices[1], scope)
            return self._formula(symbols.definitions[name], positions, scope.sums)
        if len(tree.indices) > 1 or (name in symbols.declarations and symbols.declarations[name].kind != INPUT):
            raise wrong_index(tree, tree.base, symbols)
        if scope.formula:
            return self._read_position(tree, name, scope)
        if name in symbols.definitions:
            raise wrong_index(tree, tree.base, symbols)
        return self._read_time(tree, name)

    def _read_time(self, tree: syntax.Index, name: str) -> Node:
        symbols = self.symbols
        hint = "a step equation reads `x[t]`, `x[t-n]` or `x[t+n]`"
        _, offset = self._index(tree.indices[0], {TIME_INDEX: ("", 0)}, hint)
        if name in symbols.states:
            return expr.state_at(name, *matrix_shape(symbols.states[name].dims), offset)
        return expr.input_at(name, *matrix_shape(symbols.declarations[name].dims), offset)

    def _read_position(self, tree: syntax.Index, name: str, scope: Scope) -> Node:
        if name in self.symbols.states:
            hint = "formulas are made of inputs and parameters; states belong in step equations"
            raise SpecTypeError(f"the state `{name}` can't be read in an index formula", tree.span, hint)
        index, offset = self._position(tree.indices[0], scope)
        if name in self.defined:
            return self._located(tree.span, at_position, self.defined[name], index, offset)
        declaration = self.symbols.declarations[name]
        if len(declaration.dims) > 1:
            hint = "an index formula reads scalars and columns"
            raise SpecTypeError(f"`{name}` has two dimensions", tree.span, hint)
        return expr.input_of(name, index, matrix_shape(declaration.dims)[0], offset)

    def _position(self, tree: syntax.Expr, scope: Scope) -> tuple[str, int]:
        names = listing(scope.bound)
        hint = (
            f"the indices here are {names}, plus or minus a whole number"
            if scope.bound
            else "`M[i, j] = ...` binds them"
        )
        return self._index(tree, scope.bound, hint)

    def _index(self, tree: syntax.Expr, bound: Mapping[str, tuple[str, int]], hint: str) -> tuple[str, int]:
        """An index `t`, `t-n` or `t+n` as what its name is bound to, and the total offset."""
        match tree:
            case syntax.Name(name=name) if name in bound:
                return bound[name]
            case syntax.Binary(op="+" | "-" as op, left=syntax.Name(name=name), right=right) if name in bound:
                amount = whole_number(right, self.symbols.constants, "an offset", MAX_OFFSET)
                index, offset = bound[name]
                total = offset + (amount if op == "+" else -amount)
                if abs(total) > MAX_OFFSET:
                    raise SpecTypeError(f"an offset must be at most {MAX_OFFSET}", tree.span)
                return index, total
        raise SpecTypeError(f"`{tree.span.text[:40]}` is not an index that can be read here", tree.span, hint)

    def _formula(self, definition: syntax.Definition, positions: tuple[tuple[str, int], ...], sums: int = 0) -> Node:
        """The body of `M[i, j] = ...` at the given positions."""
        names: list[str] = []
        for index in definition.indices:
            if not isinstance(index, syntax.Name):
                raise SpecTypeError("the indices of a formula are two names", index.span, "`M[i, j] = ...`")
            self._check_index_name(index, names)
            names.append(index.name)
        scope = Scope(True, dict(zip(names, positions, strict=True)), sums)
        return self.lower(definition.value, scope)

    def _check_index_name(self, index: syntax.Name, bound: Container[str]) -> None:
        name, span = index.name, index.span
        check_spelling(name, span)
        if name == TIME_INDEX:
            raise SpecNameError("`t` is the time index of step equations", span, "use i, j and m in an index formula")
        if name in bound:
            raise SpecNameError(f"the index `{name}` is bound already", span, "every index has its own name")
        if name in self.symbols.known():
            raise SpecNameError(f"`{name}` has another meaning, it can't be an index", span, "choose another index")

    # ---- calls ------------------------------------------------------------------------------------------------------

    def _call(self, tree: syntax.Call, scope: Scope) -> Node:
        name = tree.function.name
        if name in MASKS:
            mask = choose_mask(tree)
            return self._located(tree.span, mask.build, *(self.lower(a, scope) for a in tree.args))
        if name not in FUNCTIONS:
            raise unknown_name(tree.function, self.symbols, scope.bound, called=True)
        function = choose_function(tree)
        if INDEX in function.kinds:
            return self._range(tree, function, scope)
        args = [self._argument(kind, a, scope) for kind, a in zip(function.kinds, tree.args, strict=True)]
        return self._located(tree.span, function.build, *args)

    def _argument(self, kind: str, tree: syntax.Expr, scope: Scope) -> Node | Dim:
        if kind != DIMENSION:
            return self.lower(tree, scope)
        dim = dimension(tree)
        check_dimensions_known(self.symbols, (dim,), tree.span)
        return dim

    def _range(self, tree: syntax.Call, function: Function, scope: Scope) -> Node:
        """`sum(m, lo, hi, body)`: m is bound in the body only."""
        index, low, high, body = tree.args
        if not scope.formula:
            hint = "define `M[i, j] = ...` and use M as a T x T matrix"
            raise SpecTypeError(f"`{function.name}` over a range belongs in an index formula", tree.span, hint)
        if not isinstance(index, syntax.Name):
            raise SpecTypeError("the first argument must be a new index name", index.span, f"`{function.signature}`")
        self._check_index_name(index, scope.bound)
        # The nesting level names the index, so that formulas that differ only in their names are the same node.
        ir_name = BOUND if scope.sums == 0 else f"{BOUND}{scope.sums + 1}"
        inner = replace(scope, bound={**scope.bound, index.name: (ir_name, 0)}, sums=scope.sums + 1)
        ends = self.lower(low, scope), self.lower(high, scope)
        return self._located(tree.span, function.build, ir_name, *ends, self.lower(body, inner))

    # ---- helpers ----------------------------------------------------------------------------------------------------

    def _located(self, span: Span, build: Callable[..., Node], *args: Any) -> Node:
        """Builds a node; a type error without a place, and every new node below, gets this one."""
        try:
            node = build(*args)
        except SpecTypeError as error:
            if error.span is not None:
                raise
            raise SpecTypeError(error.message, span, error.hint) from None
        pending = [node]
        while pending:
            new = pending.pop()
            if new not in self.spans:
                self.spans[new] = span
                pending.extend(new.args)
        return node

    def _check_depth(self, root: Node, span: Span) -> None:
        """Refuses graphs that would be too deep for anything recursive."""
        pending = [root]
        while pending:
            node = pending[-1]
            missing = [a for a in node.args if a not in self._depths]
            if missing:
                pending.extend(missing)
            else:
                pending.pop()
                self._depths[node] = 1 + max((self._depths[a] for a in node.args), default=0)
        if self._depths[root] > MAX_GRAPH_DEPTH:
            message = f"with its local definitions this is more than {MAX_GRAPH_DEPTH} operations deep"
            raise SpecTypeError(message, span, "a spec is the equations of one mixer, about ten lines")
