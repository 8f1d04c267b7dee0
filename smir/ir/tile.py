"""Tile IR: values on 2-D tiles with named axes. The scans over chunks around them are in `tile_program`.

A tile's axes are dimension names (`K`, `V`, `K/2`, `1`) or `CHUNK`, the tokens of the current chunk (`PAST_CHUNK`: of a
chunk of the tokens before a segment). A per-token vector is a row: `CHUNK x K`; a carried state is `K x V`. A per-token
matrix is a row too, with all its entries as lanes: `CHUNK x K.V`. Pointwise operations broadcast axes `1`.

Level-dependent values: `level_mask` and `pair_distance` mean something only below a `level_sum`, which adds its
argument over all levels s = 1, 2, 4, .. < C of the binary tree over a chunk's rows ("the mixed tile" in
docs/architecture.md).
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from smir.errors import IRError
from smir.ir.graph import Node, make, walk
from smir.ir.ops import POINTWISE

CHUNK, PAST_CHUNK, ONE = "@C", "@P", "1"
# The tokens of several chunks that one program takes at once (printed kernels only).
OWN = "@O"
# Axes of tokens, and axes that no tensor tells the size of.
TOKEN_AXES, SIZELESS = frozenset({CHUNK, PAST_CHUNK, OWN}), frozenset({CHUNK, PAST_CHUNK, OWN, ONE})
TOKEN, PARAM, CARRIED, BUFFER = "token", "param", "carried", "buffer"
# Of pairs: the number of a token, a parameter declared T x T, memory with a tile for every two chunks.
POSITION, DENSE, PAIR = "position", "dense", "pair"
ROW, COL = "row", "col"
# What a segment's tokens see of those before it: a kind of load, and the block that it loads.
PAST = "past"
# The part of the past that a loop over splits visits: a block of buffers.
SPLIT = "split"
# The segment of the sequence that a loop over segments visits: a block of buffers too.
SEGMENT = "segment"

# Stand-in for the log of a decay of exactly zero: e^-16384 is 0 in every float type, and sums stay finite.
LOG_ZERO = -16384.0


@dataclass(frozen=True)
class Tile:
    """Axes of a tile."""

    rows: str
    cols: str

    def __str__(self) -> str:
        return f"{self.rows} x {self.cols}"


# ---- leaves -----------------------------------------------------------------------------------------------------


def token(name: str, rows: str, cols: str, offset: int = 0, block: str = ROW) -> Node:
    """An input, shifted by `offset` tokens; zero outside the sequence.

    With `rows` = CHUNK, the chunk's tokens as rows (`CHUNK x K`); in the step form, one token's value as declared
    (a vector is a column `K x 1`). `block` is ROW for the current chunk, COL for the one a quadratic scan visits.
    """
    return make("load", (), Tile(rows, cols), kind=TOKEN, name=name, offset=offset, block=block)


def past(name: str, cols: str) -> Node:
    """`PAST_CHUNK x K`: the tokens before the segment, of an input that the caller kept; zero before the first."""
    return make("load", (), Tile(PAST_CHUNK, cols), kind=PAST, name=name, block=PAST)


def param(name: str, rows: str, cols: str) -> Node:
    """A parameter: a vector is a row (`1 x K`), a matrix as declared."""
    return make("load", (), Tile(rows, cols), kind=PARAM, name=name)


def carried(name: str, rows: str, cols: str) -> Node:
    """The tile that a scan carries under this name."""
    return make("load", (), Tile(rows, cols), kind=CARRIED, name=name)


def buffer(name: str, rows: str, cols: str, block: str = ROW) -> Node:
    """A tile that another kernel stored (kernel plans only)."""
    return make("load", (), Tile(rows, cols), kind=BUFFER, name=name, block=block)


def position(block: str = ROW) -> Node:
    """`CHUNK x 1` (block PAST: `PAST_CHUNK x 1`): the numbers of a chunk's tokens in the sequence, from 1."""
    return make("load", (), Tile(token_axis(block), ONE), kind=POSITION, name=POSITION, block=block)


def token_axis(block: str) -> str:
    """The axis of a block's tokens."""
    return PAST_CHUNK if block == PAST else CHUNK


