"""The states of an operator program on one chunk, and what is read of them: tiles are built when they are asked for.

A stage's expressions hold reads and elementwise states of earlier stages, so asking for the last ones builds them all.
"""

from collections.abc import Callable

from smir.ir import tile
from smir.ir.dims import ONE
from smir.ir.graph import Node, walk
from smir.ir.mixer import Mixer, matrix_shape
from smir.ir.operator import BACKWARD, Elementwise, Operator, OperatorProgram, Stage
from smir.ir.tile import CARRIED, CHUNK, SUM
from smir.ir.tile_program import Carry, Scan
from smir.passes.analysis.exponents import declared_ranges
from smir.passes.forms.chunk_algebra import add, functional, operator_tiles, total
from smir.passes.forms.chunk_drives import Drivers, Part
from smir.passes.forms.chunk_erase import refuse_mixed_erase, written_values
from smir.passes.recognition.elementwise import NOTHING
from smir.passes.tiles.rowwise import Rowwise


class ChunkStages:
    """The stages of one program. `elements` gives a `state` leaf's rows; without it, elementwise states are scanned.

    Raises FormError for what has no form on chunks of tokens.
    """

    def __init__(self, program: OperatorProgram, elements: Callable[[Node], Node] | None = None) -> None:
        self.program, self.elements = program, elements
        self.ranges = declared_ranges(program.mixer.declarations)
        self.vectors = Rowwise(program.mixer, reads=self.read, states=self.element)
        self.stages = {s.state: s for s in program.stages}
        self.reads = {r.name: r for r in program.reads}
        self.parts: dict[str, Part] = {}
        self.known: dict[str, Node] = {}

    def part(self, state: str) -> Part:
        """An operator's tiles."""
        if state not in self.parts:
            operator = self.program.operator(state)
            refuse_mixed_erase(self.program.mixer, operator)
            tiles = operator_tiles(operator, self.vectors, self.ranges)
            drivers = Drivers.of(tiles, self.vectors, {d.state: self.part(d.state) for d in operator.drives})
            values = written_values(tiles, state_load(operator), drivers.read)
            self.parts[state] = Part(tiles, values, drivers, state_load(operator))
        return self.parts[state]

    def read(self, name: str) -> Node:
        """What one read gives, `CHUNK x V`: from the chunk's own writes, and from the states before the chunk."""
        if name not in self.known:
            read = self.reads[name]
            part = self.part(read.state)
            query = functional(read.query, read.when, part.tiles.operator.rows, self.vectors)
            own = add(part.tiles.reads(query, part.values), part.tiles.from_state(query, part.load))
            handed = part.drivers.read(query)
            self.known[name] = own if handed is None else add(own, handed)
        return self.known[name]

    def element(self, leaf: Node) -> Node:
        """A `state` leaf of an elementwise state, `CHUNK x n`."""
        if self.elements is not None:
            return self.elements(leaf)
        after, stage = self.scanned(leaf["name"]), self.stages[leaf["name"]]
        if leaf["offset"] == 0:
            return after
        return tile.shift(after, state_load(stage, self.program.mixer), stage.direction == BACKWARD)

    def scanned(self, state: str) -> Node:
        """An elementwise state after every token of the chunk."""
        if state not in self.known:
            stage = self.stages[state]
            assert isinstance(stage, Elementwise)
            load = state_load(stage, self.program.mixer)
            forget, keep = NOTHING[stage.kind]["value"], 1.0 if stage.kind == SUM else 0.0
            write, decay = self._neutral(stage.write, load, forget), self._neutral(stage.decay, load, keep)
            self.known[state] = tile.scan(decay, write, load, stage.kind, stage.direction == BACKWARD)
        return self.known[state]

    def _neutral(self, vector: Node, load: Node, fill: float) -> Node:
        """A row for every token; those beyond the end of the sequence change nothing."""
        rows = tile.broadcast(self.vectors.vector(vector), CHUNK, load.type.cols)
        return rows if self.vectors.padding.value(rows) == fill else tile.valid_rows(rows, fill, self.vectors.block)

    def following(self, state: str) -> Node:
        """The state after the chunk."""
        stage = self.stages[state]
        if isinstance(stage, Elementwise):
            return tile.edge_row(self.scanned(state), stage.direction == BACKWARD)
        part = self.part(state)
        return total([part.tiles.next_state(part.load, part.values), *part.drivers.arriving()]) or part.load

    def scans(self) -> tuple[Scan, ...]:
        """All states carried from chunk to chunk, side by side wherever they run in one direction."""
        found: list[tuple[str, list[Carry]]] = []
        for stage in self.program.stages:
            carry = state_carry(self.program.mixer, stage, self.following(stage.state))
            held = {n["name"] for n in walk([carry.next]) if n.op == "load" and n["kind"] == CARRIED}
            first = max((i for i, (_, carries) in enumerate(found) if held & {c.name for c in carries}), default=0)
            beside = next((carries for way, carries in found[first:] if way == stage.direction), None)
            if beside is None:
                found.append((stage.direction, [carry]))
            else:
                beside.append(carry)
        return tuple(Scan(direction, tuple(carries)) for direction, carries in found)


def state_load(stage: Stage, mixer: Mixer | None = None) -> Node:
    """The carried tile of a state: as its operator lies, or an elementwise one as a row."""
    if isinstance(stage, Operator):
        return tile.carried(stage.state, str(stage.rows), str(stage.cols))
    assert mixer is not None
    rows, cols = matrix_shape(mixer.state(stage.state).dims)
    return tile.carried(stage.state, tile.ONE, str(rows if cols == ONE else cols))


def state_carry(mixer: Mixer, stage: Stage, following: Node) -> Carry:
    """The state as a carried tile."""
    state, load = mixer.state(stage.state), state_load(stage, mixer)
    turned = stage.transposed if isinstance(stage, Operator) else matrix_shape(state.dims)[0] != ONE
    return Carry(stage.state, load.type.rows, load.type.cols, following, state.initial, stage.state, turned)
