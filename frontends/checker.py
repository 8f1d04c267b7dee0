"""What a whole spec must satisfy once every expression has a type."""

from smir.errors import SpecNameError, SpecTypeError
from smir.frontends import syntax
from smir.frontends.dependencies import reached
from smir.frontends.names import OUTPUT
from smir.frontends.symbols import DeclaredState, Symbols
from smir.ir.dims import ONE, TIME, Dim
from smir.ir.expr import CONST, SEQ, STEP
from smir.ir.graph import Node, walk
from smir.ir.mixer import matrix_shape


def check_update(state: DeclaredState, equation: syntax.Definition, update: Node) -> None:
    """Raises SpecTypeError unless the update has the state's shape and one value per time step."""
    rows, cols = matrix_shape(state.dims)
    span = equation.value.span
    if update.type.time == SEQ:
        hint = "write every input with [t]"
        raise SpecTypeError(f"the equation of the state `{state.name}` uses whole sequences", span, hint)
    if update.type.time == CONST:
        hint = f"a constant needs no state: write a local definition instead of `{state.name}`"
        raise SpecTypeError(f"the equation of the state `{state.name}` doesn't depend on time", span, hint)
    if update.type.shape != (rows, cols):
        found, declared = f"{update.type.rows} x {update.type.cols}", f"{rows} x {cols}"
        turned = update.type.shape == (cols, rows)
        hint = "transpose it: `.T`" if turned else "a column is `n x 1`; `a @ b.T` of two columns is a matrix"
        message = f"the state `{state.name}` is declared {declared}, its equation gives {found}"
        raise SpecTypeError(message, span, hint)


def output_dims(equation: syntax.Definition, output: Node) -> tuple[Dim, ...]:
    """The dimensions of y per time step. Raises SpecTypeError for what can't be an output."""
    span = equation.value.span
    if output.type.time == CONST:
        raise SpecTypeError("the output depends on no input", span, "use an input: `v[t]`, or bare `v`")
    if output.type.time == SEQ:
        return _sequence_dims(equation, output)
    rows, cols = output.type.shape
    if rows == ONE != cols:
        raise SpecTypeError(f"the output is a row, 1 x {cols}; expected a column", span, "transpose it: `.T`")
    return tuple(d for d in (rows, cols) if d != ONE)


def _sequence_dims(equation: syntax.Definition, output: Node) -> tuple[Dim, ...]:
    rows, cols = output.type.shape
    span = equation.value.span
    if equation.indices:
        raise SpecTypeError("`y[t]` is one time step, the right side a whole sequence", span, "write `y = ...`")
    if rows != TIME:
        hint = "transpose it: `.T`" if cols == TIME else "its rows are the time steps: `(q @ k.T) @ v`"
        raise SpecTypeError(f"the output is {rows} x {cols}; expected T x n", span, hint)
    if TIME.names & cols.names:
        raise SpecTypeError(f"the output is {rows} x {cols}; its columns can't be time", span, "multiply it by `v`")
    return () if cols == ONE else (cols,)


def check_states_used(symbols: Symbols) -> None:
    """Raises SpecNameError for a state that the output doesn't depend on."""
    used = reached(symbols)
    for state in symbols.states.values():
        if state.name not in used:
            hint = f"use it in the equation of `{OUTPUT}`, or delete it"
            raise SpecNameError(f"the output doesn't depend on the state `{state.name}`", state.span, hint)


def check_no_length(symbols: Symbols, roots: tuple[Node, ...]) -> None:
    """Raises SpecTypeError where a step equation uses a value as long as the sequence."""
    for root, equation in zip(roots, symbols.updates.values(), strict=True):
        for node in walk((root,)) if root.type.time == STEP else ():
            if TIME.names & (node.type.rows.names | node.type.cols.names):
                shape = f"{node.type.rows} x {node.type.cols}"
                message = f"a step equation can't use a {shape} value: one time step doesn't know the sequence's length"
                raise SpecTypeError(message, equation.value.span, "write the mixer over whole sequences: `y = ...`")
