"""From a user's call to canonical arrays, and back.

A call may leave the head axis out, throughout; its arrays may be numpy or torch, of any float type, in any memory
order. Everything behind this module sees inputs `[B, T, H, *dims]`, parameters `[H, *dims]`, states `[B, H, *dims]`.
Whatever doesn't fit is one ArgumentError that names the argument, what was found, what was expected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, NoReturn

import numpy as np

from smir.calls.array_kinds import (
    CPU,
    FLOATS,
    NUMPY,
    Array,
    convert,
    device_of,
    dtype_of,
    filled,
    kind_of,
    promote,
    to_numpy,
    unreadable,
    wants_gradient,
)
from smir.calls.binding_shapes import check_states, find_layout
from smir.calls.packing import check_cu_seqlens
from smir.errors import ArgumentError, RangeError
from smir.ir.interval import Interval
from smir.ir.mixer import INPUT, Declaration, Mixer
from smir.ir.sizes import CU_SEQLENS

Arrays = dict[str, Array]


@dataclass(frozen=True)
class Fit:
    """How calls with arrays of these shapes, types and devices fit their mixer.

    `kind` is the caller's (`numpy` or `torch`). `dtype` is that of the output: what the vector inputs have in common,
    so that float32 gates beside bfloat16 vectors give a bfloat16 output. `sizes` has the dimension names and `T`.
    """

    batch: int
    tokens: int
    heads: int
    has_heads: bool
    sizes: dict[str, int]
    kind: str
    dtype: str
    device: str

    def canonical(self, mixer: Mixer, given: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
        """Arguments and states by name in canonical layout: numbers become arrays, the head axis is there."""
        arrays = {name: self._array(value) for name, value in given.items()}
        if self.has_heads:
            return arrays, states
        inputs = {d.name for d in mixer.inputs}
        arrays = {name: a[:, :, None] if name in inputs else a[None] for name, a in arrays.items()}
        return arrays, {name: s[:, None] for name, s in states.items()}

    def _array(self, value: Any) -> Array:
        """The value itself, or a 0-d array of a number."""
        if not isinstance(value, (int, float)):
            return value
        return filled((), float(value), self.kind, "float64" if self.kind == NUMPY else "float32", self.device)

    @property
    def state_dtype(self) -> str:
        """Final states are never held in 16 bits."""
        return promote((self.dtype, "float32"))

    def output(self, y: Array) -> Array:
        """`[B, T, H, *dims]` in the caller's layout, kind, type and device."""
        return convert(y if self.has_heads else y[:, :, 0], self.kind, self.dtype, self.device)

    def final_states(self, states: Mapping[str, Array]) -> Arrays:
        """Final states `[B, H, *dims]` in the caller's layout, kind and device, in `state_dtype`."""
        plain = {name: s if self.has_heads else s[:, 0] for name, s in states.items()}
        return {name: convert(s, self.kind, self.state_dtype, self.device) for name, s in plain.items()}

    def restore(self, y: Array, final_states: Mapping[str, Array]) -> tuple[Array, Arrays]:
        """Canonical results, numpy or torch, as the caller expects them."""
        return self.output(y), self.final_states(final_states)


@dataclass(frozen=True)
class Bound(Fit):
    """A call that fits its mixer: `arrays` (inputs and parameters) and the `states` given, in canonical layout."""

    arrays: Arrays
    states: Arrays

    @property
    def recorded(self) -> frozenset[str]:
        """The arrays and states on which autograd is recording operations, by name."""
        return frozenset(n for n, a in {**self.arrays, **self.states}.items() if wants_gradient(a))

    def numpy(self) -> tuple[Arrays, Arrays]:
        """Arrays and states as numpy arrays on the CPU (bfloat16 as float32)."""
        return {n: to_numpy(a) for n, a in self.arrays.items()}, {n: to_numpy(a) for n, a in self.states.items()}


