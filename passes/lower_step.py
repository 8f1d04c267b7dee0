"""Mixer IR to the step form: one token at a time, the equations as they were written.

Any step-equation mixer has it, non-linear ones too. Tiles have the declared shape (a vector is `K x 1`). States are
grouped by the direction of time they need, one scan for each run of equal directions; what a later scan or the output
needs of an earlier scan is exported, and products are distributed over sums first, so that what is exported is the
small vector that is read and not the whole state.
"""

from smir.errors import FormError
from smir.ir import tile
from smir.ir.dependence import components
from smir.ir.graph import Node, walk
from smir.ir.mixer import Mixer, matrix_shape
from smir.ir.operator import BACKWARD, FORWARD
from smir.ir.tile import STEP, Carry, Scan, TileProgram
from smir.passes.distribute import distribute
from smir.passes.lower_chunked import with_leaves
from smir.passes.simplify_tiles import simplify
from smir.passes.step_scan import StepScan
from smir.passes.tilewise import has_tile_form


def lower_step(mixer: Mixer) -> TileProgram:
    """The step form. Raises FormError for a masked operator, or reads that no order of scans can serve."""
    if mixer.masked:
        raise FormError("a masked operator has no step equations", mixer.span(mixer.output))
    groups = _directions(mixer)
    scans: list[StepScan] = []
    for direction, names in groups:
        scans.append(StepScan(mixer, direction, names, tuple(scans)))
    output = _output(mixer, scans)
    program = TileProgram(mixer.name, STEP, (), tuple(s.scan() for s in scans), output)
    return with_leaves(mixer, simplify(program))
