"""Mixer IR to the convolution form: what is linear and time-invariant between pointwise parts (S4, eq. 4-5).

A state whose update is linear in states and in *drivers* (per-token columns without states), with constant
coefficients, is the convolution of its drivers with its impulse response. So is every expression of the output that is
linear in such states with constant coefficients: a read. A driver's channels must stay apart on the way to the read,
so that one impulse in all channels at once gives every channel's kernel.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from smir.ir.convolution import ConvolutionProgram, ConvolvedRead, Term
from smir.ir.dependence import components, state_reads
from smir.ir.dims import ONE, Dim
from smir.ir.expr import CONST, const, input_at
from smir.ir.graph import Node, substitute, walk
from smir.ir.interval import REAL
from smir.ir.mixer import INPUT, Declaration, Mixer, State
from smir.ir.operator import BACKWARD, Obstacle
from smir.passes.expressions.broken_laws import BrokenLaw

NEEDS, LOOKS_BACK = "a convolution needs constant coefficients", "convolutions here look back"
STARTS = "an impulse response starts from zero"
# Operations that are linear in all their arguments together.
_ADDITIVE = frozenset({"add", "sub", "neg", "transpose", "sum"})


def impulse_response(mixer: Mixer) -> ConvolutionProgram | tuple[Obstacle, ...]:
    """The mixer as convolutions, or the law that it breaks: linearity or constancy in time, where they end."""
    try:
        return _Splitter(mixer).program()
    except BrokenLaw as broken:
        return (broken.obstacle(mixer),)


@dataclass
class _Splitter:
    mixer: Mixer
    dependent: set[Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        for node in self.mixer.nodes():
            if node.op == "state" or any(a in self.dependent for a in node.args):
                self.dependent.add(node)

    def program(self) -> ConvolutionProgram:
        mixer = self.mixer
        if mixer.masked or not mixer.states:
            raise BrokenLaw("no states to convolve with", mixer.output, NEEDS)
        for component in components(mixer):
            if component.direction == BACKWARD:
                state = mixer.state(component.states[0])
                raise BrokenLaw("a state that runs backward", state.update, LOOKS_BACK)
        ahead = next((n for n in mixer.nodes() if n.op == "state" and n["offset"] > 0), None)
        if ahead is not None:
            raise BrokenLaw("a state that is read ahead of its time", ahead, LOOKS_BACK)
        started = next((s for s in mixer.states if s.initial), None)
        if started is not None:
            raise BrokenLaw(f"a state that starts at {started.initial:g}", started.update, STARTS)
        drivers = {s.name: list(self._drivers(s.update)) for s in mixer.states}
        found = dict.fromkeys(self._reads(mixer.output))
        names = _fresh("response", mixer, len(found))
        reads = tuple(self._read(name, node, drivers) for name, node in zip(names, found, strict=True))
        leaves = {node: input_at(name, node.type.rows) for name, node in zip(names, found, strict=True)}
        extra = tuple(_declared(name, node.type.rows) for name, node in zip(names, found, strict=True))
        output = _mixer(f"{mixer.name}_output", mixer, substitute(mixer.output, leaves), mixer.output_dims, extra)
        return ConvolutionProgram(mixer, reads, output)

    # ---- what is linear and constant ----------------------------------------------------------------------------

    def _is_time_invariant(self, node: Node) -> bool:
        """Whether the node is linear in states with constant coefficients, with no other summand."""
        if node.op == "state":
            return True
        operands = self._linear_in(node)
        return bool(operands) and all(self._is_time_invariant(a) for a in operands)

    def _linear_in(self, node: Node) -> tuple[Node, ...]:
        """The arguments in which the operation is linear, if the others are constant; else none."""
        if node.op in _ADDITIVE:
            return node.args
        if node.op in ("mul", "matmul"):
            varying = tuple(a for a in node.args if a.type.time != CONST)
            return varying if len(varying) == 1 else ()
        if node.op == "div" and node.args[1].type.time == CONST:
            return node.args[:1]
        return ()

    def _drivers(self, node: Node) -> Iterator[Node]:
        """The per-token columns without states in which an update is linear."""
        if node not in self.dependent:
            if node.type.time == CONST:
                raise BrokenLaw("a constant that drives a state", node, NEEDS)
            if node.type.cols == ONE:
                yield self._without_weights(node)
                return
        elif node.op == "state":
            return
        operands = self._linear_in(node)
        if not operands:
            raise BrokenLaw("not linear with constant coefficients", node, NEEDS)
        for operand in operands:
            yield from self._drivers(operand)

    def _without_weights(self, column: Node) -> Node:
        """What constant weights multiply: fewer channels may drive the states, and more states share a driver."""
        while column.op in ("mul", "div") and len(operands := self._linear_in(column)) == 1:
            (column,) = operands
        return column

    def _reads(self, node: Node) -> Iterator[Node]:
        """The largest columns of the output that are linear and time-invariant in the states."""
        if node not in self.dependent:
            return
        if node.type.cols == ONE and self._is_time_invariant(node):
            yield node
        elif not node.args:
            raise BrokenLaw("a read-out whose coefficients change in time", node, NEEDS)
        else:
            for arg in node.args:
                yield from self._reads(arg)

    # ---- the parts ----------------------------------------------------------------------------------------------

    def _read(self, name: str, node: Node, drivers: dict[str, list[Node]]) -> ConvolvedRead:
        names = self._needed(node)
        driving = list(dict.fromkeys(d for n in names for d in drivers[n]))
        roots = [node, *(self.mixer.state(n).update for n in names)]
        for driver in driving:
            self._check_apart(driver.type.rows, node, roots)
        return ConvolvedRead(name, tuple(self._term(node, names, driver, driving) for driver in driving))

    def _needed(self, node: Node) -> list[str]:
        """The states that the node depends on, in the order of their declaration."""
        found, waiting = set[str](), [r["name"] for r in state_reads(node)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [r["name"] for r in state_reads(self.mixer.state(name).update)]
        return [s.name for s in self.mixer.states if s.name in found]

    def _check_apart(self, channels: Dim, read: Node, roots: Iterable[Node]) -> None:
        """Raises BrokenLaw when a driver's channels meet on the way to the read."""
        if channels == ONE:
            return
        meeting = next((n for n in walk(roots) if n in self.dependent and channels in _contracted(n)), None)
        if meeting is not None or read.type.rows != channels:
            raise BrokenLaw(f"the channels {channels} meet each other", meeting or read,
                            "one impulse response per channel does for channels that stay apart")  # fmt: skip

    def _term(self, node: Node, names: list[str], driver: Node, driving: list[Node]) -> Term:
        mixer, (impulse,) = self.mixer, _fresh("impulse", self.mixer, 1)
        replaced = {d: const(0.0) for d in driving} | {driver: input_at(impulse, driver.type.rows)}
        states = tuple(_driven(mixer.state(n), replaced) for n in names)
        dims = _dims(node.type.rows)
        response = _mixer(f"{mixer.name}_response", mixer, node, dims, (_declared(impulse, driver.type.rows),), states)
        return Term(_mixer(f"{mixer.name}_driver", mixer, driver, _dims(driver.type.rows)), response, impulse)


