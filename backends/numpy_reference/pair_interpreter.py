"""Pair IR run by definition: the whole T x T matrix of every read, in float64."""

from collections.abc import Mapping

import numpy as np

from smir.backends.numpy_reference.expressions import Array, Context, evaluate, make_context
from smir.backends.numpy_reference.mixer_interpreter import step_output
from smir.ir.expr import CONST
from smir.ir.graph import Node, walk
from smir.ir.pairs import SOFTMAX, PairProgram, PairRead


def run_pairs(program: PairProgram, arrays: Mapping[str, Array]) -> Array:
    """y `[B, T, H, *output_dims]`. `arrays`: inputs `[B, T, H, *dims]` and parameters `[H, *dims]` by name."""
    context = make_context(program.mixer, arrays, program.roots())
    inputs = dict(context.inputs)
    for name, column in program.vectors:
        inputs[name] = np.moveaxis(_steps(context, column, {}), 2, 1)
    pairs = Context(inputs, context.params, context.sizes, context.indices, context.batch, context.heads)
    reads = {r.name: _read(context, pairs, r) for r in program.reads}
    whole = _steps(context, program.output, reads)
    steps = [step_output(context, program.mixer, whole[:, :, t]) for t in range(context.tokens)]
    return np.stack(steps, axis=1)


def _read(context: Context, pairs: Context, read: PairRead) -> Array:
    """`[B, H, T, n, 1]`."""
    value = np.ones((1, 1, 1, 1, 1)) if read.value is None else _steps(context, read.value, {})
    scores = _formula(pairs, read.scores)
    counts = np.ones((), bool) if read.mask is None else _formula(pairs, read.mask) != 0
    shape = (context.batch, context.heads, context.tokens, context.tokens)
    scores, counts = np.broadcast_to(scores, shape), np.broadcast_to(counts, shape)
    if read.kind != SOFTMAX:
        weights = np.where(counts, scores, 0.0)[..., None, None]
        return np.asarray((weights * value[:, :, None]).sum(axis=3))
    added = np.zeros((1, 1, 1, 1, 1)) if read.channels is None else _steps(context, read.channels, {})
    logs = np.where(counts[..., None, None], scores[..., None, None] + added[:, :, None], -np.inf)
    top = logs.max(axis=3, keepdims=True)
    weights = np.exp(logs - np.where(np.isneginf(top), 0.0, top))
    total = weights.sum(axis=3)
    return np.asarray((weights * value[:, :, None]).sum(axis=3) / np.where(total == 0, 1.0, total))


def _formula(context: Context, formula: Node) -> Array:
    """An index formula's values, `[B, H, T, T]` or broadcasting to it."""
    memo: dict[Node, Array] = {}
    nodes = list(walk([formula]))
    evaluate(context, nodes, memo, _no_steps)
    value = memo[nodes[-1]]
    if formula.type.time == CONST:
        return value
    return value.reshape(value.shape[:4])


def _no_steps(node: Node) -> Array:
    raise AssertionError(f"{node.op} inside an index formula")


def _steps(context: Context, node: Node, reads: Mapping[str, Array]) -> Array:
    """A column of every step, `[B, H, T, n, 1]`."""
    nodes, found = list(walk([node])), []
    for t in range(context.tokens):
        memo: dict[Node, Array] = {}

        def leaf(n: Node, t: int = t) -> Array:
            if n.op == "read":
                return reads[n["name"]][:, :, t]
            return context.input_at(n["name"], t + n["offset"])

        evaluate(context, nodes, memo, leaf)
        value = memo[node]
        found.append(np.broadcast_to(value, (context.batch, context.heads, *value.shape[-2:])))
    return np.stack(found, axis=2)