def dense(name: str, block: str = ROW, other: str = COL) -> Node:
    """`CHUNK x CHUNK`: a parameter declared T x T at the tokens of chunk `block` (rows) and of chunk `other`."""
    return make("load", (), Tile(CHUNK, CHUNK), kind=DENSE, name=name, block=block, other=other)


def pair_buffer(name: str, rows: str, cols: str, block: str = ROW, other: str = COL) -> Node:
    """What was stored for the pair of chunks (`block`, `other`)."""
    return make("load", (), Tile(rows, cols), kind=PAIR, name=name, block=block, other=other)


def const(value: float) -> Node:
    return make("const", (), Tile(ONE, ONE), value=float(value))


# ---- operations -------------------------------------------------------------------------------------------------


def pointwise(op: str, *args: Node) -> Node:
    """An operation of the POINTWISE table."""
    if op not in POINTWISE or len(args) != POINTWISE[op].arity:
        raise IRError(f"tile op {op} with {len(args)} arguments")
    rows = cols = ONE
    for a in args:
        rows, cols = _broadcast(rows, a.type.rows), _broadcast(cols, a.type.cols)
    return make(op, args, Tile(rows, cols))


def _broadcast(a: str, b: str) -> str:
    if a != b and ONE not in (a, b):
        raise IRError(f"tile axes {a} and {b} don't broadcast")
    return b if a == ONE else a


def dot(a: Node, b: Node) -> Node:
    """Matrix product."""
    if a.type.cols != b.type.rows:
        raise IRError(f"dot of {a.type} and {b.type}")
    return make("dot", (a, b), Tile(a.type.rows, b.type.cols))


def transpose(a: Node) -> Node:
    if a.op == "transpose":
        return a.args[0]
    return make("transpose", (a,), Tile(a.type.cols, a.type.rows))


def broadcast(a: Node, rows: str, cols: str) -> Node:
    if a.type == Tile(rows, cols):
        return a
    return make("broadcast", (a,), Tile(_broadcast(a.type.rows, rows), _broadcast(a.type.cols, cols)))


def reduce_sum(a: Node, axis: int) -> Node:
    return make("sum", (a,), Tile(ONE, a.type.cols) if axis == 0 else Tile(a.type.rows, ONE), axis=axis)


def reduce_max(a: Node, axis: int) -> Node:
    return make("reduce_max", (a,), Tile(ONE, a.type.cols) if axis == 0 else Tile(a.type.rows, ONE), axis=axis)


def cumsum(a: Node, reverse: bool = False, exclusive: bool = False) -> Node:
    """Running sum over the rows, summed directly (`exclusive` leaves the row itself out)."""
    return make("cumsum", (a,), a.type, reverse=reverse, exclusive=exclusive)


def segment_sum(g: Node, reverse: bool = False, exclusive: bool = False) -> Node:
    """`CHUNK x 1` to `CHUNK x CHUNK`: D_ij = sum of g over j+1..i (j+1..i-1 when `exclusive`), 0 where that is empty.

    `reverse`: over i..j-1 (i+1..j-1). Summed directly, never as a difference of prefixes.
    """
    return make("segment_sum", (g,), Tile(g.type.rows, g.type.rows), reverse=reverse, exclusive=exclusive)


MASKS = ("lower", "strict_lower", "upper", "strict_upper", "eye")


def mask(a: Node, kind: str, fill: float = 0.0) -> Node:
    """Keeps the entries of a square tile that `kind` names, the others become `fill`."""
    if kind not in MASKS or a.type.rows != a.type.cols:
        raise IRError(f"mask {kind} of {a.type}")
    return make("mask", (a,), a.type, kind=kind, fill=float(fill))


def valid_rows(a: Node, fill: float = 0.0, block: str | None = None) -> Node:
    """Rows of tokens outside the sequence become `fill`: the last chunk may be ragged, of the past the first one.

    `block` says whose rows they are; without it, the block of the loads that `a` is made of.
    """
    if a.type.rows not in TOKEN_AXES:
        raise IRError(f"valid_rows of {a.type}")
    return make("valid_rows", (a,), a.type, fill=float(fill), block=block or block_of(a))


def block_of(a: Node) -> str:
    """Which chunk a tile's rows belong to: ROW unless what its rows are made of is COL or PAST."""
    return _block_along(a, 0, {}) or ROW


