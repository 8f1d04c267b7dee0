"""Evaluates tile IR on numpy arrays: the part that both numpy interpreters share."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from smir.backends.numpy_reference.layout import Extent
from smir.backends.numpy_reference.tile_ops import TILE_OPS, levels
from smir.ir.graph import Node, walk
from smir.ir.tile import LEVEL_OPS

Array = Any


class Evaluator:
    """Values of tile nodes, computed once each.

    `load(node)` gives the array of a leaf, `extent` the length of every axis, `count(node)` how many rows of a
    `valid_rows` node's block are tokens (a number, or an array that broadcasts against the tile).
    """

    def __init__(
        self,
        load: Callable[[Node], Array],
        extent: Extent,
        count: Callable[[Node], Array],
        known: Mapping[Node, Array] | None = None,
    ) -> None:
        self.load, self.extent, self.count = load, extent, count
        self.values: dict[Node, Array] = dict(known or {})

    def __call__(self, roots: Iterable[Node]) -> list[Array]:
        """The roots' values; tiles have all their rows and columns, batch axes may be of size one."""
        roots = tuple(roots)
        order = pending(roots, self.values)
        varying = level_varying(order)
        for node in order:
            if node not in varying:
                self.values[node] = self._value(node, self.values, varying)
        return [self.values[r] for r in roots]

    def _value(self, node: Node, values: Mapping[Node, Array], varying: set[Node]) -> Array:
        if node.op == "load":
            return self.load(node)
        if node.op == "const":
            return np.full((1, 1), node["value"], self.extent.dtype)
        if node.op == "level_sum":
            return self._level_sum(node.args[0], varying)
        args = [values[a] for a in node.args]
        if node.op == "broadcast":
            return np.broadcast_to(args[0], (*args[0].shape[:-2], *self.extent.shape(node.type.rows, node.type.cols)))
        if node.op == "valid_rows":
            return TILE_OPS["valid_rows"](args[0], self.count(node), node["fill"])
        return TILE_OPS[node.op](*args, **dict(node.attrs))

    def _level_sum(self, body: Node, varying: set[Node]) -> Array:
        inside = [n for n in walk([body]) if n in varying]
        total = np.zeros(self.extent.shape(body.type.rows, body.type.cols), self.extent.dtype)
        for level in levels(self.extent.chunk):
            values = dict(self.values)
            for node in inside:
                if node.op in LEVEL_OPS:
                    args = [values[a] for a in node.args]
                    values[node] = TILE_OPS[node.op](*args, level=level, **dict(node.attrs))
                else:
                    values[node] = self._value(node, values, varying)
            total = total + values[body]
        return total


def pending(roots: Iterable[Node], known: Mapping[Node, Array]) -> list[Node]:
    """What is left to compute for the roots, arguments before users, nothing below a known value."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(r, False) for r in roots]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen and node not in known:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in node.args)
    return order


def level_varying(order: Iterable[Node]) -> set[Node]:
    """The nodes whose value changes from level to level; a `level_sum` ends that."""
    varying: set[Node] = set()
    for node in order:
        if node.op in LEVEL_OPS or (node.op != "level_sum" and any(a in varying for a in node.args)):
            varying.add(node)
    return varying
