"""Recognition: from step equations to linear operators of known transition type, their reads, and a pointwise rest.

States are staged: an update may hold the values of states that come before it in the order of their needs. Each state's
update is split into a linear form of its own previous value (linear_form), the form into decay, writes and erases
(state_updates); what these and the output see of earlier states becomes reads (read_outs).
"""

from collections.abc import Mapping
from contextlib import suppress

from smir.ir.dependence import components, state_reads
from smir.ir.dims import ONE
from smir.ir.graph import Node
from smir.ir.mixer import Mixer, State, matrix_shape
from smir.ir.operator import Elementwise, Obstacle, Operator, OperatorProgram, Stage
from smir.passes.expressions.algebra import step_matrix, tidy
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.recognition.driven_states import driving
from smir.passes.recognition.elementwise import read_elementwise
from smir.passes.recognition.read_outs import Oriented, Outline, ReadOut
from smir.passes.recognition.state_updates import (
    COLS,
    ROWS,
    VALUE,
    DecayFactors,
    Update,
    decay_of,
    micro_step,
    orient,
    read_update,
)


def recognise(mixer: Mixer) -> OperatorProgram | tuple[Obstacle, ...]:
    """The operators of a step-equation mixer, or every obstacle found: which law breaks, and where."""
    if mixer.masked:
        return (Obstacle("a masked operator has to be rewritten as step equations first"),)
    obstacles: list[Obstacle] = []
    updates: dict[str, Update | Elementwise] = {}
    for name in _order(mixer, obstacles):
        try:
            updates[name] = _update(mixer.state(name))
        except BrokenLaw as broken:
            obstacles.append(broken.obstacle(mixer))
    if obstacles:
        return tuple(obstacles)
    try:
        return _Recognition(mixer, updates).program()
    except BrokenLaw as broken:
        return (broken.obstacle(mixer),)


def _order(mixer: Mixer, obstacles: list[Obstacle]) -> list[str]:
    """The states, each after those that its update holds; those that need each other become obstacles."""
    order: list[str] = []
    for component in components(mixer):
        order += component.states[:1]
        if len(component.states) > 1:
            order.pop()
            obstacles.append(_cycle(mixer, component.states).obstacle(mixer))
    return order


def _cycle(mixer: Mixer, states: tuple[str, ...]) -> BrokenLaw:
    held = state_reads(mixer.state(states[0]).update)
    other = next(n for n in held if n["name"] in states[1:])
    return BrokenLaw(f"states that need each other ({', '.join(states)})", other,
                     "chunked forms compute a state from earlier ones; step form only")  # fmt: skip


def _update(state: State) -> Update | Elementwise:
    """A linear update, or a vector's elementwise one that isn't linear. Raises BrokenLaw."""
    try:
        return read_update(state)
    except BrokenLaw:
        if ONE in matrix_shape(state.dims):
            with suppress(BrokenLaw):
                return read_elementwise(state)
        raise


class _Recognition:
    """One mixer on its way to operators.

    How a state is contracted is known once everything that holds it is: the output and the states after it. So states
    are read from the last to the first, and only then written down over each other's reads, from the first to the last.
    """

    def __init__(self, mixer: Mixer, updates: Mapping[str, Update | Elementwise]) -> None:
        self.mixer, self.updates = mixer, updates
        self.elementwise = frozenset(n for n, u in updates.items() if isinstance(u, Elementwise))
        self.directions = {name: u.direction for name, u in updates.items()}
        self.declared = {d.name: d.range for d in mixer.declarations}
        self.demands: dict[str, set[str]] = {name: set() for name in updates}
        self.outlines: dict[Node, Outline] = {}

    def program(self) -> OperatorProgram:
        """Raises BrokenLaw."""
        self._outline(self.mixer.output)
        drafts: dict[str, Stage] = {}
        decays: dict[str, DecayFactors] = {}
        for name, update in reversed(list(self.updates.items())):
            if isinstance(update, Elementwise):
                drafts[name] = update
            else:
                drafts[name], decays[name] = self._operator(update)
                list(map(self._outline, decays[name].factors()))
            list(map(self._outline, drafts[name].vectors()))
        read_out = ReadOut(self.mixer, {d.name for d in self.mixer.declarations} | set(self.updates))
        stages = []
        for name in self.updates:
            draft = drafts[name]
            stages.append(draft.mapped(lambda n: self._vector(n, read_out)))
            if isinstance(draft, Operator):
                decay = decays[name].mapped(lambda n: read_out.rewritten(self.outlines[n]))
                read_out.operators[name] = Oriented(draft.transposed, draft.direction, decay)
        output = tidy(read_out.rewritten(self.outlines[self.mixer.output]))
        program = OperatorProgram(self.mixer, tuple(stages), tuple(read_out.reads.values()), output)
        _check_vectors(program)
        return program

    def _outline(self, root: Node) -> None:
        """Notes what an expression needs of the states that it holds."""
        if root not in self.outlines:
            self.outlines[root] = Outline(self.mixer, root, self.elementwise)
            for name, found in self.outlines[root].demands().items():
                self.demands[name] |= found

    def _vector(self, node: Node, read_out: ReadOut) -> Node:
        rewritten = read_out.rewritten(self.outlines[node])
        return node if rewritten is node else tidy(rewritten)

    def _operator(self, update: Update) -> tuple[Operator, DecayFactors]:
        """The operator over the states themselves; what drives it must lie as it does."""
        state = update.state
        rows, cols = matrix_shape(state.dims)
        transposed = _transposed(state, self.demands[state.name], update.demands())
        if transposed:
            rows, cols = cols, rows
        forms = [orient(f, transposed) for f in update.forms]
        decays = [decay_of(f, state) for f in forms]
        steps = tuple(micro_step(f, state, d, self.declared, self.directions)
                      for f, d in zip(forms, decays, strict=True))  # fmt: skip
        for name, turned in (found for f in forms for found in driving(f)):
            self.demands[name].add(COLS if turned else ROWS)
        return Operator(state.name, rows, cols, update.direction, steps, transposed), decays[0]


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


def _check_vectors(program: OperatorProgram) -> None:
    """Every operand must be a vector per step: nothing else fits on a chunk's tiles."""
    roots: list[Node] = [*program.vectors(), program.output]
    for root in roots:
        matrix = step_matrix(root)
        if matrix is not None:
            raise BrokenLaw("a matrix per time step that is no sum of outer products", matrix,
                            "chunked and quadratic forms work on vectors per step; step form only")  # fmt: skip
