"""The algebra of one operator on one chunk: scores between tokens, what the carried state adds, the next state.

H is the state before the chunk (after it, when the operator runs backward). A functional is a read's query or an
erase's vector: rows a_i and the moment at which it meets the state. Its score with a write of left vector k is

    score_ij = sum over K of a_i k_j e^(log decay between j and i)     for j before i (and j = i if already written)

so that what it reads of the chunk's own writes is `scores @ values`, and of the past `(a e^prefix) @ H`. Where the
state rotates, queries and keys of the scores are turned back to the chunk's start, and what the next state gets to its
end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smir.ir import tile
from smir.ir.dims import Dim
from smir.ir.expr import const
from smir.ir.graph import Node
from smir.ir.interval import Interval
from smir.ir.operator import AFTER, BACKWARD, BEFORE, DECAYED, Operator, Write
from smir.ir.tile import CHUNK
from smir.passes.tiles.decay_tiles import DecayTiles, LogDecay, decay_tiles
from smir.passes.tiles.rotation_tiles import RotationTiles, rotation_tiles
from smir.passes.tiles.rowwise import Rowwise


@dataclass(frozen=True)
class Functional:
    """A query or erase vector, `CHUNK x K`. `step` is the micro-step before whose writes an erase reads."""

    rows: Node
    when: str
    step: int = 0

    @property
    def before(self) -> bool:
        return self.when == BEFORE

    def sees(self, write_step: int) -> bool:
        """Whether it sees what the same token writes in that micro-step."""
        return self.when == AFTER or write_step < self.step


@dataclass(frozen=True)
class ChunkWrite:
    """A write's tiles: left `CHUNK x K`, value `CHUNK x V` or none, and what it erases.

    `number` tells equal writes apart. `weight`, `CHUNK x 1`, is a number by which all of a token's write is multiplied;
    it stays outside of products, where both sides are loaded tiles then and its gradient needs no further one.
    """

    number: int
    left: Node
    value: Node | None
    erase: Functional | None
    step: int
    weight: Node | None = None

    @property
    def weighted(self) -> Node:
        """Left with its weight."""
        return mul(self.left, self.weight)


@dataclass(frozen=True)
class OperatorTiles:
    """An operator's vectors, decay and rotation on one block of tokens."""

    operator: Operator
    decay: DecayTiles
    rotation: RotationTiles
    writes: tuple[ChunkWrite, ...]
    reverse: bool

    # ---- scores -------------------------------------------------------------------------------------------------

    def reads(self, functional: Functional, values: Mapping[ChunkWrite, Node]) -> Node | None:
        """What a functional reads of the chunk's own writes, `CHUNK x V`. Writes of one value share one product."""
        values = {w: self._value_at_start(v) for w, v in values.items()}
        return self._value_back(functional, self._reads(functional, values))

    def _reads(self, functional: Functional, values: Mapping[ChunkWrite, Node]) -> Node | None:
        if self.decay.cols:
            return total(self.mixed(functional, w, v) for w, v in values.items())
        by_value: dict[Node, Node] = {}
        for write, value in values.items():
            scores = self.scores(functional, write)
            by_value[value] = add(by_value.get(value), scores)
        return total(tile.dot(scores, value) for value, scores in by_value.items())

    def scores(self, functional: Functional, write: ChunkWrite) -> Node:
        """`CHUNK x CHUNK`; the columns' decay is not in it."""
        diagonal = functional.sees(write.step)
        query, left = self._signed(functional, write, self.decay.keys)
        if self.decay.rows is None:
            plain = self._plain(functional, query, left)
            return self._mask(plain if write.weight is None else mul(plain, tile.transpose(write.weight)), diagonal)
        query, weight = apart(query)
        scores = mul(tile.level_sum(self._level_scores(functional, query, left, self.decay.rows)), weight)
        if not diagonal:
            return scores
        same = tile.broadcast(inner(functional.rows, write.left), CHUNK, CHUNK)
        return add(scores, tile.mask(same, "eye"))

    def mixed(self, functional: Functional, write: ChunkWrite, value: Node) -> Node:
        """`scores @ value` when columns decay: every level splits the decay between the sides of the product."""
        assert self.decay.cols is not None
        query, left = self._signed(functional, write, self.decay.keys)
        if self.decay.rows is not None:
            scores = self._level_scores(functional, query, left, self.decay.rows)
        else:
            scores = tile.level_mask(self._plain(functional, query, left), self.reverse)
        distance = self._distance(self.decay.cols, functional.before)
        signs, later = self.decay.cols.signs(False), self.decay.cols.signs(functional.before)
        inside = tile.level_sum(mul(tile.dot(scores, mul(mul(value, signs), distance)), distance))
        inside = mul(inside, later)
        if not functional.sees(write.step):
            return inside
        return add(inside, mul(value, inner(functional.rows, write.left)))

    def _signed(self, functional: Functional, write: ChunkWrite, decay: LogDecay | None) -> tuple[Node, Node]:
        query, left = self._turned(functional, write)
        if decay is None:
            return query, left
        return mul(query, decay.signs(functional.before)), mul(left, decay.signs(False))

    def _turned(self, functional: Functional, write: ChunkWrite) -> tuple[Node, Node]:
        """Query and key where both belong to the chunk's start."""
        turn = self.rotation.rows
        if turn is None:
            return functional.rows, write.left
        return turn.back(functional.rows, functional.before), turn.back(write.left, before=False)

    def _value_at_start(self, value: Node) -> Node:
        return value if self.rotation.cols is None else self.rotation.cols.back(value, before=False)

    def _value_back(self, functional: Functional, found: Node | None) -> Node | None:
        """What was read in the frame of the chunk's start, in the functional's own."""
        turn = self.rotation.cols
        return found if turn is None or found is None else turn.on(found, functional.before)

    def _plain(self, functional: Functional, query: Node, left: Node) -> Node:
        product = tile.dot(query, tile.transpose(left))
        if self.decay.scalar is None:
            return product
        between = tile.segment_sum(self.decay.scalar.log, self.reverse, exclusive=functional.before)
        return mul(product, tile.pointwise("exp", between))

    def _mask(self, scores: Node, diagonal: bool) -> Node:
        side = "upper" if self.reverse else "lower"
        return tile.mask(scores, side if diagonal else f"strict_{side}")

    def _level_scores(self, functional: Functional, query: Node, left: Node, decay: LogDecay) -> Node:
        if self._takes_own(functional):
            query, distance = mul(query, tile.pointwise("exp", decay.log)), self._distance(decay, before=True)
        else:
            distance = self._distance(decay, functional.before)
        product = tile.dot(mul(query, distance), tile.transpose(mul(left, distance)))
        return tile.level_mask(product, self.reverse)

    def _distance(self, decay: LogDecay, before: bool) -> Node:
        """The decay between each row and the boundary of its pair of blocks; only queries can be `exclusive`."""
        return tile.pointwise("exp", tile.pair_distance(decay.log, self.reverse, exclusive=before))

    def _takes_own(self, functional: Functional) -> bool:
        """Whether a functional over rows that decay takes its own token's decay into its rows.

        Where some erase reads before the decay, all others then measure from there too: one distance serves all.
        """
        decay, erases = self.decay.rows, [w.erase for w in self.writes if w.erase is not None]
        shares = decay is not None and decay.negatives is None and any(e.before for e in erases)
        return shares and not functional.before

    # ---- the carried state --------------------------------------------------------------------------------------

    def query(self, functional: Functional) -> Node:
        """The rows that read H: `a e^prefix`, turned back."""
        decay, turn = self.decay.keys, self.rotation.rows
        rows = functional.rows if turn is None else turn.back(functional.rows, functional.before)
        if decay is not None and self._takes_own(functional):
            return mul(mul(rows, tile.pointwise("exp", decay.log)), decay.prefix(before=True))
        return rows if decay is None else mul(rows, decay.prefix(functional.before))

    def from_state(self, functional: Functional, state: Node) -> Node:
        """What a functional reads of H, `CHUNK x V`."""
        found = tile.dot(self.query(functional), state)
        if self.rotation.cols is not None:
            found = self.rotation.cols.on(found, functional.before)
        return mul(found, self.decay.cols.prefix(functional.before)) if self.decay.cols else found

    def key(self, write: ChunkWrite) -> Node:
        """The rows that write into the next state: `k e^suffix`, turned on."""
        left = write.left if self.rotation.rows is None else self.rotation.rows.to_end(write.left)
        if self.decay.keys is None:
            return mul(left, write.weight)
        return mul(left, mul(self.decay.keys.suffix(), write.weight))

    def value(self, value: Node) -> Node:
        """The value that arrives in the next state."""
        if self.rotation.cols is not None:
            value = self.rotation.cols.to_end(value)
        return mul(value, self.decay.cols.suffix()) if self.decay.cols else value

    def next_state(self, state: Node, values: Mapping[ChunkWrite, Node]) -> Node:
        """H' = e^total H + sum of keys^T values, H turned by the chunk's angles."""
        kept = self.rotation.state(state)
        if self.decay.keys is not None:
            factor = self.decay.keys.total()
            kept = mul(kept, factor if self.decay.rows is None else tile.transpose(factor))
        if self.decay.cols is not None:
            kept = mul(kept, self.decay.cols.total())
        by_value: dict[Node, Node] = {}
        for write, value in values.items():
            arriving = self.value(value)
            by_value[arriving] = add(by_value.get(arriving), self.key(write))
        for value, key in by_value.items():
            kept = add(kept, tile.dot(tile.transpose(key), value))
        return kept


