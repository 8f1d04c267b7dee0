"""Delay lines: what a mixer reads at `[t-n]` as states, or as inputs of their own.

A mixer that goes on where another segment stopped needs the inputs before its first token, and older states than the
last one. `delay_lines` says which. `lines_as_states` keeps them in states, so that one token is one step of a plain
recurrence; `lines_as_inputs` reads delayed inputs as inputs, so that no form is lost.

The value of input or state `x` n tokens ago is called `x__n`. Its state holds `x[t-n+1]` after token t, so that it is
read at `[t-1]`.
"""

from collections.abc import Iterator
from dataclasses import replace

from smir.ir.expr import input_at, state_at
from smir.ir.graph import Node, substitute
from smir.ir.interval import point
from smir.ir.mixer import Declaration, Mixer, State, matrix_shape


def delay_lines(mixer: Mixer) -> dict[str, int]:
    """How many tokens before the first a mixer needs of its inputs, and of its states before the last: by name."""
    found: dict[str, int] = {}
    for node in mixer.nodes():
        first = {"input": 0, "state": 1}.get(node.op)
        if first is not None and -node["offset"] > first:
            found[node["name"]] = max(found.get(node["name"], 0), -node["offset"] - first)
    declared = (*(d.name for d in mixer.declarations), *(s.name for s in mixer.states))
    return {name: found[name] for name in declared if name in found}


def line_name(name: str, age: int) -> str:
    """What the value of `age` tokens ago is called; no spec has such a name."""
    return f"{name}__{age}"


def line_ages(mixer: Mixer, name: str) -> range:
    """The ages of the values in the delay line of an input or state, newest first."""
    first = 1 if any(d.name == name for d in mixer.declarations) else 2
    return range(first, first + delay_lines(mixer).get(name, 0))


def lines_as_states(mixer: Mixer) -> Mixer:
    """The mixer whose delay lines are states: nothing is read from before the last token."""
    states = tuple(_line_states(mixer, tuple(delay_lines(mixer))))
    return _rewritten(replace(mixer, states=(*mixer.states, *states)), mixer, tuple(delay_lines(mixer)))


def lines_as_inputs(mixer: Mixer) -> Mixer:
    """The mixer whose delayed inputs are inputs of their own, at the same tokens; older states are states."""
    lines = delay_lines(mixer)
    inputs = [d for d in mixer.inputs if d.name in lines]
    delayed = [_line_input(d, age) for d in inputs for age in line_ages(mixer, d.name)]
    older = tuple(s.name for s in mixer.states if s.name in lines)
    wider = replace(mixer, declarations=(*mixer.declarations, *delayed),
                    states=(*mixer.states, *_line_states(mixer, older)))  # fmt: skip
    return _rewritten(wider, mixer, older)


def _line_input(d: Declaration, age: int) -> Declaration:
    """Zeros stand in for what was before the sequence."""
    return replace(d, name=line_name(d.name, age), range=d.range.union(point(0.0)))


def _line_states(mixer: Mixer, names: tuple[str, ...]) -> Iterator[State]:
    for name in names:
        for age in line_ages(mixer, name):
            yield _line_state(mixer, name, age)


def _line_state(mixer: Mixer, name: str, age: int) -> State:
    """What `x__age` is after a token: the input itself, or what was one token younger before it."""
    known = next((d for d in mixer.declarations if d.name == name), None) or mixer.state(name)
    shape, initial = matrix_shape(known.dims), known.initial if isinstance(known, State) else 0.0
    if age == 1:
        update = input_at(name, *shape)
    else:
        younger = name if isinstance(known, State) and age == 2 else line_name(name, age - 1)
        update = state_at(younger, *shape, -1)
    return State(line_name(name, age), known.dims, initial, update, known.span)


def _rewritten(wider: Mixer, mixer: Mixer, as_states: tuple[str, ...]) -> Mixer:
    """The wider mixer with its reads of delay lines replaced."""
    lines, names = delay_lines(mixer), {d.name for d in mixer.declarations}

    def read(node: Node) -> Node | None:
        if node.op not in ("input", "state") or node["name"] not in lines:
            return None
        name, age = node["name"], -int(node["offset"])
        if age < (1 if name in names else 2):
            return None
        rows, cols = node.type.shape
        made = line_name(name, age)
        return state_at(made, rows, cols, -1) if name in as_states else input_at(made, rows, cols)

    states = tuple(replace(s, update=substitute(s.update, read)) for s in wider.states)
    spans = {substitute(node, read): span for node, span in mixer.spans.items()}
    output = substitute(mixer.output, read)
    return replace(wider, states=states, output=output, names=(), spans=spans)
