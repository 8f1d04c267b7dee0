"""Kernels along segments of a sequence, on numpy: the segments one after the other, in any order."""

from collections.abc import Callable, Mapping
from typing import Any

from smir.ir.graph import Node
from smir.ir.kernel import Kernel, Loop
from smir.ir.tile_program import SEGMENT_ORDERS, SEGMENTS_BEFORE, Carry

Array = Any
# The tiles that a loop's carries begin with, one for each carry.
Tiles = list[Array]
# What carries begin with, from what earlier loops hold.
Start = Callable[[tuple[Carry, ...], Mapping[Node, Array]], Tiles]


def segment_parts(chunks: int, segments: int) -> list[slice]:
    """The chunks of each segment; the last ones may have none."""
    each = -(-chunks // segments)
    return [slice(min(s * each, chunks), min((s + 1) * each, chunks)) for s in range(segments)]


def walk_segments(
    kernel: Kernel,
    parts: list[slice],
    start: Start,
    move: Callable[[Loop, Tiles, slice], Tiles],
    finish: Callable[[Loop, Tiles, int, bool], None],
) -> None:
    """All segments of a kernel. `move` takes a loop's tiles along some chunks, or over some segments' ends; `finish`
    stores what the loop ends with, of the segment of that number, and says whether it is the last one that is met."""
    for number, part in enumerate(parts):
        held: dict[Node, Array] = {}
        for loop in kernel.loops:
            tiles = start(loop.scan.carries, held)
            if loop.scan.order in SEGMENT_ORDERS:
                for other in _behind(loop.scan.order, number, len(parts)):
                    tiles = move(loop, tiles, slice(other, other + 1))
            else:
                tiles = move(loop, tiles, part)
                finish(loop, tiles, number, number == (len(parts) - 1 if loop.scan.order == "forward" else 0))
            held.update((c.load, tile) for c, tile in zip(loop.scan.carries, tiles, strict=True))


def _behind(order: str, number: int, count: int) -> range:
    """The segments that a walk has met before this one, in its order."""
    return range(number) if order == SEGMENTS_BEFORE else range(count - 1, number, -1)
