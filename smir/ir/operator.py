"""Operator IR: what recognition finds. Linear recurrences of known transition type, their writes and read-outs.

One operator is one state in canonical orientation: a K x V matrix whose rows are contracted by reads and
erases (a state declared the other way round is transposed). Per token, for each micro-step s in order

    S  <-  sign * e^(decay) turned(S)  +  sum over writes of  left (value + erase-read)^T

where `turned` rotates pairs of rows or columns, and the erase-read is the vector `a^T S` of the state before the
micro-step's writes, taken `before` or after (`decayed`) its rotation and decay. Then each read gives `query^T S` at its
own moment. All vectors are columns, mixer-IR expressions over inputs and parameters, and over what is read of states
that come earlier.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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
class Rotation:
    """Turns interleaved pairs of a state's rows, of its columns, or of both: `rot(rows) S rot(cols)^T`.

    Angles are columns of half the axis' length, in radians. A decay commutes with it unless it runs over the same axis.
    """

    rows: Node | None = None
    cols: Node | None = None

    @property
    def kind(self) -> str:
        """`rotation K`, `rotation V`, `rotation K, V`, or nothing."""
        sides = [name for name, part in (("K", self.rows), ("V", self.cols)) if part]
        return f"rotation {', '.join(sides)}" if sides else ""


@dataclass(frozen=True)
class Erase:
    """The row vector `vector^T S`, read `before` or after (`decayed`) the micro-step's rotation and decay."""

    vector: Node
    when: str


@dataclass(frozen=True)
class Write:
    """The outer product `left (value + erase^T S)^T`; either summand may be absent, not both."""

    left: Node
    value: Node | None
    erase: Erase | None = None


@dataclass(frozen=True)
class Drive:
    """The summand `scale * M` of an update: another operator's state of the same orientation, `before` or `after`
    what this token does to it. `scale` is a number per token."""

    state: str
    when: str
    scale: Node


@dataclass(frozen=True)
class MicroStep:
    """One rotation, one decay, and the simultaneous writes and drives after them."""

    decay: Decay
    writes: tuple[Write, ...]
    rotation: Rotation = Rotation()
    drives: tuple[Drive, ...] = ()


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

    @property
    def rotation(self) -> Rotation:
        """The rotation of the whole token: only a first micro-step may rotate."""
        return self.steps[0].rotation

    def vectors(self) -> Iterator[Node]:
        """Every expression that the operator is made of."""
        for step in self.steps:
            yield from (n for n in (step.rotation.rows, step.rotation.cols) if n)
            for part in (step.decay.scalar, step.decay.rows, step.decay.cols):
                if part:
                    yield from (n for n in (part.log, part.sign) if n)
            for write in step.writes:
                erase = write.erase.vector if write.erase else None
                yield from (n for n in (write.left, write.value, erase) if n)
            yield from (drive.scale for drive in step.drives)

    def mapped(self, change: Callable[[Node], Node]) -> "Operator":
        """The same of changed expressions."""
        return replace(self, steps=tuple(_mapped_step(s, change) for s in self.steps))

    @property
    def drives(self) -> tuple[Drive, ...]:
        return tuple(d for s in self.steps for d in s.drives)

    @property
    def erases(self) -> bool:
        return any(w.erase for s in self.steps for w in s.writes)

    @property
    def kind(self) -> str:
        """The transition type, as people call it."""
        rank = sum(1 for s in self.steps for w in s.writes if w.erase)
        suffix = {0: "", 1: " + low rank"}.get(rank, f" + low rank, {rank} per token")
        turned = self.rotation.kind
        decay = self.decay.kind if not turned else "" if self.decay == Decay() else f"{self.decay.kind}, "
        return decay + turned + suffix


def _mapped_step(step: MicroStep, change: Callable[[Node], Node]) -> MicroStep:
    def some(node: Node | None) -> Node | None:
        return None if node is None else change(node)

    def diagonal(part: Diagonal | None) -> Diagonal | None:
        return part and Diagonal(change(part.log), some(part.sign))

    def write(w: Write) -> Write:
        return Write(change(w.left), some(w.value), w.erase and Erase(change(w.erase.vector), w.erase.when))

    return MicroStep(
        Decay(diagonal(step.decay.scalar), diagonal(step.decay.rows), diagonal(step.decay.cols)),
        tuple(map(write, step.writes)),
        Rotation(some(step.rotation.rows), some(step.rotation.cols)),
        tuple(replace(d, scale=change(d.scale)) for d in step.drives),
    )


@dataclass(frozen=True)
class Read:
    """`query^T S`, a column over the state's columns. `before`: the state that the token finds,
    `decayed`: after the first micro-step's rotation and decay, `after`: with all of the token's writes."""

    name: str
    state: str
    query: Node
    when: str


@dataclass(frozen=True)
class Elementwise:
    """A vector state that is used by value: in every element one of three recurrences (`kind`, see `tile.scan`)

        sum: h = decay * h- + write      max: m = max(decay + m-, write)      logsum: l = logaddexp(decay + l-, write)

    `decay` and `write` broadcast to the state's shape. Expressions of the program use the state as `state` leaves:
    at offset 0 after this token, at -1 (backward: +1) before it.
    """

    state: str
    direction: str
    kind: str
    decay: Node
    write: Node

    def vectors(self) -> Iterator[Node]:
        """Every expression that the state is made of."""
        yield from (self.decay, self.write)

    def mapped(self, change: Callable[[Node], Node]) -> "Elementwise":
        """The same of changed expressions."""
        return replace(self, decay=change(self.decay), write=change(self.write))


Stage = Operator | Elementwise


@dataclass(frozen=True)
class OperatorProgram:
    """A recognised mixer: operators, reads, and the output as an expression over inputs and `read` leaves.

    `stages` are the states, each after those whose values its own expressions hold. They hold them as `read` leaves,
    or, for elementwise states, as `state` leaves. A read comes after the reads that its query holds.

    `mixer` is the step-equation mixer that was recognised (masked operators have been rewritten into one).
    """

    mixer: Mixer
    stages: tuple[Stage, ...]
    reads: tuple[Read, ...]
    output: Node

    @property
    def operators(self) -> tuple[Operator, ...]:
        return tuple(s for s in self.stages if isinstance(s, Operator))

    @property
    def elementwise(self) -> tuple[Elementwise, ...]:
        return tuple(s for s in self.stages if isinstance(s, Elementwise))

    def vectors(self) -> Iterator[Node]:
        """Every expression that the stages and the reads are made of."""
        for stage in self.stages:
            yield from stage.vectors()
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
