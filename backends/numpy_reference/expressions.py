"""Values of mixer-IR expressions in float64: one small function for every operation.

A value is an array `[B, H, rows, cols]`; B and H have size 1 where nothing depends on them. Inside an index
formula every position variable has an axis of its own between H and rows, again of size 1 where unused.
Positions count from 1 to T, as t does, and a bound variable runs over the positions of the sequence only.
Arithmetic is IEEE: infinities and NaN are values, not warnings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smir.backends.numpy_reference.head_groups import with_all_heads
from smir.ir.dims import Dim
from smir.ir.expr import CONST, PAIR
from smir.ir.graph import Node, walk
from smir.ir.mixer import INPUT, Mixer
from smir.ir.ops import POINTWISE
from smir.ir.sizes import TIME_NAME, canonical_sizes

Array = np.ndarray[Any, Any]
OUTER = ("i", "j")


@dataclass(frozen=True)
class Context:
    """What expressions are evaluated in: arrays as matrices, sizes, and the axes of index variables.

    `inputs` are `[B, T, H, rows, cols]`, `params` `[1, H, rows, cols]`.
    """

    inputs: Mapping[str, Array]
    params: Mapping[str, Array]
    sizes: Mapping[str, int]
    indices: tuple[str, ...]
    batch: int
    heads: int
    memo: dict[Node, Array] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.sizes[TIME_NAME]

    def size(self, dim: Dim) -> int:
        return dim.size(self.sizes)

    def axis(self, index: str) -> int:
        """The array axis of an index variable, counted from the end."""
        return self.indices.index(index) - len(self.indices) - 2

    def input_at(self, name: str, t: int) -> Array:
        """Input `name` at step t = 0 .. T-1, zero outside the sequence."""
        values = self.inputs[name]
        return values[:, t] if 0 <= t < self.tokens else np.zeros_like(values[:, 0])


def make_context(mixer: Mixer, arrays: Mapping[str, Array], roots: Iterable[Node]) -> Context:
    """Float64 matrices of a mixer's arrays (canonical layout: inputs `[B, T, H, *dims]`, params `[H, *dims]`)."""
    arrays = with_all_heads(arrays, [d.name for d in mixer.inputs])
    values = {d.name: np.asarray(arrays[d.name], dtype=np.float64) for d in mixer.declarations}
    sizes = canonical_sizes(mixer.declarations, {name: a.shape for name, a in values.items()})
    inputs: dict[str, Array] = {}
    params: dict[str, Array] = {}
    for d in mixer.declarations:
        a = values[d.name]
        matrix = a.reshape(a.shape + (1,) * (2 - len(d.dims)))
        if d.kind == INPUT:
            inputs[d.name] = matrix
        else:
            params[d.name] = matrix[None]
    first = next(iter(inputs.values()))
    bound = sorted({n["index"] for n in walk(roots) if n.op in RANGES} - set(OUTER))
    return Context(inputs, params, sizes, (*OUTER, *bound), first.shape[0], first.shape[2])


def evaluate(context: Context, nodes: Iterable[Node], memo: dict[Node, Array], leaf: Callable[[Node], Array]) -> None:
    """Puts the value of every node (arguments before users) into `memo`; `leaf` gives per-step leaves."""
    for node in nodes:
        if node in memo:
            continue
        if node.type.time == CONST and node in context.memo:
            memo[node] = context.memo[node]
            continue
        memo[node] = leaf(node) if node.op in STEP_LEAVES else _apply(context, node, [memo[a] for a in node.args])
        if node.type.time == CONST:
            context.memo[node] = memo[node]


def sequence_leaf(node: Node) -> Array:
    """For expressions over whole sequences, which have no per-step leaves."""
    raise AssertionError(f"{node.op} at no time step")


STEP_LEAVES = frozenset({"input", "state", "read"})
RANGES = frozenset({"sum_range", "prod_range"})


def _apply(context: Context, node: Node, args: Sequence[Array]) -> Array:
    if node.type.time == PAIR:
        args = [_lift(context, a, v) for a, v in zip(node.args, args, strict=True)]
    with np.errstate(all="ignore"):
        if node.op in POINTWISE:
            return np.asarray(POINTWISE[node.op].numpy(*args), dtype=np.float64)
        return _RULES[node.op](context, node, args)


def _lift(context: Context, node: Node, value: Array) -> Array:
    """A constant inside an index formula gets size-1 axes for the index variables."""
    if node.type.time == PAIR:
        return value
    return value.reshape(*value.shape[:2], *(1 for _ in context.indices), *value.shape[2:])


# ---- one rule for every structural operation --------------------------------------------------------------------


