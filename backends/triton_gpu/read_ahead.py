"""Loads one step ahead, in loops over chunks: of what Triton doesn't fetch early by itself.

It overlaps loads of a product's operands with the steps before (`num_stages`). Columns and numbers that values are
multiplied by are no operands, and a step would wait for each as long as memory takes to answer: it reads those of the
next step instead.
"""

from typing import TYPE_CHECKING

from smir.backends.triton_gpu.naming import suggest
from smir.backends.triton_gpu.segments import first_chunk, last_chunk
from smir.backends.triton_gpu.spelling import Text
from smir.ir.graph import Node
from smir.ir.kernel import PER_CHUNK
from smir.ir.tile import BUFFER, ONE

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter

# The chunk of the next step; the last one's is its own.
_NEXT = {"forward": "tl.minimum(chunk + 1, {last})", "backward": "tl.maximum(chunk - 1, {first})"}


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
