"""Seeded arguments of any size for trials and benchmarks: cheap to draw, inside the promised ranges."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from smir.calls.array_kinds import NUMPY
from smir.calls.binding import Bound
from smir.ir.head_groups import group_names, heads_of
from smir.ir.mixer import INPUT, Declaration, Mixer
from smir.ir.sizes import TIME_NAME
from smir.sampling import sample

# Tokens of one head that are drawn; longer sequences and other heads repeat them.
DRAWN = 1024


@dataclass(frozen=True)
class Shape:
    """Sizes of a call: `heads` by input (those that serve a group of heads have fewer), `sizes` of the dimensions."""

    batch: int
    tokens: int
    heads: Mapping[str, int]
    sizes: Mapping[str, int]

    @property
    def most_heads(self) -> int:
        return max(self.heads.values())

    @staticmethod
    def even(mixer: Mixer, batch: int, tokens: int, heads: int, sizes: Mapping[str, int]) -> "Shape":
        """All inputs with all heads, or with those that they are declared with; `sizes` may name groups."""
        groups = group_names(mixer)
        known = {name: size for name, size in sizes.items() if name not in groups}
        return Shape(batch, tokens, {d.name: heads_of(d, heads, sizes) for d in mixer.inputs}, known)

    @staticmethod
    def of(mixer: Mixer, bound: Bound) -> "Shape":
        heads = {d.name: int(bound.arrays[d.name].shape[2]) for d in mixer.inputs}
        sizes = {name: size for name, size in bound.sizes.items() if name != TIME_NAME}
        return Shape(bound.batch, bound.tokens, heads, sizes)


def draw(mixer: Mixer, shape: Shape, seed: int = 0) -> dict[str, Any]:
    """Float64 arguments in canonical layout: inputs `[B, T, heads, *dims]`, parameters `[H, *dims]`.

    Rows, heads and repetitions differ by factors of at least 0.9 where that can't leave the promised range.
    """
    rng = np.random.default_rng(seed)
    return _enlarged(mixer, shape, _drawn(mixer, shape, seed), np.tile, rng.random)


def draw_tensors(mixer: Mixer, shape: Shape, dtypes: Mapping[str, str], device: str, seed: int = 0) -> dict[str, Any]:
    """The same as tensors that are made where they are needed: the large ones of a benchmark, in a moment."""
    import torch

    random = torch.Generator(device).manual_seed(seed)
    found = {n: torch.from_numpy(x).to(device, torch.float32) for n, x in _drawn(mixer, shape, seed).items()}

    def factors(size: tuple[int, ...]) -> Any:
        return torch.rand(size, generator=random, device=device)

    found = _enlarged(mixer, shape, found, lambda x, times: x.repeat(times), factors)
    return {name: x.to(getattr(torch, dtypes[name])) for name, x in found.items()}


def placed(arrays: Mapping[str, Any], dtypes: Mapping[str, str], device: str, kind: str) -> dict[str, Any]:
    """Float64 arrays as numpy arrays or as tensors on a device, each in its own type."""
    if kind == NUMPY:
        return {name: a.astype(dtypes[name]) for name, a in arrays.items()}
    import torch

    return {name: torch.from_numpy(a).to(device, getattr(torch, dtypes[name])) for name, a in arrays.items()}


def _drawn(mixer: Mixer, shape: Shape, seed: int) -> dict[str, Any]:
    """What is repeated: one row of one head, parameters whole."""
    mixer = replace(mixer, declarations=tuple(replace(d, group=None) for d in mixer.declarations))
    tokens = min(shape.tokens, DRAWN)
    drawn = sample(mixer, 1, tokens, 1, shape.sizes, seed)
    if tokens < shape.tokens and any(TIME_NAME in dim.names for d in mixer.params for dim in d.dims):
        whole = sample(mixer, 1, shape.tokens, 1, shape.sizes, seed)
        drawn |= {d.name: whole[d.name] for d in mixer.params}
    return drawn


def _enlarged(mixer: Mixer, shape: Shape, drawn: Mapping[str, Any], tile: Any, factors: Any) -> dict[str, Any]:
    found = {}
    for d in mixer.declarations:
        x = drawn[d.name]
        lead: tuple[int, ...] = (shape.most_heads,)
        if d.kind == INPUT:
            lead = (shape.batch, shape.tokens, shape.heads[d.name])
        ones = (1,) * (x.ndim - len(lead))
        if d.kind == INPUT:
            x = tile(x, (lead[0], -(-shape.tokens // x.shape[1]), lead[2], *ones))[:, : shape.tokens]
        else:
            x = tile(x, (*lead, *ones))
        found[d.name] = x * (0.9 + 0.1 * factors((*lead, *ones))) if _shrinks(d) else x
    return found


def _shrinks(d: Declaration) -> bool:
    """Whether a value a little closer to zero is still inside the promised range."""
    return 0.0 in d.range or d.range.hi <= 0