def bind(
    mixer: Mixer,
    args: Sequence[Any],
    named: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    check_ranges: bool = False,
) -> Bound:
    """Matches a call's arguments, by position in the order of declaration or by name, with a mixer's declarations.

    Raises ArgumentError for names, kinds, types, devices and shapes that don't fit, and, where `check_ranges` asks
    for it, RangeError for the first value outside its promised range.
    """
    given, states = match_arguments(mixer, args, named), match_states(mixer, state)
    bound = bound_to(fit_call(mixer, given, states), mixer, given, states)
    if check_ranges:
        check_promises(mixer, given)
    return bound


def bound_to(fit: Fit, mixer: Mixer, given: Arrays, states: Arrays) -> Bound:
    """A call, its arguments and states by name, that is known to fit its mixer like this."""
    arrays, states = fit.canonical(mixer, given, states)
    return Bound(**vars(fit), arrays=arrays, states=states)


def fit_call(mixer: Mixer, given: Arrays, states: Arrays, cu_seqlens: Any = None) -> Fit:
    """How arguments and states by name fit the mixer; with `cu_seqlens` the states are those of its sequences.

    Raises ArgumentError for what doesn't fit. Values aren't looked at.
    """
    labelled = {f"state {name}": value for name, value in states.items()}
    kind, device = _check_kinds(mixer, {**given, **labelled})
    _check_types({**given, **labelled}, kind)
    layout = find_layout(mixer, {name: tuple(np.shape(a)) for name, a in given.items()})
    rows = layout
    if cu_seqlens is not None:
        check_cu_seqlens(mixer, cu_seqlens, kind, device, layout)
        rows = replace(layout, batch=len(cu_seqlens) - 1, origin={**layout.origin, "B": CU_SEQLENS})
    check_states(mixer, rows, {name: tuple(s.shape) for name, s in states.items()})
    vectors = [d.name for d in mixer.inputs if d.dims] or [d.name for d in mixer.inputs]
    dtype = promote(dtype_of(given[name]) for name in vectors)
    sizes = layout.batch, layout.tokens, layout.heads, layout.has_heads, layout.sizes
    return Fit(*sizes, kind=kind, dtype=dtype, device=device)


# ---- names ------------------------------------------------------------------------------------------------------


def match_arguments(mixer: Mixer, args: Sequence[Any], named: Mapping[str, Any]) -> Arrays:
    """Arguments by name, in the order of declaration. Raises ArgumentError for missing, unknown and doubled ones."""
    names = [d.name for d in mixer.declarations]
    given = {**dict(zip(names, args, strict=False)), **named}
    if len(args) + len(named) != len(names) or given.keys() != set(names):
        _refuse(mixer, names, args, named)
    return {name: given[name] for name in names}


def _refuse(mixer: Mixer, names: list[str], args: Sequence[Any], named: Mapping[str, Any]) -> NoReturn:
    """Says which of a call's arguments is wrong."""
    call = f"{mixer.name}({', '.join(names)})"
    if len(args) > len(names):
        raise ArgumentError(
            f"{len(args)} arguments by position, where {call} has {len(names)}", hint=_extra_hint(mixer)
        )
    given = names[: len(args)]
    for name in named:
        if name in given:
            raise ArgumentError(f"argument {name} is given twice, by position and by name", hint=f"call {call}")
        if name not in names:
            raise ArgumentError(f"{mixer.name} has no argument {name!r}", hint=_suggest(name, names) or f"call {call}")
    missing = [name for name in names if name not in given and name not in named]
    raise ArgumentError(f"missing argument{'s' * (len(missing) > 1)} {', '.join(missing)}", hint=f"call {call}")


def _extra_hint(mixer: Mixer) -> str | None:
    return "initial states go to `state=`, a dictionary by name" if mixer.states else None


def _suggest(name: str, names: Sequence[str]) -> str | None:
    close = get_close_matches(name, names, 1, 0.5)
    return f"did you mean {close[0]}?" if close else None


