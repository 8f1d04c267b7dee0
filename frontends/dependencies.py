"""Who needs whom: the order in which equations are read, and the two ways in which a spec can chase its own tail."""

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from smir.errors import SpecCycleError, SpecTypeError
from smir.frontends import syntax
from smir.frontends.constants import evaluate
from smir.frontends.names import OUTPUT, TIME_INDEX
from smir.frontends.symbols import Symbols


@dataclass(frozen=True)
class Need:
    """The equation of `user` reads `used`: in the past (-1), at the same step (0) or in the future (1)."""

    user: str
    used: str
    direction: int
    where: syntax.Expr


def check_order(symbols: Symbols) -> tuple[str, ...]:
    """The local definitions, each after those that it reads. Raises SpecCycleError."""
    equations = {**symbols.definitions, **symbols.updates}
    needs = [n for name, equation in equations.items() for n in _needs(name, equation.value, symbols)]
    order = _order_within_step(list(equations), needs)
    _check_directions(needs)
    return tuple(name for name in order if name in symbols.definitions)


def reached(symbols: Symbols) -> frozenset[str]:
    """The states and definitions that the output depends on, through any number of steps."""
    equations = {**symbols.definitions, **symbols.updates}
    found, pending = set[str](), [OUTPUT]
    while pending:
        name = pending.pop()
        for need in _needs(name, equations[name].value, symbols):
            if need.used not in found:
                found.add(need.used)
                pending.append(need.used)
    return frozenset(found)


def _needs(user: str, expr: syntax.Expr, symbols: Symbols) -> Iterator[Need]:
    pending = [expr]
    while pending:
        node = pending.pop()
        pending.extend(node.children)
        if isinstance(node, syntax.Index) and isinstance(node.base, syntax.Name) and node.base.name in symbols.states:
            if (direction := _direction(node.indices[0], symbols)) is not None:
                yield Need(user, node.base.name, direction, node)
        elif isinstance(node, syntax.Name) and node.name in symbols.definitions:
            yield Need(user, node.name, 0, node)


def _direction(index: syntax.Expr, symbols: Symbols) -> int | None:
    """The sign of n in `t + n`; None for what is no such index, which the lowering will refuse."""
    match index:
        case syntax.Name(name=name) if name == TIME_INDEX:
            return 0
        case syntax.Binary(op="+" | "-" as op, left=syntax.Name(name=name), right=right) if name == TIME_INDEX:
            try:
                amount = evaluate(right, symbols.constants, "an offset")
            except SpecTypeError:
                return None
            return 0 if amount == 0 else 1 if (amount > 0) == (op == "+") else -1
    return None


def _order_within_step(names: list[str], needs: list[Need]) -> tuple[str, ...]:
    graph = TopologicalSorter({name: [] for name in names})
    for need in needs:
        if need.direction == 0:
            graph.add(need.user, need.used)
    try:
        return tuple(graph.static_order())
    except CycleError as error:
        cycle = list(reversed(error.args[1]))
        raise _same_step_cycle(cycle, needs) from None


def _same_step_cycle(cycle: list[str], needs: list[Need]) -> SpecCycleError:
    first = next(n for n in needs if n.direction == 0 and (n.user, n.used) == (cycle[0], cycle[1]))
    path = " -> ".join(f"`{name}`" for name in cycle)
    message = f"these equations need each other at the same time step: {path}"
    return SpecCycleError(message, first.where.span, "read a state of the step before: `S[t-1]`")


def _check_directions(needs: list[Need]) -> None:
    """Equations that depend on each other must all look back, or all look ahead."""
    below = _closure(needs)
    tied = [n for n in needs if n.direction != 0 and n.user in below.get(n.used, ())]
    for ahead in (n for n in tied if n.direction > 0):
        for back in (n for n in tied if n.direction < 0):
            if back.user == ahead.user or (back.user in below[ahead.user] and ahead.user in below[back.user]):
                message = (
                    f"`{ahead.where.span.text}` needs the future and `{back.where.span.text}` the past of equations "
                    "that depend on each other: no order of the time steps computes them"
                )
                hint = "use one state per direction, and add them in the output"
                raise SpecCycleError(message, ahead.where.span, hint)


def _closure(needs: list[Need]) -> dict[str, set[str]]:
    """For every name, all names that it depends on; itself when it is on a cycle."""
    direct: dict[str, set[str]] = {}
    for need in needs:
        direct.setdefault(need.user, set()).add(need.used)
    closure: dict[str, set[str]] = {}
    for name in direct:
        found, pending = set[str](), [name]
        while pending:
            for used in direct.get(pending.pop(), ()):
                if used not in found:
                    found.add(used)
                    pending.append(used)
        closure[name] = found
    return closure
