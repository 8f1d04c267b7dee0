"""Errors for names that mean nothing, or not what was written with them."""

from collections.abc import Iterable

from smir.errors import SmirError, SpecNameError, SpecTypeError
from smir.frontends import syntax
from smir.frontends.functions import FUNCTIONS
from smir.frontends.masks import MASKS
from smir.frontends.names import LENGTH, OUTPUT, TIME_INDEX, listing, nearest
from smir.frontends.symbols import Symbols


def unknown_name(tree: syntax.Name, symbols: Symbols, bound: Iterable[str], called: bool = False) -> SmirError:
    """The error for a bare or called name that has no value in its place."""
    name, span = tree.name, tree.span
    if name == TIME_INDEX:
        return SpecTypeError("`t` is an index, not a value", span, "read a value at t: `x[t]`")
    if name == OUTPUT:
        return SpecNameError("`y` is the output and can't be read", span, "give the expression a name: `R = ...`")
    if called and (name in symbols.introduced):
        hint = f"time stands in brackets, `{name}[t]`; a product needs `*`"
        return SpecNameError(f"`{name}` is not a function", span, hint)
    if name in symbols.states:
        return SpecTypeError(f"the state `{name}` must be read at a time", span, f"write `{name}[t-1]` or `{name}[t]`")
    if name in FUNCTIONS:
        return SpecTypeError(f"`{name}` is a function", span, f"write `{FUNCTIONS[name][0].signature}`")
    if name in MASKS:
        return SpecTypeError(f"the mask `{name}` needs an argument", span, f"write `{MASKS[name].signature}`")
    if not called and name in symbols.dimension_names and name not in symbols.introduced:
        hint = f"its size as a number is `size({name})`"
        return SpecNameError(f"`{name}` is a dimension, not a value", span, None if name == LENGTH else hint)
    known = {*FUNCTIONS, *MASKS} if called else {*symbols.known(), *bound}
    kind = "function" if called else "name"
    close = nearest(name, known)
    names = listing(sorted({*symbols.introduced, *bound}))
    others = "`docs/language.md` lists the functions" if called else f"the names of this spec are {names}"
    return SpecNameError(f"unknown {kind} `{name}`", span, f"did you mean `{close}`?" if close else others)


def wrong_index(tree: syntax.Index, base: syntax.Name, symbols: Symbols) -> SmirError:
    """The error for `name[...]` where that name can't be read so."""
    name = base.name
    if name == OUTPUT:
        hint = "declare a state and update it: `state h: V`, `h[t] = ...`, `y[t] = h[t]`"
        return SpecNameError("`y` is the output and can't be read", base.span, hint)
    if name in symbols.constants:
        return SpecTypeError(f"`{name}` is a constant, it has no index", tree.span, f"write `{name}`")
    if name in symbols.declarations and symbols.declarations[name].kind != "input":
        return SpecTypeError(f"the parameter `{name}` is the same at all times", tree.span, f"write `{name}`")
    if name in symbols.definitions:
        if symbols.definitions[name].indices:
            return SpecTypeError(f"`{name}` is an index formula", tree.span, f"write `{name}`, a T x T matrix")
        return _definition_at_time(tree, name)
    if name in symbols.introduced:
        message = f"`{name}` is read at {len(tree.indices)} indices, expected one"
        return SpecTypeError(message, tree.span, f"write `{name}[t]`")
    return unknown_name(base, symbols, ())


def _definition_at_time(tree: syntax.Index, name: str) -> SmirError:
    index = tree.indices[0]
    if isinstance(index, syntax.Name):
        hint = f"write `{name}`, its value at the same t"
        return SpecTypeError(f"the local definition `{name}` has no index", tree.span, hint)
    hint = f"declare a state for it: `state {name}_state: ...`, `{name}_state[t] = {name}`"
    return SpecTypeError(f"the local definition `{name}` can't be read at another time step", tree.span, hint)
