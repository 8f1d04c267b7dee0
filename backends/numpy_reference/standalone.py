"""Helpers of the printed numpy program: their source goes into it, so they depend on numpy alone."""

from typing import Any

import numpy as np

Array = Any


def chunks_of(x: Array, rows: int, shift: int = 0) -> Array:
    """`[B, T, H, *dims]` to `[B, H, chunks, rows, size]`, moved by `shift` tokens, zeros outside the sequence."""
    batch, time, heads = x.shape[:3]
    count = -(-time // rows)
    x = np.moveaxis(x.reshape(batch, time, heads, -1), 2, 1)
    padded = np.zeros((batch, heads, count * rows, x.shape[-1]), x.dtype)
    first, last = max(0, -shift), min(count * rows, time - shift)
    if last > first:
        padded[:, :, first:last] = x[:, :, first + shift : last + shift]
    return padded.reshape(batch, heads, count, rows, -1)


def tokens_of(x: Array, rows: int, cols: int, shift: int = 0) -> Array:
    """`[B, T, H, *dims]` to one `rows x cols` tile for every token, `[B, H, T, rows, cols]`."""
    single = chunks_of(x, 1, shift)
    return single.reshape(*single.shape[:3], rows, cols)


def start_state(given: Array, shape: tuple[int, ...], initial: float, dtype: Any, transposed: bool = False) -> Array:
    """A state before the first token: the one given, `[B, H, *dims]`, or a number everywhere."""
    if given is None:
        return np.full(shape, initial, dtype)
    if transposed:
        return np.swapaxes(given.reshape(*shape[:2], shape[3], shape[2]), -1, -2).astype(dtype)
    return given.reshape(shape).astype(dtype)


def spread(x: Array, rows: int, cols: int) -> Array:
    """Repeats a single row or column."""
    return np.broadcast_to(x, (*np.shape(x)[:-2], rows, cols))


def dense_chunks(w: Array, rows: int) -> Array:
    """`[H, T, T]` to `[1, H, chunks, chunks, rows, rows]`, zeros outside the sequence."""
    heads, time = w.shape[:2]
    count = -(-time // rows)
    padded = np.zeros((1, heads, count * rows, count * rows), w.dtype)
    padded[:, :, :time, :time] = w
    return np.swapaxes(padded.reshape(1, heads, count, rows, count, rows), 3, 4)


def tiles_of_pairs(tiles: Array, first: slice, second: slice) -> Array:
    """The tiles of chunk pairs, taken one of each from two runs of equal length."""
    return tiles[:, :, np.arange(first.start, first.stop), np.arange(second.start, second.stop)]


def started(x: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """A writable copy of a tile for every chunk."""
    return np.array(np.broadcast_to(x, shape), dtype)
