"""How a walk's carries move on in a chunk, where that is affine: `a h + b` element by element, of a and b made of the
chunk alone. Running maxima and logs of sums are affine in their own semirings.
"""

from collections.abc import Set
from dataclasses import dataclass
from functools import partial, reduce

from smir.ir.graph import Node, reaches, walk
from smir.ir.kernel import Kernel, Loop
from smir.ir.tile import ONE, pointwise
from smir.ir.tile_program import Carry
from smir.passes.kernels.affine_carries import scanned_factor

# By the operation that combines: the one that it distributes over, and both neutral elements.
SEMIRINGS = {"add": ("mul", 0.0, 1.0), "max": ("add", float("-inf"), 0.0), "logaddexp": ("add", float("-inf"), 0.0)}


@dataclass(frozen=True)
class Affine:
    """`next = plus(times(carry, factor), ..)`; no factor for the neutral one."""

    plus: str
    factor: Node | None

    def apply(self, value: Node, factor: Node | None, end: Node) -> Node:
        """What a segment of this factor, which ends with `end` from nothing, makes of a value."""
        moved = value if factor is None else pointwise(SEMIRINGS[self.plus][0], value, factor)
        return pointwise(self.plus, moved, end)


def affine_moves(kernel: Kernel) -> dict[str, Affine] | None:
    """How every carry moves on, by name, but for mere sums; None for a kernel that isn't one walk, or one that isn't
    affine."""
    if kernel.in_segments or not kernel.sequential or len(kernel.loops) != 1 or kernel.stores:
        return None
    carries = kernel.loops[0].scan.carries
    loads = {c.load for c in carries}
    found: dict[str, Affine] = {}
    for c in carries:
        if is_sum(kernel.loops[0], c):
            continue
        if loads & set(walk([c.next])) - {c.load}:
            return None
        moved = _affine(c.next, c.load) or _scanned(c)
        if moved is None:
            return None
        found[c.name] = moved
    return found or None


def is_sum(loop: Loop, carry: Carry) -> bool:
    """Whether a carry only adds up from zero what the loop makes: each segment's sum is a summand of its own."""
    if carry.state is not None or carry.start is not None or carry.initial or carry.next.op != "add":
        return False
    others = [c.next for c in loop.scan.carries if c is not carry] + [s.value for s in loop.stores]
    inner = [a for a in carry.next.args if a is not carry.load]
    return len(inner) == 1 and carry.load not in set(walk([*others, *inner]))


def _scanned(carry: Carry) -> Affine | None:
    """Of a row that a chunk's scans take."""
    found = scanned_factor(carry)
    return None if found is None else Affine(*found)


def _affine(value: Node, load: Node) -> Affine | None:
    """A maximum or a log of a sum, else a sum; None for a value that isn't affine in the load, element by element."""
    touched = reaches([value], lambda n: n is load)
    if value.type != load.type:
        return None
    if value.op not in ("max", "logaddexp"):
        return _scaled("add", value, load, touched)
    inner = _only(value, touched)
    return None if inner is None else _scaled(value.op, inner, load, touched)


def _scaled(plus: str, value: Node, load: Node, touched: Set[Node]) -> Affine | None:
    """The load times factors; in a sum with other things anywhere between them."""
    times, factors = SEMIRINGS[plus][0], list[Node]()
    while value is not load:
        inner = _only(value, touched)
        linear = value.op == times or (plus == "add" and (value.op == "add" or _is_minuend(value, inner)))
        if inner is None or not linear:
            return None
        if value.op == times:
            factors += [a for a in value.args if a is not inner]
        value = inner
    # numbers meet before they meet rows
    factors.sort(key=lambda n: (n.type.rows, n.type.cols).count(ONE), reverse=True)
    return Affine(plus, reduce(partial(pointwise, times), factors) if factors else None)


def _only(value: Node, touched: Set[Node]) -> Node | None:
    """The one argument that the load leads to."""
    inner = [a for a in value.args if a in touched]
    return inner[0] if len(inner) == 1 else None


def _is_minuend(value: Node, inner: Node | None) -> bool:
    return value.op == "sub" and value.args[0] is inner
