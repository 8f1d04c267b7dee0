"""States that run as a mantissa and the log of its scale: what a caller gives and gets, and what programs carry.

A state S whose values may exceed every float is carried as S e^-m beside m, which states with the same gates share.
Callers give S as it is, or with `S_log` as the mantissa of S e^S_log; they get both back. Numpy and torch alike, exact
and differentiable: m itself is a constant, on which nothing depends as long as mantissa and log belong together.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from smir.calls.array_kinds import convert, device_of, dtype_of, kind_of, promote, same_memory, wants_gradient
from smir.errors import ArgumentError
from smir.ir.dims import ONE
from smir.ir.mixer import Mixer, State, matrix_shape
from smir.passes.stabilisation.scales import LOWEST
from smir.passes.stabilisation.stabilise import SUFFIX

Array = Any
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class ScaledStates:
    """The states of a `spec`, and how its `recurrence`, the mixer that runs, carries them."""

    spec: Mixer
    recurrence: Mixer

    @cached_property
    def members(self) -> dict[str, tuple[State, ...]]:
        """The spec's states that are carried as mantissas, by the name of their log."""
        found: dict[str, tuple[State, ...]] = {}
        for state in (self.recurrence.state(s.name) for s in self.spec.states):
            if state.log is not None:
                found[state.log] = (*found.get(state.log, ()), state)
        return found

    @cached_property
    def carried_names(self) -> tuple[str, ...]:
        """Of the final states that a run of the recurrence gives: those of the spec, then logs."""
        return (*(s.name for s in self.spec.states), *self.members)

    @cached_property
    def logs(self) -> frozenset[str]:
        """The names of the interface's logs, which have no gradient."""
        return frozenset(s.name for s in self.interface.states) - {s.name for s in self.spec.states}

    @cached_property
    def interface(self) -> Mixer:
        """The spec with the states that a call may give and gets back: mantissas are followed by their logs."""
        states: list[State] = []
        for state in self.spec.states:
            states.append(state)
            if log := self._log(state):
                states.append(replace(log, name=state.name + SUFFIX))
        return replace(self.spec, states=tuple(states))

    def _log(self, state: State) -> State | None:
        name = self.recurrence.state(state.name).log
        return None if name is None else self.recurrence.state(name)

    def carried(self, states: Arrays, sizes: Mapping[str, int], differentiable: bool = False) -> dict[str, Array]:
        """What programs start from, for the initial states `[B, H, *dims]` that a call gives by its own names.

        The log of zero is very low, but 0 where gradients (`differentiable`, or recorded by autograd) would be lost
        then: zero has a gradient too. Raises ArgumentError for the log of a state that isn't given itself.
        """
        if not self.members:
            return dict(states)
        mantissas = {s.name for group in self.members.values() for s in group}
        found = {n: a for n, a in states.items() if n not in mantissas and n.removesuffix(SUFFIX) not in mantissas}
        for name in states:
            own = name.removesuffix(SUFFIX)
            if own in mantissas and own not in states:
                raise ArgumentError(f"state {name} is given without {own}", hint=f"give {own} too, its mantissa")
        for log, group in self.members.items():
            if _share_a_log(group, states):
                found |= {s.name: states[s.name] for s in group} | {log: states[group[0].name + SUFFIX]}
            elif any(s.name in states for s in group):
                found |= _group(self.recurrence.state(log), group, states, sizes, differentiable)
        return found

    def given_back(self, final: Arrays) -> dict[str, Array]:
        """Final states by the names of the interface, from those that programs carry."""
        found = {}
        for state in self.spec.states:
            found[state.name] = final[state.name]
            if log := self._log(state):
                found[state.name + SUFFIX] = final[log.name]
        return found

    def multiplied_out(self, final: Arrays) -> dict[str, Array]:
        """Final states as the spec means them, by its names; in float64, which holds more of them than float32."""
        return {s.name: final[s.name] * self.scale(s.name, final) for s in self.spec.states}

    def scale(self, name: str, carried: Arrays) -> Array:
        """e^log of a state, to multiply its mantissa with, by the logs in `carried`; 1 for a state without a log."""
        log = self._log(self.spec.state(name))
        if log is None:
            return 1.0
        found = np.exp(_matrix(np.asarray(carried[log.name], np.float64), log))
        return found.reshape(*found.shape[:2], *found.shape[2 : 2 + len(self.spec.state(name).dims)])