def _driven(state: State, replaced: dict[Node, Node]) -> State:
    return replace(state, update=substitute(state.update, replaced))


def _contracted(node: Node) -> tuple[Dim, ...]:
    """The dimensions over which the operation sums."""
    if node.op == "matmul":
        return (node.args[0].type.cols,)
    return (node.args[0].type.shape[node["axis"]],) if node.op == "sum" else ()


def _mixer(
    name: str, whole: Mixer, output: Node, dims: tuple[Dim, ...], extra: tuple[Declaration, ...] = (),
    states: tuple[State, ...] = (),
) -> Mixer:  # fmt: skip
    """A mixer of its own with the declarations that it reads."""
    used = {n["name"] for n in walk([output, *(s.update for s in states)]) if n.op in ("input", "param")}
    # which heads the arguments have is checked of the whole
    declarations = tuple(replace(d, group=None) for d in (*whole.declarations, *extra) if d.name in used)
    return Mixer(name, declarations, states, output, dims, (), whole.source, whole.spans)


def _declared(name: str, rows: Dim) -> Declaration:
    return Declaration(INPUT, name, _dims(rows), REAL)


def _dims(rows: Dim) -> tuple[Dim, ...]:
    return () if rows == ONE else (rows,)


def _fresh(stem: str, mixer: Mixer, count: int) -> list[str]:
    taken = {d.name for d in mixer.declarations} | {s.name for s in mixer.states}
    found: list[str] = []
    number = 0
    while len(found) < count:
        name, number = f"{stem}_{number}", number + 1
        if name not in taken:
            found.append(name)
    return found
