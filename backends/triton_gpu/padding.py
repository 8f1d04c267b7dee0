"""What stands in the padding of a tile, so that contractions mask it only where they must.

Axes are padded to powers of two. Loads put zeros there; pointwise operations make other numbers of them
(`exp(0) = 1`), which a contraction over that axis would add up.
"""

import math

import numpy as np

from smir.ir.graph import Node
from smir.ir.ops import POINTWISE

ROWS, COLS = 0, 1
VARIES, UNSAFE = None, math.nan
Padding = float | None


def axis_of(node: Node, side: int) -> str:
    return str(node.type.rows if side == ROWS else node.type.cols)


class PaddingOf:
    """The number in the padding along one side of a node's tile: VARIES (finite), or UNSAFE (maybe inf or nan)."""

    def __init__(self) -> None:
        self._memo: dict[tuple[Node, int], Padding] = {}

    def __call__(self, node: Node, side: int) -> Padding:
        key = (node, side)
        if key not in self._memo:
            self._memo[key] = self._find(node, side)
        return self._memo[key]

    def _find(self, node: Node, side: int) -> Padding:
        if node.op == "load":
            return 0.0
        if node.op == "const":
            return float(node["value"])
        if node.op in POINTWISE:
            return _pointwise(node.op, [self._along(a, node, side) for a in node.args])
        if node.op == "transpose":
            return self(node.args[0], 1 - side)
        if node.op == "dot":
            return _zero_or_varies(self(node.args[side], side))
        if node.op == "broadcast":
            return self._along(node.args[0], node, side)
        if node.op == "reduce_max":
            return self(node.args[0], side)
        if node.op in ("scan", "shift", "spread"):
            return self._moved(node, side)
        if node.get("fill", 0.0) != 0.0:
            return VARIES
        return _zero_or_varies(self(node.args[-1], side))

    def _moved(self, node: Node, side: int) -> Padding:
        """A state or row that comes from somewhere else in its column; a spread repeats columns into the padding."""
        found = [self(a, side) for a in node.args]
        if any(p is not None and not math.isfinite(p) for p in found):
            return UNSAFE
        stays = node.op == "shift" or (node.op == "scan" and node["kind"] == "sum")
        return 0.0 if stays and all(p == 0.0 for p in found[-2:]) else VARIES

    def _along(self, arg: Node, node: Node, side: int) -> Padding:
        """An argument's padding, seen along an axis that it may be broadcast to."""
        if axis_of(arg, side) == axis_of(node, side) or arg.op == "const":
            return self(arg, side)
        return VARIES


def _zero_or_varies(padding: Padding) -> Padding:
    if padding is None or math.isnan(padding) or padding == 0.0:
        return padding
    return VARIES


def _pointwise(op: str, values: list[Padding]) -> Padding:
    if op == "where":
        return _chosen(*values)
    known_infinite = op in ("max", "min") and all(v is not None and not math.isnan(v) for v in values)
    if any(v is not None and not math.isfinite(v) for v in values) and not known_infinite:
        return UNSAFE
    if op == "div" and values[1] == 0.0:
        return UNSAFE
    if (op in ("mul", "div") and values[0] == 0.0) or (op == "mul" and values[1] == 0.0):
        return 0.0
    if any(v is None for v in values):
        return VARIES
    with np.errstate(all="ignore"):
        result = float(POINTWISE[op].numpy(*(np.float32(v) for v in values if v is not None)))
    return result if math.isfinite(result) else UNSAFE


def _chosen(condition: Padding, yes: Padding, no: Padding) -> Padding:
    """An unsafe condition is any number: either of the two may be taken."""
    if condition is not None and math.isfinite(condition):
        return yes if condition else no
    if any(v is not None and not math.isfinite(v) for v in (yes, no)):
        return UNSAFE
    return yes if yes == no else VARIES
