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
