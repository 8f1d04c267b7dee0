"""States that drive others, on one chunk: what a state gets of the writes and of the past of those that drive it.

Let M drive S with scales c_l, and let D^S, D^M be the triangular tiles of decays between two tokens of the chunk. A
write of M at token j is handed over to S at some token l between j and i, so that S sees it at i with the weight W_ij,
and M's state before the chunk with the weight r_i:

    W_ij = sum over l of D^S_il c_l D^M_lj        r_i = sum over l of D^S_il c_l d^M_l

One product of two C x C tiles takes the place of the decay tile in the scores. A state that drives M reaches S through
M the same way. The sum over l is one number for each pair of tokens only if all decays are numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from smir.errors import FormError
from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.operator import AFTER, BEFORE, Drive, Operator
from smir.ir.tile import CHUNK, ONE
from smir.passes.forms.chunk_algebra import ChunkWrite, Functional, OperatorTiles, add, mul, total
from smir.passes.tiles.decay_tiles import LogDecay
from smir.passes.tiles.rowwise import Rowwise


@dataclass(frozen=True)
class Part:
    """An operator on the chunk: its tiles, what its writes really write, what drives it, and H, its state before."""

    tiles: OperatorTiles
    values: Mapping[ChunkWrite, Node]
    drivers: "Drivers"
    load: Node

    def reaches(self, when: str) -> "Iterator[Reach]":
        """How the state, BEFORE or AFTER each token, is made of this chunk's writes and of the states before it."""
        before = when == BEFORE
        decay = self.tiles.decay.scalar
        start = tile.broadcast(tile.const(1.0), CHUNK, ONE) if decay is None else decay.prefix(before)
        yield Reach(self, _between(self.tiles, before, diagonal=when == AFTER), start)
        for drive in self.drivers.drives:
            yield from drive.handed_over(self.tiles, before, diagonal=when == AFTER)


@dataclass(frozen=True)
class Reach:
    """The weights with which `source`'s writes (`CHUNK x CHUNK`) and its state before the chunk (`CHUNK x 1`) count."""

    source: Part
    weights: Node
    start: Node


@dataclass(frozen=True)
class DriveTiles:
    """One drive: `scale` is `CHUNK x 1`, zero beyond the end of the sequence."""

    source: Part
    when: str
    scale: Node
    step: int

    def handed_over(self, tiles: OperatorTiles, before: bool, diagonal: bool) -> Iterator[Reach]:
        """What reaches the driven state this way."""
        since = _between(tiles, before, diagonal)
        for reach in self.source.reaches(self.when):
            weights = tile.dot(since, mul(reach.weights, self.scale))
            start = tile.reduce_sum(mul(since, tile.transpose(mul(reach.start, self.scale))), 1)
            yield Reach(reach.source, weights, start)


@dataclass(frozen=True)
class Drivers:
    """Everything that drives one operator."""

    tiles: OperatorTiles
    drives: tuple[DriveTiles, ...]

    @staticmethod
    def of(tiles: OperatorTiles, vectors: Rowwise, sources: Mapping[str, Part]) -> "Drivers":
        """Raises FormError for decays that are no numbers."""
        ordered = [(n, d) for n, step in enumerate(tiles.operator.steps) for d in step.drives]
        for _, d in ordered:
            _refuse_diagonals(vectors.mixer, tiles.operator, sources[d.state].tiles.operator)
        drives = (DriveTiles(sources[d.state], d.when, _scale(d, vectors), n) for n, d in ordered)
        return Drivers(tiles, tuple(drives))

    def read(self, functional: Functional) -> Node | None:
        """What a query or an erase vector reads of what came from other states, `CHUNK x V`."""
        found: Node | None = None
        scores: dict[Node, Node] = {}
        for drive in self.drives:
            for reach in drive.handed_over(self.tiles, functional.before, functional.sees(drive.step)):
                for write, value in reach.source.values.items():
                    product = tile.dot(functional.rows, tile.transpose(write.weighted))
                    scores[value] = add(scores.get(value), mul(product, reach.weights))
                found = add(found, mul(tile.dot(functional.rows, reach.source.load), reach.start))
        inside = total(tile.dot(weights, value) for value, weights in scores.items())
        return inside if found is None else add(inside, found)

    def arriving(self) -> Iterator[Node]:
        """What the state after the chunk gets from other states, `K x V`."""
        decay = self.tiles.decay.scalar
        for drive in self.drives:
            left = mul(drive.scale, None if decay is None else decay.suffix())
            for reach in drive.source.reaches(drive.when):
                kept = tile.transpose(tile.reduce_sum(mul(reach.weights, left), 0))
                for write, value in reach.source.values.items():
                    yield tile.dot(tile.transpose(mul(write.weighted, kept)), value)
                yield mul(reach.source.load, tile.reduce_sum(mul(left, reach.start), 0))


def _between(tiles: OperatorTiles, before: bool, diagonal: bool) -> Node:
    """A state's decay between a token and a later one, `CHUNK x CHUNK`; `before` leaves the later one's own out."""
    side = "upper" if tiles.reverse else "lower"
    return tile.mask(_decay(tiles.decay.scalar, tiles.reverse, before), side if diagonal else f"strict_{side}")


def _decay(decay: LogDecay | None, reverse: bool, before: bool) -> Node:
    if decay is None:
        return tile.broadcast(tile.const(1.0), CHUNK, CHUNK)
    size = tile.pointwise("exp", tile.segment_sum(decay.log, reverse, exclusive=before))
    later, earlier = decay.signs(before), decay.signs(False)
    return size if earlier is None else mul(mul(size, later), tile.transpose(earlier))


def _scale(drive: Drive, vectors: Rowwise) -> Node:
    scale = tile.broadcast(vectors.vector(drive.scale), CHUNK, ONE)
    return scale if vectors.padding.vanishes(scale) else tile.valid_rows(scale, block=vectors.block)


def _refuse_diagonals(mixer: Mixer, driven: Operator, source: Operator) -> None:
    """With a decay per channel the sum over the tokens of hand-over is another one in every channel."""
    for operator in (driven, source):
        decay, rotation = operator.decay, operator.rotation
        if decay.rows or decay.cols or rotation.rows or rotation.cols:
            raise FormError(
                f"state `{driven.state}` is driven by `{source.state}`, and `{operator.state}` changes every channel "
                "apart: the decay between two tokens is no product with the scores",
                mixer.state(driven.state).span,
                'let one number a step decay both states, or compile with form="step"',
            )