def match_states(mixer: Mixer, state: Any) -> Arrays:
    """The states given, by name. Raises ArgumentError for what is no mapping from state names."""
    if state is None:
        return {}
    names = [s.name for s in mixer.states]
    declared = f"the states of {mixer.name} are {', '.join(names)}" if names else f"{mixer.name} has no states"
    if not isinstance(state, Mapping):
        hint = f"state={{'{names[0]}': ...}}" if names else declared
        raise ArgumentError(f"state is a {type(state).__name__}, expected a dictionary from names to arrays", hint=hint)
    for name in state:
        if name not in names:
            raise ArgumentError(f"{mixer.name} has no state {name!r}", hint=_suggest(str(name), names) or declared)
    return dict(state)


# ---- kinds, types, devices --------------------------------------------------------------------------------------


def _check_kinds(mixer: Mixer, values: Mapping[str, Any]) -> tuple[str, str]:
    """The kind and the device that all arrays share. Numbers may stand for parameters and are passed over."""
    first: tuple[str, str, str] | None = None
    for name, value in values.items():
        kind = kind_of(value)
        if kind is None:
            _check_number(mixer, name, value)
            continue
        if (why := unreadable(value)) is not None:
            raise ArgumentError(f"{_label(name)} is a tensor that is {why}", hint="pass a dense tensor")
        device = device_of(value)
        if first is None:
            first = name, kind, device
        elif kind != first[1]:
            raise ArgumentError(f"{first[0]} is a {first[1]} array and {name} a {kind} one",
                                hint="pass numpy arrays only or torch tensors only")  # fmt: skip
        elif device != first[2]:
            raise ArgumentError(f"{first[0]} is on {first[2]} and {name} on {device}", hint="move them to one device")
    return first[1:] if first else (NUMPY, CPU)


def _check_number(mixer: Mixer, name: str, value: Any) -> None:
    """Only a number for a scalar parameter may be something else than an array."""
    declared = next((d for d in mixer.declarations if d.name == name), None)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and declared is not None and declared.kind != INPUT and not declared.dims:
        return
    what = f"the number {value!r}" if number else f"a {type(value).__name__}"
    expected = "an array" if declared is None else f"an array {_axes(declared)}"
    hint = (
        "the same number everywhere is `np.full(shape, number)`"
        if number
        else "numpy.asarray or torch.tensor makes one"
    )
    raise ArgumentError(f"{_label(name)} is {what}, expected {expected}", hint=hint)


def _label(name: str) -> str:
    return name if name.startswith("state ") else f"argument {name}"


def _axes(d: Declaration) -> str:
    return f"[{', '.join([*(['B', 'T', 'H'] if d.kind == INPUT else ['H']), *map(str, d.dims)])}]"


def _check_types(arrays: Mapping[str, Array], kind: str) -> None:
    for name, array in arrays.items():
        if kind_of(array) and dtype_of(array) not in FLOATS[kind]:
            hint = f"convert it: {'x.astype(np.float32)' if kind == NUMPY else 'x.float()'}"
            raise ArgumentError(
                f"{_label(name)} holds {dtype_of(array)}, expected {', '.join(FLOATS[kind])}", hint=hint
            )


# ---- ranges -----------------------------------------------------------------------------------------------------


def check_promises(mixer: Mixer, given: Arrays) -> None:
    """Every argument holds what its declaration promises. Raises RangeError for the first value outside."""
    for d in mixer.declarations:
        value = given[d.name]
        _check_range(d.name, np.asarray(value) if kind_of(value) is None else value, d.range)


def _check_range(name: str, array: Array, promised: Interval) -> None:
    """Every value is inside its promised range. NaN is inside none."""
    above = array > promised.lo if promised.lo_open else array >= promised.lo
    below = array < promised.hi if promised.hi_open else array <= promised.hi
    inside = above & below
    outside = ~np.asarray(inside if isinstance(array, np.ndarray) else to_numpy(inside))
    if not outside.any():
        return
    index = tuple(int(i) for i in np.unravel_index(outside.argmax(), outside.shape))
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    hint = f"the spec promises {name} in {promised}; change the values, or the promise"
    raise RangeError(f"{where} is {float(array[index])!r}, outside of {promised}", hint=hint)
