"""Kernel plan: which kernels run, over which grid and loops, and what they keep in memory between them.

A plan is what a tile program becomes after partitioning. Every kernel's arithmetic is tile IR; a plan adds only
where tiles come from (buffers), where they go (stores), what runs in parallel (grid) and what in order (loops).
"""

from dataclasses import dataclass, replace

from smir.ir.graph import Node, walk
from smir.ir.tile_program import Result, Scan, TileLeaf

# Buffer shapes, by what one program reads or writes of them.
PER_CHUNK, PER_SEQUENCE, PER_TOKEN, PER_PAIR, PER_SPLIT = "chunk", "sequence", "token", "pair", "split"
PER_SEGMENT = "segment"
# Axis roles: the whole axis in one tile, or one block of it per program.
FULL, GRID = "full", "grid"
# The type of a buffer's elements: float32, that of products' operands, or float64 where inputs are float32.
FLOAT32, PRODUCT, WIDE = "float32", "product", "wide"
# Whose a buffer is: the plan's own, handed out to the backward plan, or handed in by the forward plan.
OWN, SAVED, GIVEN = "own", "saved", "given"


@dataclass(frozen=True)
class Buffer:
    """Memory between kernels, `rows x cols` elements for every (batch, head) and every chunk (PER_CHUNK) or two chunks
    (PER_PAIR), or every chunk and part of the past (PER_SPLIT): what a kernel over one part of it each stores; or for
    every segment of the sequence (PER_SEGMENT): what a walk along that segment ends with.

    `dtype` is `float32`, `product` for the type in which matrix products take their operands, or `wide` for float64
    where all inputs are float32 (else float32). `owner` says whether it outlives the run: the caller gets what is
    SAVED, `[B, H, chunks, rows, cols]`, under its name beside the results, and gives what is GIVEN, the same array,
    beside the inputs.
    """

    name: str
    rows: str
    cols: str
    extent: str = PER_CHUNK
    dtype: str = FLOAT32
    owner: str = OWN


@dataclass(frozen=True)
class Store:
    """Writes a tile: to a Buffer, to a result, or to a final state (by its name).

    `summed` is an axis of the grid over which the value is a sum: each block writes a summand, added up afterwards.
    """

    target: str
    value: Node
    transposed: bool = False
    summed: str | None = None


@dataclass(frozen=True)
class Loop:
    """A sequential loop over chunks (`scan.order`). `stores` happen in every iteration, before the carries move on;
    `final_stores` after the last one, where `carried` means the final value: to final states, to buffers PER_SEQUENCE,
    and to results of parameters, of which the loop has carried the sum."""

    scan: Scan
    stores: tuple[Store, ...] = ()
    final_stores: tuple[Store, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """One launch. Without loops: one program per (batch, head, chunk) that evaluates `stores`.

    With `loops` over all chunks (`forward`, `backward`): one program per (batch, head), the loop inside.
    With loops over `earlier` / `later` chunks: one program per (batch, head, chunk), then `stores` at the end.
    `roles` gives every dimension axis FULL or GRID; a GRID axis adds a grid dimension of its blocks.

    `in_segments`: the sequence is cut into segments of whole chunks, as many as a launch says; one program per (batch,
    head, segment), whose loops over all chunks visit those of its own. What a loop stores after its last chunk goes to
    buffers PER_SEGMENT of each, and anywhere else of the segment that the loop's order visits last.
    """

    name: str
    formula: str
    loops: tuple[Loop, ...]
    stores: tuple[Store, ...]
    roles: tuple[tuple[str, str], ...] = ()
    in_segments: bool = False

    @property
    def sequential(self) -> bool:
        """Whether the kernel walks over all chunks of a sequence in order."""
        return any(loop.scan.order in ("forward", "backward") for loop in self.loops)

    def role(self, axis: str) -> str:
        return dict(self.roles).get(axis, FULL)

    def roots(self) -> tuple[Node, ...]:
        """Every value the kernel computes, in the order it needs them."""
        inside = [
            n
            for loop in self.loops
            for n in (
                *(c.start for c in loop.scan.carries if c.start is not None),
                *(s.value for s in loop.stores),
                *(c.next for c in loop.scan.carries),
            )
        ]
        after = [s.value for loop in self.loops for s in loop.final_stores]
        return (*inside, *after, *(s.value for s in self.stores))


@dataclass(frozen=True)
class KernelPlan:
    """All kernels of one form in launch order, with the buffers between them.

    `walks` do the same as `kernels` with fewer bytes and less at once: each goes along the sequence, the state on chip,
    and makes everything on its way. A backend takes the ones or the others.
    """

    name: str
    form: str
    leaves: tuple[TileLeaf, ...]
    results: tuple[Result, ...]
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    walks: tuple[Kernel, ...] = ()

    def buffer(self, name: str) -> Buffer:
        return next(b for b in self.buffers if b.name == name)

    @property
    def walked(self) -> "KernelPlan":
        """The plan whose kernels are the walks, with the buffers that these know; itself where there are none."""
        if not self.walks:
            return self
        loaded = {n["name"] for k in self.walks for n in walk(k.roots()) if n.op == "load"}
        stored = {s.target for k in self.walks for loop in k.loops for s in (*loop.stores, *loop.final_stores)}
        buffers = tuple(b for b in self.buffers if b.name in loaded | stored or b.owner != OWN)
        return replace(self, buffers=buffers, kernels=self.walks, walks=())

    @property
    def totals(self) -> frozenset[str]:
        """The results of parameters that get one summand for each sequence, or each segment of it, not one for each
        chunk."""
        stored = {s.target for k in self.kernels for loop in k.loops for s in loop.final_stores}
        return frozenset(r.name for r in self.results if r.name in stored)

    @property
    def segment_totals(self) -> frozenset[str]:
        """Those of them that get one for each segment."""
        stored = {s.target for k in self.kernels if k.in_segments for loop in k.loops for s in loop.final_stores}
        return self.totals & stored

    @property
    def saved(self) -> tuple[Buffer, ...]:
        """What a run hands out beside its results."""
        return tuple(b for b in self.buffers if b.owner == SAVED)

    @property
    def given(self) -> tuple[Buffer, ...]:
        """What a run is handed beside its inputs."""
        return tuple(b for b in self.buffers if b.owner == GIVEN)
