"""Pair reads between one chunk of rows and one chunk of columns: what such a pair adds to a read.

A softmax runs online: it carries the largest score so far, and sums of weights and of weighted values relative to it.
With channels, e^(score_ij + channel_j) is a product of a matrix of the scores and one of the channels, each relative to
its own largest exponent in the chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.pairs import SOFTMAX, PairProgram, PairRead
from smir.ir.tile import CHUNK, ONE
from smir.passes.pairs.pair_distances import EARLIER, LATER, OWN, PAST, SIDES, Distances, admitted
from smir.passes.pairs.pair_tiles import Between, PairTiles, is_never

p = tile.pointwise
# Below every float32 score that matters, and finite; above every one.
LOWEST, HIGHEST = -3.0e38, 3.0e38
_MINUS_INF, _ZERO, _ONE = tile.const(float("-inf")), tile.const(0.0), tile.const(1.0)


@dataclass(frozen=True)
class Partial:
    """A softmax over some of the columns: `sum` and `acc` (weighted values) are relative to e^top."""

    top: Node
    sum: Node
    acc: Node

    def parts(self) -> tuple[Node, Node, Node]:
        return self.top, self.sum, self.acc

    def with_more(self, more: "Partial") -> "Partial":
        """Over the columns of both."""
        top = p("max", self.top, more.top)
        mine, theirs = (p("exp", p("sub", part.top, top)) for part in (self, more))
        return Partial(top, *(p("add", p("mul", a, mine), p("mul", b, theirs))
                              for a, b in ((self.sum, more.sum), (self.acc, more.acc))))  # fmt: skip

    def read(self) -> Node:
        """The weighted mean; zero where there was nothing to choose from."""
        return p("div", self.acc, p("where", p("eq", self.sum, _ZERO), _ONE, self.sum))

    def log(self) -> Node:
        """The logarithm of the sum of all weights; of an empty row, and beyond the sequence, larger than any score."""
        empty = p("eq", self.sum, _ZERO)
        log = p("add", self.top, p("log", p("where", empty, _ONE, self.sum)))
        return tile.valid_rows(p("where", empty, tile.const(HIGHEST), log), HIGHEST, tile.ROW)


@dataclass(frozen=True)
class Term:
    """A read in one region. `scores` has -inf (a sum: 0) where pairs don't count; `value` and `channels` are tiles of
    the column chunk. `shift`, if there is one, belongs to the scores too: what all of a row have in common."""

    read: PairRead
    scores: Node
    value: Node
    channels: Node | None
    shift: Node | None = None

    def parts(self) -> list[Node]:
        """All of its tiles."""
        return [n for n in (self.scores, self.value, self.channels, self.shift) if n is not None]

    def tops(self) -> Node:
        """The largest score of every row."""
        top = tile.reduce_max(self.scores, 1)
        return top if self.shift is None else p("add", top, self.shift)

    def relative(self, top: Node) -> Node:
        """The scores less a number of each row."""
        return p("sub", self.scores, top if self.shift is None else p("sub", top, self.shift))

    def partial(self) -> Partial:
        """The softmax over this chunk of columns alone."""
        top = p("max", self.tops(), tile.const(LOWEST))
        if self.channels is None:
            weights = p("exp", self.relative(top))
            return Partial(top, tile.reduce_sum(weights, 1), tile.dot(weights, self.value))
        # what is taken out is put back: no gradient flows through it
        top, highest = p("stop", top), p("stop", tile.reduce_max(self.channels, 0))
        weights, shares = p("exp", p("sub", self.scores, top)), p("exp", p("sub", self.channels, highest))
        both = p("add", top, highest)
        # every channel has its own quotient: few terms to average roundings over, and adjoints that cancel
        sums = (tile.dot(weights, p("precise", x)) for x in (shares, p("mul", shares, self.value)))
        return Partial(both, *sums)

    def joined(self, held: Partial) -> Partial:
        """The softmax over this chunk of columns and those before it."""
        if self.channels is not None:
            return held.with_more(self.partial())
        top = p("max", held.top, self.tops())
        kept, weights = p("exp", p("sub", held.top, top)), p("exp", self.relative(top))
        added = (tile.reduce_sum(weights, 1), tile.dot(weights, self.value))
        return Partial(top, *(p("add", p("mul", a, kept), b) for a, b in zip((held.sum, held.acc), added, strict=True)))

    def total(self) -> Node:
        """What a sum adds."""
        return tile.dot(self.scores, self.value)


@dataclass
class Region:
    """All reads between a row chunk and column chunks on one side of it (or itself)."""

    name: str
    terms: dict[str, Term] = field(default_factory=dict)
    between: dict[Node, Between] = field(default_factory=dict)
    reach: int | None = None


def regions(program: PairProgram, past: bool = False) -> dict[str, Region]:
    """The regions that any read needs, `own` first; of a segment also the `past` before it.

    Raises FormError for formulas that no tile expresses.
    """
    found = {name: _region(program, name) for name in (OWN, EARLIER, LATER, *([PAST] if past else []))}
    return {name: r for name, r in found.items() if r.terms or name == OWN}


def _region(program: PairProgram, name: str) -> Region:
    region, tiles = Region(name), PairTiles(program, name)
    reaches: list[int | None] = []
    for read in program.reads:
        distances = admitted(read.mask)
        mask = tiles.mask(read.mask, every_column=distances.low < 0)
        if is_never(mask) or not _meets(distances, name):
            continue
        region.terms[read.name] = _term(read, tiles, mask)
        reaches.append(_reach(distances, name))
    numbers = [r for r in reaches if r is not None]
    region.reach = max(numbers) if name != OWN and numbers and len(numbers) == len(reaches) else None
    region.between = tiles.between
    return region


def _term(read: PairRead, tiles: PairTiles, mask: Node | None) -> Term:
    found, shift = tiles.number(read.scores), None
    if read.kind == SOFTMAX and read.channels is None:
        found, shift = _without_shift(found)
    scores = tile.broadcast(found, CHUNK, tiles.columns_axis)
    if mask is not None:
        scores = p(
            "where",
            tile.broadcast(mask, CHUNK, tiles.columns_axis),
            scores,
            _MINUS_INF if read.kind == SOFTMAX else _ZERO,
        )
    channels = None if read.channels is None else tiles.column(read.channels)
    return Term(read, scores, tiles.column(read.value), channels, shift)


def _without_shift(scores: Node) -> tuple[Node, Node | None]:
    """The scores as a sum of what differs along a row, and of what doesn't: one number fewer to add to every pair."""
    rest, shift = _parts(scores)
    return (scores, None) if rest is None or shift is None else (rest, shift)


def _parts(value: Node) -> tuple[Node | None, Node | None]:
    if value.type.cols == ONE:
        return None, value
    if value.op != "add":
        return value, None
    return tuple(_added(*pair) for pair in zip(*map(_parts, value.args), strict=True))  # type: ignore[return-value]


def _added(a: Node | None, b: Node | None) -> Node | None:
    return b if a is None else a if b is None else p("add", a, b)


def _meets(distances: Distances, region: str) -> bool:
    if region == OWN:
        return True
    return distances.high >= 1 if SIDES[region] == EARLIER else distances.low <= -1


def _reach(distances: Distances, region: str) -> int | None:
    farthest = distances.low * -1 if region == LATER else distances.high
    return None if farthest == float("inf") else int(farthest)


def width(read: PairRead) -> str:
    """The axis of a read's entries."""
    return ONE if read.value is None else str(read.value.type.rows)


def scan_orders() -> Iterator[tuple[str, str]]:
    """The regions of other chunks and the order of scans that visit them from the row chunk."""
    yield from ((EARLIER, "earlier"), (PAST, "past"), (LATER, "later"))
