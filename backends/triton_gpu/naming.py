"""Readable names for intermediate tiles, made from the operation and the names of what it works on."""

from collections.abc import Callable

from smir.ir.graph import Node
from smir.ir.tile import COL, ONE, TOKEN

LONGEST = 20
NameOf = Callable[[Node], str | None]
_PREFIX = {
    "exp": "exp_",
    "log": "log_",
    "mask": "masked_",
    "rotate": "rotated_",
    "neg": "minus_",
    "valid_rows": "valid_",
    "max": "clamped_",
    "min": "clamped_",
    "broadcast": "wide_",
    "spread": "wide_",
    "widen": "exact_",
    "narrow": "rounded_",
    "precise": "precise_",
    "rounded": "rounded_",
}
_SUFFIX = {
    "segment_sum": "_segments",
    "pair_distance": "_distance",
    "sum": "_sum",
    "reduce_max": "_max",
    "transpose": "_t",
    "scan": "_states",
    "shift": "_before",
    "edge_row": "_last",
    "fold": "_sum",
}
_PLAIN = {
    "add": "total",
    "sub": "difference",
    "mul": "product",
    "dot": "product",
    "div": "ratio",
    "where": "chosen",
    "unit_inverse": "inverse",
    "level_sum": "scores",
    "level_mask": "level_scores",
}


def suggest(node: Node, name_of: NameOf) -> str:
    """A name for a value, not yet unique."""
    if node.op == "load":
        return _leaf(node)
    base = _base(node, name_of)
    if node.op == "dot" and node.type.rows == node.type.cols:
        return "scores"
    if node.op == "cumsum" and base:
        return base + ("_suffix" if node["reverse"] else "_prefix")
    if base and node.op in _PREFIX:
        return _PREFIX[node.op] + base
    if base and node.op in _SUFFIX:
        return base + _SUFFIX[node.op]
    if base and node.op in ("mul", "div"):
        return f"scaled_{base}"
    return _PLAIN.get(node.op, node.op + "_value")


def _leaf(node: Node) -> str:
    name = str(node["name"])
    shift = node["offset"] if node["kind"] == TOKEN else 0
    moved = f"_ahead_{shift}" if shift > 0 else f"_back_{-shift}" if shift < 0 else ""
    return name + moved + ("_col" if node.get("block") == COL else "")


def _base(node: Node, name_of: NameOf, depth: int = 0) -> str | None:
    """The name of the largest argument that has a short one, looking through values that were inlined."""
    named = [
        (a, name_of(a) or _leaf_name(a) or (_base(a, name_of, depth + 1) if depth < 3 else None)) for a in node.args
    ]
    short = [(a.type.rows != ONE and a.type.cols != ONE, n) for a, n in named if n and len(n) <= LONGEST]
    return max(short, key=lambda pair: pair[0])[1] if short else None


def _leaf_name(node: Node) -> str | None:
    return _leaf(node) if node.op == "load" else None
