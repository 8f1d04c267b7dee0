"""Operator IR run token by token in float64, by the definition of its types (smir/ir/operator.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from smir.backends.numpy_reference.expressions import Array, Context, evaluate, make_context
from smir.backends.numpy_reference.mixer_interpreter import initial_state, state_array, step_output
from smir.backends.numpy_reference.tile_ops import rotate
from smir.ir.graph import Node, walk
from smir.ir.operator import (
    AFTER,
    BACKWARD,
    BEFORE,
    DECAYED,
    Decay,
    Elementwise,
    MicroStep,
    Operator,
    OperatorProgram,
    Rotation,
    Stage,
    Write,
)
from smir.ir.tile import MAX, SUM

Values = Mapping[Node, Array]


def run_operators(
    program: OperatorProgram, arrays: Mapping[str, Array], states: Mapping[str, Array] | None = None
) -> tuple[Array, dict[str, Array]]:
    """y `[B, T, H, *output_dims]` and the final states `[B, H, *dims]` in their declared orientation.

    `arrays` and `states` as for `run_mixer`. A backward operator's final state is its value at the first token.
    """
    given = states or {}
    context = make_context(program.mixer, arrays, (program.output,))
    run, final = _Run(program, context), {}
    for stage in program.stages:
        state = program.mixer.state(stage.state)
        end = run.stage(stage, initial_state(context, state, given.get(state.name)))
        final[state.name] = state_array(context, state, end)
    y = [step_output(context, program.mixer, run.value(program.output, t)) for t in range(context.tokens)]
    return np.stack(y, axis=1), final


@dataclass
class _Run:
    """One run: what every state was at the moments of every token, and the values that are known of each token."""

    program: OperatorProgram
    context: Context
    held: dict[str, dict[int, dict[str, Array]]] = field(default_factory=dict)
    known: dict[int, dict[Node, Array]] = field(default_factory=dict)

    def stage(self, stage: Stage, start: Array) -> Array:
        """Moves one state over all tokens; `start` and the last state, which it returns, lie as declared."""
        turned = isinstance(stage, Operator) and stage.transposed
        state, held = _T(start) if turned else start, self.held.setdefault(stage.state, {})
        order = range(self.context.tokens)
        for t in reversed(order) if stage.direction == BACKWARD else order:
            held[t] = self._operator(stage, t, state) if isinstance(stage, Operator) else self._element(stage, t, state)
            state = held[t][AFTER]
        return _T(state) if turned else state

    def value(self, root: Node, t: int) -> Array:
        """An expression at token t, once the stages that it holds are done."""
        memo = self.known.setdefault(t, {})
        evaluate(self.context, walk([root]), memo, lambda leaf: self._leaf(leaf, t))
        return memo[root]

    def _leaf(self, leaf: Node, t: int) -> Array:
        if leaf.op == "read":
            read = next(r for r in self.program.reads if r.name == leaf["name"])
            return _T(_T(self.value(read.query, t)) @ self.held[read.state][t][read.when])
        if leaf.op == "state":
            return self.held[leaf["name"]][t][BEFORE if leaf["offset"] else AFTER]
        return self.context.input_at(leaf["name"], t + leaf["offset"])

    def _operator(self, operator: Operator, t: int, state: Array) -> dict[str, Array]:
        values, moments = {v: self.value(v, t) for v in operator.vectors()}, {BEFORE: state}
        for number, step in enumerate(operator.steps):
            decayed = _decay(step.decay, values) * _rotated(step.rotation, values, state)
            if number == 0:
                moments[DECAYED] = decayed
            state = _write(step, values, state, decayed)
            for d in step.drives:
                state = state + values[d.scale] * self.held[d.state][t][d.when]
        return {**moments, AFTER: state}

    def _element(self, stage: Elementwise, t: int, state: Array) -> dict[str, Array]:
        decay, write = self.value(stage.decay, t), self.value(stage.write, t)
        if stage.kind == SUM:
            after = decay * state + write
        else:
            after = (np.maximum if stage.kind == MAX else np.logaddexp)(decay + state, write)
        return {BEFORE: state, AFTER: np.broadcast_to(after, state.shape)}


def _write(step: MicroStep, values: Values, before: Array, decayed: Array) -> Array:
    """All writes of a micro-step, none of which sees another's."""
    return np.asarray(decayed + sum(values[w.left] @ _row(w, values, before, decayed) for w in step.writes))


def _row(write: Write, values: Values, before: Array, decayed: Array) -> Array:
    """The row vector `(value + erase^T S)^T` that a write adds along its left vector, 1 x V."""
    row = np.zeros((1, 1, 1, before.shape[-1]))
    if write.value is not None:
        row = row + _T(values[write.value])
    if write.erase is not None:
        row = row + _T(values[write.erase.vector]) @ (before if write.erase.when == BEFORE else decayed)
    return row


def _decay(decay: Decay, values: Values) -> Array:
    """The factor of every element of the state, K x V or smaller."""
    factor = np.ones((1, 1, 1, 1))
    for part, along_columns in ((decay.scalar, False), (decay.rows, False), (decay.cols, True)):
        if part is not None:
            diagonal = np.exp(values[part.log]) * (1.0 if part.sign is None else values[part.sign])
            factor = factor * (_T(diagonal) if along_columns else diagonal)
    return factor


def _rotated(rotation: Rotation, values: Values, state: Array) -> Array:
    """The state with pairs of rows, or of columns, turned."""
    if rotation.rows is not None:
        state = rotate(values[rotation.rows], state, 0)
    return state if rotation.cols is None else rotate(_T(values[rotation.cols]), state, 1)


def _T(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)
