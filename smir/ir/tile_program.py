"""Tile programs: one form of one mixer, scans over chunks around straight-line code on tiles (`tile`).

Scans visit the chunks in order and carry tiles; the value `carried(name)` is what a scan holds *before* the current
chunk. In the quadratic form a scan visits, for the current (row) chunk, the other (column) chunks instead, nearest
first, and `carried` in the outputs is what it holds at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smir.ir.graph import Node, walk
from smir.ir.interval import REAL, Interval
from smir.ir.tile import TOKEN, carried

# The forms that are tile programs.
STEP, SCAN, CHUNKED, QUADRATIC = "step", "scan", "chunked", "quadratic"
# Orders of scans that visit, for the current chunk, other ones, or first that chunk itself.
INNER = (ITSELF, EARLIER, LATER, BEFORE, SPLITS) = ("itself", "earlier", "later", "past", "splits")
# Orders of loops of kernels that walk along segments: the segments before (after) the current one, farthest first.
SEGMENT_ORDERS = (SEGMENTS_BEFORE, SEGMENTS_AFTER) = ("segments_before", "segments_after")
# The name of a mixer's output.
OUTPUT = "y"


@dataclass(frozen=True)
class Carry:
    """A carried tile. `initial` holds before the first chunk: the mixer's state of that name (`state`), else a number.

    With a `state` its last value is that state's final one, unless `final` is off (it only starts from there). In the
    quadratic form, and in kernels along segments, `start` may be the first value instead, made of the row chunk's tiles
    and of what earlier scans of the same kernel hold at their end.
    """

    name: str
    rows: str
    cols: str
    next: Node
    initial: float = 0.0
    state: str | None = None
    transposed: bool = False
    final: bool = True
    start: Node | None = None

    @property
    def load(self) -> Node:
        return carried(self.name, self.rows, self.cols)


@dataclass(frozen=True)
class Scan:
    """A loop over chunks: `forward` / `backward` over all, or, in the quadratic form, over the chunks `earlier`
    (`later`) than the current one (`itself`: that one alone), or over the chunks of the `past` before the segment,
    nearest first.
    What a kernel of a scan over the past exports may be of one part of it, if another scan visits all parts (`splits`).

    `exports` are values that a scan hands over per chunk to later scans and to the output, which read them as
    `buffer(name)`. In the step form the output may depend on the last scan's carries only.

    Scans over other chunks of the same `kernel` see each other's carries; what such a scan exports is made
    when it has ended. `each` is stored for every pair of chunks before the carries move on, for `pair_buffer(name)` or
    for the result of that name. They visit only chunks with tokens at most `reach` away from one of the row chunk's,
    and with `inward` the farthest first.
    """

    order: str
    carries: tuple[Carry, ...]
    exports: tuple[tuple[str, Node], ...] = ()
    kernel: str = ""
    each: tuple[tuple[str, Node], ...] = ()
    reach: int | None = None
    inward: bool = False


@dataclass(frozen=True)
class TileLeaf:
    """What the program may load: `kind`, name, axes, and the promised range of its elements."""

    kind: str
    name: str
    rows: str
    cols: str
    range: Interval = REAL


@dataclass(frozen=True)
class Result:
    """A tensor that a program hands out, `[B, T, H, *dims]` of kind TOKEN, `[H, *dims]` of kind PARAM, or `[H, T, T]`
    of kind DENSE (every pair of chunks writes its own part, the others are zero; summed over the batch).

    Every chunk writes its own tokens, shifted by `offset` (what would leave the sequence is dropped, tokens that
    nothing reaches are zero), or its own summand of a parameter's tensor, which is summed over batch and chunks.
    Results with the same `target` are added up.
    """

    name: str
    rows: str
    cols: str
    kind: str = TOKEN
    offset: int = 0
    target: str = ""

    @property
    def tensor(self) -> str:
        """The name of the tensor."""
        return self.target or self.name


@dataclass(frozen=True)
class Output:
    """A result and the tile that a chunk writes to it."""

    result: Result
    value: Node

    @staticmethod
    def of(name: str, value: Node, kind: str = TOKEN, offset: int = 0, target: str = "") -> "Output":
        return Output(Result(name, value.type.rows, value.type.cols, kind, offset, target), value)


@dataclass(frozen=True)
class TileProgram:
    """One form of one mixer: a pure function of a chunk's inputs and the carried tiles."""

    name: str
    form: str
    leaves: tuple[TileLeaf, ...]
    scans: tuple[Scan, ...]
    outputs: tuple[Output, ...]

    @property
    def carries(self) -> tuple[Carry, ...]:
        return tuple(c for s in self.scans for c in s.carries)

    def roots(self) -> tuple[Node, ...]:
        exports = [value for s in self.scans for _, value in (*s.exports, *s.each)]
        starts = [c.start for c in self.carries if c.start is not None]
        return (*exports, *starts, *(c.next for c in self.carries), *(o.value for o in self.outputs))

    def nodes(self) -> Iterator[Node]:
        return walk(self.roots())
