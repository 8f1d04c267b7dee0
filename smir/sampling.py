"""Random arguments for a mixer, inside the ranges that its spec promises."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smir.ir.dims import TIME, Dim
from smir.ir.interval import Interval
from smir.ir.mixer import INPUT, Declaration, Mixer

Array = NDArray[Any]
_TIME = str(TIME)


def default_sizes(mixer: Mixer) -> dict[str, int]:
    """A small size for every dimension name: distinct, even, so that a wrong axis can't go unnoticed."""
    return {name: 8 + 4 * i for i, name in enumerate(sorted(_names(mixer)))}


def sample(
    mixer: Mixer,
    B: int = 2,
    T: int = 37,
    H: int = 2,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    extreme: bool = False,
) -> dict[str, Array]:
    """Arguments by name, float64: inputs `[B, T, H, dims...]`, parameters `[H, dims...]`.

    Vectors without a promised range have norm one on average. With `extreme`, about a fifth of the gated values are
    end points of their range: exact resets (`-inf`, 0), very strong decays, exact zeros.
    """
    rng = np.random.default_rng(seed)
    known = {**default_sizes(mixer), **(sizes or {}), _TIME: T}
    arrays = {}
    for d in mixer.declarations:
        dims = [dim.size(known) for dim in d.dims]
        arrays[d.name] = _draw(d, (B, T, H, *dims) if d.kind == INPUT else (H, *dims), dims, rng, extreme)
    return arrays


def sample_states(
    mixer: Mixer, B: int, H: int, sizes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Random initial states by name, `[B, H, dims...]`, around the values that the spec starts them at."""
    rng = np.random.default_rng(seed)
    known = {**default_sizes(mixer), **(sizes or {})}
    states = {}
    for s in mixer.states:
        noise = rng.standard_normal((B, H, *(d.size(known) for d in s.dims)))
        states[s.name] = noise + (s.initial if math.isfinite(s.initial) else 0.0)
    return states


def _names(mixer: Mixer) -> set[str]:
    dims: list[Dim] = [d for item in (*mixer.declarations, *mixer.states) for d in item.dims]
    return {name for d in (*dims, *mixer.output_dims) for name in d.names} - {_TIME}


def _draw(d: Declaration, shape: Sequence[int], dims: Sequence[int], rng: np.random.Generator, extreme: bool) -> Array:
    values = _inside(d.range, tuple(shape), dims, rng)
    if extreme and d.kind == INPUT:
        ends = _edges(d.range)
        pick = rng.random(values.shape) < 0.2
        # Whole tokens too, at both ends of the sequence and where chunks begin and end.
        for t in {0, 15, 16, 31, 32, shape[1] - 1} & set(range(shape[1])):
            pick[:, t] |= rng.random(values[:, t].shape[:2] + (1,) * len(dims)) < 0.5
        values = np.where(pick, rng.choice(ends, values.shape), values)
    return values


def _inside(r: Interval, shape: tuple[int, ...], dims: Sequence[int], rng: np.random.Generator) -> Array:
    if math.isfinite(r.lo) and math.isfinite(r.hi):
        margin = 0.02 if r.lo_open or r.hi_open else 0.0
        return r.lo + (r.hi - r.lo) * rng.uniform(margin, 1 - margin, shape)
    noise = rng.standard_normal(shape)
    if math.isfinite(r.hi):
        return r.hi - np.exp(noise - 1.5)
    if math.isfinite(r.lo):
        return r.lo + np.exp(noise - 0.5)
    return noise / math.sqrt(math.prod(dims)) if dims else noise


def _edges(r: Interval) -> list[float]:
    """Values of a range that break careless arithmetic; never +inf."""
    ends = [r.lo, r.hi, 0.0, -8.0, -80.0, -1e3] if r.lo == -math.inf and r.hi <= 0 else [r.lo, r.hi, 0.0]
    legal = [e for e in ends if e in r and e != math.inf and (math.isfinite(e) or r.hi <= 0)]
    return legal or [r.lo + (r.hi - r.lo) * 1e-6]
