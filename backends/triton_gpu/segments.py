"""Kernels along segments of a sequence: a program for each, which visits the chunks of its own.

How many segments there are is a number of the launch. Their chunks are equally many but in the last one, which may have
fewer, or none. A loop over segments visits those that a walk has behind it, the farthest first.
"""

from collections.abc import Mapping
from math import prod

from smir.ir.dims import Dim
from smir.ir.graph import walk
from smir.ir.kernel import Kernel, KernelPlan
from smir.ir.tile import CHUNK, ONE, axis_parts
from smir.ir.tile_program import SEGMENTS_BEFORE

SEGMENTS, OWN_SEGMENT, VISITED = "segments", "segment", "visited_segment"
# Index variables of such kernels alone; those that a kernel doesn't need are dropped.
SEGMENT_INDEX = frozenset("segment visited_segment first_chunk past_last_chunk".split())
SEGMENT_NAMES = (*sorted(SEGMENT_INDEX), SEGMENTS, "segment_chunks", "behind")
# As many as a launch has that doesn't say.
DEFAULT_SEGMENTS = 8
# Elements of a carried tile that one program takes along; the programs from which on a walk leaves no multiprocessor of
# a large card without one, and with segments those that together hide each other's waiting.
BLOCK_ELEMENTS, STARVING, WANTED = 64 * 64, 192, 512
# The same of walks that scan, whose programs are a warp or a few: elements that a warp takes along.
WARP_ELEMENTS, STARVING_WARPS, WANTED_WARPS = 128, 1024, 2048
# Chunks of a segment that are worth their own program; both walks together take as long as one without segments where
# there are two of them.
LEAST_CHUNKS, FEWEST_SEGMENTS, MOST_SEGMENTS = 16, 4, 64
# Tokens of a call, of which long sequences leave room for few: how many there are must not change a row's result.
NOMINAL_TOKENS = 32768
Definitions = tuple[tuple[str, str], ...]


def has_segments(plan: KernelPlan) -> bool:
    """Whether some of the plan's kernels walk along segments."""
    return any(k.in_segments for k in plan.kernels)


def segment_count(plan: KernelPlan, sizes: Mapping[str, int], heads: int, tokens: int, chunk: int) -> int:
    """Into how many segments sequences of so many tokens are cut; 1 where a walk along the whole sequence does.

    The size of the batch has no say: a row's result doesn't depend on what else is computed.
    """
    carries = [c for k in plan.kernels if k.sequential for loop in k.loops for c in loop.scan.carries]
    known = {**sizes, CHUNK: chunk, ONE: 1}
    largest = max((_size(c.rows, known) * _size(c.cols, known) for c in carries), default=1)
    scans = any(n.op == "scan" for k in plan.kernels if k.sequential for n in walk(k.roots()))
    elements, starving, wanted = (
        (WARP_ELEMENTS, STARVING_WARPS, WANTED_WARPS) if scans else (BLOCK_ELEMENTS, STARVING, WANTED)
    )
    programs = nominal_sequences(tokens) * heads * -(-largest // elements)
    if programs > starving:
        return 1
    count = min(wanted // programs, MOST_SEGMENTS, tokens // (chunk * LEAST_CHUNKS))
    return count if count >= FEWEST_SEGMENTS else 1


def nominal_sequences(tokens: int) -> int:
    """How many sequences of so many tokens a call is taken to have."""
    return max(1, NOMINAL_TOKENS // tokens)


def _size(axis: str, sizes: Mapping[str, int]) -> int:
    return prod(sizes.get(part) or Dim.parse(part).size(sizes) for part in axis_parts(axis))


def segment_index() -> list[str]:
    """Which segment a program walks along, and its chunks."""
    return [
        f"segment = program % {SEGMENTS}",
        f"program = program // {SEGMENTS}",
        f"segment_chunks = tl.cdiv(chunks, {SEGMENTS})",
        "first_chunk = tl.minimum(segment * segment_chunks, chunks)",
        "past_last_chunk = tl.minimum(first_chunk + segment_chunks, chunks)",
    ]


def first_chunk(kernel: Kernel) -> str:
    """The first one of the chunks that a sequential kernel's program visits."""
    return "first_chunk" if kernel.in_segments else "0"


def last_chunk(kernel: Kernel) -> str:
    """The last one of them; less than the first where there are none."""
    return "past_last_chunk - 1" if kernel.in_segments else "chunks - 1"


def chunk_loop(order: str) -> tuple[str, Definitions]:
    """The first line of a loop over a segment's chunks, and what a step of it visits."""
    if order == "forward":
        return "for chunk in range(first_chunk, past_last_chunk):", ()
    header = "for visited in range(past_last_chunk - first_chunk):"
    return header, (("chunk", "past_last_chunk - 1 - visited"),)


def segment_loop(order: str) -> tuple[str, Definitions]:
    """The same over the segments behind."""
    if order == SEGMENTS_BEFORE:
        return f"for {VISITED} in range(segment):", ()
    return f"for behind in range({SEGMENTS} - 1 - segment):", ((VISITED, f"{SEGMENTS} - 1 - behind"),)


def is_met_last(order: str) -> str:
    """The first line of what only the segment does that a walk in this order meets last."""
    return f"if segment == {SEGMENTS} - 1:" if order == "forward" else "if segment == 0:"