def operator_tiles(operator: Operator, rowwise: Rowwise, ranges: Mapping[str, Interval]) -> OperatorTiles:
    """An operator on the translator's block of tokens. Raises FormError for vectors that have no tile form."""
    ordered = [(w, step) for step, s in enumerate(operator.steps) for w in s.writes]
    writes = tuple(_write(operator, w, step, number, rowwise) for number, (w, step) in enumerate(ordered))
    reverse = operator.direction == BACKWARD
    decay, rotation = decay_tiles(operator, rowwise, ranges), rotation_tiles(operator, rowwise)
    return OperatorTiles(operator, decay, rotation, writes, reverse)


def functional(vector: Node, when: str, rows: Dim, rowwise: Rowwise, step: int = 0) -> Functional:
    """A functional over the state's rows; only the first micro-step tells before from after the decay."""
    moment = DECAYED if step > 0 and when == BEFORE else when
    return Functional(wide(rowwise.vector(vector), rows), moment, step)


def _write(operator: Operator, write: Write, step: int, number: int, rowwise: Rowwise) -> ChunkWrite:
    """The write's tiles; beyond the end of the sequence it must write nothing."""
    pad = rowwise.padding
    left = wide(rowwise.vector(write.left), operator.rows)
    weight, rest = _weight(operator, write, rowwise)
    value = None if rest is None else wide(rowwise.vector(rest), operator.cols)
    erase = None
    if write.erase is not None:
        erase = functional(write.erase.vector, write.erase.when, operator.rows, rowwise, step)
        if not pad.finite(erase.rows):
            erase = Functional(tile.valid_rows(erase.rows, block=rowwise.block), erase.when, step)
    if value is not None and not pad.finite(value):
        value = tile.valid_rows(value, block=rowwise.block)
    if weight is not None and not pad.finite(weight):
        weight = tile.valid_rows(weight, block=rowwise.block)
    vanishing = [v for v in (value, weight) if v is not None and pad.vanishes(v)]
    nothing = erase is None and vanishing and pad.finite(left)
    if not (nothing or pad.vanishes(left)):
        left = tile.valid_rows(left, block=rowwise.block)
    return ChunkWrite(number, left, value, erase, step, weight)


