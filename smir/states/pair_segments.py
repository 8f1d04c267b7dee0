"""Segments of masked operators without step equations: every call is given the tokens that its rows look back at.

The `state` holds, as `<input>_past` `[B, n, H, *dims]`, all earlier tokens of the inputs that other positions read
(keys, values, gates between two positions); where a mask bounds the distance, the last ones that count. `position`, a
whole number, is there where these don't tell it and weights depend on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smir.calls.array_kinds import (
    FLOATS,
    TORCH,
    Array,
    convert,
    device_of,
    dtype_of,
    has_modes,
    kind_of,
    module_of,
    signature,
    wants_gradient,
)
from smir.calls.binding import Fit, bound_to, fit_call
from smir.calls.execution import backend_for, find_backend
from smir.calls.prepared import Key, PreparedCall, PreparedCalls, call_key
from smir.compilation import Compilation
from smir.errors import ArgumentError, GradientError
from smir.ir.segment import FILLED, POSITION, past_of
from smir.ir.tile_program import OUTPUT, QUADRATIC
from smir.passes.pairs.pair_cache import PairCache
from smir.passes.pairs.pair_segment import PairSegment
from smir.passes.segments.delays import line_name
from smir.states.fixed_cache import FixedCache
from smir.states.segments import delayed, with_past
from smir.states.stepping import check_single, with_time
from smir.states.token_cache import TokenCache

Arrays = dict[str, Array]
State = Mapping[str, Array]
# Tokens of a segment and of its past from which on several programs of a GPU take a part of the past each.
GPU, FEW_TOKENS, LONG_PAST = "gpu", 64, 1024


@dataclass
class PairSegments:
    """Runs the segments of one mixer. `whole` runs it on a sequence that begins with its arguments."""

    done: Compilation
    segment: PairSegment
    backend: str | None
    chunk: int | None
    whole: Callable[[Arrays], Array]
    prepared: PreparedCalls = field(default_factory=PreparedCalls)

    @property
    def cache(self) -> PairCache:
        return self.segment.cache

    def call(self, given: Arrays, state: State, cu_seqlens: Any, return_state: bool) -> Any:
        """A call that needs, or leaves behind, the tokens that later rows look back at."""
        if cu_seqlens is not None:
            raise ArgumentError("cu_seqlens with a state that holds tokens: sequences keep different numbers of them",
                                hint="call it for each sequence, or pad them to one length")  # fmt: skip
        y, after = self.run(given, state), state_after(self.cache, given, state) if return_state else None
        return (y, after) if return_state else y

    def run(self, given: Arrays, state: State) -> Array:
        """y of a segment, from the state before it; arguments by name and result as the caller has them."""
        check_entries(self.done.spec.name, self.cache, given, state)
        if not any(name in state for name in self.cache.names):
            return self.whole(given)
        pasts = {name: state[name] for name in map(past_of, self.cache.inputs)}
        # what records a call sees operators that it knows: those of a whole sequence
        if has_modes() or any(map(wants_gradient, (*given.values(), *pasts.values()))):
            return self._as_one_sequence(given, pasts)
        return self._run(given, pasts | delayed_inputs(self.cache, given, state), self._position(state))

    def run_fixed(self, given: Arrays, state: FixedCache) -> Array:
        """The same from memory of one size, to which the segment is appended."""
        if state.has_begun:
            held: Arrays = {**state.memory, **state.lines, POSITION: state.position}
            check_entries(self.done.spec.name, self.cache, given, held)
            delayed_ones = delayed_inputs(self.cache, given, state.recent())
            counts = {FILLED: state.position, **self._position(held)} if state.memory else {}
            y = self._run(given, {**state.memory, **delayed_ones}, counts)
        else:
            y, delayed_ones = self.whole(given), delayed_inputs(self.cache, given, {})
        tokens = given | delayed_ones
        lines = _lines(self.cache, given, state.recent() if state.has_begun else {})
        state.append({past_of(name): tokens[name] for name in self.cache.inputs}, lines, y)
        return state.checked(y)

    def _run(self, given: Arrays, added: Arrays, counts: Arrays) -> Array:
        call = self._call(given, added)
        arrays, _ = call.fit.canonical(self.done.spec, given, {})
        arrays |= _canonical(call.fit, added)
        results, _ = call.run(arrays, counts)
        return call.fit.output(results[OUTPUT])

    def _position(self, state: State) -> Arrays:
        return {POSITION: state[POSITION]} if self.cache.needs_position else {}

    def _call(self, given: Arrays, added: Arrays) -> PreparedCall:
        """The kernels for calls like this one: how many tokens the past has matters only where it is long."""
        divided = self._is_divided(given, added)
        key = self._key(given, added, divided)
        call = self.prepared.find(key)
        if call is None:
            fit = fit_call(self.done.scaled_states.interface, given, {})
            bound = bound_to(fit, self.done.spec, given, {})
            backend = find_backend(self.backend or backend_for(bound))
            chunk = self.chunk or backend.chunk_for(QUADRATIC, bound)
            plan = (self.done.divided_segment if divided and backend.machine_name == GPU else None) or self.segment.plan
            runner = backend.prepare(plan, bound.arrays | _canonical(fit, added), chunk)
            call = PreparedCall(fit, runner)
            self.prepared.keep(key, call)
        return call

    def _is_divided(self, given: Arrays, added: Arrays) -> bool:
        """Whether few tokens meet a long past. The batch doesn't count: its rows don't change what others give."""
        tokens = int(given[self.done.spec.inputs[0].name].shape[1])
        return tokens <= FEW_TOKENS and _tokens(self.cache, added) >= LONG_PAST

    def _key(self, given: Arrays, added: Arrays, divided: bool) -> Key | None:
        key = call_key(self.backend, given, {})
        signatures = list(map(signature, added.values()))
        if key is None or None in signatures:
            return None
        return divided, *key, *((*s[0][:1], *s[0][2:], *s[1:]) for s in signatures if s is not None)

    def _as_one_sequence(self, given: Arrays, pasts: Arrays) -> Array:
        """The segment at the end of a sequence that begins with the past: gradients reach it through the join.

        Rows of the past are computed too, from zeros in place of what wasn't kept, and dropped.
        """
        spec, cache = self.done.spec, self.cache
        if cache.delays or cache.needs_position:
            what = "delayed tokens" if cache.delays else "the numbers of positions"
            raise GradientError(
                f"{spec.name} depends on {what}, of which its state holds the last only: no gradients go through it, "
                "and no trace",
                hint="call it with the whole sequence; or with detached tensors, outside of torch.compile",
            )
        count = _tokens(cache, pasts)
        whole = dict(given)
        for name in (d.name for d in spec.inputs):
            before = pasts.get(past_of(name))
            if before is None:
                zeros = module_of(given[name]).zeros_like(given[name][:, :1])
                before = module_of(zeros).concatenate([zeros] * count, 1)
            whole[name] = _joined(before, given[name], None)
        return self.whole(whole)[:, count:]


@dataclass(frozen=True)
class PairSteps:
    """Decoding: a few tokens at once, from a state to the next."""

    segments: PairSegments

    def __call__(self, given: Arrays, state: State, inplace: bool, several: bool) -> tuple[Array, State]:
        """y and the state after these tokens, in the arrays' own layout. Raises SmirError before anything runs."""
        spec = self.segments.done.spec
        pasts = state.held if isinstance(state, FixedCache) else state.values()
        if not several:
            check_single(spec, given)
        if inplace and any(map(wants_gradient, (*given.values(), *pasts))):
            raise GradientError("inplace=True would overwrite a state that gradients need",
                                hint="decode under torch.no_grad(), or with inplace=False")  # fmt: skip
        tokens = given if several else with_time(spec, given)
        if inplace and isinstance(state, FixedCache):
            y = self.segments.run_fixed(tokens, state)
            return y if several else y[:, 0], state
        y = self.segments.run(tokens, state)
        return y if several else y[:, 0], state_after(self.segments.cache, tokens, state, inplace)