def _block_along(node: Node, side: int, known: dict[tuple[Node, int], str | None]) -> str | None:
    """The chunk of a tile's rows (0) or columns (1); None where neither is any chunk's."""
    if (node, side) not in known:
        known[node, side] = _find_block(node, side, known)
    return known[node, side]


def _find_block(node: Node, side: int, known: dict[tuple[Node, int], str | None]) -> str | None:
    own = node.get("block" if side == 0 else "other")
    if own is not None:
        return str(own)
    if node.op == "transpose":
        return _block_along(node.args[0], 1 - side, known)
    if node.op == "dot":
        return _block_along(node.args[side], side, known)
    # a square tile made of one column has the same tokens along both sides
    side = 0 if node.op == "segment_sum" else side
    found = (_block_along(a, side, known) for a in node.args if (a.type.rows, a.type.cols)[side] in TOKEN_AXES)
    return next((block for block in found if block is not None), None)


def unit_inverse(n: Node, reverse: bool = False) -> Node:
    """(I + N)^-1 of a strictly lower (`reverse`: upper) triangular tile, by binary levels."""
    return make("unit_inverse", (n,), n.type, reverse=reverse)


def pair_distance(g: Node, reverse: bool = False, exclusive: bool = False) -> Node:
    """`CHUNK x K`, at level s: sum of g between a row and the boundary of its pair of blocks of s rows.

    Odd blocks hold the queries: from the block's start to the row (without it when `exclusive`); even blocks
    hold the keys: from the next row to the block's end. `reverse` mirrors both in time. All sums of g itself.
    """
    return make("pair_distance", (g,), g.type, reverse=reverse, exclusive=exclusive)


def pair_collect(d: Node, reverse: bool = False, exclusive: bool = False) -> Node:
    """The transpose of `pair_distance` as a linear map, at level s: entry m sums d over the rows that count m."""
    return make("pair_collect", (d,), d.type, reverse=reverse, exclusive=exclusive)


def level_mask(a: Node, reverse: bool = False) -> Node:
    """`CHUNK x CHUNK`, at level s: keeps (i, j) where i is in an odd block and j in the even one before it.

    `reverse`: i in the even block, j in the odd one after it.
    """
    return make("level_mask", (a,), a.type, reverse=reverse)


def level_sum(a: Node) -> Node:
    """The sum of a level-dependent tile over all levels."""
    return make("level_sum", (a,), a.type)


def rotate(theta: Node, a: Node, axis: int, inverse: bool = False) -> Node:
    """Rotates interleaved pairs along `axis` by the angles theta (half as long on that axis)."""
    return make("rotate", (theta, a), a.type, axis=axis, inverse=inverse)


def cross_pairs(a: Node, b: Node, axis: int, half: str) -> Node:
    """Per interleaved pair along `axis`, a0 b1 - a1 b0; `half` names the axis of half the length."""
    rows, cols = (half, a.type.cols) if axis == 0 else (a.type.rows, half)
    return make("cross_pairs", (a, b), Tile(rows, cols), axis=axis)


def turn_pairs(a: Node, b: Node, axis: int) -> Node:
    """Per interleaved pair of b along `axis`, (a b1, -a b0): what `cross_pairs` asks of its left operand."""
    return make("turn_pairs", (a, b), b.type, axis=axis)


# ---- elementwise recurrences ------------------------------------------------------------------------------------

# How a state moves on: h = a h- + w, m = max(l + m-, w), l = logaddexp(d + l-, w).
SUM, MAX, LOGSUM = SEMIRINGS = ("sum", "max", "logsum")


def scan(decay: Node, write: Node, start: Node, kind: str = SUM, reverse: bool = False) -> Node:
    """`CHUNK x n`: a state after each of the chunk's tokens, one recurrence in every column.

    `start` (1 x n) is the state before the chunk; `reverse`: after it, and the tokens are visited last to first.
    SUM multiplies by the decay, any number: an exact 0 is an exact reset. MAX and LOGSUM add it, -inf resets. Rows
    beyond the end of the sequence must be neutral: decay 1 (0), write 0 (-inf).
    """
    if kind not in SEMIRINGS or write.type.rows != CHUNK:
        raise IRError(f"scan {kind} of {write.type}")
    cols = write.type.cols
    return make("scan", (broadcast(decay, CHUNK, cols), write, broadcast(start, ONE, cols)), write.type,
                kind=kind, reverse=reverse)  # fmt: skip


