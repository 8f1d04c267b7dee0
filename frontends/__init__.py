"""The language: text to mixer IR. `docs/language.md` is its reference."""

from types import MappingProxyType

from smir.frontends.checker import check_no_length, check_states_used, check_update, output_dims
from smir.frontends.dependencies import check_order
from smir.frontends.lowering import Lowerer
from smir.frontends.names import OUTPUT
from smir.frontends.parser import parse_text
from smir.frontends.symbols import Symbols, collect
from smir.ir.graph import Node
from smir.ir.mixer import Mixer, State
from smir.source import Source

__all__ = ["parse_mixer"]


def parse_mixer(source: Source) -> Mixer:
    """The typed mixer that a spec describes.

    Raises SpecSyntaxError, SpecNameError, SpecTypeError or SpecCycleError, with position and hint, and nothing else.
    """
    spec = parse_text(source)
    symbols = collect(spec)
    order = check_order(symbols)
    lowerer = Lowerer(symbols)
    names = tuple((name, lowerer.define(name)) for name in order)
    roots = {name: lowerer.equation(equation) for name, equation in symbols.updates.items()}
    dims = output_dims(symbols.output, roots[OUTPUT])
    states = tuple(_state(symbols, name, roots) for name in symbols.states)
    check_states_used(symbols)
    check_no_length(symbols, tuple(roots.values()))
    declarations = tuple(symbols.declarations.values())
    spans = MappingProxyType(lowerer.spans)
    return Mixer(spec.name.name, declarations, states, roots[OUTPUT], dims, names, source, spans)


def _state(symbols: Symbols, name: str, roots: dict[str, Node]) -> State:
    declared, update = symbols.states[name], roots[name]
    check_update(declared, symbols.updates[name], update)
    return State(name, declared.dims, declared.initial, update, declared.span)
