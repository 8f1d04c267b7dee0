"""Rules of an operator program's stages: every expression holds values of earlier states only."""

from collections.abc import Iterable

from smir.ir.dims import ONE
from smir.ir.graph import Node, walk
from smir.ir.mixer import matrix_shape
from smir.ir.operator import (
    AFTER,
    BACKWARD,
    BEFORE,
    FORWARD,
    Drive,
    Elementwise,
    Operator,
    OperatorProgram,
    Read,
)
from smir.ir.tile import SEMIRINGS
from smir.ir.verify_nodes import check_member, refuse


def check_stages(program: OperatorProgram) -> None:
    """Raises IRError for an expression that holds what isn't computed yet, and for a drive that can't be."""
    position = {stage.state: number for number, stage in enumerate(program.stages)}
    elementwise = {e.state: e for e in program.elementwise}
    ready: dict[str, int] = {}
    for read in program.reads:
        _check_state_leaves([read.query], elementwise)
        ready[read.name] = _read_after(read, position, ready)
    for number, stage in enumerate(program.stages):
        _check_state_leaves(stage.vectors(), elementwise)
        for node in walk(stage.vectors()):
            if node.op in ("read", "state") and _after(node, position, ready) >= number:
                refuse(node, f"the state {stage.state} needs it before it is known")
        if isinstance(stage, Elementwise):
            _check_elementwise(program, stage)
        else:
            for drive in stage.drives:
                _check_drive(program, stage, drive, number, position)
    _check_state_leaves([program.output], elementwise)


def _read_after(read: Read, position: dict[str, int], ready: dict[str, int]) -> int:
    """The last stage that must be done before this read can be had."""
    if read.state not in position:
        refuse(f"read {read.name}", f"there is no operator {read.state}")
    held = (n for n in walk([read.query]) if n.op in ("read", "state"))
    return max([position[read.state], *(_after(n, position, ready) for n in held)])


def _after(node: Node, position: dict[str, int], ready: dict[str, int]) -> int:
    if node.op == "state":
        return position[node["name"]]
    if node["name"] not in ready:
        refuse(node, "is no read that comes before")
    return ready[node["name"]]


def _check_state_leaves(roots: Iterable[Node], elementwise: dict[str, Elementwise]) -> None:
    for node in walk(roots):
        if node.op != "state":
            continue
        if node["name"] not in elementwise:
            refuse(node, "a state that is contracted is seen through reads only")
        before = 1 if elementwise[node["name"]].direction == BACKWARD else -1
        if node["offset"] not in (0, before):
            refuse(node, "only the state after and the one before the token can be seen")


def _check_elementwise(program: OperatorProgram, stage: Elementwise) -> None:
    where = f"elementwise {stage.state}"
    check_member(stage.kind, SEMIRINGS, where)
    check_member(stage.direction, (FORWARD, BACKWARD), where)
    shape = matrix_shape(program.mixer.state(stage.state).dims)
    if ONE not in shape:
        refuse(where, "the state is no vector")
    for node in stage.vectors():
        if any(own not in (ONE, axis) for own, axis in zip(node.type.shape, shape, strict=True)):
            refuse(node, f"{where} is {shape[0]} x {shape[1]}")


def _check_drive(
    program: OperatorProgram, stage: Operator, drive: Drive, number: int, position: dict[str, int]
) -> None:
    where = f"operator {stage.state}"
    check_member(drive.when, (BEFORE, AFTER), f"{where}: a drive")
    source = next((o for o in program.operators if o.state == drive.state), None)
    if source is None or position[drive.state] >= number:
        refuse(where, f"is driven by {drive.state}, which is no earlier operator")
    if (source.rows, source.cols) != (stage.rows, stage.cols):
        refuse(where, f"is driven by {drive.state}, which is {source.rows} x {source.cols}")
    if not drive.scale.type.is_scalar:
        refuse(drive.scale, f"{where}: the scale of a drive is a number")
