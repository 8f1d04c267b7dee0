"""Sizes that kernels pad, cut or repeat: for every spec those that it can have, and arguments of them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

import smir
from smir.compiled import CompiledMixer
from smir.errors import IRError
from smir.ir.mixer import Mixer
from smir.sampling import common_size, dimension_names

Array = Any
CHUNK = 4
# One spec for each class of transition, and a scan, a token by token recurrence, sums over pairs.
CLASSES = (
    "linear_attention scalar_decay gla dfw delta_rule kda rwkv7 mamba3 lion_s_norm hgrn mamba1 gru softmax_causal"
).split()


@cache
def mixer(name: str, form: str | None = None, chunk: int | None = None) -> CompiledMixer:
    """A library spec in a form, on numpy."""
    if form is None and chunk is None:
        return smir.compile(name)
    return CompiledMixer(mixer(name).compilation, form, "numpy", chunk)


def sizes_of(spec: Mixer, *sizes: int) -> dict[str, int]:
    """These sizes in turn for the names of a spec; one that has halves of a name gets the next even size there."""
    chosen = dict(zip(dimension_names(spec), sizes * 9, strict=False))
    for name in chosen:
        if not _are_whole(spec, chosen):
            chosen[name] += chosen[name] % 2
    assert _are_whole(spec, chosen)
    return chosen


def wide(spec: Mixer, *sizes: int) -> dict[str, int]:
    """The same, but what people keep small stays so: entries of a state for each channel, memory slots."""
    return {name: common_size(name, size) for name, size in sizes_of(spec, *sizes).items()}


def _are_whole(spec: Mixer, sizes: Mapping[str, int]) -> bool:
    declared = [d.dims for d in (*spec.declarations, *spec.states)]
    try:
        return all(dim.size({**sizes, "T": 1}) for dims in (*declared, spec.output_dims) for dim in dims)
    except IRError:
        return False


def error(found: Array, truth: Array) -> float:
    """RMS of the difference over the RMS of the truth, where that is finite; infinite for another shape."""
    found, truth = (np.asarray(a, np.float64) for a in (found, truth))
    if found.shape != truth.shape:
        return np.inf
    there = np.isfinite(truth)
    if not there.any():
        return 0.0
    scale = float(np.sqrt(np.mean(truth[there] ** 2))) or 1.0
    return float(np.sqrt(np.mean((found[there] - truth[there]) ** 2))) / scale
