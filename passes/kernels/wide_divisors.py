"""Divisors that may cancel, and what they are made of, in float64 where products take float32.

A sum of terms of both signs can come out hundreds of times smaller than its terms, and what is divided by it then has
their rounding errors hundreds of times over: most of all those of exponents, which are absolute, so that a decay of
e^-20 is off by twenty units in the last place. Everything on the way to such a divisor is marked: loads are widened,
what leaves the way is narrowed, and carries and buffers on it keep what they hold. Matrix products stay as they are,
and so do matrices that are carried: only what is one number or one vector a token is worth it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from smir.ir import tile
from smir.ir.graph import Node, rebuild, walk
from smir.ir.interval import INF, REAL, Interval, point
from smir.ir.kernel import WIDE, Kernel, KernelPlan, Loop, Store
from smir.ir.ops import POINTWISE
from smir.ir.summands import all_stores
from smir.ir.tile import BUFFER, CARRIED, ONE, TOKEN_AXES
from smir.ir.tile_program import Carry
from smir.passes.analysis.exponents import intervals, leaf_intervals

# Sums of which a single small result is made; a divisor is looked through down to them.
_SUMS = frozenset({"add", "sub", "sum", "dot"})
_THROUGH = frozenset("mul div neg abs max min sqrt pow where broadcast transpose valid_rows mask add sub".split())
# What there is in float64, besides pointwise operations and products with an axis of length one.
_WIDENED = frozenset("const load transpose broadcast sum reduce_max cumsum segment_sum mask valid_rows scan shift "
                     "edge_row place_row dot".split())  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What another plan says of buffers that it hands over: the wide ones, and the interval of each."""

    wide: frozenset[str] = frozenset()
    ranges: Mapping[str, Interval] | None = None


def with_wide_divisors(plan: KernelPlan, known: Known = Known()) -> KernelPlan:
    """The same plan, marked; the plan itself where no divisor may cancel and `known` names no buffer."""
    seeds = _seeds(plan, dict(known.ranges or {}))
    if not any(seeds.values()) and not known.wide:
        return plan
    buffers, cones = _spread(plan, seeds, set(known.wide))
    kernels, walks = (tuple(_Marked(k, cones[k.name], buffers).kernel() for k in group)
                      for group in (plan.kernels, plan.walks))  # fmt: skip
    typed = tuple(replace(b, dtype=WIDE) if b.name in buffers else b for b in plan.buffers)
    return replace(plan, kernels=kernels, walks=walks, buffers=typed)


def what_is_known(plan: KernelPlan, names: Mapping[str, str]) -> Known:
    """What the plan says of some of its buffers, by the names that another plan gives them."""
    ranges: dict[str, Interval] = {}
    _seeds(plan, ranges)
    wide = (names[b.name] for b in plan.buffers if b.dtype == WIDE and b.name in names)
    return Known(frozenset(wide), {names[n]: r for n, r in ranges.items() if n in names})


# ---- which divisors may cancel ----------------------------------------------------------------------------------


def _seeds(plan: KernelPlan, ranges: dict[str, Interval]) -> dict[str, list[Node]]:
    """By kernel its divisors that may cancel. Adds the intervals of buffers to `ranges`."""
    declared = {leaf.name: leaf.range for leaf in plan.leaves}
    found: dict[str, list[Node]] = {}
    small: set[str] = set()
    for kernel in (*plan.kernels, *plan.walks):
        values = _kernel_intervals(kernel, declared, ranges)
        divisors = dict.fromkeys(n.args[1] for n in walk(kernel.roots()) if n.op == "div")
        found[kernel.name] = [n for n in divisors if _cancels(n, values, small)]
        for store in all_stores(kernel):
            ranges[store.target] = ranges.get(store.target, values[store.value]).union(values[store.value])
            small |= {store.target} if _cancels(store.value, values, small) else set()
    return found


def _cancels(divisor: Node, values: Mapping[Node, Interval], small: set[str]) -> bool:
    """Whether a sum of terms of both signs is a factor of the divisor, or what bounds it from below leaves it one."""
    stack, seen = [divisor], set[Node]()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "load" and node["kind"] == BUFFER and node["name"] in small:
            return True
        if node.op in _SUMS and values[node].lo < 0 < values[node].hi:
            return True
        if node.op in _THROUGH:
            stack.extend(node.args)
    return False


def _kernel_intervals(
    kernel: Kernel, declared: Mapping[str, Interval], ranges: Mapping[str, Interval]
) -> dict[Node, Interval]:
    """Carried tiles by induction from where they begin; a given state is taken for one that the mixer has left."""
    plain = leaf_intervals(declared)
    carries = [c for loop in kernel.loops for c in loop.scan.carries]
    found = {c.name: REAL if c.start else point(c.initial) for c in carries}

    def leaf(node: Node) -> Interval:
        if node["kind"] == CARRIED:
            return found.get(node["name"], REAL)
        return ranges.get(node["name"], REAL) if node["kind"] == BUFFER else plain(node)

    while True:
        values = intervals(kernel.roots(), leaf)
        grown = {c.name: _grown(found[c.name], values[c.next]) for c in carries}
        if grown == found:
            return values
        found.update(grown)


