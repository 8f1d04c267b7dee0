"""Delay lines: states that are read further away than one step become chains of helper states, one step each."""

from dataclasses import replace

from smir.ir.dependence import components
from smir.ir.expr import state_at
from smir.ir.graph import Node, substitute
from smir.ir.mixer import Mixer, State, matrix_shape
from smir.ir.operator import BACKWARD


def delay_lines(mixer: Mixer) -> Mixer:
    """The same mixer in which every state is read at [t], [t-1] or [t+1] only.

    A read `S[t-n]` becomes `H[t-1]`, where the helper H holds `S[t-n+1]`. Before S's first step the helper has
    S's declared initial value, past the end of its run zero. Inputs keep their offsets. Raises SpecCycleError.
    """
    far = sorted({(n["name"], n["offset"]) for n in mixer.nodes() if n.op == "state" and abs(n["offset"]) > 1})
    if not far:
        return mixer
    directions = {name: c.direction for c in components(mixer) for name in c.states}
    taken = {d.name for d in mixer.declarations} | {s.name for s in mixer.states}
    helpers: dict[tuple[str, int], State] = {}
    for name, offset in far:
        way = -1 if offset < 0 else 1
        for distance in range(1, abs(offset)):
            if (name, way * distance) not in helpers:
                state = mixer.state(name)
                starts = state.initial if (directions[name] == BACKWARD) == (way > 0) else 0.0
                helpers[name, way * distance] = _helper(state, way, distance, starts, helpers, taken)
    reads = {_read(mixer.state(n), o): _through(helpers[n, o - (1 if o > 0 else -1)], o) for n, o in far}
    return _rewritten(mixer, tuple(helpers.values()), reads)


def _helper(
    state: State, way: int, distance: int, starts: float, helpers: dict[tuple[str, int], State], taken: set[str]
) -> State:
    """The state that holds `state[t + way * distance]`."""
    source = state if distance == 1 else helpers[state.name, way * (distance - 1)]
    name = _fresh(f"{state.name}_{'past' if way < 0 else 'next'}{distance}", taken)
    return State(name, state.dims, starts, _read(source, way), state.span)


def _fresh(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name


def _read(state: State, offset: int) -> Node:
    return state_at(state.name, *matrix_shape(state.dims), offset)


def _through(helper: State, offset: int) -> Node:
    return _read(helper, 1 if offset > 0 else -1)


def _rewritten(mixer: Mixer, helpers: tuple[State, ...], reads: dict[Node, Node]) -> Mixer:
    states = tuple(replace(s, update=substitute(s.update, reads)) for s in mixer.states)
    names = tuple((name, substitute(node, reads)) for name, node in mixer.names)
    return replace(mixer, states=states + helpers, output=substitute(mixer.output, reads), names=names)
