"""Rules of the mixer IR and of the operator IR."""

from collections.abc import Iterable

from smir.errors import SpecCycleError
from smir.ir.dependence import components
from smir.ir.dims import ONE, TIME, Dim
from smir.ir.expr import CONST, PAIR, SEQ, STEP, ValueType
from smir.ir.graph import Node, walk
from smir.ir.head_groups import is_group
from smir.ir.mixer import INPUT, PARAM, Declaration, Mixer, State, matrix_shape
from smir.ir.operator import (
    AFTER,
    BACKWARD,
    BEFORE,
    DECAYED,
    FORWARD,
    Decay,
    MicroStep,
    Operator,
    OperatorProgram,
    Rotation,
    Write,
)
from smir.ir.signatures import MIXER_OPS
from smir.ir.verify_nodes import check_member, check_nodes, check_unique, refuse
from smir.ir.verify_stages import check_stages

OUTER = frozenset({"i", "j"})


def verify_mixer(mixer: Mixer) -> None:
    """Raises IRError at the first node or part that breaks a rule of the mixer IR."""
    roots = (*mixer.roots(), *(n for _, n in mixer.names))
    check_unique([*(d.name for d in mixer.declarations), *(s.name for s in mixer.states)], "name")
    check_nodes(roots, MIXER_OPS, ValueType)
    _check_leaves(mixer, roots)
    _check_indices(mixer.roots())
    for d in mixer.declarations:
        check_member(d.kind, (INPUT, PARAM), f"declaration {d.name}")
        _check_group(d)
    for s in mixer.states:
        _check_value(s.update, matrix_shape(s.dims), (STEP, CONST), f"the update of state {s.name}")
        _check_log(mixer, s)
    _check_output(mixer)
    if any(n.op == "read" for n in walk(roots)):
        refuse(f"mixer {mixer.name}", "`read` belongs to operator programs")
    try:
        components(mixer)
    except SpecCycleError as error:
        refuse(f"mixer {mixer.name}", error.message, error.span)


def _check_group(d: Declaration) -> None:
    if d.group is None:
        return
    if d.kind != INPUT:
        refuse(f"declaration {d.name}", "only an input may have a head for a group of heads")
    if not is_group(d.group):
        refuse(f"declaration {d.name}", f"a group of heads is a name or a whole number, not {d.group}")


def _check_log(mixer: Mixer, state: State) -> None:
    if state.log is None:
        return
    log = next((s for s in mixer.states if s.name == state.log), None)
    if log is None or log.log is not None:
        refuse(f"state {state.name}", f"its log {state.log} is no plain state")
    if any(own not in (ONE, axis) for own, axis in zip(matrix_shape(log.dims), matrix_shape(state.dims), strict=True)):
        refuse(f"state {state.name}", f"its log {state.log} has other axes")


def _check_output(mixer: Mixer) -> None:
    shape = matrix_shape(mixer.output_dims)
    if not mixer.masked:
        return _check_value(mixer.output, shape, (STEP, CONST), "the output")
    if mixer.states:
        refuse(f"mixer {mixer.name}", "an output over the whole sequence can't stand beside states")
    if len(mixer.output_dims) > 1:
        refuse("the output", "a whole sequence holds a vector or a number for each token")
    return _check_value(mixer.output, (TIME, shape[0]), (SEQ,), "the output")


def _check_value(node: Node, shape: tuple[Dim, Dim], times: tuple[str, ...], what: str) -> None:
    if node.type.shape != shape or node.type.time not in times:
        refuse(node, f"{what} must be {shape[0]} x {shape[1]} @{times[0]}")


def _check_leaves(mixer: Mixer, roots: Iterable[Node]) -> None:
    shapes = {(d.kind, d.name): matrix_shape(d.dims) for d in mixer.declarations}
    shapes |= {("state", s.name): matrix_shape(s.dims) for s in mixer.states}
    for node in walk(roots):
        if node.op not in ("input", "param", "state", "sequence", "input_of"):
            continue
        kind = INPUT if node.op in ("sequence", "input_of") else node.op
        shape = shapes.get((kind, node["name"]))
        if shape is None:
            refuse(node, f"there is no {kind} {node['name']}")
        if node.op in ("sequence", "input_of") and shape[1] != ONE:
            refuse(node, "only a vector or a number can be read this way")
        found = (node.type.cols, ONE) if node.op == "sequence" else node.type.shape
        if found != shape:
            refuse(node, f"{kind} {node['name']} is declared {shape[0]} x {shape[1]}")


def _check_indices(roots: Iterable[Node]) -> None:
    """Index variables are bound: i and j by `pairwise`, others by the range they run over."""
    free: dict[Node, frozenset[str]] = {}
    roots = tuple(roots)
    for node in walk(roots):
        below = frozenset().union(*(free[a] for a in node.args))
        if node.op in ("position", "input_of"):
            below = frozenset({node["index"]})
        elif node.op in ("sum_range", "prod_range"):
            below = _range_indices(node, free)
        elif node.op == "pairwise":
            if below - OUTER:
                refuse(node, f"index {min(below - OUTER)} is bound by no range")
            below = frozenset()
        free[node] = below
    for root in roots:
        if free[root] or root.type.time == PAIR:
            refuse(root, "positions have a meaning only inside an index formula")


