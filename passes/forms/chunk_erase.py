"""Writes that erase: the values they really write, solved for a whole chunk at once.

A write with an erase writes u_i = value_i + (what its erase vector reads then), and that contains the u_j of earlier
tokens and micro-steps. With one unknown tile for each erasing write this is a block system of strictly triangular
tiles, solved by block elimination with the inverses of unit triangular tiles as pivots. The state before the chunk
is unknown too, so every right-hand side is kept as `const + coef @ H`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from smir.errors import FormError
from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.operator import Operator
from smir.passes.forms.chunk_algebra import ChunkWrite, Functional, OperatorTiles, add


@dataclass(frozen=True)
class Affine:
    """`const + coef @ H`: `CHUNK x V` and `CHUNK x K`."""

    const: Node | None
    coef: Node | None

    def plus(self, other: "Affine") -> "Affine":
        return Affine(_plus(self.const, other.const), _plus(self.coef, other.coef))

    def after(self, matrix: Node) -> "Affine":
        """`matrix @ self`."""
        return Affine(_dot(matrix, self.const), _dot(matrix, self.coef))

    def at(self, state: Node) -> Node:
        """The value for a given H."""
        read = _dot(self.coef, state)
        value = _plus(self.const, read)
        assert value is not None
        return value


def written_values(
    tiles: OperatorTiles, state: Node, beside: Callable[[Functional], Node | None] = lambda erase: None
) -> dict[ChunkWrite, Node]:
    """What every write really writes, `CHUNK x V`; H is `state`, and erases also read what is there `beside`."""
    known = {w: w.value for w in tiles.writes if w.erase is None and w.value is not None}
    unknown = [w for w in tiles.writes if w.erase is not None]
    sides = [_right_side(tiles, w, known, beside) for w in unknown]
    return {**known, **{w: u.at(state) for w, u in _solve(tiles, unknown, sides).items()}}


def _solve(tiles: OperatorTiles, unknown: list[ChunkWrite], sides: list[Affine]) -> dict[ChunkWrite, Affine]:
    """The erasing writes' values; block (r, c) of the system is minus the score of erase r with write c."""
    blocks = [[_minus_scores(tiles, r, c) for c in unknown] for r in unknown]
    pivots = []
    for p in range(len(unknown)):
        inverse = tile.unit_inverse(blocks[p][p], tiles.reverse)
        pivots.append(inverse)
        for r in range(p + 1, len(unknown)):
            factor = tile.pointwise("neg", tile.dot(blocks[r][p], inverse))
            sides[r] = sides[r].plus(sides[p].after(factor))
            for c in range(p + 1, len(unknown)):
                blocks[r][c] = add(blocks[r][c], tile.dot(factor, blocks[p][c]))
    found: dict[int, Affine] = {}
    for p in reversed(range(len(unknown))):
        side = sides[p]
        for c in range(p + 1, len(unknown)):
            side = side.plus(found[c].after(tile.pointwise("neg", blocks[p][c])))
        found[p] = side.after(pivots[p])
    return {w: found[p] for p, w in enumerate(unknown)}


def _right_side(
    tiles: OperatorTiles,
    write: ChunkWrite,
    known: Mapping[ChunkWrite, Node],
    beside: Callable[[Functional], Node | None],
) -> Affine:
    assert write.erase is not None
    read = tiles.reads(write.erase, known) if known else None
    return Affine(_plus(_plus(write.value, read), beside(write.erase)), tiles.query(write.erase))


def _minus_scores(tiles: OperatorTiles, reader: ChunkWrite, written: ChunkWrite) -> Node:
    assert reader.erase is not None
    return tile.pointwise("neg", tiles.scores(reader.erase, written))


def _plus(a: Node | None, b: Node | None) -> Node | None:
    return a if b is None else add(a, b)


def _dot(a: Node | None, b: Node | None) -> Node | None:
    return None if a is None or b is None else tile.dot(a, b)


def refuse_mixed_erase(mixer: Mixer, operator: Operator) -> None:
    """A decay over columns does not commute with an erase, so no product of a chunk's transitions stays small.

    Neither does a rotation of the columns.
    """
    if operator.erases and operator.rotation.cols:
        raise FormError(
            f"state `{operator.state}` rotates along its columns and erases along its rows: "
            "together these have no chunked or quadratic form",
            mixer.state(operator.state).span,
            'rotate the erased dimension, or compile with form="step"',
        )
    if operator.erases and operator.decay.cols:
        raise FormError(
            f"state `{operator.state}` decays along its columns and erases along its rows: "
            "together these have no chunked or quadratic form",
            mixer.state(operator.state).span,
            'let the decay run over the erased dimension, or compile with form="step"',
        )
