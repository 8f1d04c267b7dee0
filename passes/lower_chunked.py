"""Operator IR to the chunked form: chunks of C tokens, states carried from chunk to chunk.

Everything inside a chunk is matrix products; only `H -> H'` is sequential. Forward operators are carried by a
forward scan, backward ones by a backward scan, and the output reads what both hold at the chunk.
"""

from smir.errors import FormError
from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.operator import BACKWARD, FORWARD, Operator, OperatorProgram, Read
from smir.ir.tile import CHUNK, CHUNKED, OUTPUT, Carry, Output, Scan, TileProgram
from smir.passes.chunk_algebra import ChunkWrite, OperatorTiles, add, functional, operator_tiles
from smir.passes.chunk_erase import written_values
from smir.passes.exponents import declared_ranges
from smir.passes.leaves import with_leaves
from smir.passes.rowwise import Rowwise
from smir.passes.simplify_tiles import simplify


def lower_chunked(program: OperatorProgram) -> TileProgram:
    """The chunked form of a recognised mixer. Raises FormError for what has no form on chunks of tokens."""
    ranges = declared_ranges(program.mixer.declarations)
    vectors = Rowwise(program.mixer)
    parts = {}
    for operator in program.operators:
        refuse_mixed_erase(program.mixer, operator)
        tiles = operator_tiles(operator, vectors, ranges)
        parts[operator.state] = (tiles, written_values(tiles, state_load(operator)))
    read_tiles = {r.name: _read(r, *parts[r.state], vectors) for r in program.reads}
    output = output_tile(program, read_tiles)
    scans = tuple(_scan(program, direction, parts) for direction in (FORWARD, BACKWARD))
    return finish(program.mixer, CHUNKED, tuple(s for s in scans if s.carries), output)


def state_load(operator: Operator) -> Node:
    """H: what the scan holds before the chunk, in the operator's orientation."""
    return tile.carried(operator.state, str(operator.rows), str(operator.cols))


def state_carry(mixer: Mixer, operator: Operator, following: Node) -> Carry:
    """The state as a carried tile."""
    initial = mixer.state(operator.state).initial
    rows, cols = str(operator.rows), str(operator.cols)
    return Carry(operator.state, rows, cols, following, initial, operator.state, operator.transposed)


def output_tile(program: OperatorProgram, reads: dict[str, Node]) -> Node:
    """The output expression, a row for every token."""
    found = Rowwise(program.mixer, reads=reads.__getitem__).vector(program.output)
    return tile.broadcast(found, CHUNK, found.type.cols)


def refuse_mixed_erase(mixer: Mixer, operator: Operator) -> None:
    """A decay over columns does not commute with an erase, so no product of a chunk's transitions stays small."""
    if operator.erases and operator.decay.cols:
        raise FormError(
            f"state `{operator.state}` decays along its columns and erases along its rows: "
            "together these have no chunked or quadratic form",
            mixer.state(operator.state).span,
            'let the decay run over the erased dimension, or compile with form="step"',
        )


def finish(mixer: Mixer, form: str, scans: tuple[Scan, ...], output: Node) -> TileProgram:
    """The program of simplified tiles with the leaves that it loads."""
    return with_leaves(mixer, simplify(TileProgram(mixer.name, form, (), scans, (Output.of(OUTPUT, output),))))


def _read(read: Read, tiles: OperatorTiles, values: dict[ChunkWrite, Node], vectors: Rowwise) -> Node:
    """What one read gives: from the chunk's own writes, and from the carried state."""
    operator = tiles.operator
    query = functional(read.query, read.when, operator.rows, vectors)
    return add(tiles.reads(query, values), tiles.from_state(query, state_load(operator)))


def _scan(
    program: OperatorProgram, direction: str, parts: dict[str, tuple[OperatorTiles, dict[ChunkWrite, Node]]]
) -> Scan:
    carries = []
    for operator in program.operators:
        if operator.direction == direction:
            tiles, values = parts[operator.state]
            carries.append(state_carry(program.mixer, operator, tiles.next_state(state_load(operator), values)))
    return Scan(direction, tuple(carries))