def _grown(old: Interval, new: Interval) -> Interval:
    return Interval(old.lo if new.lo >= old.lo else 0.0 if new.lo >= 0 else -INF, old.hi if new.hi <= old.hi else INF)


# ---- what they are made of --------------------------------------------------------------------------------------


def _spread(
    plan: KernelPlan, seeds: Mapping[str, list[Node]], buffers: set[str]
) -> tuple[frozenset[str], dict[str, frozenset[Node]]]:
    """The wide buffers, and by kernel the values on the way to what is wide, until nothing joins them."""
    own = {b.name for b in plan.buffers if _is_thin(b.rows, b.cols)}
    while True:
        cones = {k.name: _cone(k, seeds[k.name], buffers) for k in (*plan.kernels, *plan.walks)}
        loaded = {n["name"] for cone in cones.values() for n in cone if n.op == "load" and n["kind"] == BUFFER}
        if loaded & own <= buffers:
            return frozenset(buffers), cones
        buffers |= loaded & own


def _cone(kernel: Kernel, seeds: Iterable[Node], buffers: set[str]) -> frozenset[Node]:
    """The values below seeds, below what goes to wide buffers, and below what wide carries become."""
    carries = {c.load: c for loop in kernel.loops for c in loop.scan.carries if _is_wide_carry(c)}
    stack = [*seeds, *(s.value for s in all_stores(kernel) if s.target in buffers)]
    found = {n for n in walk(kernel.roots()) if n.op == "load" and n["kind"] == BUFFER and n["name"] in buffers}
    while stack:
        node = stack.pop()
        if node in found or not _has_wide_form(node):
            continue
        found.add(node)
        stack.extend(node.args)
        if node in carries:
            stack.extend(n for n in (carries[node].next, carries[node].start) if n is not None)
    return frozenset(found)


def _is_thin(rows: str, cols: str) -> bool:
    return ONE in (rows, cols)


def _is_wide_carry(carry: Carry) -> bool:
    """Whether the loop holds it: what never changes is loaded where it is used."""
    return _is_thin(carry.rows, carry.cols) and carry.next is not carry.load


def _has_wide_form(node: Node) -> bool:
    if not _is_thin(node.type.rows, node.type.cols) and not TOKEN_AXES & {node.type.rows, node.type.cols}:
        return False
    if node.op == "dot":
        return ONE in (node.type.rows, node.type.cols)
    if node.op == "cumsum":
        return bool(node.type.cols == ONE)
    return node.op in _WIDENED or node.op in POINTWISE


# ---- marks ------------------------------------------------------------------------------------------------------


class _Marked:
    """A kernel with its values on the way in float64 and all others as they were."""

    def __init__(self, kernel: Kernel, cone: frozenset[Node], buffers: frozenset[str]) -> None:
        self.of, self.cone, self.buffers = kernel, cone, buffers
        self.held = {c.load for loop in kernel.loops for c in loop.scan.carries if _is_wide_carry(c)}
        self.wide: dict[Node, Node] = {}
        self.narrow: dict[Node, Node] = {}
        starts = [c.start for loop in kernel.loops for c in loop.scan.carries if c.start is not None]
        for node in walk((*kernel.roots(), *starts)):
            self._mark(node)

    def kernel(self) -> Kernel:
        if not self.cone:
            return self.of
        loops = tuple(
            Loop(replace(x.scan, carries=tuple(map(self._carry, x.scan.carries))), self._stores(x.stores),
                 self._stores(x.final_stores)) for x in self.of.loops
        )  # fmt: skip
        return replace(self.of, loops=loops, stores=self._stores(self.of.stores))

    def _mark(self, node: Node) -> None:
        """Both values of a node, from those of its arguments."""
        if node not in self.cone:
            self.narrow[node] = rebuild(node, (self.narrow[a] for a in node.args))
            self.wide[node] = tile.pointwise("widen", self.narrow[node])
        elif not node.args:
            own = node.op == "const" or node in self.held or self._is_wide_buffer(node)
            self.wide[node] = node if own else tile.pointwise("widen", node)
            self.narrow[node] = node if node.op == "const" or not own else tile.pointwise("narrow", node)
        else:
            self.wide[node] = rebuild(node, (self.wide[a] for a in node.args))
            self.narrow[node] = self._narrowed(node)

    def _narrowed(self, node: Node) -> Node:
        if node.op == "transpose":
            return rebuild(node, (self.narrow[a] for a in node.args))
        boolean = node.op in POINTWISE and POINTWISE[node.op].boolean
        return self.wide[node] if boolean else tile.pointwise("narrow", self.wide[node])

    def _is_wide_buffer(self, node: Node) -> bool:
        return node.op == "load" and node["kind"] == BUFFER and node["name"] in self.buffers

    def _carry(self, c: Carry) -> Carry:
        if c.load in self.cone and c.load in self.held:
            return replace(c, next=self.wide[c.next], start=c.start and self.wide[c.start])
        return replace(c, next=self.narrow[c.next], start=c.start and self.narrow[c.start])

    def _stores(self, stores: tuple[Store, ...]) -> tuple[Store, ...]:
        """Memory rounds what is stored: nothing else has to."""
        return tuple(replace(s, value=self._stored(s)) for s in stores)

    def _stored(self, s: Store) -> Node:
        return self.wide[s.value] if s.value in self.cone else self.narrow[s.value]
