"""Programs over pairs of chunks that take several row chunks at once: a `span` of them, whose tokens are the axis OWN.

Such a program visits other chunks one by one, as before, but for all of its rows: half as many loads, and products with
twice the rows. Memory stays laid out by chunks, of which there is a whole number of spans. A kernel is printed for any
span, if its values tell rows of its own chunk from those of a visited one; a launch says how many it takes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from smir.backends.triton_gpu.facts import padded
from smir.backends.triton_gpu.past import has_past
from smir.errors import IRError
from smir.ir import tile
from smir.ir.graph import Node, make, walk
from smir.ir.kernel import PER_CHUNK, PER_PAIR, Kernel, KernelPlan, Loop, Store
from smir.ir.ops import POINTWISE
from smir.ir.signatures import TILE_OPS
from smir.ir.tile import CHUNK, COL, DENSE, ONE, OWN, TOKEN, Tile
from smir.ir.tile_program import EARLIER, ITSELF, LATER, Carry

SPAN = "span"
# The same in a kernel.
SPANNED = "(OWN // CHUNK)"
# The option that says so of one kernel.
OWN_ROWS = "OWN"
# The span of long sequences, from so many tokens on, and the rows and widest dimension for which registers have room.
LONG_SPAN, LONG, MOST_ROWS, WIDEST = 2, 1024, 128, 128
_ORDERS = (ITSELF, EARLIER, LATER)
_STRUCTURAL = frozenset("load const dot transpose broadcast sum reduce_max cumsum segment_sum mask valid_rows".split())


def spanning(plan: KernelPlan, kernel: Kernel) -> Kernel | None:
    """The kernel with its own rows as the axis OWN; None where it takes one chunk at a time.

    What kernels tell each other of pairs of chunks belongs to the rows of one of them: they take spans together.
    """
    return _all_spanning(plan).get(kernel.name)


@lru_cache(maxsize=256)
def _all_spanning(plan: KernelPlan) -> Mapping[str, Kernel]:
    found = {k.name: _spanning(plan, k) for k in plan.kernels if _has_own_rows(k)}
    if any(b.extent == PER_PAIR for b in plan.buffers) and None in found.values():
        return {}
    return {name: kernel for name, kernel in found.items() if kernel is not None}


def spanned_pairs(plan: KernelPlan) -> frozenset[str]:
    """Buffers of pairs of chunks in which those of a span have one entry, that of its first chunk."""
    made = _all_spanning(plan).values()
    return frozenset(s.target for kernel in made for loop in kernel.loops for s in loop.stores)


def _has_own_rows(kernel: Kernel) -> bool:
    """Whether a kernel over pairs carries rows of its tokens."""
    carries = [c for loop in kernel.loops if loop.scan.order in _ORDERS for c in loop.scan.carries]
    return any(c.rows == CHUNK for c in carries)


def _spanning(plan: KernelPlan, kernel: Kernel) -> Kernel | None:
    if any(loop.scan.order not in _ORDERS for loop in kernel.loops) or not _stores_rows(plan, kernel):
        return None
    if not all(n.op in _STRUCTURAL or n.op in POINTWISE for n in walk(kernel.roots())):
        return None
    if any(Tile(ONE, ONE) != s.value.type for loop in kernel.loops for s in loop.stores):
        return None
    try:
        made = tuple(Loop(replace(x.scan, carries=tuple(map(_carry, x.scan.carries))), x.stores) for x in kernel.loops)
        return replace(kernel, loops=made, stores=tuple(replace(s, value=_own(s.value)) for s in kernel.stores))
    except IRError:
        return None


def is_worth_spans(plan: KernelPlan, kernel: Kernel) -> bool:
    """Whether a kernel is faster so: not where it visits few chunks, most of them at an edge of a mask, and has one sum
    of rows to keep beside them."""
    visits = [loop.scan for loop in kernel.loops if loop.scan.order != ITSELF]
    wide = max((sum(c.cols != ONE for c in scan.carries) for scan in visits), default=0)
    few = all(scan.reach is not None for scan in visits)
    return not few or wide > 1 or any(b.extent == PER_PAIR for b in plan.buffers)


def has_spans(plan: KernelPlan) -> bool:
    """Whether memory of the plan has a whole number of spans: where some kernel visits other chunks. Forward and
    backward pass agree on that, also where one of them takes one chunk at a time."""
    return not has_past(plan) and any(x.scan.order in _ORDERS for k in plan.kernels for x in k.loops)


def span_of(plan: KernelPlan, sizes: Mapping[str, int], tokens: int, chunk: int, float32: bool) -> int:
    """The chunks of a program's own for sequences of so many tokens."""
    fits = chunk * LONG_SPAN <= MOST_ROWS and max(map(padded, sizes.values()), default=0) <= WIDEST
    return LONG_SPAN if has_spans(plan) and fits and tokens >= LONG and not float32 else 1