def _canonical(fit: Fit, tokens: Arrays) -> Arrays:
    return tokens if fit.has_heads else {name: a[:, :, None] for name, a in tokens.items()}


def delayed_inputs(cache: PairCache, given: Arrays, state: State) -> Arrays:
    """What is read of earlier tokens, at the tokens that read it."""
    found: Arrays = {}
    for name, ages in cache.delays:
        wide = _with_line(cache, name, given, state)
        found |= {line_name(name, age): delayed(wide, age, cache.longest(name)) for age in ages}
    return found


def _with_line(cache: PairCache, name: str, given: Arrays, state: State) -> Array:
    """The tokens of an input, and before them as many earlier ones as are read; zero before the first."""
    count, new, past = cache.longest(name), given[name], state.get(past_of(name))
    if past is not None and past.shape[1] < count:
        past = with_past(past, None, count - int(past.shape[1]))
    return with_past(new, None if past is None else past[:, past.shape[1] - count :], count)


def state_after(cache: PairCache, given: Arrays, state: State, inplace: bool = False) -> State:
    """The state after a segment; with `inplace` the TokenCache that was given, or, where it was none, a new one."""
    tokens = given | delayed_inputs(cache, given, state)
    new = {past_of(name): tokens[name] for name in cache.inputs}
    plain = _lines(cache, given, state) | _position(cache, given, state)
    if inplace:
        grown = state if isinstance(state, TokenCache) else _cache_of(cache, state)
        if new:
            grown.append(new, cache.tokens)
        for name, value in plain.items():
            grown.put(name, value)
        return grown
    return {name: _joined(state.get(name), a, cache.tokens) for name, a in new.items()} | plain


