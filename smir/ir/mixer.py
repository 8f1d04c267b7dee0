"""Mixer IR: a typed spec. Inputs, parameters, states with their updates, and one output expression.

Nothing has been recognised yet: an update is any expression. Step equations and masked operators differ
only in the time of the output expression (`step` or `seq`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from smir.ir.dims import ONE, Dim
from smir.ir.expr import SEQ
from smir.ir.graph import Node, walk
from smir.ir.interval import REAL, Interval
from smir.source import Source, Span

INPUT, PARAM = "input", "param"


def matrix_shape(dims: tuple[Dim, ...]) -> tuple[Dim, Dim]:
    """A declaration's dimensions as rows and columns: a scalar is 1 x 1, a vector a column."""
    rows, cols = (*dims, ONE, ONE)[:2]
    return rows, cols


@dataclass(frozen=True)
class Declaration:
    """An input (per time step) or a parameter (per head): name, dimensions, promised range.

    Every head of an input with a `group` serves so many heads of the output: see `smir.ir.head_groups`.
    """

    kind: str
    name: str
    dims: tuple[Dim, ...]
    range: Interval = REAL
    span: Span | None = field(default=None, compare=False, repr=False)
    group: Dim | None = None


@dataclass(frozen=True)
class State:
    """A recurrent value: `update` gives it at time t; `initial` fills it before the first step.

    With `log`, the name of another state of this shape or less, it is a mantissa: it stands for its value times e^log.
    """

    name: str
    dims: tuple[Dim, ...]
    initial: float
    update: Node
    span: Span | None = field(default=None, compare=False, repr=False)
    log: str | None = None


@dataclass(frozen=True)
class Mixer:
    """A whole spec. `names` are the local definitions, kept for readable printing; `spans` says where a node stood."""

    name: str
    declarations: tuple[Declaration, ...]
    states: tuple[State, ...]
    output: Node
    output_dims: tuple[Dim, ...]
    names: tuple[tuple[str, Node], ...] = ()
    source: Source | None = field(default=None, compare=False, repr=False)
    spans: Mapping[Node, Span] = field(default_factory=dict, compare=False, repr=False)

    @property
    def inputs(self) -> tuple[Declaration, ...]:
        return tuple(d for d in self.declarations if d.kind == INPUT)

    @property
    def params(self) -> tuple[Declaration, ...]:
        return tuple(d for d in self.declarations if d.kind == PARAM)

    @property
    def masked(self) -> bool:
        """Whether the output is written over the whole sequence (a masked operator)."""
        return bool(self.output.type.time == SEQ)

    def state(self, name: str) -> State:
        return next(s for s in self.states if s.name == name)

    def declaration(self, name: str) -> Declaration:
        return next(d for d in self.declarations if d.name == name)

    def roots(self) -> tuple[Node, ...]:
        return (*(s.update for s in self.states), self.output)

    def nodes(self) -> Iterator[Node]:
        return walk(self.roots())

    def span(self, node: Node) -> Span | None:
        return self.spans.get(node)
