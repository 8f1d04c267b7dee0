"""Segments of softmax mixers on interpreted kernels: what runs in the processes of `conftest`."""

from typing import Any

import numpy as np

import smir
from smir.sampling import sample
from tests.triton.work import _multiple

Arrays = dict[str, Any]


def compare_segments(spec: str, lengths: tuple[int, ...], chunk: int) -> float:
    """The error of prefill and later segments in float32, as a multiple of what numpy loses on the whole sequence."""
    import torch

    kernels, mixer = smir.compile(spec, backend="triton", chunk=chunk), smir.compile(spec)
    arrays = arrays_of(mixer, sum(lengths))
    narrow = {name: a.astype(np.float32) for name, a in arrays.items()}
    truth, single = mixer(**arrays), mixer(**narrow)
    inputs, at, state, found = {d.name for d in mixer.spec.inputs}, 0, None, []
    for n in lengths:
        given = {name: torch.from_numpy(a[:, at : at + n] if name in inputs else a) for name, a in narrow.items()}
        y, state = kernels(**given, state=state, return_state=True)
        found.append(y.numpy())
        at += n
    return _multiple(np.concatenate(found, 1), truth, single)


def compare_divided(spec: str, lengths: tuple[int, ...]) -> float:
    """The same where several programs take a part of the past each, although it is short."""
    from smir.backends.triton_gpu import past
    from smir.states import pair_segments

    long_past, split_tokens = pair_segments.LONG_PAST, past.SPLIT_TOKENS
    pair_segments.LONG_PAST, past.SPLIT_TOKENS = 1, 8
    try:
        return compare_segments(spec, lengths, 16)
    finally:
        pair_segments.LONG_PAST, past.SPLIT_TOKENS = long_past, split_tokens


def arrays_of(mixer: Any, T: int) -> Arrays:
    """Random arguments; grouped queries have keys and values with half as many heads."""
    found: Arrays = dict(sample(mixer.spec, 1, T, 2, seed=6))
    if mixer.spec.name == "softmax_gqa":
        found |= {name: found[name][:, :, :1] for name in ("k", "v")}
    return found


def compare_fixed(spec: str, divided: bool) -> float:
    """The same for tokens in memory of one size, of which the kernels read on the device how many there are: every step
    launches what the one before it did, and a second sequence begins in the memory of the first."""
    import torch

    from smir.backends.triton_gpu import past
    from smir.states import pair_segments

    mixer = smir.compile(spec)
    kernels = smir.compile(spec, backend="triton", chunk=16)
    state, T, found = kernels.new_state(capacity=40, graph=True), 20, []
    arrays = arrays_of(mixer, 2 * T)
    narrow = {name: a.astype(np.float32) for name, a in arrays.items()}
    inputs = {d.name for d in mixer.spec.inputs}
    halves = [{n: a[:, i * T : i * T + T] if n in inputs else a for n, a in arrays.items()} for i in range(2)]
    truth, single = (np.concatenate([mixer(**_typed(h, kind)) for h in halves], 1) for kind in ("float64", "float32"))
    long_past, split_tokens = pair_segments.LONG_PAST, past.SPLIT_TOKENS
    if divided:
        pair_segments.LONG_PAST, past.SPLIT_TOKENS = 1, 8
    try:
        for first in (0, T):
            for begin, end in ((0, 17), *((t, t + 1) for t in range(17, T - 2)), (T - 2, T)):
                part = slice(first + begin, first + end)
                given = {n: torch.from_numpy(a[:, part] if n in inputs else a) for n, a in narrow.items()}
                found.append(kernels.step(**given, state=state, inplace=True, several=True)[0].numpy())
            state.clear()
    finally:
        pair_segments.LONG_PAST, past.SPLIT_TOKENS = long_past, split_tokens
    return _multiple(np.concatenate(found, 1), truth, single)


def _typed(arrays: Arrays, kind: str) -> Arrays:
    return {name: a.astype(kind) for name, a in arrays.items()}
