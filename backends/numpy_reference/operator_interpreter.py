"""Operator IR run token by token in float64, by the definition of its types (smir/ir/operator.py)."""

from collections.abc import Mapping

import numpy as np

from smir.backends.numpy_reference.expressions import Array, Context, evaluate, make_context
from smir.backends.numpy_reference.mixer_interpreter import initial_state, state_array, step_output
from smir.ir.graph import Node, walk
from smir.ir.operator import (
    AFTER,
    BACKWARD,
    BEFORE,
    DECAYED,
    Decay,
    MicroStep,
    Operator,
    OperatorProgram,
    Read,
    Write,
)

Values = Mapping[Node, Array]


def run_operators(
    program: OperatorProgram, arrays: Mapping[str, Array], states: Mapping[str, Array] | None = None
) -> tuple[Array, dict[str, Array]]:
    """y `[B, T, H, *output_dims]` and the final states `[B, H, *dims]` in their declared orientation.

    `arrays` and `states` as for `run_mixer`. A backward operator's final state is its value at the first token.
    """
    given = states or {}
    context = make_context(program.mixer, arrays, (program.output,))
    tokens = [_token_values(context, program, t) for t in range(context.tokens)]
    reads: list[dict[str, Array]] = [{} for _ in tokens]
    final = {}
    for operator in program.operators:
        state = program.mixer.state(operator.state)
        start = _orient(operator, initial_state(context, state, given.get(state.name)))
        end = _run(operator, [r for r in program.reads if r.state == operator.state], start, tokens, reads)
        final[state.name] = state_array(context, state, _orient(operator, end))
    y = [_output(context, program, t, reads[t]) for t in range(context.tokens)]
    return np.stack(y, axis=1), final


def _run(
    operator: Operator, reads: list[Read], state: Array, tokens: list[Values], results: list[dict[str, Array]]
) -> Array:
    """Moves one state over all tokens, leaving what the reads give in `results[t]`; returns the last state."""
    order = range(len(tokens))
    for t in reversed(order) if operator.direction == BACKWARD else order:
        values, moments = tokens[t], {BEFORE: state}
        for number, step in enumerate(operator.steps):
            decayed = _decay(step.decay, values) * state
            if number == 0:
                moments[DECAYED] = decayed
            state = _write(step, values, state, decayed)
        moments[AFTER] = state
        for read in reads:
            results[t][read.name] = _T(_T(values[read.query]) @ moments[read.when])
    return state


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


def _token_values(context: Context, program: OperatorProgram, t: int) -> Values:
    memo: dict[Node, Array] = {}
    evaluate(context, walk(program.vectors()), memo, lambda leaf: context.input_at(leaf["name"], t + leaf["offset"]))
    return memo


def _output(context: Context, program: OperatorProgram, t: int, reads: Mapping[str, Array]) -> Array:
    def leaf(node: Node) -> Array:
        if node.op == "read":
            return reads[node["name"]]
        return context.input_at(node["name"], t + node["offset"])

    memo: dict[Node, Array] = {}
    evaluate(context, walk([program.output]), memo, leaf)
    return step_output(context, program.mixer, memo[program.output])


def _orient(operator: Operator, state: Array) -> Array:
    return _T(state) if operator.transposed else state


def _T(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)
