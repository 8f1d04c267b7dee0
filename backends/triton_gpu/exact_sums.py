"""Into how many 16-bit parts a tile is split that is multiplied with zeros and ones, to be summed.

What an input holds in 16 bits is one part, as it is; so is that with another sign, or cut off at a number of 16 bits.
What is summed as a gradient is rounded once, as operands of products are; exponents keep their digits.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from smir.ir.graph import Node, walk
from smir.ir.tile import TOKEN

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter

ROUNDED = "1 if PARTS == 2 else PARTS"


def parts(p: "TilePrinter", summed: Node) -> str:
    """The constant for the terms of a sum, which are printed already."""
    leaf = _exact(summed)
    if leaf is None:
        return "PARTS"
    pointer = p.frame.input_pointer(leaf["name"])
    short = f"{pointer}.dtype.element_ty == tl.bfloat16"
    return p.constant(f"parts_of_{leaf['name']}", f"1 if PARTS == 2 and {short} else PARTS")


def sum_parts(p: "TilePrinter", running: Node) -> str:
    """The same for a running sum: one that is part of a gradient is rounded, as the sums on levels beside it are."""
    if any(n.op == "pair_collect" for n in walk(p.roots)) and running not in _exponents(p.roots):
        return p.constant("rounded_parts", ROUNDED)
    return parts(p, running.args[0])


def _exponents(roots: Iterable[Node]) -> set[Node]:
    return set(walk(n.args[0] for n in walk(roots) if n.op == "exp"))


def _exact(node: Node) -> Node | None:
    """The input whose numbers these are, if each has as few digits as there."""
    if node.op == "load":
        return node if node["kind"] == TOKEN else None
    if node.op == "neg" or (node.op == "valid_rows" and _is_short(node["fill"])):
        return _exact(node.args[0])
    if node.op in ("max", "min"):
        limits = [a for a in node.args if a.op == "const" and _is_short(a["value"])]
        rest = [a for a in node.args if a not in limits]
        return _exact(rest[0]) if limits and len(rest) == 1 else None
    return None


def _is_short(value: float) -> bool:
    """Whether bfloat16 has this number."""
    return bool(np.float32(value).view(np.uint32) & 0xFFFF == 0) and float(np.float32(value)) == value
