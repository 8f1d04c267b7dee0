"""What a layer has to make for each declaration of a spec: asked of the spec's ranges and of its recognised algebra.

Nothing here knows torch, and nothing looks at a mixer's name.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from smir.compilation import Compilation
from smir.ir.graph import Node, walk
from smir.ir.interval import INF, REAL, Interval, point
from smir.ir.mixer import INPUT, Declaration, Mixer
from smir.ir.operator import OperatorProgram
from smir.passes.analysis.ranges import node_ranges
from smir.sampling import NAMED

LOG_DECAY = Interval(-INF, 0.0)


@dataclass(frozen=True)
class Role:
    """One declaration with its sizes per head.

    `kept` is the end of the range at which a decay forgets nothing, for what the initial memory depends on. `unit`
    vectors have norm one. `positive` vectors pass through a feature map, because the mixer divides by sums of them.
    """

    declaration: Declaration
    shape: tuple[int, ...]
    kept: float | None = None
    unit: bool = False
    positive: bool = False

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def size(self) -> int:
        """Numbers per head, and per time step for an input."""
        return math.prod(self.shape)

    @property
    def gate(self) -> bool:
        """Whether its projection has a bias and an activation: scalars, and all with a promised range."""
        return not self.shape or self.declaration.range != REAL


def find_roles(done: Compilation, sizes: Mapping[str, int]) -> tuple[Role, ...]:
    """The roles of a spec's declarations, in their order. `sizes` has every dimension name."""
    kept = kept_ends(done)
    unit = erasing(done.operators) if done.operators else frozenset()
    positive = signed_divisors(done.spec)
    return tuple(
        Role(
            declaration=d,
            shape=tuple(dim.size(sizes) for dim in d.dims),
            kept=kept.get(d.name),
            unit=_free(d) and d.name in unit,
            positive=_free(d) and d.name in positive,
        )
        for d in done.spec.declarations
    )


# ---- decays -----------------------------------------------------------------------------------------------------


def kept_ends(done: Compilation) -> dict[str, float]:
    """For each declaration that the initial memory depends on, the end of its range that forgets nothing.

    In the logarithm of each recognised decay that is one declaration, an input if there is one; the other factors of
    a decay `exp(dt * A)` start away from their ends. What no recognised decay holds counts as one where its range is
    that of a logarithm of a decay.
    """
    declared = {d.name: d.range for d in done.spec.declarations}
    ranked = [d.name for d in sorted(done.spec.declarations, key=lambda d: d.kind != INPUT)]
    found: dict[str, float] = {}
    seen: set[str] = set()
    for log in _decay_logs(done.operators):
        inside = _names([log])
        ends = {n: end for n in ranked if n in inside and (end := _kept_end(log, n, declared)) is not None}
        if not ends.keys() & found.keys():
            found.update(list(ends.items())[:1])
        seen |= inside
    return {**dict.fromkeys((n for n in ranked if n not in seen and declared[n] == LOG_DECAY), 0.0), **found}


def _decay_logs(operators: OperatorProgram | None) -> list[Node]:
    decays = [o.decay for o in operators.operators] if operators else []
    return [part.log for d in decays for part in (d.scalar, d.rows, d.cols) if part]


def _kept_end(log: Node, name: str, declared: Mapping[str, Interval]) -> float | None:
    """The finite end of the name's range at which the logarithm is largest; None when both ends give the same."""
    at = {
        end: node_ranges([log], {**declared, name: point(end)})[log] for end in (declared[name].lo, declared[name].hi)
    }
    low, high = ((r.hi, r.lo) for r in at.values()) if len(at) == 2 else (0, 0)
    end = max(at, key=lambda e: (at[e].hi, at[e].lo))
    return end if low != high and math.isfinite(end) else None


# ---- vectors ----------------------------------------------------------------------------------------------------


def erasing(operators: OperatorProgram) -> frozenset[str]:
    """The inputs that the low-rank part of a transition is made of.

    `S + k (..  - S'k)'` multiplies the state by `1 - k k'`: it contracts only while the norm of k is bounded.
    """
    writes = [w for o in operators.operators for s in o.steps for w in s.writes]
    return frozenset(chain.from_iterable(_names([w.left, w.erase.vector]) for w in writes if w.erase))


def signed_divisors(mixer: Mixer) -> frozenset[str]:
    """The names behind divisors that may vanish: none when every divisor is proved not negative.

    Where a proof needs them, the states behind the divisors are taken to be non-negative, and their updates prove it.
    """
    declared = {d.name: d.range for d in mixer.declarations}
    divisors = [n.args[1] for n in mixer.nodes() if n.op == "div"]
    alone = node_ranges(divisors, declared)
    open_ones = [d for d in divisors if alone[d].lo < 0]
    names = _behind(mixer, open_ones)
    states = [s for s in mixer.states if s.name in names]
    roots = [*open_ones, *(s.update for s in states)]
    found = node_ranges(roots, {**declared, **{s.name: Interval(0.0, INF) for s in states}})
    proved = all(found[r].lo >= 0 for r in roots) and all(s.initial >= 0 for s in states)
    return frozenset() if proved else names


def _behind(mixer: Mixer, roots: Iterable[Node]) -> frozenset[str]:
    """The names below these values, and below the updates of the states among them."""
    updates = {s.name: s.update for s in mixer.states}
    found: set[str] = set()
    pending = _names(roots)
    while pending:
        found |= pending
        pending = _names(updates[n] for n in pending if n in updates) - found
    return frozenset(found)


def _names(roots: Iterable[Node]) -> set[str]:
    return {n["name"] for n in walk(roots) if n.op in NAMED}


def _free(d: Declaration) -> bool:
    """A vector, or matrix, that may be anything."""
    return d.kind == INPUT and bool(d.dims) and d.range == REAL
