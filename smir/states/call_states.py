"""What the `state` of a mixer's call holds: by name, everything that a later segment needs of the tokens before it.

- the states of the spec, or those that stand for its masks, `[B, H, *dims]`; mantissas are followed by their logs;
- `<x>_past` `[B, n, H, *dims]`, oldest first: the last n tokens of an input that is read at `[t-n]`; of a state, its
  values before the last one;
- of masked operators without step equations, `<x>_past` and `position` (`smir.states.pair_segments`).

What isn't given is as before the first token: a past is zero, that of a state the state itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from smir.calls.array_kinds import FLOATS, Array, device_of, dtype_of, kind_of
from smir.errors import ArgumentError, FormError
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle
from smir.ir.segment import past_of
from smir.passes.pairs.pair_cache import PairCache
from smir.passes.segments.delays import delay_lines, line_ages, line_name
from smir.states.fixed_cache import FixedCache
from smir.states.scaled_states import ScaledStates
from smir.states.token_cache import TokenCache

Arrays = dict[str, Array]


class EndStates(dict[str, Any]):
    """The final states of a mixer that looks ahead: values to look at, with which nothing can go on."""


@dataclass(frozen=True)
class Past:
    """The values of an input or state before the last ones: `ages` counts tokens back, newest first."""

    of: str
    is_input: bool
    ages: range

    @property
    def name(self) -> str:
        return past_of(self.of)

    def line(self, age: int) -> str:
        """What the value of this age is called inside the compiler."""
        return line_name(self.of, age)

    def index(self, age: int) -> int:
        """Where it is among the tokens of the past."""
        return len(self.ages) - 1 - self.ages.index(age)


@dataclass(frozen=True)
class CallStates:
    """The entries of one mixer's `state`. `equations` is the mixer as step equations; None: it has none."""

    spec: Mixer
    equations: Mixer | None
    scaled: ScaledStates
    ahead: Obstacle | None
    # Of reads over pairs of positions: what is kept of the tokens before a segment.
    tokens_kept: Callable[[], PairCache | None] = lambda: None

    @cached_property
    def pasts(self) -> tuple[Past, ...]:
        if self.equations is None or self.ahead is not None:
            return ()
        inputs, equations = {d.name for d in self.spec.inputs}, self.equations
        return tuple(Past(name, name in inputs, line_ages(equations, name)) for name in delay_lines(equations))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all entries, in the order in which they come back."""
        if (kept := self.tokens_kept()) is not None:
            return kept.names
        return (*(s.name for s in self.scaled.interface.states), *(p.name for p in self.pasts))

    def require_causal(self, what: str) -> None:
        """Raises FormError for a mixer that looks ahead: `what` it is that needs a state to go on from."""
        if self.ahead is None:
            return
        raise FormError(
            f"{self.spec.name} has no {what}: {self.ahead.message}",
            self.ahead.span,
            "a mixer that looks ahead needs the whole sequence in one call",
        )

    def match(self, state: Any) -> Arrays:
        """The entries given, by name. Raises ArgumentError for what is no mapping from names of entries, FormError for
        a mixer that no state can continue: one that looks ahead takes values at its two ends only, by the names of
        its states."""
        if state is None:
            return {}
        if isinstance(state, EndStates) or (state and not self.names):
            self.require_causal("state to go on from")
        declared = (
            f"the states of {self.spec.name} are {', '.join(self.names)}"
            if self.names
            else f"{self.spec.name} has no states"
        )
        if not isinstance(state, Mapping):
            hint = f"state={{'{self.names[0]}': ...}}" if self.names else declared
            raise ArgumentError(
                f"state is a {type(state).__name__}, expected a dictionary from names to arrays", hint=hint
            )
        unknown = [name for name in state if name not in self.names]
        if unknown:
            close = get_close_matches(str(unknown[0]), self.names, 1, 0.5)
            other = "; this looks like the state of another mixer" if len(unknown) == len(state) > 1 else ""
            hint = f"did you mean {close[0]}?" if close else declared
            raise ArgumentError(f"{self.spec.name} has no state {unknown[0]!r}{other}", hint=hint)
        # what grows in place stays what it is
        given: Any = state if isinstance(state, (TokenCache, FixedCache)) else dict(state)
        return given  # type: ignore[no-any-return]

    def handed_back(self, final: Arrays) -> Arrays:
        """Final states as a call gives them."""
        return final if self.ahead is None else EndStates(final)

    def split(self, given: Arrays) -> tuple[Arrays, Arrays]:
        """States, and pasts by their names."""
        pasts = {p.name for p in self.pasts}
        return {n: a for n, a in given.items() if n not in pasts}, {n: a for n, a in given.items() if n in pasts}

    def crosses(self, given: Arrays, return_state: bool) -> bool:
        """Whether a call with these entries has to do with tokens before its first one, or after its last one."""
        if self.equations is None:
            return (bool(given) or return_state) and self.tokens_kept() is not None
        return bool(self.pasts) and (return_state or any(p.name in given for p in self.pasts))

    def check_pasts(self, arguments: Arrays, states: Arrays, pasts: Arrays, packed: int | None = None) -> None:
        """Whether the given pasts fit their inputs `[B, T, H, *dims]` and states `[B, H, *dims]`, or those of so many
        packed sequences."""
        for past in (p for p in self.pasts if p.name in pasts):
            if not past.is_input and past.of not in states:
                raise ArgumentError(f"state {past.name} is given without {past.of}", hint=f"give {past.of} too")
            like = (arguments if past.is_input else states)[past.of]
            _check_past(past, pasts[past.name], like, like.shape[0] if packed is None else packed)


def _check_past(past: Past, found: Array, like: Array, rows: int) -> None:
    label, kind = f"state {past.name}", kind_of(like)
    if kind_of(found) != kind:
        what = kind_of(found) or f"a {type(found).__name__}"
        raise ArgumentError(f"{label} is {what}, and {past.of} a {kind} array", hint="pass arrays of one kind")
    if device_of(found) != device_of(like):
        raise ArgumentError(f"{label} is on {device_of(found)} and {past.of} on {device_of(like)}",
                            hint="move them to one device")  # fmt: skip
    if dtype_of(found) not in FLOATS[str(kind)]:
        raise ArgumentError(f"{label} holds {dtype_of(found)}, expected {', '.join(FLOATS[str(kind)])}")
    expected = (rows, len(past.ages), *like.shape[2 if past.is_input else 1 :])
    if tuple(found.shape) != expected:
        raise ArgumentError(
            f"{label} has shape {tuple(found.shape)}, expected {expected}",
            hint=f"[B, n, ...]: the last {len(past.ages)} tokens of {past.of}, oldest first; is it from another "
            "mixer, or another batch?",
        )
