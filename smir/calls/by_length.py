"""Packed sequences without kernels for them: those of equal length become one batch, results go back to their places.

Whatever a mixer can do with a batch it can so do with packed sequences, in every form, and the values are those of a
loop over the sequences. Indexing is differentiable, so gradients need nothing more. Lengths are read on the host.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from smir.calls.array_kinds import NUMPY, Array, device_of, kind_of, module_of, to_numpy
from smir.calls.binding import Fit
from smir.errors import ArgumentError

if TYPE_CHECKING:
    from smir.states.scaled_states import ScaledStates

Arrays = Mapping[str, Array]
# Calls the mixer with arguments `[n, L, H, ...]` and states `[n, H, ...]`; gives its output and the final states.
Call = Callable[[Arrays, Arrays], tuple[Array, Arrays]]


def run_by_length(
    call: Call, scaled: "ScaledStates", fit: Fit, given: Arrays, states: Arrays, cu_seqlens: Array
) -> tuple[Array, Arrays]:
    """y `[1, T, H, ...]` and the final states `[N, H, ...]` of packed sequences.

    `given` are the arguments of a call by name, inputs `[1, T, H, ...]`; `states` `[N, H, ...]`; both fit the mixer of
    `scaled` as `fit` says. Raises ArgumentError for a state whose size depends on the length of the sequence.
    """
    bounds = to_numpy(cu_seqlens).astype(np.int64)
    lengths = np.diff(bounds)
    inputs = {d.name for d in scaled.spec.inputs}
    places, outputs, members, finals = [], [], [], []
    for length in np.unique(lengths[lengths > 0]):
        own = np.flatnonzero(lengths == length)
        tokens = (bounds[own, None] + np.arange(length)).ravel()
        part = {n: _cut(a, tokens, len(own)) if n in inputs else a for n, a in given.items()}
        y, final = call(part, {n: _rows(s, own) for n, s in states.items()})
        places.append(tokens)
        outputs.append(y.reshape(-1, *y.shape[2:]))
        members.append(own)
        finals.append(final)
    if (empty := np.flatnonzero(lengths == 0)).size and finals[0]:
        members.append(empty)
        finals.append(_untouched(scaled, fit, finals[0], states, empty))
    order, whose = np.argsort(np.concatenate(places)), np.argsort(np.concatenate(members))
    y = _rows(_joined(outputs), order)[None]
    return y, {n: _rows(_stacked(n, [f[n] for f in finals]), whose) for n in finals[0]}


def _cut(array: Array, tokens: Any, sequences: int) -> Array:
    """Tokens of `[1, T, ...]` as `[sequences, L, ...]`."""
    return _rows(array[0], tokens).reshape(sequences, -1, *array.shape[2:])


def _rows(array: Array, index: Any) -> Array:
    """Entries along the first axis."""
    if kind_of(array) == NUMPY:
        return array[index]
    return array.index_select(0, module_of(array).as_tensor(index, device=device_of(array)))


def _stacked(name: str, states: list[Array]) -> Array:
    """One state of all sequences."""
    if len({tuple(s.shape[1:]) for s in states}) > 1:
        raise ArgumentError(f"state {name} of packed sequences has another size for each length",
                            hint="call the mixer for each sequence where its state is needed")  # fmt: skip
    return _joined(states)


def _joined(arrays: list[Array]) -> Array:
    return module_of(arrays[0]).concatenate(arrays)


def _untouched(scaled: "ScaledStates", fit: Fit, like: Arrays, states: Arrays, empty: Any) -> Arrays:
    """Final states of sequences without tokens, with the names, shapes and types of others' (`like`): what they began
    with, zeros for what stands for tokens before them."""
    given = {n: _rows(s, empty) for n, s in states.items()}
    known = {s.name for s in scaled.interface.states}
    _, own = fit.canonical(scaled.spec, {}, {n: s for n, s in given.items() if n in known})
    start = scaled.carried(own, fit.sizes)
    for state in scaled.recurrence.states:
        if state.name not in start:
            shape = (len(empty), fit.heads, *(d.size(fit.sizes) for d in state.dims))
            start[state.name] = np.full(shape, state.initial, fit.state_dtype)
    found = fit.final_states(scaled.given_back(start))
    return {n: found[n] if n in found else given.get(n, 0 * _rows(a, [0] * len(empty))) for n, a in like.items()}