def _stores_rows(plan: KernelPlan, kernel: Kernel) -> bool:
    """Whether a kernel stores nothing but rows of its tokens."""
    buffers, results = {b.name: b for b in plan.buffers}, {r.name: r for r in plan.results}

    def is_rows(store: Store) -> bool:
        if store.target in buffers:
            return buffers[store.target].extent == PER_CHUNK and buffers[store.target].rows == CHUNK
        result = results[store.target]
        return result.kind == TOKEN and not result.offset

    return all(is_rows(s) and not s.transposed and s.summed is None for s in kernel.stores)


def _carry(carry: Carry) -> Carry:
    """What is carried belongs to the program's own rows."""
    kind = _renamed(carry.rows, carry.cols)
    following = tile.broadcast(_met(carry.next), kind.rows, kind.cols)
    start = None if carry.start is None else _own(carry.start)
    return replace(carry, rows=kind.rows, cols=kind.cols, next=following, start=start)


def _renamed(rows: str, cols: str) -> Tile:
    return Tile(OWN if rows == CHUNK else rows, OWN if cols == CHUNK else cols)


def _own(root: Node) -> Node:
    """A value of a program's own rows alone."""
    done: dict[Node, Node] = {}
    for n in walk([root]):
        done[n] = make(n.op, (done[a] for a in n.args), _renamed(n.type.rows, n.type.cols), **dict(n.attrs))
    return done[root]


def _met(root: Node) -> Node:
    """A value of its own rows and of those of a visited chunk, which stay CHUNK. Raises IRError where these can't be
    told apart."""
    done: dict[Node, Node] = {}
    bare: set[Node] = set()
    for n in walk([root]):
        args = tuple(done[a] for a in n.args)
        if n.op == "load":
            done[n] = make(n.op, (), _load_type(n), **dict(n.attrs))
        elif n.op == "broadcast":
            done[n] = _broadcast(n, args[0])
            bare |= {done[n]} if done[n].type != n.type and done[n] is args[0] else set()
        else:
            if n.op == "valid_rows" and args[0] in bare:
                args = (tile.broadcast(args[0], CHUNK if n["block"] == COL else OWN, args[0].type.cols),)
            elif n.op not in POINTWISE and bare & set(args):
                raise IRError(f"a {n.op} over rows that may be anybody's")
            made = TILE_OPS[n.op].build(make(n.op, args, n.type, **dict(n.attrs)))
            done[n] = make(n.op, made.args, made.type, **dict(n.attrs)) if n.op != "transpose" else made
    return done[root]


def _load_type(n: Node) -> Tile:
    rows, cols = n.type.rows, n.type.cols
    if n["kind"] == DENSE:
        return Tile(CHUNK if n["block"] == COL else OWN, CHUNK if n["other"] == COL else OWN)
    return n.type if n.get("block") == COL else _renamed(rows, cols)


def _broadcast(n: Node, arg: Node) -> Node:
    """The same extent along the axes of the argument; a number is broadcast by who uses it."""
    rows, cols = n.type.rows, n.type.cols
    if CHUNK not in (rows, cols):
        return tile.broadcast(arg, rows, cols)
    if rows == cols and ONE in (arg.type.rows, arg.type.cols) and arg.type.rows != arg.type.cols:
        there = {OWN: CHUNK, CHUNK: OWN}
        rows = arg.type.rows if arg.type.rows != ONE else there[arg.type.cols]
        cols = arg.type.cols if arg.type.cols != ONE else there[arg.type.rows]
        return tile.broadcast(arg, rows, cols)
    if (rows == CHUNK and arg.type.rows == ONE) or (cols == CHUNK and arg.type.cols == ONE):
        return arg
    return tile.broadcast(arg, arg.type.rows if rows == CHUNK else rows, arg.type.cols if cols == CHUNK else cols)
