"""Which distances i - j a mask admits, and which comparisons are settled in a region of distances."""

from dataclasses import dataclass

from smir.ir.expr import const, pointwise
from smir.ir.graph import Node
from smir.ir.interval import INF
from smir.passes.masks.index_formulas import affine

# Where a chunk of columns stands as seen from a chunk of rows; PAST is before the segment that the rows belong to.
OWN, EARLIER, LATER, PAST = "own", "earlier", "later", "past"
# On which side of the rows columns other than their own stand.
SIDES = {EARLIER: EARLIER, PAST: EARLIER, LATER: LATER}


@dataclass(frozen=True)
class Distances:
    """All distances from `low` to `high`."""

    low: float = -INF
    high: float = INF

    def within(self, other: "Distances") -> "Distances":
        return Distances(max(self.low, other.low), min(self.high, other.high))

    def describe(self) -> str:
        """For people."""
        if self == Distances():
            return "all positions"
        low, high = ("" if bound in (INF, -INF) else f"{bound:g}" for bound in (self.low, self.high))
        past = f"the last {high}" if high else "the past"
        if self.low >= 0:
            own = "the position itself" if self.low == 0 else f"from {low} back"
            return own if self.high == 0 else f"{past}, {own} on" if self.low else f"{past} and {own}"
        future = f"the next {low[1:]}" if low else "the future"
        return f"{past} and {future}" if self.high > 0 else future

    def hull(self, other: "Distances") -> "Distances":
        if self.low > self.high:
            return other
        return self if other.low > other.high else Distances(min(self.low, other.low), max(self.high, other.high))


REGIONS = {
    OWN: Distances(),
    EARLIER: Distances(1.0, INF),
    PAST: Distances(1.0, INF),
    LATER: Distances(-INF, -1.0),
}


def admitted(mask: Node | None) -> Distances:
    """Distances beyond these are masked out for every i and j."""
    if mask is None:
        return Distances()
    if mask.op in ("and", "or"):
        one, other = (admitted(part) for part in mask.args)
        return one.within(other) if mask.op == "and" else one.hull(other)
    if mask.op in ("le", "lt", "eq"):
        a, b = mask.args
        if mask.op == "eq" and (size := _block_size(a)) is not None and _block_size(b) == size:
            # two positions of one block are less than its length apart
            first, second = a.args[0].args[0], b.args[0].args[0]
            near = pointwise("add", second, const(size)), pointwise("add", first, const(size))
            return _at_most(first, near[0], True).within(_at_most(second, near[1], True))
        found = _at_most(a, b, mask.op == "lt")
        return found.within(_at_most(b, a, False)) if mask.op == "eq" else found
    return Distances()


def _block_size(node: Node) -> float | None:
    """The length of blocks that `floor(position / length)` numbers."""
    if node.op != "floor" or node.args[0].op != "div" or node.args[0].args[1].op != "const":
        return None
    size = float(node.args[0].args[1]["value"])
    return size if size > 0 else None


def _at_most(a: Node, b: Node, strictly: bool) -> Distances:
    """The distances at which a <= b (a < b) may hold."""
    if a.op == "abs":
        (inside,) = a.args
        return _at_most(inside, b, strictly).within(_at_most(pointwise("neg", inside), b, strictly))
    first, second = affine(a), affine(b)
    gap = first.plus(second, -1.0) if first and second else None
    if gap is None or gap.at(0) is None or not gap.slopes:
        return Distances()
    slope, zero = gap.slope("i"), -gap.offset / gap.slope("i")
    # distances are whole numbers
    if slope > 0:
        return Distances(high=_whole(zero, -1, strictly))
    return Distances(low=_whole(zero, 1, strictly))


def _whole(bound: float, inward: int, strictly: bool) -> float:
    nearest = float(int(bound // 1)) if inward < 0 else float(-int(-bound // 1))
    return nearest + inward if strictly and nearest == bound else nearest


def settled(node: Node, region: str) -> bool | None:
    """Whether a comparison holds at every distance of the region (True), at none (False), or it depends (None)."""
    if node.op not in ("le", "lt"):
        return None
    span, low, high = REGIONS[region], *(_gap(node, d) for d in (REGIONS[region].low, REGIONS[region].high))
    if low is None or high is None or span == Distances():
        return None
    largest, smallest = max(low, high), min(low, high)
    if largest < 0 or (largest == 0 and node.op == "le"):
        return True
    return False if smallest > 0 or (smallest == 0 and node.op == "lt") else None


def _gap(node: Node, distance: float) -> float | None:
    """The left side minus the right one at a distance, where it depends on nothing else."""
    first, second = (affine(a) for a in node.args)
    gap = first.plus(second, -1.0) if first and second else None
    if gap is None or gap.at(0) is None:
        return None
    return gap.slope("i") * distance + gap.offset if gap.slopes else gap.offset