def check_entries(mixer: str, cache: PairCache, given: Arrays, state: State) -> None:
    """Whether the entries of a state fit the arguments. Raises ArgumentError."""
    names = [name for name in cache.names if name in state]
    if not names:
        return
    missing = [name for name in cache.names if name not in state]
    if missing:
        raise ArgumentError(f"the state of {mixer} is given without {missing[0]}",
                            hint=f"its entries belong together: {', '.join(cache.names)}")  # fmt: skip
    counts = {}
    inputs = {name: given[name] for name in given if past_of(name) in names}
    inputs |= {line_name(name, age): given[name] for name, ages in cache.delays for age in ages}
    for name, like in inputs.items():
        if past_of(name) in names:
            _check_past(past_of(name), state[past_of(name)], name, like)
        if name in cache.inputs:
            counts[past_of(name)] = int(state[past_of(name)].shape[1])
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ArgumentError(f"the pasts have different numbers of tokens: {found}", hint="give them as they came back")


def _check_past(label: str, found: Any, name: str, like: Array) -> None:
    kind, where = kind_of(found), f"state {label}"
    if kind is None or kind != kind_of(like):
        raise ArgumentError(f"{where} is {kind or type(found).__name__}, and {name} a {kind_of(like)} array",
                            hint="pass arrays of one kind")  # fmt: skip
    if dtype_of(found) not in FLOATS[kind]:
        raise ArgumentError(f"{where} holds {dtype_of(found)}, expected {', '.join(FLOATS[kind])}")
    if device_of(found) != device_of(like):
        raise ArgumentError(f"{where} is on {device_of(found)} and {name} on {device_of(like)}",
                            hint="move them to one device")  # fmt: skip
    expected = (like.shape[0], *like.shape[2:])
    if len(found.shape) < 2 or (found.shape[0], *found.shape[2:]) != expected:
        shape = ", ".join(map(str, ("n", *expected[1:])))
        raise ArgumentError(f"{where} has shape {tuple(found.shape)}, expected ({expected[0]}, {shape})",
                            hint=f"the last n tokens of {name}; is it from another batch?")  # fmt: skip


# ---- states -----------------------------------------------------------------------------------------------------


def _tokens(cache: PairCache, state: State) -> int:
    return int(state[past_of(cache.inputs[0])].shape[1]) if cache.inputs and past_of(cache.inputs[0]) in state else 0


def _joined(before: Array | None, new: Array, most: int | None) -> Array:
    """The last tokens of both, an array of its own."""
    library = module_of(new)
    if before is not None:
        before = convert(before, str(kind_of(new)), dtype_of(new), device_of(new))
        whole = library.concatenate([before, new], 1)
    else:
        whole = new
    if most is not None and whole.shape[1] > most:
        whole = whole[:, whole.shape[1] - most :]
    if before is not None and whole.shape[1] == new.shape[1] + before.shape[1]:
        return whole
    return _own(whole)


def _cache_of(cache: PairCache, state: State) -> TokenCache:
    """A state that can grow, with the tokens of another one."""
    made = TokenCache()
    old = {name: state[name] for name in map(past_of, cache.inputs) if name in state}
    if old:
        made.append(old, cache.tokens)
    return made


def _lines(cache: PairCache, given: Arrays, state: State) -> Arrays:
    """The last tokens of inputs that are read of earlier tokens only."""
    found = {}
    for name in (name for name, _ in cache.delays if name not in cache.inputs):
        wide, count = _with_line(cache, name, given, state), cache.longest(name)
        found[past_of(name)] = _own(wide[:, wide.shape[1] - count :])
    return found


def _own(a: Array) -> Array:
    return a.clone() if kind_of(a) == TORCH else a.copy()


def _position(cache: PairCache, given: Arrays, state: State) -> Arrays:
    if not cache.needs_position:
        return {}
    new = given[cache.inputs[0]]
    count = int(new.shape[1])
    if POSITION in state:
        return {POSITION: state[POSITION] + count}
    if kind_of(new) == TORCH:
        return {POSITION: module_of(new).full((), count, dtype=module_of(new).int64, device=new.device)}
    return {POSITION: np.asarray(count)}
