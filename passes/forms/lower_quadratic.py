"""Operator IR to the quadratic form: every row chunk of tokens meets every other one, nothing is carried in time.

For a row chunk, an `earlier` scan (`later` for backward operators) visits the other chunks (pair_states). A read whose
query holds other reads comes in a scan after theirs. Where a write or a decay holds reads, these are needed of the
column chunks too: then the scans before hand them over through memory.

Sequential scans of their own give the final states, which the output doesn't use, and the values of elementwise states,
which they hand over for every token.

Operators that erase, or that drive each other, have no such form; one chunk as long as the sequence is their quadratic
form, and that is the chunked program.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from smir.ir import tile
from smir.ir.graph import Node, walk
from smir.ir.operator import BACKWARD, FORWARD, OperatorProgram, Read
from smir.ir.tile import CHUNK, COL, ROW, SUM
from smir.ir.tile_program import QUADRATIC, Carry, Scan, TileProgram
from smir.passes.analysis.exponents import declared_ranges
from smir.passes.forms.chunk_algebra import OperatorTiles, operator_tiles
from smir.passes.forms.chunk_stages import ChunkStages, state_load
from smir.passes.forms.lower_chunked import finish, lower_chunked
from smir.passes.forms.pair_states import Names, Pair
from smir.passes.tiles.rowwise import Rowwise

_ORDERS = {FORWARD: "earlier", BACKWARD: "later"}


def lower_quadratic(program: OperatorProgram) -> TileProgram:
    """The quadratic form of a recognised mixer. Raises FormError for what has no form on chunks of tokens."""
    if any(o.erases or o.drives for o in program.operators):
        return replace(lower_chunked(program), form=QUADRATIC)
    return _Quadratic(program).lowered()


@dataclass(frozen=True)
class _Levels:
    """In which scan each read is made: those of one level run side by side, in the order of their levels.

    Levels up to one of the `cuts` hand their reads over through memory. The output counts as one more level.
    """

    of_read: Mapping[str, int]
    cuts: frozenset[int]

    @staticmethod
    def of(program: OperatorProgram) -> "_Levels":
        levels: dict[str, int] = {}
        cuts: set[int] = set()
        for read in program.reads:
            written_with = list(_reads(program.operator(read.state).vectors()))
            cuts |= {levels[r] for r in written_with}
            levels[read.name] = 1 + max((levels[r] for r in (*written_with, *_reads([read.query]))), default=-1)
        return _Levels(levels, frozenset(cuts))

    @property
    def output(self) -> int:
        return 1 + max(self.of_read.values(), default=-1)

    def part(self, level: int) -> int:
        """How many cuts are before a level: what another part made comes through memory."""
        return sum(1 for cut in self.cuts if cut < level)


def _reads(roots: Iterable[Node]) -> Iterator[str]:
    return (n["name"] for n in walk(roots) if n.op == "read")


@dataclass
class _Inner:
    """The scans of one level, by order, and what they carry for all their pairs."""

    carries: dict[str, list[Carry]] = field(default_factory=lambda: {"earlier": [], "later": []})
    running: dict[tuple[str, Node], Node] = field(default_factory=dict)


class _Quadratic:
    def __init__(self, program: OperatorProgram) -> None:
        self.program, self.levels = program, _Levels.of(program)
        self.ranges = declared_ranges(program.mixer.declarations)
        self.in_time = ChunkStages(program)
        self.names = Names({s.name for s in program.mixer.states})
        self.reads: dict[str, Node] = {}
        self.elements: dict[Node, str] = {}
        self.handed: dict[str, str] = {}
        self.sides: dict[tuple[int, str], Rowwise] = {}

    def lowered(self) -> TileProgram:
        inner = [self._level(level) for level in range(self.levels.output)]
        last = self._side(self.levels.part(self.levels.output), ROW).vector(self.program.output)
        scans = [*self._in_time(), *self._inner_scans(inner)]
        return finish(self.program.mixer, QUADRATIC, tuple(scans), tile.broadcast(last, CHUNK, last.type.cols))

    def _level(self, level: int) -> _Inner:
        """Builds the reads of one level."""
        inner = _Inner()
        for operator in self.program.operators:
            reads = [r for r in self._reads_of(level) if r.state == operator.state]
            if not reads:
                continue
            here, there = (self._tiles(operator.state, level, block) for block in (ROW, COL))
            rows = self._side(self.levels.part(level), ROW)
            pair = Pair(self.program, operator, here, there, rows, self.names, inner.running)
            values = {w: w.value for w in here.writes if w.value is not None}
            for read in reads:
                self.reads[read.name] = pair.read(read, values)
            inner.carries[_ORDERS[operator.direction]] += pair.carries
        return inner

    def _reads_of(self, level: int) -> list[Read]:
        return [r for r in self.program.reads if self.levels.of_read[r.name] == level]

    def _tiles(self, state: str, level: int, block: str) -> OperatorTiles:
        return operator_tiles(self.program.operator(state), self._side(self.levels.part(level), block), self.ranges)

    def _side(self, part: int, block: str) -> Rowwise:
        """The translator of expressions for the row or the column chunk, in one part of the program."""
        if (part, block) not in self.sides:
            side = Rowwise(self.program.mixer, block)
            side.reads = lambda name: self._read(name, part, block)
            side.states = lambda leaf: self._element(leaf, side)
            self.sides[part, block] = side
        return self.sides[part, block]

    def _read(self, name: str, part: int, block: str) -> Node:
        """A read of this part as it was made, one of an earlier part from memory."""
        made = self.reads[name]
        if block == ROW and self.levels.part(self.levels.of_read[name]) == part:
            return made
        if name not in self.handed:
            self.handed[name] = self.names(name)
        return tile.buffer(self.handed[name], CHUNK, made.type.cols, block)

    def _element(self, leaf: Node, side: Rowwise) -> Node:
        """A `state` leaf of an elementwise state, from memory."""
        stage = next(e for e in self.program.elementwise if e.state == leaf["name"])
        if leaf not in self.elements:
            suffix = "rows" if leaf["offset"] == 0 else "rows_before"
            self.elements[leaf] = self.names(f"{stage.state}_{suffix}")
        if stage.kind != SUM:
            side.padding.infinite.add(self.elements[leaf])
        cols = state_load(stage, self.program.mixer).type.cols
        return tile.buffer(self.elements[leaf], CHUNK, cols, side.block)

    # ---- scans --------------------------------------------------------------------------------------------------

    def _in_time(self) -> tuple[Scan, ...]:
        """The states from chunk to chunk; the last scan hands over the elementwise ones."""
        scans = self.in_time.scans()
        exports = tuple((name, self.in_time.element(leaf)) for leaf, name in self.elements.items())
        return (*scans[:-1], replace(scans[-1], exports=exports)) if exports else scans

    def _inner_scans(self, inner: list[_Inner]) -> Iterator[Scan]:
        for level, scans in enumerate(inner):
            part = self.levels.part(level)
            kernel = f"reads_{part}" if part < len(self.levels.cuts) else ""
            found = [Scan(order, tuple(carries), (), kernel) for order, carries in scans.carries.items() if carries]
            if level in self.levels.cuts:
                exports = tuple((handed, self.reads[name]) for name, handed in self.handed.items()
                                if self.levels.part(self.levels.of_read[name]) == part)  # fmt: skip
                found[-1] = replace(found[-1], exports=exports)
            yield from found
