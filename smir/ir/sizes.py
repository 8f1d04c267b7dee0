"""Sizes of dimension names, found from the shapes of arrays."""

from collections.abc import Iterable, Mapping
from math import lcm, prod

from smir.ir.dims import TIME, Dim
from smir.ir.mixer import INPUT, Declaration

TIME_NAME = str(TIME)
# The keyword of a call with packed sequences, and the name under which its array goes to kernels; no input has it.
CU_SEQLENS = "cu_seqlens"


def solve_dim(dim: Dim, size: int, sizes: Mapping[str, int]) -> tuple[str, int] | None:
    """The one name of `dim` without a size, and the size that makes `dim` equal to `size`.

    None when no name is open, when several are, when the open name is not linear, or when its size would not be
    a positive integer.
    """
    open_names = dim.names - set(sizes)
    if len(open_names) != 1:
        return None
    (name,) = open_names
    common = lcm(*(c.denominator for _, c in dim.terms))
    slope, rest = 0, size * common
    for monomial, c in dim.terms:
        if monomial.count(name) > 1:
            return None
        factor = int(c * common) * prod(sizes.get(other, 1) for other in monomial)
        if name in monomial:
            slope += factor
        else:
            rest -= factor
    return (name, rest // slope) if slope and rest % slope == 0 and rest // slope >= 1 else None


def solve_sizes(pairs: Iterable[tuple[Dim, int]], known: Mapping[str, int]) -> dict[str, int]:
    """Sizes of all names that the (dimension, size) pairs determine. Contradictions are not looked for."""
    sizes, pending = dict(known), list(pairs)
    while True:
        found = [solved for dim, size in pending if (solved := solve_dim(dim, size, sizes))]
        if not found:
            return sizes
        name, value = min(found)
        sizes[name] = value


def canonical_sizes(declarations: Iterable[Declaration], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of all dimension names and of T, from shapes in canonical layout (`[B, T, H, *dims]` and `[H, *dims]`)."""
    pairs: list[tuple[Dim, int]] = []
    known: dict[str, int] = {}
    for d in declarations:
        shape = shapes[d.name]
        if d.kind == INPUT:
            known[TIME_NAME] = shape[1]
        pairs.extend(zip(d.dims, shape[len(shape) - len(d.dims) :], strict=True))
    return solve_sizes(pairs, known)
