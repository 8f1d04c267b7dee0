"""Addresses of what belongs to pairs: T x T parameters and their gradients, tiles for every two chunks."""

from smir.backends.triton_gpu.facts import size_name
from smir.backends.triton_gpu.names import word
from smir.backends.triton_gpu.past import past_positions
from smir.ir.graph import Node
from smir.ir.kernel import Buffer
from smir.ir.tile import CHUNK, COL, ONE, OWN, PAST, PAST_CHUNK, ROW

# The variables that number the tokens along an axis.
ROWS = {CHUNK: "row", OWN: "own_row", PAST_CHUNK: "past_row"}


def starts_of(block: str) -> tuple[str, str]:
    """Where a chunk starts and which of its rows are tokens."""
    return ("col_start", "col_inside") if block == COL else ("start", "inside")


def positions(node: Node, segment: bool) -> str:
    """The numbers of a chunk's tokens from 1, a column in float32; other tokens may come before a segment."""
    if node["block"] == PAST:
        return past_positions()
    start, _ = starts_of(node["block"])
    before = "seen + " if segment else ""
    return f"({before}{start} + {ROWS[node.type.rows]} + 1)[:, None].to(tl.float32)"


def dense_address(
    base: str, strides: tuple[str, str], block: str, other: str, rows: tuple[str, str] = ("row", "row")
) -> str:
    """The entries of a strided T x T matrix at the tokens of two chunks."""
    (first, _), (second, _) = starts_of(block), starts_of(other)
    return f"{base} + ({first} + {rows[0]})[:, None] * {strides[0]} + ({second} + {rows[1]})[None, :] * {strides[1]}"


def dense_mask(block: str, other: str) -> str:
    """Which of them lie inside the sequence."""
    (_, first), (_, second) = starts_of(block), starts_of(other)
    return f"{first}[:, None] & {second}[None, :]"


def dense_gradient(pointer: str, other: str) -> str:
    """The same of a contiguous `[B, H, T, T]` tensor, rows of the row chunk."""
    matrix = f"{pointer} + (batch * heads + head) * time * time"
    return dense_address(matrix, ("time", "1"), ROW, other)


def pair_address(pointer: str, buffer: Buffer, block: str, other: str, packed: bool = False, own: str = "") -> str:
    """The tile of a contiguous `[B, H, chunks, chunks, rows, cols]` tensor for two chunks; `own`: how far the program's
    own one is from its first.

    In memory the chunks of all `packed` sequences stand side by side.
    """
    first = "there" if block == COL else f"(here{own})" if own else "here"
    second = "col_chunk" if other == COL else f"chunk{own}"
    sizes = [_size(axis) for axis in (buffer.rows, buffer.cols)]
    total, second = ("all_chunks", f"first_chunk + {second}") if packed else ("chunks", second)
    place = f"{pointer} + ({first} * {total} + {second}) * ({sizes[0]} * {sizes[1]})"
    rows = "" if buffer.rows == ONE else f" + {_index(buffer.rows)}[:, None] * {sizes[1]}"
    cols = "" if buffer.cols == ONE else f" + {_index(buffer.cols)}[None, :]"
    return place + rows + cols


def _size(axis: str) -> str:
    return {CHUNK: "CHUNK", ONE: "1"}.get(axis) or size_name(axis)


def _index(axis: str) -> str:
    return "row" if axis == CHUNK else f"over_{word(axis)}"
