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
from smir.ir.tile import CHUNK, DENSE, ONE, PARAM, PAST, PAST_CHUNK, SIZELESS, TOKEN, TOKEN_AXES, axis_parts
from smir.ir.tile_program import Carry, Result, TileLeaf

Array = Any


# Numbers in an array of scores between a segment and a chunk of its past; the longest chunk of the past.
PAST_ELEMENTS, LONGEST_PAST_CHUNK = 1 << 20, 512


@dataclass(frozen=True)
class Extent:
    """Sizes of a run: batch, tokens, heads, rows per chunk, and every tile axis by name.

    Of a segment, `past` tokens before it are known, and it comes after `seen` tokens of its sequence.
    """

    batch: int
    time: int
    heads: int
    chunk: int
    sizes: Mapping[str, int]
    dtype: Any
    past: int = 0
    seen: int = 0

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

    @property
    def past_chunks(self) -> int:
        """The last of them ends where the segment begins."""
        return -(-self.past // self.sizes[PAST_CHUNK])

    def past_count(self, chunk: int) -> int:
        """How many rows of a chunk of the past are tokens: the last ones."""
        return min(self.sizes[PAST_CHUNK], self.past - (self.past_chunks - 1 - chunk) * self.sizes[PAST_CHUNK])


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
    past = next((np.shape(arrays[leaf.name])[1] for leaf in leaves if leaf.kind == PAST), 0)
    if not tokens:
        raise ArgumentError("a mixer without inputs has no sequence to run over")
    leading = {leaf: 3 if leaf.kind in (TOKEN, PAST) else 1 for leaf in leaves}
    shapes = [(_leaf_axes(leaf), np.shape(arrays[leaf.name])[count:]) for leaf, count in leading.items()]
    shapes += [(_state_axes(c), np.shape(states[c.state])[2:]) for c in carries if c.state and c.state in states]
    pairs = [(axis, size) for axes, shape in shapes for axis, size in zip(axes, (*shape, 1, 1), strict=False)]
    solved = solve_sizes([(Dim.parse(axis), size) for axis, size in pairs if axis not in SIZELESS], {})
    batch, time, heads = tokens[0].shape[:3]
    # rows beyond the next power of two would only be padding
    chunk = min(chunk, 1 << (time - 1).bit_length())
    dtype = np.result_type(*(a.dtype for a in tokens))
    sizes = {**solved, ONE: 1, CHUNK: chunk, PAST_CHUNK: _past_chunk(past, batch * heads * time)}
    return Extent(batch, time, heads, chunk, sizes, dtype, past, past)


def _past_chunk(past: int, rows: int) -> int:
    """Tokens in a chunk of the past that meets so many rows: few chunks, of one length, that leave room in memory."""
    most = max(1, min(LONGEST_PAST_CHUNK, PAST_ELEMENTS // rows))
    count = max(1, -(-past // most))
    return max(1, -(-past // count))


def _leaf_axes(leaf: TileLeaf) -> tuple[str, ...]:
    is_row = leaf.rows in TOKEN_AXES or (leaf.kind == PARAM and leaf.rows == ONE)
    return axis_parts(leaf.cols) if is_row else (leaf.rows, leaf.cols)


def _state_axes(carry: Carry) -> tuple[str, ...]:
    if len(parts := axis_parts(carry.cols)) > 1:
        return parts
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


def past_tile(array: Array, extent: Extent, cols: str, chunk: int) -> Array:
    """A chunk of `[B, n, H, *dims]` of the past as `[B, H, 1, rows, cols]`: a view, or zeros before its first token."""
    flat = np.moveaxis(array, 2, 1).reshape(extent.batch, extent.heads, extent.past, extent.axis(cols))
    rows = extent.sizes[PAST_CHUNK]
    end = extent.past - (extent.past_chunks - 1 - chunk) * rows
    tile = flat[:, :, max(0, end - rows) : end]
    if end < rows:
        tile = np.concatenate((np.zeros((*flat.shape[:2], rows - end, flat.shape[-1]), array.dtype), tile), axis=2)
    return tile[:, :, None]


def param_tile(array: Array, extent: Extent, rows: str, cols: str) -> Array:
    """`[H, *dims]` to `[1, H, rows, cols]`."""
    return array.reshape(1, extent.heads, *extent.shape(rows, cols))


def dense_tiles(array: Array, extent: Extent) -> Array:
    """`[H, T, T]` to `[1, H, chunks, chunks, C, C]`, zeros outside the sequence."""
    padded = extent.chunks * extent.chunk
    whole = np.zeros((extent.heads, padded, padded), array.dtype)
    whole[:, : extent.time, : extent.time] = array
    tiles = whole.reshape(1, extent.heads, extent.chunks, extent.chunk, extent.chunks, extent.chunk)
    return np.swapaxes(tiles, 3, 4)


def positions(extent: Extent) -> Array:
    """The numbers of all tokens from 1, `[1, 1, chunks, C, 1]`."""
    first = extent.seen + 1
    count = extent.chunks * extent.chunk
    return np.arange(first, first + count, dtype=extent.dtype).reshape(1, 1, extent.chunks, extent.chunk, 1)


def past_positions(extent: Extent) -> Array:
    """Those of the tokens before a segment, `[1, 1, chunks, P, 1]`."""
    rows = extent.sizes[PAST_CHUNK]
    first = extent.seen + 1 - extent.past_chunks * rows
    return np.arange(first, extent.seen + 1, dtype=extent.dtype).reshape(1, 1, extent.past_chunks, rows, 1)


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


def final_state(tile: Array, transposed: bool, rows: str, cols: str, extent: Extent) -> Array:
    """A carried tile as `[B, H, *dims]`: trailing axes `1` are no declared dimensions, lanes are two."""
    if len(axis_parts(cols)) > 1:
        return np.ascontiguousarray(without_lanes(tile[..., 0, :], cols, extent))
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


def without_lanes(array: Array, cols: str, extent: Extent) -> Array:
    """`[.., D.N]` to `[.., D, N]`; arrays whose last axis is no matrix's lanes stay."""
    parts = axis_parts(cols)
    return array if len(parts) == 1 else array.reshape(*array.shape[:-1], *map(extent.axis, parts))


def join_result(tiles: Array, result: Result, extent: Extent) -> Array:
    """The tiles `[B, H, chunks, rows, cols]` of a result as its tensor."""
    memory, view = empty_result(result, extent)
    view[...] = tiles
    return finished_result(memory, result, extent)


def empty_result(result: Result, extent: Extent, summands: int | None = None) -> tuple[Array, Array]:
    """Memory for a result in the caller's order of axes, and a view of it as tiles `[B, H, chunks, rows, cols]`.

    A parameter's result comes as so many summands, one a chunk if that isn't said.
    """
    height, width = extent.shape(result.rows, result.cols)
    if result.kind == DENSE:
        memory = np.zeros((extent.batch, extent.heads, extent.chunks, extent.chunks, height, width), extent.dtype)
        return memory, memory
    if result.kind == PARAM:
        memory = np.empty((extent.batch, extent.heads, summands or extent.chunks, height, width), extent.dtype)
        return memory, memory
    if result.rows == CHUNK:
        memory = np.empty((extent.batch, extent.chunks, height, extent.heads, width), extent.dtype)
        return memory, memory.transpose(0, 3, 1, 2, 4)
    memory = np.empty((extent.batch, extent.time, extent.heads, height, width), extent.dtype)
    return memory, memory.transpose(0, 2, 1, 3, 4)


def finished_result(memory: Array, result: Result, extent: Extent) -> Array:
    """The filled memory as `[B, T, H, *dims]`, shifted by the result's offset, or as a parameter's `[H, *dims]`."""
    rows, cols = result.rows, result.cols
    if result.kind == DENSE:
        padded = extent.chunks * extent.chunk
        whole = np.swapaxes(memory.sum(axis=0), 2, 3).reshape(-1, padded, padded)
        return np.ascontiguousarray(whole[:, : extent.time, : extent.time])
    if result.kind == PARAM:
        total = memory.sum(axis=(0, 2))
        if rows == ONE:
            return without_lanes(without_units(total[..., 0, :, None], cols, ONE), cols, extent)
        return without_units(total, rows, cols)
    if rows == CHUNK:
        whole = memory.reshape(extent.batch, -1, extent.heads, memory.shape[-1])[:, : extent.time]
        found = without_lanes(np.ascontiguousarray(whole[..., 0] if cols == ONE else whole), cols, extent)
    else:
        found = without_units(memory, rows, cols)
    return shifted(found, result.offset) if result.offset else found


def shifted(array: Array, offset: int) -> Array:
    """Token t moved to t + offset; tokens that nothing reaches are zero."""
    moved = np.zeros_like(array)
    time = array.shape[1]
    if abs(offset) < time:
        source = slice(max(0, -offset), min(time, time - offset))
        moved[:, source.start + offset : source.stop + offset] = array[:, source]
    return moved


def added_up(found: Iterable[tuple[Result, Array]]) -> dict[str, Array]:
    """Tensors by name; results of the same tensor are summed."""
    tensors: dict[str, Array] = {}
    for result, array in found:
        tensors[result.tensor] = tensors[result.tensor] + array if result.tensor in tensors else array
    return tensors
