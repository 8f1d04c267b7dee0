"""Inputs with fewer heads than others: every head of theirs serves a group of neighbouring heads."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Array = Any


def with_all_heads(arrays: Mapping[str, Array], inputs: Iterable[str]) -> dict[str, Array]:
    """The arrays with every input `[B, T, H, *dims]` repeated to the most heads that an input has."""
    names = [name for name in inputs if name in arrays]
    most = max((np.shape(arrays[name])[2] for name in names), default=1)
    found = dict(arrays)
    for name in names:
        heads = np.shape(arrays[name])[2]
        if heads != most:
            found[name] = np.repeat(np.asarray(arrays[name]), most // heads, axis=2)
    return found


def summed_over_groups(gradient: Array, heads: int) -> Array:
    """A gradient `[B, T, H * group, *dims]` of the repeated input as that of the input itself, `[B, T, H, *dims]`."""
    if gradient.shape[2] == heads:
        return gradient
    grouped = gradient.reshape(*gradient.shape[:2], heads, -1, *gradient.shape[3:])
    return np.asarray(grouped.sum(axis=3))
