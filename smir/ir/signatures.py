"""What every operation of the mixer IR and of the tile IR takes: arguments, attributes, and the type it gives.

The table of a level maps an operation to its signature; types are derived again through the level's constructors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from smir.ir import expr, tile
from smir.ir.graph import Node
from smir.ir.ops import POINTWISE


@dataclass(frozen=True)
class Signature:
    """Allowed numbers of arguments, attributes by name with their types, and the node built anew from its parts."""

    arity: tuple[int, ...]
    build: Callable[[Node], Node]
    attrs: Mapping[str, type] = field(default_factory=dict)


def _pointwise(build: Callable[..., Node]) -> dict[str, Signature]:
    return {op.name: Signature((op.arity,), lambda n: build(n.op, *n.args)) for op in POINTWISE.values()}


_AT = {"name": str, "offset": int}

MIXER_OPS: dict[str, Signature] = {
    **_pointwise(expr.pointwise),
    "const": Signature((0,), lambda n: expr.const(n["value"]), {"value": float}),
    "param": Signature((0,), lambda n: expr.param(n["name"], n.type.rows, n.type.cols), {"name": str}),
    "input": Signature((0,), lambda n: expr.input_at(n["name"], n.type.rows, n.type.cols, n["offset"]), _AT),
    "state": Signature((0,), lambda n: expr.state_at(n["name"], n.type.rows, n.type.cols, n["offset"]), _AT),
    "read": Signature((0,), lambda n: expr.read(n["name"], n.type.rows), {"name": str}),
    "sequence": Signature((0,), lambda n: expr.sequence(n["name"], n.type.cols), {"name": str}),
    "position": Signature((0,), lambda n: expr.position(n["index"]), {"index": str}),
    "input_of": Signature((0,), lambda n: expr.input_of(n["name"], n["index"], n.type.rows, n["offset"]),
                          {**_AT, "index": str}),
    "param_at": Signature((0,), lambda n: expr.param_at(n["name"], n["row"], n["col"]),
                          {"name": str, "row": str, "col": str}),
    "eye": Signature((0,), lambda n: expr.eye(n.type.rows)),
    "ones": Signature((0,), lambda n: expr.ones(n.type.rows)),
    "matmul": Signature((2,), lambda n: expr.matmul(n.args[0], n.args[1])),
    "transpose": Signature((1,), lambda n: expr.transpose(n.args[0])),
    "sum": Signature((1,), lambda n: expr.sum_over(n.args[0], n["axis"]), {"axis": int}),
    "reduce_max": Signature((1,), lambda n: expr.max_over(n.args[0], n["axis"]), {"axis": int}),
    "cumsum": Signature((1,), lambda n: expr.cumsum(n.args[0])),
    "softmax": Signature((1, 2), lambda n: expr.softmax(*n.args)),
    "rotate": Signature((2,), lambda n: expr.rotate(n.args[0], n.args[1], n["inverse"]), {"inverse": bool}),
    "pairwise": Signature((1,), lambda n: expr.pairwise(n.args[0])),
    "sum_range": Signature((3,), lambda n: expr.reduce_range("sum", n["index"], *n.args), {"index": str}),
    "prod_range": Signature((3,), lambda n: expr.reduce_range("prod", n["index"], *n.args), {"index": str}),
}  # fmt: skip

_LOADS: dict[str, Mapping[str, type]] = {
    tile.TOKEN: {"kind": str, "name": str, "offset": int, "block": str},
    tile.PAST: {"kind": str, "name": str, "block": str},
    tile.PARAM: {"kind": str, "name": str},
    tile.CARRIED: {"kind": str, "name": str},
    tile.BUFFER: {"kind": str, "name": str, "block": str},
    tile.POSITION: {"kind": str, "name": str, "block": str},
    tile.DENSE: {"kind": str, "name": str, "block": str, "other": str},
    tile.PAIR: {"kind": str, "name": str, "block": str, "other": str},
}
_FLAGS = {"reverse": bool, "exclusive": bool}


def _cross_pairs(n: Node) -> Node:
    return tile.cross_pairs(n.args[0], n.args[1], n["axis"], n.type.cols if n["axis"] else n.type.rows)


TILE_OPS: dict[str, Signature] = {
    **_pointwise(tile.pointwise),
    "load": Signature((0,), lambda n: n),
    "const": Signature((0,), lambda n: tile.const(n["value"]), {"value": float}),
    "dot": Signature((2,), lambda n: tile.dot(n.args[0], n.args[1])),
    "transpose": Signature((1,), lambda n: tile.transpose(n.args[0])),
    "broadcast": Signature((1,), lambda n: tile.broadcast(n.args[0], n.type.rows, n.type.cols)),
    "sum": Signature((1,), lambda n: tile.reduce_sum(n.args[0], n["axis"]), {"axis": int}),
    "reduce_max": Signature((1,), lambda n: tile.reduce_max(n.args[0], n["axis"]), {"axis": int}),
    "cumsum": Signature((1,), lambda n: tile.cumsum(n.args[0]), _FLAGS),
    "segment_sum": Signature((1,), lambda n: tile.segment_sum(n.args[0]), _FLAGS),
    "mask": Signature((1,), lambda n: tile.mask(n.args[0], n["kind"], n["fill"]), {"kind": str, "fill": float}),
    "valid_rows": Signature(
        (1,), lambda n: tile.valid_rows(n.args[0], n["fill"], n["block"]), {"fill": float, "block": str}
    ),
    "unit_inverse": Signature((1,), lambda n: tile.unit_inverse(n.args[0]), {"reverse": bool}),
    "pair_distance": Signature((1,), lambda n: tile.pair_distance(n.args[0]), _FLAGS),
    "pair_collect": Signature((1,), lambda n: tile.pair_collect(n.args[0]), _FLAGS),
    "cross_pairs": Signature((2,), _cross_pairs, {"axis": int}),
    "turn_pairs": Signature((2,), lambda n: tile.turn_pairs(n.args[0], n.args[1], n["axis"]), {"axis": int}),
    "level_mask": Signature((1,), lambda n: tile.level_mask(n.args[0]), {"reverse": bool}),
    "level_sum": Signature((1,), lambda n: tile.level_sum(n.args[0])),
    "scan": Signature(
        (3,), lambda n: tile.scan(n.args[0], n.args[1], n.args[2], n["kind"]), {"kind": str, "reverse": bool}
    ),
    "shift": Signature((2,), lambda n: tile.shift(n.args[0], n.args[1]), {"reverse": bool}),
    "edge_row": Signature((1,), lambda n: tile.edge_row(n.args[0]), {"reverse": bool}),
    "place_row": Signature((1,), lambda n: tile.place_row(n.args[0]), {"reverse": bool}),
    "spread": Signature((1,), lambda n: tile.spread(n.args[0], n.type.cols, n["part"]), {"part": int}),
    "fold": Signature((1,), lambda n: tile.fold(n.args[0], n["part"]), {"part": int}),
    "rotate": Signature(
        (2,), lambda n: tile.rotate(n.args[0], n.args[1], n["axis"], n["inverse"]), {"axis": int, "inverse": bool}
    ),
}


def attributes(node: Node, signature: Signature) -> Mapping[str, type]:
    """The attributes this node must have: those of a load depend on its kind."""
    return _LOADS.get(node.get("kind"), {"kind": str}) if node.op == "load" else signature.attrs
