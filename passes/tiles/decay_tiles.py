"""Decays of a chunk's tokens as tiles: prefixes, suffixes and totals, all in log form, plus running signs.

A decay is `sign * e^log`. Logs are summed directly (never as differences) and stay finite: where the promised range
admits less than LOG_ZERO they are clamped to it, which is still an exact zero after `exp`. The product of signs over
a run of tokens is the parity of the number of negative ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.interval import Interval
from smir.ir.operator import BACKWARD, Decay, Diagonal, Operator
from smir.ir.tile import CHUNK, LOG_ZERO
from smir.passes.analysis.exponents import intervals, leaf_intervals
from smir.passes.tiles.rowwise import Rowwise


@dataclass(frozen=True)
class LogDecay:
    """Log decay of every token (`CHUNK x n`) and, if any can be negative, how many factors are (`CHUNK x n`).

    `reverse` tells that time runs from the chunk's last row to its first.
    """

    log: Node
    negatives: Node | None
    reverse: bool

    def prefix(self, before: bool, log: Node | None = None, negatives: Node | None = None) -> Node:
        """The decay from the chunk's start to each row, without the row's own one when `before`.

        `log` and `negatives`, if given, are further decay from before the chunk's start.
        """
        summed = tile.cumsum(self.log, self.reverse, exclusive=before)
        decay = _exp(summed if log is None else tile.pointwise("add", summed, log))
        if self.negatives is None:
            return decay
        count = tile.cumsum(self.negatives, self.reverse, exclusive=before)
        return _times(decay, parity(count if negatives is None else tile.pointwise("add", count, negatives)))

    def suffix(self) -> Node:
        """The decay after each row to the chunk's end."""
        decay = _exp(tile.cumsum(self.log, not self.reverse, exclusive=True))
        if self.negatives is None:
            return decay
        return _times(decay, parity(tile.cumsum(self.negatives, not self.reverse, exclusive=True)))

    def total_log(self) -> Node:
        """The log of the whole chunk's decay, `1 x n`."""
        return tile.reduce_sum(self.log, 0)

    def total(self) -> Node:
        """The whole chunk's decay, `1 x n`."""
        decay = _exp(self.total_log())
        return decay if self.negatives is None else _times(decay, parity(tile.reduce_sum(self.negatives, 0)))

    def signs(self, before: bool) -> Node | None:
        """The running product of signs up to each row: of two rows it gives the sign of the run between them."""
        if self.negatives is None:
            return None
        return parity(tile.cumsum(self.negatives, self.reverse, exclusive=before))


@dataclass(frozen=True)
class DecayTiles:
    """An operator's decay on one block of tokens; a scalar one is folded into rows or columns if these decay too."""

    scalar: LogDecay | None = None
    rows: LogDecay | None = None
    cols: LogDecay | None = None

    @property
    def keys(self) -> LogDecay | None:
        """What the query side sees: the scalar or the rows' decay."""
        return self.rows or self.scalar


def decay_tiles(operator: Operator, rowwise: Rowwise, ranges: Mapping[str, Interval]) -> DecayTiles:
    """The tiles of an operator's decay. `ranges` are the promised ranges of inputs and parameters by name."""
    build = _Builder(rowwise, ranges, operator.direction == BACKWARD)
    decay: Decay = operator.decay
    if decay.rows:
        cols = build([decay.cols], str(operator.cols)) if decay.cols else None
        return DecayTiles(rows=build([decay.scalar, decay.rows], str(operator.rows)), cols=cols)
    if decay.cols:
        return DecayTiles(cols=build([decay.scalar, decay.cols], str(operator.cols)))
    return DecayTiles(scalar=build([decay.scalar], tile.ONE)) if decay.scalar else DecayTiles()


@dataclass(frozen=True)
class _Builder:
    rowwise: Rowwise
    ranges: Mapping[str, Interval]
    reverse: bool

    def __call__(self, parts: list[Diagonal | None], axis: str) -> LogDecay:
        """The product of diagonals as one decay over an axis."""
        present = [p for p in parts if p]
        log = self.padded(_sum([self.clamped(self.rowwise.vector(p.log)) for p in present]), axis, 0.0)
        negatives = [_is_negative(self.rowwise.vector(p.sign)) for p in present if p.sign is not None]
        counts = self.padded(_sum(negatives), axis, 0.0) if negatives else None
        return LogDecay(log, counts, self.reverse)

    def clamped(self, log: Node) -> Node:
        """The log, or LOG_ZERO where the decay is zero, if the promised range admits that."""
        low = intervals([log], leaf_intervals(self.ranges))[log].lo
        return tile.pointwise("max", log, tile.const(LOG_ZERO)) if low < LOG_ZERO else log

    def padded(self, value: Node, axis: str, fill: float) -> Node:
        """One row for every token; those beyond the end don't decay."""
        wide = tile.broadcast(value, CHUNK, axis)
        return wide if self.rowwise.padding.vanishes(wide) else tile.valid_rows(wide, fill, self.rowwise.block)


def parity(count: Node) -> Node:
    """+1 for an even, -1 for an odd number."""
    return tile.pointwise("cos", tile.pointwise("mul", count, tile.const(math.pi)))


def _is_negative(sign: Node) -> Node:
    below = tile.pointwise("lt", sign, tile.const(0.0))
    return tile.pointwise("where", below, tile.const(1.0), tile.const(0.0))


def _sum(parts: list[Node]) -> Node:
    total = parts[0]
    for part in parts[1:]:
        total = tile.pointwise("add", total, part)
    return total


def _exp(log: Node) -> Node:
    return tile.pointwise("exp", log)


def _times(a: Node, b: Node) -> Node:
    return tile.pointwise("mul", a, b)
