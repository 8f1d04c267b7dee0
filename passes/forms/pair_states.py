"""One operator between a row chunk of tokens and the other chunks, which an inner scan visits nearest first.

For each read the scan carries what has been read so far (`acc`), and for each decay the log of the decay between the
two chunks, which starts at 0 and only falls; where the state rotates, the angle between the two chunks is carried the
same way:

    acc' = acc + ((a e^(prefix + log)) @ (k e^suffix)^T) @ v          log' = log + (the column chunk's total)

The initial state is handed on unchanged; when the scan ends, `log` is the decay since the sequence began, so that
`(a e^(prefix + log)) @ initial` completes the read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from smir.ir import tile
from smir.ir.graph import Node, walk
from smir.ir.operator import Operator, OperatorProgram, Read
from smir.ir.tile import CARRIED
from smir.ir.tile_program import Carry
from smir.passes.forms.chunk_algebra import ChunkWrite, Functional, OperatorTiles, add, functional, mul
from smir.passes.forms.chunk_stages import state_carry
from smir.passes.tiles.decay_tiles import LogDecay
from smir.passes.tiles.rowwise import Rowwise


@dataclass
class Pair:
    """One operator between a row chunk (`here`) and a column chunk (`there`), and what the inner scan carries.

    `running` has what the pairs of one scan carry for each other.
    """

    program: OperatorProgram
    operator: Operator
    here: OperatorTiles
    there: OperatorTiles
    vectors: Rowwise
    names: "Names"
    running: dict[tuple[str, Node], Node]
    carries: list[Carry] = field(default_factory=list)
    logs: dict[str, "_Between"] = field(default_factory=dict)

    def read(self, read: Read, values: Mapping[ChunkWrite, Node]) -> Node:
        """A read: of the chunk itself, of the other chunks, and of the initial state."""
        cols = str(self.operator.cols)
        query = self._kept(read, functional(read.query, read.when, self.operator.rows, self.vectors))
        rows = self._turned_back(query)
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
            added = add(added, mul(self._turned_on(query, tile.dot(scores, self.there.value(write.value))), arrival))
        self.carries.append(Carry(acc["name"], tile.CHUNK, cols, added))
        others = add(acc, mul(self._turned_on(query, tile.dot(rows, self._initial())), arrival))
        return add(self.here.reads(query, values), others)

    def _kept(self, read: Read, query: Functional) -> Functional:
        """The query; one that is made of what scans before this one hold at their end is carried along."""
        if not any(n.op == "load" and n["kind"] == CARRIED for n in walk([query.rows])):
            return query
        load = tile.carried(self.names(f"query_{read.name}"), tile.CHUNK, query.rows.type.cols)
        self.carries.append(Carry(load["name"], tile.CHUNK, load.type.cols, load, start=query.rows))
        return replace(query, rows=load)

    def _turned_back(self, query: Functional) -> Node:
        """The query in the frame of the column chunk's end, where its keys are."""
        here, there = self.here.rotation.rows, self.there.rotation.rows
        if here is None or there is None:
            return query.rows
        return here.back(query.rows, query.before, self._running(f"angle_{self.operator.state}_keys", there.total()))

    def _turned_on(self, query: Functional, found: Node) -> Node:
        """What a query found at the column chunk's end, in its own frame."""
        here, there = self.here.rotation.cols, self.there.rotation.cols
        if here is None or there is None:
            return found
        return here.on(found, query.before, self._running(f"angle_{self.operator.state}_values", there.total()))

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
class Names:
    """Names for carried tiles that nothing else has."""

    taken: set[str]

    def __call__(self, wish: str) -> str:
        name = wish
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name
