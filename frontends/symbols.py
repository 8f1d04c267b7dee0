"""What the names of a spec stand for, collected before any equation is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from smir.errors import SpecNameError, SpecTypeError
from smir.frontends import syntax
from smir.frontends.constants import evaluate
from smir.frontends.dimensions import axes, group
from smir.frontends.functions import FUNCTIONS
from smir.frontends.masks import MASKS
from smir.frontends.names import OUTPUT, TIME_INDEX, check_value_name, listing, nearest
from smir.ir.dims import TIME, Dim
from smir.ir.head_groups import ALL_HEADS
from smir.ir.interval import REAL, Interval
from smir.ir.mixer import INPUT, PARAM, Declaration
from smir.ir.segment import past_of
from smir.source import Span

RESERVED = frozenset(FUNCTIONS) | frozenset(MASKS)


@dataclass(frozen=True)
class DeclaredState:
    """A state before its update is known."""

    name: str
    dims: tuple[Dim, ...]
    initial: float
    span: Span


@dataclass
class Symbols:
    """One namespace for all values, another for dimensions. Filled by `collect`, read-only afterwards."""

    constants: dict[str, float] = field(default_factory=dict)
    declarations: dict[str, Declaration] = field(default_factory=dict)
    states: dict[str, DeclaredState] = field(default_factory=dict)
    definitions: dict[str, syntax.Definition] = field(default_factory=dict)
    updates: dict[str, syntax.Definition] = field(default_factory=dict)
    introduced: dict[str, Span] = field(default_factory=dict)

    @property
    def output(self) -> syntax.Definition:
        return self.updates[OUTPUT]

    @property
    def dimension_names(self) -> frozenset[str]:
        """The dimensions whose sizes a call's arguments tell."""
        return frozenset(n for d in self.declarations.values() for dim in d.dims for n in dim.names) | TIME.names

    def known(self) -> frozenset[str]:
        """Every name that may stand in an expression."""
        return frozenset(self.introduced) | RESERVED


def collect(spec: syntax.Spec) -> Symbols:
    """The names of a spec. Raises SpecNameError and SpecTypeError."""
    symbols = Symbols()
    for kind, read in _READERS:
        for statement in spec.statements:
            if isinstance(statement, kind):
                read(symbols, statement)
    _check_pasts(symbols)
    _check_groups(symbols)
    _check_complete(symbols, spec)
    return symbols


def _check_pasts(symbols: Symbols) -> None:
    """Raises SpecNameError for what is called like the earlier values of an input or state, which a call gives back."""
    values = {**{n: d.span for n, d in symbols.declarations.items()}, **{n: s.span for n, s in symbols.states.items()}}
    for name, span in values.items():
        whose = next((other for other in values if past_of(other) == name), None)
        if whose is not None:
            message = f"`{name}` is reserved: a call's state holds the earlier values of `{whose}` under that name"
            raise SpecNameError(message, span, "choose another name")


def check_dimensions_known(symbols: Symbols, dims: tuple[Dim, ...], span: Span) -> None:
    """Raises SpecNameError for a dimension whose size no argument of a call would tell."""
    for name in sorted({n for dim in dims for n in dim.names} - symbols.dimension_names):
        known = symbols.dimension_names - TIME.names
        close = nearest(name, known)
        hint = f"did you mean `{close}`?" if close else f"inputs and parameters have {listing(sorted(known))}"
        message = f"the dimension `{name}` belongs to no input or parameter, so its size is unknown"
        raise SpecNameError(message, span, hint)


def _introduce(symbols: Symbols, name: syntax.Name) -> None:
    check_value_name(name.name, name.span, RESERVED)
    if name.name == OUTPUT:
        raise SpecNameError("`y` is reserved: it is the output", name.span, "choose another name")
    if name.name in symbols.introduced:
        raise _twice(name, symbols.introduced[name.name])
    symbols.introduced[name.name] = name.span


def _read_constant(symbols: Symbols, statement: syntax.Constant) -> None:
    _introduce(symbols, statement.name)
    what = "the value of a constant"
    symbols.constants[statement.name.name] = evaluate(statement.value, symbols.constants, what)


def _declare(symbols: Symbols, statement: syntax.Declaration) -> None:
    dims = axes(statement.dims, time_allowed=statement.kind == PARAM)
    promised = _interval(statement.range, symbols.constants) if statement.range else REAL
    served = _group(statement)
    for name in statement.names:
        _introduce(symbols, name)
        symbols.declarations[name.name] = Declaration(statement.kind, name.name, dims, promised, name.span, served)


def _group(statement: syntax.Declaration) -> Dim | None:
    if statement.heads is None:
        return None
    if statement.kind == PARAM:
        hint = "declare an input, or leave `heads` out"
        raise SpecTypeError("a parameter has all heads, only inputs may have fewer", statement.heads.span, hint)
    return group(statement.heads)