def _range_indices(node: Node, free: dict[Node, frozenset[str]]) -> frozenset[str]:
    index, (low, high, body) = node["index"], node.args
    if index in OUTER:
        refuse(node, "i and j are the positions of the formula: a range needs an index of its own")
    if index in free[low] | free[high]:
        refuse(node, f"the bounds of a range can't use its index {index}")
    return (free[body] - {index}) | free[low] | free[high]


# ---- operator IR ------------------------------------------------------------------------------------------------


def verify_operators(program: OperatorProgram) -> None:
    """Raises IRError at the first node or part that breaks a rule of the operator IR."""
    verify_mixer(program.mixer)
    if program.mixer.masked:
        refuse(f"mixer {program.mixer.name}", "an operator program needs step equations")
    check_nodes((*program.vectors(), program.output), MIXER_OPS, ValueType)
    _check_leaves(program.mixer, (*program.vectors(), program.output))
    _check_vectors(program)
    check_unique([s.state for s in program.stages], "operator")
    missing = {s.name for s in program.mixer.states} ^ {s.state for s in program.stages}
    if missing:
        refuse(f"state {min(missing)}", "has no operator, or there is no such state")
    for operator in program.operators:
        _check_operator(program, operator)
    check_stages(program)
    _check_reads(program)
    _check_value(program.output, matrix_shape(program.mixer.output_dims), (STEP, CONST), "the output")


def _check_vectors(program: OperatorProgram) -> None:
    for node in walk((*program.vectors(), program.output)):
        if node.type.time in (SEQ, PAIR):
            refuse(node, "everything in an operator program lives at one time step")


def _check_operator(program: OperatorProgram, operator: Operator) -> None:
    where = f"operator {operator.state}"
    state = next((s for s in program.mixer.states if s.name == operator.state), None)
    if state is None:
        refuse(where, "there is no such state")
    shape = matrix_shape(state.dims)
    if (shape[::-1] if operator.transposed else shape) != (operator.rows, operator.cols):
        refuse(where, f"the state is declared {shape[0]} x {shape[1]}")
    check_member(operator.direction, (FORWARD, BACKWARD), where)
    if not operator.steps:
        refuse(where, "needs at least one micro-step")
    for number, step in enumerate(operator.steps):
        if number and step.decay != Decay():
            refuse(where, f"micro-step {number + 1} decays: only the first may")
        if number and step.rotation != Rotation():
            refuse(where, f"micro-step {number + 1} rotates: only the first may")
        _check_step(operator, step, where)


def _check_step(operator: Operator, step: MicroStep, where: str) -> None:
    decay = step.decay
    for part, size, side in ((decay.scalar, ONE, "scalar"), (decay.rows, operator.rows, "row"),
                             (decay.cols, operator.cols, "column")):  # fmt: skip
        for node in (part.log, part.sign) if part else ():
            if node is not None:
                _check_value(node, (size, ONE), (STEP, CONST), f"{where}: a {side} decay")
    _check_rotation(operator, step, where)
    for write in step.writes:
        _check_write(operator, write, where)


def _check_rotation(operator: Operator, step: MicroStep, where: str) -> None:
    for angle, axis, decay, side in ((step.rotation.rows, operator.rows, step.decay.rows, "row"),
                                     (step.rotation.cols, operator.cols, step.decay.cols, "column")):  # fmt: skip
        if angle is None:
            continue
        _check_value(angle, (axis / Dim.number(2), ONE), (STEP, CONST), f"{where}: the angles of a {side} rotation")
        if decay is not None:
            refuse(where, f"a {side} decay does not commute with a {side} rotation")


def _check_write(operator: Operator, write: Write, where: str) -> None:
    _check_value(write.left, (operator.rows, ONE), (STEP, CONST), f"{where}: the left vector of a write")
    if write.value is None and write.erase is None:
        refuse(where, "a write needs a value, an erase or both")
    if write.value is not None:
        _check_value(write.value, (operator.cols, ONE), (STEP, CONST), f"{where}: the value of a write")
    if write.erase is not None:
        check_member(write.erase.when, (BEFORE, DECAYED), f"{where}: erase")
        _check_value(write.erase.vector, (operator.rows, ONE), (STEP, CONST), f"{where}: the vector of an erase")


def _check_reads(program: OperatorProgram) -> None:
    check_unique([r.name for r in program.reads], "read")
    operators = {o.state: o for o in program.operators}
    widths = {}
    for r in program.reads:
        if r.state not in operators:
            refuse(f"read {r.name}", f"there is no operator {r.state}")
        check_member(r.when, (BEFORE, DECAYED, AFTER), f"read {r.name}")
        _check_value(r.query, (operators[r.state].rows, ONE), (STEP, CONST), f"the query of read {r.name}")
        widths[r.name] = operators[r.state].cols
    for node in walk([program.output]):
        if node.op == "read" and widths.get(node["name"]) != node.type.rows:
            rule = "has another size" if node["name"] in widths else "does not exist"
            refuse(node, f"read {node['name']} {rule}")
