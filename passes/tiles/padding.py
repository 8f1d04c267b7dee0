"""What a tile holds in the rows beyond the ends of the sequence, where every load is zero.

The algebra of a chunk needs zeros there in what a token writes and in its log decay. Most often they are there
already (`k * 0`, `1 - exp(0)`); where they are not, `valid_rows` puts them.
"""

import math
from collections.abc import Iterable

import numpy as np

from smir.ir.graph import Node, walk
from smir.ir.interval import REAL
from smir.ir.mixer import Declaration
from smir.ir.ops import POINTWISE
from smir.ir.tile import PAST, SUM, TOKEN

# Anything: possibly infinite or NaN. A finite number that isn't known is None.
UNSAFE = math.nan
# Operations that can turn a finite number that isn't known into an infinite one.
_RISKY = frozenset({"div", "log", "pow", "sqrt", "logaddexp"})


class Padding:
    """Knows the padding rows of one mixer's tiles. Parameters whose promised range includes infinity are not finite."""

    def __init__(self, declarations: Iterable[Declaration]) -> None:
        self.infinite = {d.name for d in declarations if d.range != REAL and math.isinf(d.range.lo - d.range.hi)}

    def value(self, root: Node) -> float | None:
        """The number in the root's padding rows: known, None (some finite number), or NaN (anything)."""
        return self.values([root])[root]

    def values(self, roots: Iterable[Node]) -> dict[Node, float | None]:
        """The same of all nodes below the roots."""
        found: dict[Node, float | None] = {}
        for node in walk(roots):
            found[node] = self._load(node) if node.op == "load" else _value(node, [found[a] for a in node.args])
        return found

    def vanishes(self, root: Node) -> bool:
        """Whether the padding rows are zero."""
        return self.value(root) == 0.0

    def finite(self, root: Node) -> bool:
        """Whether the padding rows hold finite numbers, so that a zero factor wins over them."""
        value = self.value(root)
        return value is None or math.isfinite(value)

    def _load(self, node: Node) -> float | None:
        # a delayed token beyond the end is a real one
        if node["kind"] == PAST or (node["kind"] == TOKEN and node["offset"] >= 0):
            return 0.0
        return UNSAFE if node["name"] in self.infinite else None


def _value(node: Node, args: list[float | None]) -> float | None:
    if node.op == "const":
        return float(node["value"])
    if node.op == "valid_rows":
        return float(node["fill"])
    if any(a is not None and math.isnan(a) for a in args):
        return UNSAFE
    if node.op in ("mul", "dot") and 0.0 in args and all(a is None or math.isfinite(a) for a in args):
        return 0.0
    if node.op == "scan" and node["kind"] != SUM:
        return UNSAFE
    if node.op in ("broadcast", "transpose", "spread", "rotate"):
        return _same(args[-1]) if node.op == "rotate" else args[0]
    if node.op in ("sum", "fold", "level_mask", "level_sum") or (node.op == "mask" and node["fill"] == 0.0):
        return _same(args[0])
    return _pointwise(node, args)


def _same(value: float | None) -> float | None:
    """Sums and rotations keep zero; of anything else they make another finite number."""
    return value if value == 0.0 else None if value is None or math.isfinite(value) else UNSAFE


def _pointwise(node: Node, args: list[float | None]) -> float | None:
    if node.op not in POINTWISE or None in args:
        risky = node.op in _RISKY and not (node.op == "div" and args[1] is None and args[0] == 0.0)
        return UNSAFE if risky else 0.0 if node.op == "div" else None
    with np.errstate(all="ignore"):
        result = float(POINTWISE[node.op].numpy(*(np.float64(a) for a in args)))
    return result