def _check_groups(symbols: Symbols) -> None:
    """Raises SpecNameError for a group's name that means something else too, or where no input has all heads."""
    inputs = [d for d in symbols.declarations.values() if d.kind == INPUT]
    groups = {n for d in inputs if d.group for n in (ALL_HEADS.names | d.group.names)}
    for d in symbols.declarations.values():
        for name in sorted(groups & {n for dim in d.dims for n in dim.names}):
            what = "the number of heads" if name in ALL_HEADS.names else "the size of a group of heads"
            raise SpecNameError(f"`{name}` is a dimension and {what}", d.span, "give the dimension another name")
    if inputs and all(d.group for d in inputs):
        message = "every input has fewer heads than the output: nothing says how many that has"
        raise SpecNameError(message, inputs[0].span, "leave `heads` out at one of them")


def _declare_state(symbols: Symbols, statement: syntax.State) -> None:
    dims = axes(statement.dims, time_allowed=False)
    what = "the initial value of a state"
    initial = evaluate(statement.initial, symbols.constants, what) if statement.initial else 0.0
    for name in statement.names:
        _introduce(symbols, name)
        symbols.states[name.name] = DeclaredState(name.name, dims, initial, name.span)


def _interval(promise: syntax.Range, constants: Mapping[str, float]) -> Interval:
    lo = evaluate(promise.lo, constants, "the end of a range")
    hi = evaluate(promise.hi, constants, "the end of a range")
    interval = Interval(lo, hi, promise.lo_open, promise.hi_open)
    if lo > hi or (lo == hi and (promise.lo_open or promise.hi_open)):
        raise SpecTypeError(f"the range {interval} is empty", promise.span, "write the smaller end first")
    return interval


def _define(symbols: Symbols, statement: syntax.Definition) -> None:
    """Sorts a definition into state updates, the output, and local definitions."""
    name, indices = statement.name, statement.indices
    if name.name in symbols.states or name.name == OUTPUT:
        if name.name in symbols.updates:
            raise _twice(name, symbols.updates[name.name].span)
        _check_target(symbols, statement)
        symbols.updates[name.name] = statement
    elif len(indices) == 1:
        raise _bad_single_index(symbols, statement)
    else:
        if len(indices) > 2:
            raise SpecTypeError(f"{len(indices)} indices, an index formula has two", indices[2].span, "`M[i, j] = ...`")
        _introduce(symbols, name)
        symbols.definitions[name.name] = statement


def _check_target(symbols: Symbols, statement: syntax.Definition) -> None:
    """An update stands at `[t]`; the output at `[t]` or bare."""
    name, indices = statement.name.name, statement.indices
    at_t = len(indices) == 1 and isinstance(indices[0], syntax.Name) and indices[0].name == TIME_INDEX
    if at_t or (name == OUTPUT and not indices):
        return
    span = indices[0].span if indices else statement.name.span
    raise SpecTypeError(f"the equation of `{name}` must give its value at time t", span, f"write `{name}[t] = ...`")


def _bad_single_index(symbols: Symbols, statement: syntax.Definition) -> SpecNameError:
    name = statement.name.name
    if name in symbols.declarations or name in symbols.constants:
        return _twice(statement.name, symbols.introduced[name])
    hint = f"write `{name} = ...` for a local definition, or declare `state {name}: ...`"
    return SpecNameError(f"`{name}` is not a declared state", statement.name.span, hint)


def _twice(name: syntax.Name, other: Span) -> SpecNameError:
    message = f"`{name.name}` is defined twice, also at line {other.line}"
    return SpecNameError(message, name.span, "every name has one meaning, and one equation")


def _check_complete(symbols: Symbols, spec: syntax.Spec) -> None:
    if not any(d.kind == INPUT for d in symbols.declarations.values()):
        raise SpecNameError("the mixer has no input", spec.name.span, "declare one: `input v: V`")
    if OUTPUT not in symbols.updates:
        hint = "write `y[t] = ...`, or `y = ...` of whole sequences"
        raise SpecNameError("the mixer has no output", spec.name.span, hint)
    for state in symbols.states.values():
        check_dimensions_known(symbols, state.dims, state.span)
        if state.name not in symbols.updates:
            hint = f"write `{state.name}[t] = ...`"
            raise SpecNameError(f"the state `{state.name}` has no equation", state.span, hint)


# Constants first, because ranges may use them; equations last, because declarations say what they define.
_READERS: tuple[tuple[type[Any], Callable[[Symbols, Any], None]], ...] = (
    (syntax.Constant, _read_constant),
    (syntax.Declaration, _declare),
    (syntax.State, _declare_state),
    (syntax.Definition, _define),
)
