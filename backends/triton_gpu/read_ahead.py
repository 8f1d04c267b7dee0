"""Loads one step ahead, in loops over chunks: of what Triton doesn't fetch early by itself.

It overlaps loads of a product's operands with the steps before (`num_stages`). Columns and numbers that values are
multiplied by are no operands, and a step would wait for each as long as memory takes to answer: it reads those of the
next step instead.
"""

import re
from typing import TYPE_CHECKING

from smir.backends.triton_gpu.naming import suggest
from smir.backends.triton_gpu.segments import first_chunk, last_chunk
from smir.backends.triton_gpu.spans import SPANNED
from smir.backends.triton_gpu.spelling import Text
from smir.ir.graph import Node
from smir.ir.kernel import PER_CHUNK
from smir.ir.tile import BUFFER, COL, ONE, PAIR
from smir.ir.tile_program import EARLIER, LATER

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter

# The chunk of the next step; the last one's is its own.
_NEXT = {"forward": "tl.minimum(chunk + 1, {last})", "backward": "tl.maximum(chunk - 1, {first})"}


def reads_pair_ahead(p: "TilePrinter", node: Node) -> bool:
    """Whether a loop over other chunks keeps this number of a visited chunk, or of two, for its next step."""
    scan = p.frame.scan
    if scan is None or scan.order not in (EARLIER, LATER) or scan.reach is not None or p.frame.facts.packed:
        return False
    is_number = node.type.rows == node.type.cols == ONE
    return is_number and node["kind"] in (BUFFER, PAIR) and COL in (node["block"], node.get("other"))


def read_pair_ahead(p: "TilePrinter", node: Node) -> Text:
    """The same as `read_ahead` for that."""
    frame, scan = p.frame, p.frame.scan
    assert scan is not None
    load, last = frame.load(node), f" + {SPANNED} - 1" if frame.spans else ""
    begin = {EARLIER: "chunk - 1", LATER: f"chunk{last} + 1"}
    if scan.inward:
        begin = {EARLIER: "0", LATER: "chunks - 1"}
    step = "+ 1" if (scan.order == LATER) != scan.inward else "- 1"
    name = frame.names.new(p.wanted.get(node) or suggest(node, lambda _: None))
    ahead = frame.names.new(f"{name}_ahead")
    p.before(f"{ahead} = {_of_chunk(load, frame.first_tile, begin[scan.order])}")
    p.line(f"{name} = {ahead}")
    p.line(f"{ahead} = {_of_chunk(load, frame.first_tile, f'col_chunk {step}')}")
    return p.know(node, name)


def _of_chunk(load: str, first_tile: str, chunk: str) -> str:
    """The load for another visited chunk, the nearest one that there is."""
    chosen = f"tl.minimum(tl.maximum({chunk}, 0), chunks - 1)"
    return re.sub(r"\bthere\b", f"({first_tile} + {chosen})", re.sub(r"\bcol_chunk\b", chosen, load))


def reads_ahead(p: "TilePrinter", node: Node) -> bool:
    """Whether a loop over chunks keeps this load for its next step."""
    kernel = p.frame.kernel
    if not kernel.sequential or node["kind"] != BUFFER or node.type.cols != ONE or not p.keeps_type(node):
        return False
    walks = [loop for loop in kernel.loops if loop.scan.order in _NEXT]
    return len(walks) == 1 and p.frame.plan.buffer(node["name"]).extent == PER_CHUNK


def read_ahead(p: "TilePrinter", node: Node) -> Text:
    """The value of this step, which the one before has read; prints the first load before the loop."""
    frame, kernel = p.frame, p.frame.kernel
    order = next(loop.scan.order for loop in kernel.loops if loop.scan.order in _NEXT)
    first, last = first_chunk(kernel), last_chunk(kernel)
    begin = first if order == "forward" else last
    name = frame.names.new(p.wanted.get(node) or suggest(node, lambda _: None))
    ahead = frame.names.new(f"{name}_ahead")
    p.before(f"{ahead} = {frame.load_tile(node, f'({frame.first_tile} + {begin})', f'{first} <= {last}')}")
    if not p.next_tile:
        p.next_tile = frame.names.new("next_tile")
        p.line(f"{p.next_tile} = {frame.first_tile} + {_NEXT[order].format(first=first, last=last)}")
    p.line(f"{name} = {ahead}")
    p.line(f"{ahead} = {frame.load_tile(node, p.next_tile)}")
    return p.know(node, name)
