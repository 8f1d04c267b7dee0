"""Pair IR: mixers in which every position reads every other one through a formula of the pair (i, j).

A read of position i combines a column that every position j offers, `value_j`, with weights:

    sum       y_i = sum over j of  w_ij value_j                       w = scores, zero where the mask is zero
    softmax   y_i = sum over j of  e^l_ij value_j / sum over j of e^l_ij      l = scores, -inf where the mask is zero

`scores` and `mask` are index formulas, 1 x 1. A softmax may have `channels`, a column of position j that is added to
the scores and gives every entry of the value weights of its own; a row with nothing left to choose from gives zeros.
Columns that are more than an input have names in `vectors`, by which formulas read them (`input_of`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smir.ir.graph import Node
from smir.ir.mixer import Mixer

SUM, SOFTMAX = "sum", "softmax"
KINDS = (SUM, SOFTMAX)


@dataclass(frozen=True)
class PairRead:
    """One read. No `mask`: every pair counts. No `value`: the number 1."""

    name: str
    kind: str
    scores: Node
    mask: Node | None = None
    value: Node | None = None
    channels: Node | None = None

    def formulas(self) -> Iterator[Node]:
        """The index formulas."""
        yield from (n for n in (self.scores, self.mask) if n is not None)

    def columns(self) -> Iterator[Node]:
        """The columns of position j."""
        yield from (n for n in (self.value, self.channels) if n is not None)


@dataclass(frozen=True)
class PairProgram:
    """A recognised masked operator: its reads, and the output as an expression over inputs and `read` leaves."""

    mixer: Mixer
    vectors: tuple[tuple[str, Node], ...]
    reads: tuple[PairRead, ...]
    output: Node

    def roots(self) -> tuple[Node, ...]:
        parts = [n for r in self.reads for n in (*r.formulas(), *r.columns())]
        return (*(column for _, column in self.vectors), *parts, self.output)
