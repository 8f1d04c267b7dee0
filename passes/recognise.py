"""Recognition: from step equations to linear operators of known transition type, their reads, and a pointwise rest.

Each state's update is split into a linear form of its previous value (linear_form), the form into decay, writes
and erases (state_updates), and the output into reads and what is done with them (read_outs).
"""

from smir.ir.dims import ONE
from smir.ir.graph import Node
from smir.ir.interval import Interval
from smir.ir.mixer import Mixer, State, matrix_shape
from smir.ir.operator import Obstacle, Operator, OperatorProgram
from smir.passes.algebra import step_matrix
from smir.passes.broken_laws import BrokenLaw
from smir.passes.read_outs import Oriented, Outline, ReadOut
from smir.passes.state_updates import COLS, ROWS, VALUE, Update, decay_of, micro_step, orient, read_update


def recognise(mixer: Mixer) -> OperatorProgram | tuple[Obstacle, ...]:
    """The operators of a step-equation mixer, or every obstacle found: which law breaks, and where."""
    if mixer.masked:
        return (Obstacle("a masked operator has to be rewritten as step equations first"),)
    obstacles: list[Obstacle] = []
    updates: dict[str, Update] = {}
    for state in mixer.states:
        try:
            updates[state.name] = read_update(state)
        except BrokenLaw as broken:
            obstacles.append(broken.obstacle(mixer))
    if obstacles:
        return tuple(obstacles)
    try:
        return _program(mixer, updates)
    except BrokenLaw as broken:
        return (broken.obstacle(mixer),)


def _program(mixer: Mixer, updates: dict[str, Update]) -> OperatorProgram:
    outline = Outline(mixer)
    demands = outline.demands()
    operators, oriented = [], {}
    declared = {d.name: d.range for d in mixer.declarations}
    for state in mixer.states:
        update = updates[state.name]
        transposed = _transposed(state, demands[state.name], update.demands())
        operator, oriented[state.name] = _operator(state, update, transposed, declared)
        operators.append(operator)
    names = {d.name for d in mixer.declarations} | {s.name for s in mixer.states}
    read_out = ReadOut(outline, oriented, names)
    output = read_out.output()
    program = OperatorProgram(mixer, tuple(operators), tuple(read_out.reads.values()), output)
    _check_vectors(program)
    return program


def _transposed(state: State, reads: set[str], erases: set[str]) -> bool:
    """Whether the operator is the transposed state: its rows are what reads and erases contract."""
    rows, cols = matrix_shape(state.dims)
    if rows == ONE or cols == ONE:
        return _vector_transposed(state, reads, erases)
    if {ROWS, COLS} <= reads | erases:
        raise BrokenLaw("a state whose rows and columns are both contracted by reads or erases", state.update,
                        "chunked forms contract one side, the other may only decay; step form only")  # fmt: skip
    return COLS in reads | erases


def _vector_transposed(state: State, reads: set[str], erases: set[str]) -> bool:
    """A vector that is used by value, elementwise, is a row; one that is only contracted is a column."""
    rows, cols = matrix_shape(state.dims)
    if rows == ONE == cols:
        return False
    if VALUE in reads and erases:
        raise BrokenLaw("a vector state that is read out by value and erased by an inner product", state.update,
                        "chunked forms contract it everywhere or nowhere; step form only")  # fmt: skip
    return VALUE in reads if cols == ONE else VALUE not in reads and COLS in reads | erases


def _operator(
    state: State, update: Update, transposed: bool, declared: dict[str, Interval]
) -> tuple[Operator, Oriented]:
    rows, cols = matrix_shape(state.dims)
    if transposed:
        rows, cols = cols, rows
    forms = [orient(f, transposed) for f in update.forms]
    decays = [decay_of(f, state) for f in forms]
    steps = tuple(micro_step(f, state, d, declared) for f, d in zip(forms, decays, strict=True))
    operator = Operator(state.name, rows, cols, update.direction, steps, transposed)
    return operator, Oriented(transposed, update.direction, decays[0])


def _check_vectors(program: OperatorProgram) -> None:
    """Every operand must be a vector per step: nothing else fits on a chunk's tiles."""
    roots: list[Node] = [*program.vectors(), program.output]
    for root in roots:
        matrix = step_matrix(root)
        if matrix is not None:
            raise BrokenLaw("a matrix per time step that is no sum of outer products", matrix,
                            "chunked and quadratic forms work on vectors per step; step form only")  # fmt: skip
