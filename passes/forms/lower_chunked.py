"""Operator IR to the chunked form: chunks of C tokens, states carried from chunk to chunk.

Everything inside a chunk is matrix products; only `H -> H'` is sequential. Forward states are carried by a
forward scan, backward ones by a backward scan, and the output reads what both hold at the chunk.
"""

from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.operator import OperatorProgram
from smir.ir.tile import CHUNK
from smir.ir.tile_program import CHUNKED, OUTPUT, Output, Scan, TileProgram
from smir.passes.forms.chunk_stages import ChunkStages
from smir.passes.tiles.leaves import with_leaves
from smir.passes.tiles.simplify_tiles import simplify


def lower_chunked(program: OperatorProgram) -> TileProgram:
    """The chunked form of a recognised mixer. Raises FormError for what has no form on chunks of tokens."""
    stages = ChunkStages(program)
    scans = stages.scans()
    found = stages.vectors.vector(program.output)
    return finish(program.mixer, CHUNKED, scans, tile.broadcast(found, CHUNK, found.type.cols))


def finish(mixer: Mixer, form: str, scans: tuple[Scan, ...], output: Node) -> TileProgram:
    """The program of simplified tiles with the leaves that it loads."""
    return with_leaves(mixer, simplify(TileProgram(mixer.name, form, (), scans, (Output.of(OUTPUT, output),))))
