"""Packed sequences without kernels for them: those of equal length become one batch, results go back to their places.

Whatever a mixer can do with a batch it can so do with packed sequences, in every form, and the values are those of a
loop over the sequences. Indexing is differentiable, so gradients need nothing more. Lengths are read on the host.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from smir.array_kinds import NUMPY, Array, device_of, kind_of, module_of, to_numpy
from smir.ir.mixer import Mixer
from smir.passes.stabilisation.scales import LOWEST
from smir.passes.stabilisation.stabilise import SUFFIX

Arrays = Mapping[str, Array]
# Calls the mixer with arguments `[n, L, H, ...]` and states `[n, H, ...]`; gives its output and the final states.
Call = Callable[[Arrays, Arrays], tuple[Array, Arrays]]


def run_by_length(call: Call, mixer: Mixer, given: Arrays, states: Arrays, cu_seqlens: Array) -> tuple[Array, Arrays]:
    """y `[1, T, H, ...]` and the final states `[N, H, ...]` of packed sequences.

    `given` are the arguments of a call by name, inputs `[1, T, H, ...]`; `states` `[N, H, ...]`.
    """
    bounds = to_numpy(cu_seqlens).astype(np.int64)
    lengths = np.diff(bounds)
    inputs = {d.name for d in mixer.inputs}
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
        finals.append({n: _untouched(mixer, n, a, states, empty) for n, a in finals[0].items()})
    order, whose = np.argsort(np.concatenate(places)), np.argsort(np.concatenate(members))
    y = _rows(_joined(outputs), order)[None]
    return y, {n: _rows(_joined([f[n] for f in finals]), whose) for n in finals[0]}


def _cut(array: Array, tokens: Any, sequences: int) -> Array:
    """Tokens of `[1, T, ...]` as `[sequences, L, ...]`."""
    return _rows(array[0], tokens).reshape(sequences, -1, *array.shape[2:])


def _rows(array: Array, index: Any) -> Array:
    """Entries along the first axis."""
    if kind_of(array) == NUMPY:
        return array[index]
    return array.index_select(0, module_of(array).as_tensor(index, device=device_of(array)))


def _joined(arrays: list[Array]) -> Array:
    return module_of(arrays[0]).concatenate(arrays)


def _untouched(mixer: Mixer, name: str, like: Array, states: Arrays, empty: Any) -> Array:
    """A final state of sequences without tokens: the initial one, in the shape and type of others' final states.

    What was given without a log is a mantissa with the log 0; the log of zero is very low.
    """
    if name in states:
        return _rows(states[name], empty).astype(like.dtype) if kind_of(like) == NUMPY else (
            _rows(states[name], empty).to(like.dtype))  # fmt: skip
    initial = {s.name: s.initial for s in mixer.states}
    own = name.removesuffix(SUFFIX)
    fill = initial.get(name, 0.0)
    if name not in initial and own in initial and own not in states and initial[own] == 0.0:
        fill = LOWEST
    library, shape = module_of(like), (len(empty), *like.shape[1:])
    if kind_of(like) == NUMPY:
        return library.full(shape, fill, like.dtype)
    return library.full(shape, fill, dtype=like.dtype, device=like.device)