def _const(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.full((1, 1, 1, 1), node["value"])


def _param(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return context.params[node["name"]]


def _eye(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.eye(context.size(node.type.rows))[None, None]


def _ones(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.ones((1, 1, context.size(node.type.rows), 1))


def _matmul(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.asarray(args[0] @ args[1])


def _transpose(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.swapaxes(args[0], -1, -2)


def _sum(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.asarray(args[0].sum(axis=node["axis"] - 2, keepdims=True))


def _max(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.asarray(args[0].max(axis=node["axis"] - 2, keepdims=True))


def _sequence(context: Context, node: Node, args: Sequence[Array]) -> Array:
    """`[B, T, H, n, 1]` to `[B, H, T, n]`."""
    return np.swapaxes(context.inputs[node["name"]][..., 0], 1, 2)


def _cumsum(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return np.cumsum(args[0], axis=-2)


def _softmax(context: Context, node: Node, args: Sequence[Array]) -> Array:
    """Over the columns. A row with nothing left to choose from (all masked, or all -inf) gives zeros, not NaN."""
    logits = args[0] if len(args) == 1 else np.where(args[1] != 0, args[0], -np.inf)
    top = logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits - np.where(np.isneginf(top), 0.0, top))
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights / np.where(total == 0, 1.0, total))


def _rotate(context: Context, node: Node, args: Sequence[Array]) -> Array:
    """Pairs (x0, x1) of rows (0, 1), (2, 3).. become (x0 cos - x1 sin, x0 sin + x1 cos)."""
    theta, x = args
    cos, sin = np.cos(theta), np.sin(theta)
    if node["inverse"]:
        sin = -sin
    even, odd = x[..., 0::2, :], x[..., 1::2, :]
    pairs = np.stack(np.broadcast_arrays(even * cos - odd * sin, even * sin + odd * cos), axis=-2)
    return pairs.reshape(*pairs.shape[:-3], x.shape[-2], x.shape[-1])


def _pairwise(context: Context, node: Node, args: Sequence[Array]) -> Array:
    """`[B, H, i, j, 1.., 1, 1]` to `[B, H, T, T]`."""
    formula = _lift(context, node.args[0], args[0])
    formula = formula.reshape(formula.shape[:4])
    return np.broadcast_to(formula, (*formula.shape[:2], context.tokens, context.tokens))


def _position(context: Context, node: Node, args: Sequence[Array]) -> Array:
    return _along(context, node["index"], np.arange(1.0, context.tokens + 1)[None, None, :, None, None])


def _input_of(context: Context, node: Node, args: Sequence[Array]) -> Array:
    steps = [context.input_at(node["name"], t + node["offset"]) for t in range(context.tokens)]
    return _along(context, node["index"], np.stack(steps, axis=2))


def _param_at(context: Context, node: Node, args: Sequence[Array]) -> Array:
    """`[1, H, T, T]` with its two axes put on those of the index variables."""
    value = context.params[node["name"]]
    if context.indices.index(node["row"]) > context.indices.index(node["col"]):
        value = np.swapaxes(value, -1, -2)
    axes = [context.tokens if name in (node["row"], node["col"]) else 1 for name in context.indices]
    return value.reshape(*value.shape[:2], *axes, 1, 1)


def _along(context: Context, index: str, value: Array) -> Array:
    """`[B, H, T, rows, cols]` with its T put on the axis of an index variable."""
    axes = [context.tokens if name == index else 1 for name in context.indices]
    return value.reshape(*value.shape[:2], *axes, *value.shape[3:])


def _range(context: Context, node: Node, args: Sequence[Array]) -> Array:
    """Sum or product of `body` over low <= index <= high; the others count as 0 or 1."""
    low, high, body = args
    axis = context.axis(node["index"])
    product = node.op == "prod_range"
    total = np.full((1,) * body.ndim, 1.0 if product else 0.0)
    for m in range(1, context.tokens + 1):
        term = np.take(body, [m - 1] if body.shape[axis] > 1 else [0], axis=axis)
        term = np.where((low <= m) & (m <= high), term, 1.0 if product else 0.0)
        total = total * term if product else total + term
    return total


_RULES: dict[str, Callable[[Context, Node, Sequence[Array]], Array]] = {
    "const": _const,
    "param": _param,
    "eye": _eye,
    "ones": _ones,
    "matmul": _matmul,
    "transpose": _transpose,
    "sum": _sum,
    "reduce_max": _max,
    "sequence": _sequence,
    "cumsum": _cumsum,
    "softmax": _softmax,
    "rotate": _rotate,
    "pairwise": _pairwise,
    "position": _position,
    "input_of": _input_of,
    "param_at": _param_at,
    "sum_range": _range,
    "prod_range": _range,
}
