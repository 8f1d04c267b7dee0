"""Random arguments for a mixer, inside the ranges that its spec promises."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smir.errors import ArgumentError
from smir.ir.graph import walk
from smir.ir.head_groups import group_names, heads_of
from smir.ir.interval import REAL, Interval
from smir.ir.mixer import INPUT, Declaration, Mixer
from smir.ir.sizes import TIME_NAME

Array = NDArray[Any]
NAMED = ("input", "sequence", "input_of", "param", "state")


def dimension_names(mixer: Mixer) -> list[str]:
    """The dimension names of a spec, sorted, without T."""
    declared = [d for declaration in mixer.declarations for d in declaration.dims]
    carried = [d for state in mixer.states for d in state.dims]
    return sorted({name for d in (*declared, *carried, *mixer.output_dims) for name in d.names} - {TIME_NAME})


def common_sizes(mixer: Mixer, size: int = 128) -> dict[str, int]:
    """The sizes of a head that people train with, for every dimension name: `size`, of inner states less."""
    return {name: common_size(name, size) for name in dimension_names(mixer)}


def common_size(name: str, size: int = 128) -> int:
    """The same for one dimension name: N counts a state's entries for each channel, M memory slots or features."""
    return min(size, {"N": 16, "M": 64}.get(name, size))


def default_sizes(mixer: Mixer) -> dict[str, int]:
    """A small size for every dimension name: distinct, even, so that a wrong axis can't go unnoticed."""
    return {name: 8 + 4 * i for i, name in enumerate(dimension_names(mixer))}


def check_sizes(mixer: Mixer, sizes: Mapping[str, int]) -> None:
    """Raises ArgumentError for a name that the spec doesn't have, or a size that isn't positive."""
    names = [*dimension_names(mixer), *group_names(mixer)]
    for name, size in sizes.items():
        if name not in names:
            raise ArgumentError(f"{mixer.name} has no dimension {name!r}", hint=f"it has {', '.join(names) or 'none'}")
        if not is_count(size):
            raise ArgumentError(f"dimension {name} can't have the size {size!r}", hint="sizes are positive integers")


def is_count(value: object) -> bool:
    """Whether this is a positive whole number."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def check_counts(**counts: object) -> None:
    """Raises ArgumentError for the first of these keywords that isn't a positive whole number."""
    for name, value in counts.items():
        if not is_count(value):
            raise ArgumentError(f"{name} is a positive whole number, not {value!r}", hint=f"for example {name}=2")


def generator(seed: object) -> np.random.Generator:
    """Random numbers, the same for the same seed. Raises ArgumentError for what is no whole number from 0 on."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"seed is a whole number from 0 on, not {seed!r}", hint="for example seed=1")
    return np.random.default_rng(seed)


def known_sizes(mixer: Mixer, sizes: Mapping[str, int] | None) -> dict[str, int]:
    """These sizes, and default ones for the other names. Raises ArgumentError as `check_sizes` does."""
    check_sizes(mixer, sizes or {})
    return {**default_sizes(mixer), **(sizes or {})}


def sample(
    mixer: Mixer,
    B: int = 2,
    T: int = 37,
    H: int = 2,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    extreme: bool = False,
) -> dict[str, Array]:
    """Arguments by name, float64: inputs `[B, T, H, dims...]`, parameters `[H, dims...]`. Of inputs that the spec
    declares with fewer heads there are as many; `sizes` may name groups too. Raises ArgumentError.

    Vectors without a promised range have norm one on average; what the mixer divides by is kept positive, since near a
    zero of a divisor no two programs agree. With `extreme`, about a fifth of the values of inputs with a promised range
    are its end points or close: exact resets (`-inf`, 0), very strong decays, exact zeros.
    """
    check_counts(B=B, T=T, H=H)
    rng = generator(seed)
    known = {**known_sizes(mixer, sizes), TIME_NAME: T}
    own_heads = {d.name: heads_of(d, H, sizes or {}) for d in mixer.inputs}
    arrays, divisors = {}, divisor_names(mixer)
    for d in mixer.declarations:
        dims = [dim.size(known) for dim in d.dims]
        values = _draw(d, (B, T, own_heads[d.name], *dims) if d.kind == INPUT else (H, *dims), dims, rng, extreme)
        arrays[d.name] = np.abs(values) if d.name in divisors and d.range == REAL else values
    return arrays


def sample_states(
    mixer: Mixer, B: int, H: int, sizes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Random initial states by name, `[B, H, dims...]`, around the values that the spec starts them at."""
    check_counts(B=B, H=H)
    rng = generator(seed)
    known = known_sizes(mixer, sizes)
    states, divisors = {}, divisor_names(mixer)
    for s in mixer.states:
        noise = rng.standard_normal((B, H, *(d.size(known) for d in s.dims)))
        noise = np.abs(noise) if s.name in divisors else noise
        states[s.name] = noise + (s.initial if math.isfinite(s.initial) else 0.0)
    return states


def divisor_names(mixer: Mixer) -> set[str]:
    """The inputs and states that the mixer divides by, directly or through its states."""
    found: set[str] = set()
    pending = [n.args[1] for n in mixer.nodes() if n.op == "div"]
    while pending:
        names = {n["name"] for n in walk([pending.pop()]) if n.op in NAMED} - found
        found |= names
        pending += [s.update for s in mixer.states if s.name in names]
    return found


def _draw(d: Declaration, shape: Sequence[int], dims: Sequence[int], rng: np.random.Generator, extreme: bool) -> Array:
    values = _inside(d.range, tuple(shape), dims, rng)
    if extreme and d.kind == INPUT and d.range != REAL:
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
    return legal or [_just_inside(r)]


def _just_inside(r: Interval) -> float:
    """A value next to an end of an open range."""
    width = min(1.0, r.hi - r.lo)
    return r.lo + 1e-6 * width if math.isfinite(r.lo) else r.hi - 1e-6 * width
