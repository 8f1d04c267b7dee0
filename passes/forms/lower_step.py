"""Mixer IR to the step form: one token at a time, the equations as they were written.

Any step-equation mixer has it, non-linear ones too. Tiles have the declared shape (a vector is `K x 1`). States are
grouped by the direction of time that they need, one scan for each group; what a later scan or the output needs of an
earlier scan is exported, and products are distributed over sums first, so that what is exported is the small vector
that is read and not the whole state.
"""

from smir.errors import FormError
from smir.ir import tile
from smir.ir.dependence import Component, components, state_reads
from smir.ir.graph import Node
from smir.ir.mixer import Mixer, matrix_shape
from smir.ir.operator import BACKWARD, FORWARD
from smir.ir.tile_program import OUTPUT, STEP, Output, TileProgram
from smir.passes.expressions.distribute import distribute
from smir.passes.forms.step_scan import StepScan
from smir.passes.tiles.leaves import with_leaves
from smir.passes.tiles.simplify_tiles import simplify

Group = tuple[str, tuple[str, ...]]


def lower_step(mixer: Mixer) -> TileProgram:
    """The step form. Raises FormError for a masked operator, and for reads that no order of scans can serve."""
    if mixer.masked:
        raise FormError("a masked operator has no step equations", mixer.span(mixer.output))
    scans: list[StepScan] = []
    for direction, names in groups(mixer):
        scans.append(StepScan(mixer, direction, names, tuple(scans)))
    output = _distributed(mixer.output, scans)
    if not (scans and scans[-1].can(output)):
        scans.append(_last(mixer, output, scans))
    value = scans[-1].value(output)
    rows, cols = (str(d) for d in matrix_shape(mixer.output_dims))
    # scans are finished last to first: the later ones say what the earlier ones export
    finished = tuple(reversed([s.scan() for s in reversed(scans)]))
    program = TileProgram(mixer.name, STEP, (), finished, (Output.of(OUTPUT, tile.broadcast(value, rows, cols)),))
    return with_leaves(mixer, simplify(program))


def _last(mixer: Mixer, output: Node, scans: list[StepScan]) -> StepScan:
    """A pass without states for an output that reads against the direction of all that is known."""
    choices = [StepScan(mixer, d, (), tuple(scans)) for d in (FORWARD, BACKWARD)]
    return next((s for s in choices if s.can(output)), choices[0])


def groups(mixer: Mixer) -> list[Group]:
    """Directions and states of as few scans as possible, each state after those that it reads."""
    forward_first, backward_first = (_schedule(mixer, d) for d in (FORWARD, BACKWARD))
    return forward_first if len(forward_first) <= len(backward_first) else backward_first


def _schedule(mixer: Mixer, direction: str) -> list[Group]:
    waiting, done, groups = list(components(mixer)), set[str](), list[Group]()
    while waiting:
        taken: list[str] = []
        for component in tuple(waiting):
            if component.direction == direction and _needs(mixer, component) <= done | {*taken}:
                taken += component.states
                waiting.remove(component)
        if taken:
            groups.append((direction, tuple(taken)))
        done |= {*taken}
        direction = FORWARD if direction == BACKWARD else BACKWARD
    return groups


def _needs(mixer: Mixer, component: Component) -> set[str]:
    read = {r["name"] for name in component.states for r in state_reads(mixer.state(name).update)}
    return read - set(component.states)


def _distributed(output: Node, scans: list[StepScan]) -> Node:
    """The output with its products moved below sums of different scans' values."""
    scan_of = {name: number for number, s in enumerate(scans) for name in s.states}

    def splits(total: Node) -> bool:
        left, right = ({scan_of[r["name"]] for r in state_reads(part)} for part in total.args)
        return bool(left and right) and left != right

    return distribute(output, splits)