def shift(a: Node, start: Node, reverse: bool = False) -> Node:
    """`CHUNK x n`: each row holds the one before it (`reverse`: after it), the first (last) one `start`, 1 x n."""
    if a.type.rows != CHUNK:
        raise IRError(f"shift of {a.type}")
    return make("shift", (a, broadcast(start, ONE, a.type.cols)), a.type, reverse=reverse)


def edge_row(a: Node, reverse: bool = False) -> Node:
    """`1 x n`: the last row of a chunk (`reverse`: the first), where a state is after all of the tokens."""
    return make("edge_row", (a,), Tile(ONE, a.type.cols), reverse=reverse)


def place_row(row: Node, reverse: bool = False) -> Node:
    """`CHUNK x n`: zeros, but the last (`reverse`: first) row is this one. The transpose of `edge_row`."""
    if row.type.rows != ONE:
        raise IRError(f"place_row of {row.type}")
    return make("place_row", (row,), Tile(CHUNK, row.type.cols), reverse=reverse)


OUTER, INNER = 0, 1


def lanes(outer: str, inner: str) -> str:
    """The axis of all entries of a matrix in one row, `D.N`: its columns (`inner`) run fastest."""
    return f"{outer}.{inner}"


def axis_parts(axis: str) -> tuple[str, ...]:
    """The dimensions that an axis is made of: both of a matrix's lanes, else the axis itself."""
    return tuple(axis.split("."))


def spread(a: Node, lane_axis: str, part: int) -> Node:
    """`R x D` (`part` OUTER) or `R x N` (INNER) to `R x D.N`: repeated along the part that it lacks."""
    parts = axis_parts(lane_axis)
    if len(parts) != 2 or part not in (OUTER, INNER) or a.type.cols != parts[part]:
        raise IRError(f"spread of {a.type} over {lane_axis}")
    return make("spread", (a,), Tile(a.type.rows, lane_axis), part=part)


def fold(a: Node, part: int) -> Node:
    """`R x D.N` to `R x D` (`part` OUTER) or `R x N` (INNER): summed over the other part. The transpose of `spread`."""
    parts = axis_parts(a.type.cols)
    if len(parts) != 2 or part not in (OUTER, INNER):
        raise IRError(f"fold of {a.type}, which has no lanes")
    return make("fold", (a,), Tile(a.type.rows, parts[part]), part=part)


LEVEL_OPS = frozenset({"pair_distance", "pair_collect", "level_mask"})
STRUCTURAL = frozenset(
    "load const dot transpose broadcast sum reduce_max cumsum segment_sum mask valid_rows unit_inverse "
    "pair_distance pair_collect level_mask level_sum rotate cross_pairs turn_pairs "
    "scan shift edge_row place_row spread fold".split()
)
OPS = STRUCTURAL | frozenset(POINTWISE)


def level_dependent(root: Node) -> Set[Node]:
    """The nodes below a `level_sum`'s argument that change from level to level, in the order of `walk`.

    A sum over levels inside it has the same value at all of them.
    """
    found: dict[Node, None] = {}
    for n in walk([root]):
        if n.op in LEVEL_OPS or (n.op != "level_sum" and any(a in found for a in n.args)):
            found[n] = None
    return found.keys()


# ---- what operations do to axes ----------------------------------------------------------------------------------

_MIXES_ROWS = frozenset(
    "cumsum segment_sum mask unit_inverse pair_distance pair_collect level_mask scan shift edge_row place_row".split()
)


def combined_axes(node: Node) -> Iterator[str]:
    """The axes along which an operation combines elements, and axes that stand twice in one tile."""
    axes = [*axis_parts(node.type.rows), *axis_parts(node.type.cols)]
    yield from (a for a in axes if axes.count(a) > 1)
    if node.op == "dot":
        yield from axis_parts(node.args[0].type.cols)
    elif node.op == "fold":
        yield axis_parts(node.args[0].type.cols)[1 - node["part"]]
    elif node.op in ("sum", "reduce_max", "rotate", "cross_pairs", "turn_pairs"):
        # of pairs, the whole axis and the one of half its length
        for part in (node, *node.args):
            yield from axis_parts(part.type.rows if node["axis"] == 0 else part.type.cols)
    elif node.op in _MIXES_ROWS:
        yield node.type.rows
