"""Operator IR to the quadratic form: every row chunk of tokens meets every other one, nothing is carried in time.

For a row chunk, an `earlier` scan (`later` for backward operators) visits the other chunks nearest first. For each
read it carries what has been read so far (`acc`), and for each decay the log of the decay between the two chunks, which
starts at 0 and only falls:

    acc' = acc + ((a e^(prefix + log)) @ (k e^suffix)^T) @ v          log' = log + (the column chunk's total)

States are served too: the inner scan hands on the initial state unchanged, and when it ends, `log` is the decay since
the sequence began, so `(a e^(prefix + log)) @ initial` completes the read. Final states come from a sequential scan of
their own that the output doesn't use.

Operators that erase have no such form; one chunk as long as the sequence is their quadratic form, and that is the
chunked program.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.operator import BACKWARD, FORWARD, Operator, OperatorProgram, Read
from smir.ir.tile import COL, QUADRATIC, Carry, Scan, TileProgram
from smir.passes.chunk_algebra import ChunkWrite, OperatorTiles, add, functional, mul, operator_tiles
from smir.passes.chunk_erase import written_values
from smir.passes.decay_tiles import LogDecay
from smir.passes.exponents import declared_ranges
from smir.passes.lower_chunked import finish, lower_chunked, output_tile, state_carry, state_load
from smir.passes.rowwise import Rowwise

_ORDERS = {FORWARD: "earlier", BACKWARD: "later"}


def lower_quadratic(program: OperatorProgram) -> TileProgram:
    """The quadratic form of a recognised mixer. Raises FormError for what has no form on chunks of tokens."""
    if any(o.erases for o in program.operators):
        return replace(lower_chunked(program), form=QUADRATIC)
    ranges = declared_ranges(program.mixer.declarations)
    rows, cols = Rowwise(program.mixer), Rowwise(program.mixer, COL)
    carries: dict[str, list[Carry]] = {"forward": [], "backward": [], "earlier": [], "later": []}
    reads: dict[str, Node] = {}
    running: dict[tuple[str, Node], Node] = {}
    names = _Names({s.name for s in program.mixer.states})
    for operator in program.operators:
        here = operator_tiles(operator, rows, ranges)
        values = written_values(here, state_load(operator))
        following = here.next_state(state_load(operator), values)
        carries[operator.direction].append(state_carry(program.mixer, operator, following))
        there = operator_tiles(operator, cols, ranges)
        pair = _Pair(program, operator, here, there, rows, names, running)
        for read in program.reads:
            if read.state == operator.state:
                reads[read.name] = pair.read(read, values)
        carries[_ORDERS[operator.direction]] += pair.carries
    scans = tuple(Scan(order, tuple(found)) for order, found in carries.items() if found)
    return finish(program.mixer, QUADRATIC, scans, output_tile(program, reads))


@dataclass
class _Pair:
    """One operator between a row chunk (`here`) and a column chunk (`there`), and what the inner scan carries."""

    program: OperatorProgram
    operator: Operator
    here: OperatorTiles
    there: OperatorTiles
    vectors: Rowwise
    names: "_Names"
    running: dict[tuple[str, Node], Node]
    carries: list[Carry] = field(default_factory=list)
    logs: dict[str, "_Between"] = field(default_factory=dict)

    def read(self, read: Read, values: Mapping[ChunkWrite, Node]) -> Node:
        """A read: of the chunk itself, of the other chunks, and of the initial state."""
        cols = str(self.operator.cols)
        query = functional(read.query, read.when, self.operator.rows, self.vectors)
        rows = query.rows
        key_decay, value_decay = self.here.decay.keys, self.here.decay.cols
        if key_decay is not None:
            rows = mul(rows, self._between("keys", key_decay, self.there.decay.keys).prefix(query.before))
        arrival = (
            self._between("values", value_decay, self.there.decay.cols).prefix(query.before) if value_decay else None
        )
        acc = added = tile.carried(self.names(f"acc_{read.name}"), tile.CHUNK, cols)
        for write in self.there.writes:
            assert write.value is not None
            scores = tile.dot(rows, tile.transpose(self.there.key(write)))
            added = add(added, mul(tile.dot(scores, self.there.value(write.value)), arrival))
        self.carries.append(Carry(acc["name"], tile.CHUNK, cols, added))
        others = add(acc, mul(tile.dot(rows, self._initial()), arrival))
        return add(self.here.reads(query, values), others)

    def _initial(self) -> Node:
        """The state before the sequence: a carried tile that never changes."""
        known = next((c for c in self.carries if c.state), None)
        if known is not None:
            return known.load
        load = tile.carried(
            self.names(f"{self.operator.state}_initial"), str(self.operator.rows), str(self.operator.cols)
        )
        start = state_carry(self.program.mixer, self.operator, load)
        self.carries.append(replace(start, name=load["name"], final=False))
        return load

    def _between(self, side: str, here: LogDecay, there: LogDecay | None) -> "_Between":
        """The decay between the chunks as carried tiles, made once for each side."""
        assert there is not None
        if side not in self.logs:
            log = self._running(f"log_{self.operator.state}_{side}", there.total_log())
            count = None if there.negatives is None else tile.reduce_sum(there.negatives, 0)
            negatives = None if count is None else self._running(f"negatives_{self.operator.state}_{side}", count)
            self.logs[side] = _Between(here, log, negatives)
        return self.logs[side]

    def _running(self, name: str, step: Node) -> Node:
        """A sum over the column chunks so far; states that decay alike share it."""
        key = self.operator.direction, step
        if key not in self.running:
            self.running[key] = self._sum_of(name, step)
        return self.running[key]

    def _sum_of(self, name: str, step: Node) -> Node:
        load = tile.carried(self.names(name), tile.ONE, step.type.cols)
        self.carries.append(Carry(load["name"], tile.ONE, step.type.cols, add(load, step)))
        return load


@dataclass(frozen=True)
class _Between:
    """A row chunk's decay together with the decay between it and the column chunk."""

    here: LogDecay
    log: Node
    negatives: Node | None

    def prefix(self, before: bool) -> Node:
        return self.here.prefix(before, self.log, self.negatives)


@dataclass
class _Names:
    """Names for carried tiles that nothing else has."""

    taken: set[str]

    def __call__(self, wish: str) -> str:
        name = wish
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name
