"""Between the caller's canonical arrays and the tiles of an interpreter.

Canonical: inputs `[B, T, H, *dims]`, parameters `[H, *dims]`, states `[B, H, *dims]`, output `[B, T, H, *dims]`.
Inside: inputs `[B, H, T, n]` or, in the step form, `[B, H, T, rows, cols]`; every tile `[.., rows, cols]`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smir.errors import ArgumentError
from smir.ir.dims import Dim
from smir.ir.sizes import solve_sizes
from smir.ir.tile import CHUNK, ONE, PARAM, TOKEN, Carry, TileLeaf

Array = Any


@dataclass(frozen=True)
class Extent:
    """Sizes of a run: batch, tokens, heads, rows per chunk, and every tile axis by name."""

    batch: int
    time: int
    heads: int
    chunk: int
    sizes: Mapping[str, int]
    dtype: Any

    @property
    def chunks(self) -> int:
        return -(-self.time // self.chunk)

    def axis(self, name: str) -> int:
        """The length of a tile axis (`1`, `@C`, `K`, `K/2`)."""
        return self.sizes[name] if name in self.sizes else Dim.parse(name).size(self.sizes)

    def shape(self, rows: str, cols: str) -> tuple[int, int]:
        return self.axis(rows), self.axis(cols)

    def count(self, chunk: int) -> int:
        """How many rows of a chunk are tokens."""
        return min(self.chunk, self.time - chunk * self.chunk)


def measure(
    leaves: Iterable[TileLeaf],
    carries: Iterable[Carry],
    arrays: Mapping[str, Array],
    states: Mapping[str, Array],
    chunk: int,
) -> Extent:
    """Reads all sizes off the arrays."""
    leaves = tuple(leaves)
    tokens = [np.asarray(arrays[leaf.name]) for leaf in leaves if leaf.kind == TOKEN]
    if not tokens:
        raise ArgumentError("a mixer without inputs has no sequence to run over")
    shapes = [(_leaf_axes(leaf), np.shape(arrays[leaf.name])[3 if leaf.kind == TOKEN else 1 :]) for leaf in leaves]
    shapes += [(_state_axes(c), np.shape(states[c.state])[2:]) for c in carries if c.state and c.state in states]
    pairs = [(axis, size) for axes, shape in shapes for axis, size in zip(axes, (*shape, 1, 1), strict=False)]
    solved = solve_sizes([(Dim.parse(axis), size) for axis, size in pairs if axis not in (ONE, CHUNK)], {})
    batch, time, heads = tokens[0].shape[:3]
    dtype = np.result_type(*(a.dtype for a in tokens))
    return Extent(batch, time, heads, chunk, {**solved, ONE: 1, CHUNK: chunk}, dtype)


def _leaf_axes(leaf: TileLeaf) -> tuple[str, ...]:
    is_row = leaf.rows == CHUNK or (leaf.kind == PARAM and leaf.rows == ONE)
    return (leaf.cols,) if is_row else (leaf.rows, leaf.cols)


def _state_axes(carry: Carry) -> tuple[str, ...]:
    return (carry.cols, carry.rows) if carry.transposed else (carry.rows, carry.cols)


def split_chunks(array: Array, extent: Extent, offset: int, rows: str, cols: str) -> Array:
    """`[B, T, H, *dims]` to `[B, H, chunks, rows, cols]`, shifted by `offset` tokens, zeros outside the sequence."""
    row_size = 1 if rows == CHUNK else extent.axis(rows)
    flat = np.moveaxis(array, 2, 1).reshape(extent.batch, extent.heads, extent.time, row_size, extent.axis(cols))
    padded = extent.chunks * extent.chunk
    if offset or padded != extent.time:
        shifted = np.zeros((*flat.shape[:2], padded, *flat.shape[3:]), array.dtype)
        first, last = max(0, -offset), min(padded, extent.time - offset)
        if last > first:
            shifted[:, :, first:last] = flat[:, :, first + offset : last + offset]
        flat = shifted
    if rows == CHUNK:
        return flat.reshape(*flat.shape[:2], extent.chunks, extent.chunk, flat.shape[-1])
    return flat


def param_tile(array: Array, extent: Extent, rows: str, cols: str) -> Array:
    """`[H, *dims]` to `[1, H, rows, cols]`."""
    return array.reshape(1, extent.heads, *extent.shape(rows, cols))


def initial_tile(carry: Carry, states: Mapping[str, Array], extent: Extent) -> Array:
    """The carried tile before the first chunk, `[B, H, rows, cols]`, at least float32."""
    dtype = np.result_type(extent.dtype, np.float32)
    rows, cols = extent.shape(carry.rows, carry.cols)
    if carry.state is None or carry.state not in states:
        return np.full((extent.batch, extent.heads, rows, cols), carry.initial, dtype)
    given = np.asarray(states[carry.state]).astype(dtype)
    if carry.transposed:
        return np.swapaxes(given.reshape(extent.batch, extent.heads, cols, rows), -1, -2)
    return given.reshape(extent.batch, extent.heads, rows, cols)


def final_state(tile: Array, transposed: bool, rows: str, cols: str) -> Array:
    """A carried tile as `[B, H, *dims]`: trailing axes `1` are no declared dimensions."""
    if transposed:
        tile, rows, cols = np.swapaxes(tile, -1, -2), cols, rows
    return without_units(tile, rows, cols)


def without_units(tile: Array, rows: str, cols: str) -> Array:
    """Drops trailing axes `1`: a column is a vector, a 1 x 1 tile a scalar."""
    if cols == ONE:
        tile = tile[..., 0]
        if rows == ONE:
            tile = tile[..., 0]
    return np.ascontiguousarray(tile)


def join_chunks(tiles: Array, extent: Extent, rows: str, cols: str) -> Array:
    """`[B, H, chunks, rows, cols]` to the output `[B, T, H, *dims]`."""
    y, view = empty_output(extent, rows, cols)
    view[...] = tiles
    return finished_output(y, extent, rows, cols)


def empty_output(extent: Extent, rows: str, cols: str) -> tuple[Array, Array]:
    """Memory for the output in the caller's order of axes, and a view of it as tiles `[B, H, chunks, rows, cols]`."""
    height, width = extent.shape(rows, cols)
    if rows == CHUNK:
        y = np.empty((extent.batch, extent.chunks, height, extent.heads, width), extent.dtype)
        return y, y.transpose(0, 3, 1, 2, 4)
    y = np.empty((extent.batch, extent.time, extent.heads, height, width), extent.dtype)
    return y, y.transpose(0, 2, 1, 3, 4)


def finished_output(y: Array, extent: Extent, rows: str, cols: str) -> Array:
    """The filled memory as `[B, T, H, *dims]`."""
    if rows != CHUNK:
        return without_units(y, rows, cols)
    whole = y.reshape(extent.batch, -1, extent.heads, y.shape[-1])[:, : extent.time]
    return np.ascontiguousarray(whole[..., 0] if cols == ONE else whole)
