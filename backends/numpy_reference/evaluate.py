"""Evaluates tile IR on numpy arrays: the part that both numpy interpreters share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smir.backends.numpy_reference.fused import LevelScores, match_level_scores
from smir.backends.numpy_reference.layout import Extent
from smir.backends.numpy_reference.tile_ops import TILE_OPS, levels
from smir.ir.graph import Node
from smir.ir.tile import LEVEL_OPS, PAST, axis_parts

Array = Any


@dataclass(frozen=True)
class Schedule:
    """What to compute for some roots, in order, and which values are used for the last time where.

    `fused` maps nodes to the group of operations that one function computes.
    """

    roots: tuple[Node, ...]
    order: tuple[Node, ...]
    varying: frozenset[Node]
    finished: Mapping[Node, tuple[Node, ...]]
    fused: Mapping[Node, LevelScores]


@dataclass(frozen=True)
class Leaves:
    """Where arrays come from: `load(node)` gives a leaf's, `count(node)` how many rows of a `valid_rows` node's block
    are tokens (a number, or an array that broadcasts against the tile)."""

    load: Callable[[Node], Array]
    count: Callable[[Node], Array]


def schedule(roots: Iterable[Node], known: Iterable[Node] = (), fuse: bool = False) -> Schedule:
    """Everything that the roots need and that isn't `known`, each value once, arguments before users.

    With `fuse`, groups of operations that have a faster function of their own use it.
    """
    roots = tuple(roots)
    order = tuple(_pending(roots, frozenset(known)))
    varying = frozenset(_level_varying(order))
    last: dict[Node, Node] = {}
    for node in order:
        if node not in varying:
            used = node.args if node.op != "level_sum" else tuple(_below(node, varying))
            last.update(dict.fromkeys(used, node))
    computed = set(order) - set(roots) - varying
    finished: dict[Node, tuple[Node, ...]] = {}
    for used_node, user in last.items():
        if used_node in computed:
            finished[user] = (*finished.get(user, ()), used_node)
    found = {n: match_level_scores(n) for n in order} if fuse else {}
    fused = {n: m for n, m in found.items() if m is not None and varying.isdisjoint((m.query, m.key, m.log))}
    return Schedule(roots, order, varying, finished, fused)


def run_schedule(plan: Schedule, values: MutableMapping[Node, Array], leaves: Leaves, extent: Extent) -> list[Array]:
    """The roots' values; tiles have all their rows and columns, batch axes may be of size one.

    `values` holds what was known, and gets what is computed.
    """
    for node in plan.order:
        if node in plan.varying:
            continue
        match = plan.fused.get(node)
        if match is not None:
            values[node] = match.compute(values)
        else:
            values[node] = _value(node, values, leaves, extent, plan.varying)
        for done in plan.finished.get(node, ()):
            del values[done]
    return [values[r] for r in plan.roots]


def _value(node: Node, values: Mapping[Node, Array], leaves: Leaves, extent: Extent, varying: frozenset[Node]) -> Array:
    op = node.op
    if op == "load":
        return leaves.load(node)
    if op == "const":
        return np.full((1, 1), node["value"], extent.dtype)
    if op == "level_sum":
        return _level_sum(node, values, leaves, extent, varying)
    args = [values[a] for a in node.args]
    if op == "broadcast":
        return np.broadcast_to(args[0], (*args[0].shape[:-2], *extent.shape(node.type.rows, node.type.cols)))
    if op == "place_row":
        return TILE_OPS[op](args[0], extent.chunk, node["reverse"])
    if op in ("spread", "fold"):
        lane_axis = (node if op == "spread" else node.args[0]).type.cols
        return TILE_OPS[op](args[0], extent.axis(axis_parts(lane_axis)[1 - node["part"]]), node["part"])
    if op == "valid_rows":
        return _valid_rows(node, args[0], leaves.count(node))
    return TILE_OPS[op](*args, **dict(node.attrs))


def _valid_rows(node: Node, a: Array, count: Array) -> Array:
    """The tokens of a chunk are its first rows, of the past its last ones."""
    valid = TILE_OPS[node.op]
    if node["block"] != PAST:
        return valid(a, count, node["fill"])
    return valid(a[..., ::-1, :], count, node["fill"])[..., ::-1, :]


def _level_sum(
    node: Node, values: Mapping[Node, Array], leaves: Leaves, extent: Extent, varying: frozenset[Node]
) -> Array:
    (body,) = node.args
    inside = [n for n in _pending((body,), frozenset(values)) if n in varying]
    total: Array = np.zeros(extent.shape(body.type.rows, body.type.cols), extent.dtype)
    for level in levels(extent.chunk):
        at_level = dict(values)
        for n in inside:
            if n.op in LEVEL_OPS:
                args = [at_level[a] for a in n.args]
                at_level[n] = TILE_OPS[n.op](*args, level=level, **dict(n.attrs))
            else:
                at_level[n] = _value(n, at_level, leaves, extent, varying)
        total = total + at_level[body]
    return total


def _pending(roots: Iterable[Node], known: frozenset[Node]) -> Iterator[Node]:
    """Everything below the roots and not below a known value, arguments before users."""
    seen: set[Node] = set()
    stack = [(r, False) for r in roots]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen and node not in known:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))


def _level_varying(order: Iterable[Node]) -> set[Node]:
    """The nodes whose value changes from level to level; a `level_sum` ends that."""
    varying: set[Node] = set()
    for node in order:
        if node.op in LEVEL_OPS or (node.op != "level_sum" and any(a in varying for a in node.args)):
            varying.add(node)
    return varying


def _below(node: Node, varying: frozenset[Node]) -> Iterator[Node]:
    """What a level sum's body uses that doesn't vary."""
    seen: set[Node] = set()
    stack = list(node.args)
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        if n in varying:
            stack.extend(n.args)
        else:
            yield n
