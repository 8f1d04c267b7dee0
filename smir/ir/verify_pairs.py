"""Rules of the pair IR."""

from smir.ir.dims import ONE, TIME
from smir.ir.expr import CONST, PAIR, STEP, ValueType
from smir.ir.graph import Node, walk
from smir.ir.mixer import INPUT, PARAM, matrix_shape
from smir.ir.pairs import KINDS, SOFTMAX, PairProgram, PairRead
from smir.ir.signatures import MIXER_OPS
from smir.ir.verify_mixer import verify_mixer
from smir.ir.verify_nodes import check_member, check_nodes, check_unique, refuse

_OUTER = frozenset("ij")


def verify_pairs(program: PairProgram) -> None:
    """Raises IRError at the first node or part that breaks a rule of the pair IR."""
    verify_mixer(program.mixer)
    check_nodes(program.roots(), MIXER_OPS, ValueType)
    check_unique([name for name, _ in program.vectors], "vector")
    check_unique([r.name for r in program.reads], "read")
    _check_leaves(program)
    for name, column in program.vectors:
        _check_column(column, f"vector {name}")
    for read in program.reads:
        _check_read(read)
    shape = matrix_shape(program.mixer.output_dims)
    if program.output.type.shape != shape or program.output.type.time not in (STEP, CONST):
        refuse(program.output, f"the output must be {shape[0]} x {shape[1]} @{STEP}")


def _check_read(read: PairRead) -> None:
    where = f"read {read.name}"
    check_member(read.kind, KINDS, where)
    for formula in read.formulas():
        if not formula.type.is_scalar or formula.type.time not in (PAIR, CONST):
            refuse(formula, f"{where}: scores and masks give one number for every (i, j)")
    for column in read.columns():
        _check_column(column, where)
    if read.channels is not None:
        if read.kind != SOFTMAX:
            refuse(where, "only a softmax has channels")
        if read.value is None or read.channels.type.shape != read.value.type.shape:
            refuse(read.channels, f"{where}: channels go with the entries of the value")


def _check_column(column: Node, where: str) -> None:
    if column.type.cols != ONE or column.type.time not in (STEP, CONST):
        refuse(column, f"{where}: a column per step is needed")


def _check_leaves(program: PairProgram) -> None:
    shapes = {(d.kind, d.name): matrix_shape(d.dims) for d in program.mixer.declarations}
    known = {name: column.type.shape for name, column in program.vectors}
    widths = {r.name: (r.value.type.rows if r.value is not None else ONE, ONE) for r in program.reads}
    bound = {n["index"] for n in walk(program.roots()) if n.op in ("sum_range", "prod_range")}
    for node in walk(program.roots()):
        if node.op == "read":
            expected = widths.get(node["name"])
        elif node.op == "input_of":
            expected = known.get(node["name"]) or shapes.get((INPUT, node["name"]))
        elif node.op == "param_at":
            expected = (ONE, ONE) if shapes.get((PARAM, node["name"])) == (TIME, TIME) else None
        elif node.op in (INPUT, PARAM):
            expected = shapes.get((node.op, node["name"]))
        else:
            if node.op in ("state", "sequence", "pairwise"):
                refuse(node, "has no place in a pair program")
            if node.op == "position" and node["index"] not in _OUTER | bound:
                refuse(node, "an index is i, j or bound by a range")
            continue
        if expected != node.type.shape:
            refuse(node, "there is no such leaf" if expected is None else f"it is {expected[0]} x {expected[1]}")
