"""Operator IR: what recognition finds. Linear recurrences of known transition type, their writes and read-outs.

One operator is one state in canonical orientation: a K x V matrix whose rows are contracted by reads and
erases (a state declared the other way round is transposed). Per token, for each micro-step s in order

    S  <-  sign * e^(decay) S  +  sum over writes of  left (value + erase-read)^T

where the erase-read is the vector `a^T S` of the state before the micro-step's writes, taken `before` or
after (`decayed`) its decay. Then each read gives `query^T S` at its own moment. All vectors are mixer-IR
expressions over inputs and parameters only, columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smir.ir.dims import Dim
from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.source import Span

BEFORE, DECAYED, AFTER = "before", "decayed", "after"
FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Diagonal:
    """Multiplication by `sign * e^log`; `log` may be -inf (exact reset); no `sign` means positive."""

    log: Node
    sign: Node | None = None


@dataclass(frozen=True)
class Decay:
    """The diagonal part of a transition: a scalar, a column over the rows (K), a column over the columns (V)."""

    scalar: Diagonal | None = None
    rows: Diagonal | None = None
    cols: Diagonal | None = None

    @property
    def kind(self) -> str:
        """`identity`, `scalar`, `diagonal K`, `diagonal V` or `diagonal K, V`."""
        sides = [name for name, part in (("K", self.rows), ("V", self.cols)) if part]
        return f"diagonal {', '.join(sides)}" if sides else "scalar" if self.scalar else "identity"


@dataclass(frozen=True)
class Erase:
    """The row vector `vector^T S`, read `before` or after (`decayed`) the micro-step's decay."""

    vector: Node
    when: str


@dataclass(frozen=True)
class Write:
    """The outer product `left (value + erase^T S)^T`; either summand may be absent, not both."""

    left: Node
    value: Node | None
    erase: Erase | None = None


@dataclass(frozen=True)
class MicroStep:
    """One decay and the simultaneous writes after it."""

    decay: Decay
    writes: tuple[Write, ...]


@dataclass(frozen=True)
class Operator:
    """One linear state. `transposed` says that the declared state is V x K."""

    state: str
    rows: Dim
    cols: Dim
    direction: str
    steps: tuple[MicroStep, ...]
    transposed: bool = False

    @property
    def decay(self) -> Decay:
        """The decay of the whole token: only a first micro-step may decay."""
        return self.steps[0].decay

    def vectors(self) -> Iterator[Node]:
        """Every expression that the operator is made of."""
        for step in self.steps:
            for part in (step.decay.scalar, step.decay.rows, step.decay.cols):
                if part:
                    yield from (n for n in (part.log, part.sign) if n)
            for write in step.writes:
                erase = write.erase.vector if write.erase else None
                yield from (n for n in (write.left, write.value, erase) if n)

    @property
    def erases(self) -> bool:
        return any(w.erase for s in self.steps for w in s.writes)

    @property
    def kind(self) -> str:
        """The transition type, as people call it."""
        rank = sum(1 for s in self.steps for w in s.writes if w.erase)
        suffix = {0: "", 1: " + low rank"}.get(rank, f" + low rank, {rank} per token")
        return self.decay.kind + suffix


@dataclass(frozen=True)
class Read:
    """`query^T S`, a column over the state's columns. `before`: the undecayed state that the token finds,
    `decayed`: after the first micro-step's decay, `after`: with all of the token's writes."""

    name: str
    state: str
    query: Node
    when: str


@dataclass(frozen=True)
class OperatorProgram:
    """A recognised mixer: operators, reads, and the output as an expression over inputs and `read` leaves.

    `mixer` is the step-equation mixer that was recognised (masked operators have been rewritten into one).
    """

    mixer: Mixer
    operators: tuple[Operator, ...]
    reads: tuple[Read, ...]
    output: Node

    def vectors(self) -> Iterator[Node]:
        """Every expression that the operators and the reads are made of."""
        for operator in self.operators:
            yield from operator.vectors()
        yield from (r.query for r in self.reads)

    def operator(self, state: str) -> Operator:
        return next(o for o in self.operators if o.state == state)


@dataclass(frozen=True)
class Obstacle:
    """Why some form can't express a spec: the law that breaks, and the sub-expression that breaks it.

    `consequence` says what the other forms would need and which form remains.
    """

    message: str
    span: Span | None = None
    consequence: str = ""

    def __str__(self) -> str:
        where = f" at line {self.span.line}" if self.span else ""
        return f"{self.message}{where}{'; ' if self.consequence else ''}{self.consequence}"