def _weight(operator: Operator, write: Write, rowwise: Rowwise) -> tuple[Node | None, Node | None]:
    """The number that multiplies a write, if it has one per token, and the rest of its value.

    Not where channels decay: there every level multiplies the left side anyway; nor beside erases, which share it.
    """
    value = write.value
    if value is None or any(w.erase for s in operator.steps for w in s.writes) or not _decays_as_one(operator):
        return None, value
    if value.type.is_scalar:
        number, rest = value, const(1.0)
    elif value.op == "mul" and (scalars := [a for a in value.args if a.type.is_scalar]):
        number, rest = scalars[0], next(a for a in value.args if a is not scalars[0])
    else:
        return None, value
    column = rowwise.vector(number)
    return (column, rest) if column.type == tile.Tile(CHUNK, tile.ONE) else (None, value)


def _decays_as_one(operator: Operator) -> bool:
    return not any(s.decay.rows or s.decay.cols for s in operator.steps)


# ---- small tile helpers -----------------------------------------------------------------------------------------


def wide(value: Node, axis: Dim) -> Node:
    """A row for every token over the whole axis."""
    return tile.broadcast(value, CHUNK, str(axis))


def mul(a: Node, b: Node | None) -> Node:
    return a if b is None else tile.pointwise("mul", a, b)


def add(a: Node | None, b: Node) -> Node:
    return b if a is None else tile.pointwise("add", a, b)


def apart(rows: Node) -> tuple[Node, Node | None]:
    """Vectors without the number that multiplies each of them, and that number: scores are linear in it."""
    if rows.op == "neg":
        rest, weight = apart(rows.args[0])
        return (rows, None) if weight is None else (rest, tile.pointwise("neg", weight))
    column = tile.Tile(CHUNK, tile.ONE)
    if rows.op != "mul" or rows.type == column or column not in [a.type for a in rows.args]:
        return rows, None
    vectors, number = rows.args if rows.args[1].type == column else rows.args[::-1]
    rest, weight = apart(vectors)
    return (rest, mul(number, weight)) if rest.type == rows.type else (rows, None)


def inner(a: Node, b: Node) -> Node:
    """Row by row inner product, `CHUNK x 1`."""
    return tile.reduce_sum(mul(a, b), 1)


def total(parts: Iterable[Node]) -> Node | None:
    """The sum of the parts, or None."""
    result: Node | None = None
    for part in parts:
        result = add(result, part)
    return result
