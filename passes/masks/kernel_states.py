"""Kernel states: `y_t = sum over j of F(t, j) x_j` as reads of recurrent states, for an index formula F.

Distances d = i - j fall into regions (index_formulas). Bounded ones become finite sums of delayed inputs; the
two unbounded ones become a forward and a backward state when F separates there (mask_factors).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from smir.ir.dims import ONE, Dim
from smir.ir.expr import const, matmul, pointwise, rotate, state_at, transpose
from smir.ir.graph import Node
from smir.ir.mixer import State
from smir.passes.expressions.algebra import UNITY, ZERO, expand, factors, is_const, is_zero, product, total
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.masks.index_formulas import NO_FACTORS, Leaves, at_distance, breakpoints, gives, resolve, shift
from smir.passes.masks.mask_factors import Segment, SeparableTerm, separate
from smir.passes.masks.position_angles import with_differences

# Positions that become explicit terms, and the distance up to which conditions are looked at.
WIDEST_WINDOW, FARTHEST = 64, 4096


@dataclass
class StateBuilder:
    """The states that a masked operator needs, with fresh names; equal ones are made once."""

    taken: set[str]
    states: list[State] = field(default_factory=list)
    known: dict[tuple[object, ...], str] = field(default_factory=dict)

    def recurrence(
        self, stem: str, decay: Node, write: Node, ahead: int, turn: Node | None = None
    ) -> tuple[Node, Node]:
        """A state `decay * previous + write`, running backward when `ahead` is 1; its value now and before.

        `turn`: the angle by which the rows of the previous one turn.
        """
        rows, cols = write.type.shape
        key = (decay, write, ahead, turn)
        name = self.known.get(key) or self._fresh(stem)
        now, before = state_at(name, rows, cols, 0), state_at(name, rows, cols, ahead)
        if key not in self.known:
            self.known[key] = name
            kept = _turned(turn, before if is_const(decay, 1.0) else pointwise("mul", decay, before))
            self.states.append(State(name, _dims(rows, cols), 0.0, pointwise("add", kept, write)))
        return now, before

    def _fresh(self, stem: str) -> str:
        name, number = stem, 1
        while name in self.taken:
            number += 1
            name = f"{stem}{number}"
        self.taken.add(name)
        return name


def _dims(rows: Dim, cols: Dim) -> tuple[Dim, ...]:
    return (rows, cols) if cols != ONE else (rows,) if rows != ONE else ()


@dataclass(frozen=True)
class Kernel:
    """F and what it is applied to: per-step columns x (None: ones, for row sums)."""

    formula: Node
    value: Node | None
    leaves: Leaves
    builder: StateBuilder

    def applied(self) -> Node:
        """sum over j of F(t, j) x_j, per step. Raises BrokenLaw."""
        return replace(self, formula=with_differences(self.formula))._by_regions()

    def _by_regions(self) -> Node:
        points = sorted(breakpoints(self.formula))
        nearest, farthest = points[0], points[-1]
        self._check_width(farthest - nearest, FARTHEST)
        resolved = {d: resolve(self.formula, d) for d in range(nearest, farthest)}
        lags = {d: formula for d, formula in resolved.items() if not is_zero(factors(formula))}
        self._check_width(len(lags), WIDEST_WINDOW)
        above, below = resolve(self.formula, nearest - 1), resolve(self.formula, farthest)
        parts = [self._tail(below, farthest, lags, lower=True), self._tail(above, nearest - 1, lags, lower=False)]
        parts.extend(self._lag(d, formula) for d, formula in sorted(lags.items(), reverse=True))
        result = total(p for p in parts if p is not None) or ZERO
        return result if self.value is None else expand(result, self.value.type.rows, ONE)

    def _check_width(self, width: int, limit: int) -> None:
        if width > limit:
            most = f"at most {WIDEST_WINDOW} become a sum of delayed inputs"
            raise BrokenLaw(f"a window of {width} positions ({most})", self.formula, NO_FACTORS)

    # ---- bounded distances --------------------------------------------------------------------------------------

    def _lag(self, distance: int, formula: Node) -> Node:
        """F(t, t - distance) x_(t - distance), zero outside the sequence."""
        entry = at_distance(formula, distance, self.leaves)
        value = UNITY if self.value is None else shift(self.value, -distance)
        term = product((entry, value))
        if distance == 0 or gives(term, 0.0, -distance):
            return term
        ahead = 1 if distance < 0 else -1
        count, _ = self.builder.recurrence("remaining" if distance < 0 else "count", UNITY, UNITY, ahead)
        return pointwise("where", pointwise("lt", const(abs(distance)), count), term, ZERO)

    # ---- unbounded distances ------------------------------------------------------------------------------------

    def _tail(self, formula: Node, start: int, lags: dict[int, Node], lower: bool) -> Node | None:
        if is_zero(factors(formula)):
            return None
        toward = -1 if lower else 1
        while start + toward in lags and self._continues(formula, start + toward, lags, lower):
            start += toward
            del lags[start]
        terms = separate(formula, lower, self.leaves)
        return total(self._state_read(term, abs(start), lower) for term in terms)

    def _continues(self, formula: Node, distance: int, lags: dict[int, Node], lower: bool) -> bool:
        """Whether the tail's own formula already gives the entries at this nearer distance."""
        if distance < 0 if lower else distance > 0:
            return False
        if formula is lags[distance]:
            return True
        try:
            tail = at_distance(formula, distance, self.leaves)
            return tail is at_distance(lags[distance], distance, self.leaves)
        except BrokenLaw:
            return False

    def _state_read(self, term: SeparableTerm, start: int, lower: bool) -> Node:
        """One separable term over distances of at least `start`: its state, read out."""
        ahead = -1 if lower else 1
        segments = [self._checked(s, lower) for s in term.segments]
        lengths = [_length_at_zero(s, lower) for s in segments]
        delay, when = (start, "after") if start != 1 else (0, "decayed")
        if start == 1 and min(lengths, default=0) < 0:
            segments, when = [_longer(s, lower) for s in segments], "before"
            lengths = [n + 1 for n in lengths]
        if any(n + delay < 0 for n in lengths):
            raise BrokenLaw("a product over a range that runs backward", self.formula, NO_FACTORS)
        decay = product(s.factor(s.at_i) for s in segments)
        now, before = self._state(term, segments, decay, delay, ahead)
        kept = before if when == "before" or is_const(decay, 1.0) else pointwise("mul", decay, before)
        state = now if when == "after" else _turned(term.turn, kept)
        scale = term.query_scale
        if term.scores is None:
            return state if is_const(scale, 1.0) else pointwise("mul", scale, state)
        return product((scale, matmul(transpose(state), term.scores[0])))

    def _state(
        self, term: SeparableTerm, segments: list[Segment], decay: Node, delay: int, ahead: int
    ) -> tuple[Node, Node]:
        back = ahead * delay
        edges = [s.factor(m) for s in segments for m in _edge(s, back, lower=ahead < 0)]
        key = None if term.scores is None else shift(term.scores[1], back)
        if key is not None and delay and term.turn is not None:
            key = rotate(product((const(delay), term.turn)), key)
        value = None if self.value is None else shift(self.value, back)
        scaled = product((shift(term.key_scale, back), *edges, *([] if value is None else [value])))
        if key is None:
            write = scaled
        elif value is None:
            write = product((scaled, key))
        else:
            write = matmul(key, transpose(scaled))
        if delay and not gives(write, 0.0, back):
            raise BrokenLaw("a distant write that does not vanish outside the sequence", self.formula, NO_FACTORS)
        stem = "z" if write.type.cols == ONE else "S"
        if ahead > 0:
            stem = {"z": "zb", "S": "B"}[stem]
        return self.builder.recurrence(stem, decay, write, ahead, term.turn)

    def _checked(self, segment: Segment, lower: bool) -> Segment:
        """Positions between i and j lie in the sequence; beyond them factors must be 1 for missing inputs."""
        first, last = (segment.at_j, segment.at_i) if lower else (segment.at_i, segment.at_j)
        if (first < 0 or last > 0) and not gives(segment.factor(0), 1.0):
            raise BrokenLaw("a product that may leave the sequence", self.formula, NO_FACTORS)
        return segment


def _turned(angle: Node | None, state: Node) -> Node:
    return state if angle is None else rotate(angle, state)


def _length_at_zero(segment: Segment, lower: bool) -> int:
    return (segment.at_i - segment.at_j if lower else segment.at_j - segment.at_i) + 1


def _longer(segment: Segment, lower: bool) -> Segment:
    """The segment with one more position on the side of i: what the neighbour's state holds."""
    return Segment(segment.factor, segment.at_i + (1 if lower else -1), segment.at_j)


def _edge(segment: Segment, back: int, lower: bool) -> Iterable[int]:
    """Offsets from t of the positions that a write at t + back has already passed."""
    if lower:
        return range(back + segment.at_j, segment.at_i + 1)
    return range(segment.at_i, back + segment.at_j + 1)
