"""The oracle: mixer IR run step by step in float64, exactly as the spec reads.

Batch and heads are vectorised, time is a Python loop. It knows no algebra: non-linear updates, several states,
both directions and whole-sequence operators all run by the definition of their operations.

Outside the sequence inputs are zero. A state's value before its first step is its initial value, at any earlier
time; past the end of its run it is zero. "First" and "past" follow the state's own direction.
"""

from collections.abc import Mapping

import numpy as np

from smir.backends.numpy_reference.expressions import Array, Context, evaluate, make_context, sequence_leaf
from smir.errors import ArgumentError
from smir.ir.dependence import Component, components
from smir.ir.graph import Node, walk
from smir.ir.mixer import Mixer, State, matrix_shape
from smir.ir.operator import BACKWARD


def run_mixer(
    mixer: Mixer, arrays: Mapping[str, Array], states: Mapping[str, Array] | None = None
) -> tuple[Array, dict[str, Array]]:
    """y `[B, T, H, *output_dims]` and the final states `[B, H, *dims]` by name.

    `arrays`: inputs `[B, T, H, *dims]` and params `[H, *dims]` by name, at least one input, T > 0.
    `states`: initial states `[B, H, *dims]`; one that isn't given starts at its declared value. The final state
    is the value at t = T, or at t = 1 for a state that runs backward. Raises SpecCycleError for states that no
    order of steps can compute.
    """
    if not mixer.inputs:
        raise ArgumentError(f"mixer {mixer.name} has no input, so its sequence has no length")
    context = make_context(mixer, arrays, mixer.roots())
    runs = _Runs(context, mixer, states or {})
    for component in components(mixer):
        runs.run(component)
    y = _whole(context, mixer) if mixer.masked else runs.output()
    return y, runs.final()


class _Runs:
    """Trajectories of the states, `[B, H, rows, cols]` for every t, filled in as components run."""

    def __init__(self, context: Context, mixer: Mixer, given: Mapping[str, Array]) -> None:
        self.context, self.mixer = context, mixer
        self.initial = {s.name: initial_state(context, s, given.get(s.name)) for s in mixer.states}
        self.values: dict[str, dict[int, Array]] = {s.name: {} for s in mixer.states}
        self.directions: dict[str, str] = {}

    def run(self, component: Component) -> None:
        """Computes the states of one component at every time, in its direction."""
        self.directions.update(dict.fromkeys(component.states, component.direction))
        plans = [(name, list(walk([self.mixer.state(name).update]))) for name in component.states]
        for t in self._times(component.direction):
            memo: dict[Node, Array] = {}
            for name, nodes in plans:
                evaluate(self.context, nodes, memo, lambda leaf, t=t: self._leaf(leaf, t))  # type: ignore[misc]
                self.values[name][t] = np.broadcast_to(memo[nodes[-1]], self.initial[name].shape)

    def output(self) -> Array:
        """The output at every step, `[B, T, H, *output_dims]`."""
        nodes = list(walk([self.mixer.output]))
        steps = []
        for t in range(self.context.tokens):
            memo: dict[Node, Array] = {}
            evaluate(self.context, nodes, memo, lambda leaf, t=t: self._leaf(leaf, t))  # type: ignore[misc]
            steps.append(step_output(self.context, self.mixer, memo[nodes[-1]]))
        return np.stack(steps, axis=1)

    def final(self) -> dict[str, Array]:
        """The last value of every state in its own direction, `[B, H, *dims]`."""
        last = {s.name: self.values[s.name][self._times(self.directions[s.name])[-1]] for s in self.mixer.states}
        return {s.name: state_array(self.context, s, last[s.name]) for s in self.mixer.states}

    def _times(self, direction: str) -> range:
        tokens = self.context.tokens
        return range(tokens - 1, -1, -1) if direction == BACKWARD else range(tokens)

    def _leaf(self, node: Node, t: int) -> Array:
        t += node["offset"]
        if node.op == "input":
            return self.context.input_at(node["name"], t)
        name = node["name"]
        if 0 <= t < self.context.tokens:
            return self.values[name][t]
        before_start = t >= self.context.tokens if self.directions[name] == BACKWARD else t < 0
        return self.initial[name] if before_start else np.zeros_like(self.initial[name])


def initial_state(context: Context, state: State, given: Array | None) -> Array:
    """The state before its first step as a matrix `[B, H, rows, cols]`."""
    rows, cols = (context.size(d) for d in matrix_shape(state.dims))
    shape = (context.batch, context.heads, rows, cols)
    if given is None:
        return np.full(shape, state.initial, dtype=np.float64)
    return np.asarray(given, dtype=np.float64).reshape(shape)


def state_array(context: Context, state: State, value: Array) -> Array:
    """A state matrix in its declared shape `[B, H, *dims]`."""
    return np.array(value).reshape(context.batch, context.heads, *(context.size(d) for d in state.dims))


def step_output(context: Context, mixer: Mixer, value: Array) -> Array:
    """One step's output `[B, H, *output_dims]`."""
    full = np.broadcast_to(value, (context.batch, context.heads, *value.shape[-2:]))
    return full.reshape(context.batch, context.heads, *(context.size(d) for d in mixer.output_dims))


def _whole(context: Context, mixer: Mixer) -> Array:
    """The output of a masked operator: T x n, evaluated at once."""
    nodes = list(walk([mixer.output]))
    memo: dict[Node, Array] = {}
    evaluate(context, nodes, memo, sequence_leaf)
    value = memo[nodes[-1]]
    full = np.broadcast_to(value, (context.batch, context.heads, *value.shape[-2:]))
    dims = (context.size(d) for d in mixer.output_dims)
    return np.swapaxes(full, 1, 2).reshape(context.batch, context.tokens, context.heads, *dims)