def _share_a_log(group: tuple[State, ...], states: Arrays) -> bool:
    """Whether states are given as a call gives them back: all of a group, with one log for all in the same memory."""
    logs = [states[s.name + SUFFIX] for s in group if s.name in states and s.name + SUFFIX in states]
    return len(logs) == len(group) and not wants_gradient(logs[0]) and all(same_memory(logs[0], x) for x in logs[1:])


def _group(
    log: State, group: tuple[State, ...], states: Arrays, sizes: Mapping[str, int], differentiable: bool
) -> dict[str, Array]:
    """The mantissas of states that share a log, at the largest of their own logs, and that log.

    A state that isn't given starts at its own number; where that is zero, whatever the log.
    """
    given = {s.name: _wide(states[s.name]) for s in group if s.name in states}
    first = next(iter(given.values()))
    for s in (s for s in group if s.name not in given and s.initial):
        given[s.name] = _full(first, (*first.shape[:2], *(d.size(sizes) for d in s.dims)), s.initial)
    parts = []
    for s in (s for s in group if s.name in given):
        nothing = 0.0 if differentiable or wants_gradient(given[s.name]) else LOWEST
        parts.append(_part(s, log, given[s.name], states.get(s.name + SUFFIX), nothing))
    library = _library(first)
    largest = _constant(parts[0][1])
    for _, own in parts[1:]:
        largest = library.maximum(largest, _constant(own))
    found = {}
    for state, (mantissa, own) in zip((s for s in group if s.name in given), parts, strict=True):
        found[state.name] = (mantissa * library.exp(own - largest)).reshape(given[state.name].shape)
    found[log.name] = largest.reshape(*first.shape[:2], *largest.shape[2 : 2 + len(log.dims)])
    return found


def _part(state: State, log: State, value: Array, own: Array | None, nothing: float) -> tuple[Array, Array]:
    """A state as mantissa and log, both matrices; `nothing` is the log of zero.

    A plain one is divided by the largest of the elements that share a log.
    """
    library, matrix = _library(value), _matrix(value, state)
    if own is not None:
        return matrix, library.clip(_matrix(_wide(own), log), LOWEST, None)
    largest = _constant(abs(matrix))
    pairs = zip(matrix_shape(log.dims), matrix_shape(state.dims), strict=True)
    for axis in (2 + n for n, (kept, axis) in enumerate(pairs) if kept == ONE != axis):
        largest = _largest(largest, axis)
    zero = largest == 0
    safe = library.where(zero, library.ones_like(largest), largest)
    return matrix / safe, library.where(zero, _full(largest, largest.shape, nothing), library.log(safe))


def _largest(array: Array, axis: int) -> Array:
    return array.max(axis=axis, keepdims=True) if isinstance(array, np.ndarray) else array.amax(axis, keepdim=True)


def _matrix(array: Array, state: State) -> Array:
    """`[B, H, *dims]` as `[B, H, rows, cols]`."""
    return array.reshape(*array.shape[:2], *(*array.shape[2:], 1, 1)[:2])


def _library(array: Array) -> Any:
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def _constant(array: Array) -> Array:
    """Without the past that a gradient would flow to."""
    return array if isinstance(array, np.ndarray) else array.detach()


def _wide(array: Array) -> Array:
    """In 32 bits at least."""
    return convert(array, str(kind_of(array)), promote((dtype_of(array), "float32")), device_of(array))


def _full(like: Array, shape: tuple[int, ...], value: float) -> Array:
    return np.full(shape, value, like.dtype) if isinstance(like, np.ndarray) else like.new_full(shape, value)
