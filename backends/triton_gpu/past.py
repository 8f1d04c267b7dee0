"""The tokens before a segment in kernels: after all of its own chunks, a row chunk visits those of the past.

`past` tokens are given, a number of the launch, so that a growing past is no other kernel. Their chunks end where the
segment begins and are visited nearest first; the last one visited may begin before the first token. `seen` tokens came
before the segment: those of the past, or as many as the tensor `position` says, which nobody waits for. Where there is
a tensor `filled`, the past is memory that isn't full: as many tokens of it count as that says, and nobody waits either.

A kernel that stores buffers PER_SPLIT divides the past between `splits` programs, so that few rows fill a device; how
many depends on the length of the past alone, so that rows don't change what others give.
"""

from smir.backends.triton_gpu.facts import padded
from smir.backends.triton_gpu.names import Names
from smir.ir.graph import walk
from smir.ir.kernel import PER_SPLIT, Kernel, KernelPlan
from smir.ir.tile import PAST, POSITION
from smir.ir.tile_program import BEFORE

# Index variables, sizes and pointers of such kernels alone; those that a kernel doesn't need are dropped.
PAST_INDEX = frozenset("past_row past_start past_inside seen split".split())
PAST_SIZES = ("past", "splits")
# Tokens of the past that are worth a program of their own, and the most programs of a row chunk.
SPLIT_TOKENS, MOST_SPLITS = 512, 64
PAST_CONSTANTS = ("PAST_CHUNK",)
POSITION_POINTER, FILLED_POINTER = "position_ptr", "filled_ptr"
POINTERS = {POSITION_POINTER: "position", FILLED_POINTER: "filled"}
PAST_NAMES = (*PAST_INDEX, *PAST_SIZES, *PAST_CONSTANTS, "past_chunks", "first_visited", *POINTERS)


def has_past(plan: KernelPlan) -> bool:
    """Whether the plan is that of a segment."""
    return any(leaf.kind == PAST for leaf in plan.leaves)


def divides_past(plan: KernelPlan, kernel: Kernel) -> bool:
    """Whether a kernel's programs take one part of the past each."""
    return any(plan.buffer(s.target).extent == PER_SPLIT for s in kernel.stores if s.target in _buffers(plan))


def count_of_splits(plan: KernelPlan) -> str:
    """The launcher's line, if the plan has such a kernel."""
    if not any(divides_past(plan, k) for k in plan.kernels):
        return ""
    return f"    splits = max(1, min({MOST_SPLITS}, ceil_div(past, {SPLIT_TOKENS})))\n"


def _buffers(plan: KernelPlan) -> set[str]:
    return {b.name for b in plan.buffers}


def knows_positions(kernel: Kernel) -> bool:
    """Whether a kernel needs the numbers of tokens."""
    return any(n.op == "load" and n["kind"] == POSITION for n in walk(kernel.roots()))


def chunk_keywords(chunk: int, tokens: int) -> dict[str, int]:
    """The launcher's chunks for so many new tokens: few of them meet long chunks of the past."""
    return {"chunk": min(chunk, padded(tokens)), "past_chunk": chunk}


def reserve(names: Names) -> None:
    """Keeps a kernel's tensors and temporaries off these names."""
    for name in PAST_NAMES:
        names.new(name)


def past_index(kernel: Kernel) -> list[str]:
    """The rows of a chunk of the past, how many tokens it has, and how many came before the segment."""
    rows, is_visited = ["past_row = tl.arange(0, PAST_CHUNK)"], any(x.scan.order == BEFORE for x in kernel.loops)
    if is_visited or knows_positions(kernel):
        rows += [f"if {FILLED_POINTER} is not None:",
                 f"    past = tl.minimum(past, tl.load({FILLED_POINTER}).to(tl.int32))"]  # fmt: skip
    if not knows_positions(kernel):
        return rows
    return [*rows, f"if {POSITION_POINTER} is None:", "    seen = past", "else:",
            f"    seen = tl.load({POSITION_POINTER})"]  # fmt: skip


def past_count(reach: int | None) -> str:
    """How many chunks of the past a row chunk visits."""
    whole = "tl.cdiv(past, PAST_CHUNK)"
    if reach is None:
        return whole
    return f"tl.minimum({whole}, tl.cdiv(tl.maximum({reach} - chunk * CHUNK, 0), PAST_CHUNK))"


def visited_chunks(divided: bool) -> tuple[list[str], str]:
    """Which of them a program visits: definitions, and the loop's first line."""
    if not divided:
        return [], "for visited in range(past_chunks):"
    each = "tl.cdiv(past_chunks, splits)"
    end = f"tl.minimum(first_visited + {each}, past_chunks)"
    return [f"first_visited = split * {each}"], f"for visited in range(first_visited, {end}):"


def past_definitions() -> tuple[tuple[str, str], ...]:
    """Where a visited chunk starts among the tokens of the past, and which of its rows are tokens."""
    return (
        ("past_start", "tl.cast(past - (visited + 1) * PAST_CHUNK, tl.int64)"),
        ("past_inside", "past_row + past_start >= 0"),
    )


def past_positions() -> str:
    """The numbers of its tokens from 1, a column in float32."""
    return "(seen - past + past_start + past_row + 1)[:, None].to(tl.float32)"
