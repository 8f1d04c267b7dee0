"""Launch options that need no measurement: blocks of grid axes, warps and pipeline stages, by a rule on tile sizes.

The thresholds are where kernels compiled for sm_90 begin to spill registers with four warps. Four warps are the
faster choice below them. Known risk: some kernels of four warps die on Hopper with an illegal memory access when
Triton pipelines a triangular solve; check a changed option against the numpy backend before using it.
"""

import math
from collections.abc import Mapping

from smir.backends.triton_gpu.facts import SMALLEST_BLOCK, block_name, padded
from smir.ir.dims import Dim
from smir.ir.graph import Node, walk
from smir.ir.kernel import FULL, GRID, Kernel, KernelPlan
from smir.ir.live import peak_elements
from smir.ir.tile import CHUNK, ONE, PARAM, PAST_CHUNK, SIZELESS, axis_parts
from smir.ir.tile_program import CHUNKED, SCAN, STEP

DEFAULT_CHUNK, WIDE_CHUNK, SCAN_CHUNK = 64, 32, 32
# Elements of one tile of a scan, all of which stay in the registers of four warps.
SCAN_ELEMENTS = 2048
NOMINAL_SIZE = 128
WIDE_BLOCK, NARROW_BLOCK = 64, 32
# Elements of all computed tiles together from which a kernel gets eight warps; sixteen where parameters alone, which a
# sequential kernel keeps in registers, are so many.
PARALLEL_ELEMENTS, SEQUENTIAL_ELEMENTS = 80 << 10, 32 << 10
# Elements alive at once from which a kernel gets narrower blocks and eight warps; what narrower blocks have to save.
ALIVE_ELEMENTS, NARROWER = 52 << 10, 0.85
# The same for kernels over pairs of chunks, whose every block computes all scores again.
PAIR_ELEMENTS = 88 << 10
FREE = frozenset("load const transpose broadcast".split())
# Operations on interleaved pairs: an axis beside one of half its length.
PAIRED = frozenset("rotate cross_pairs turn_pairs".split())

Options = dict[str, dict[str, int]]


def default_chunk(sizes: Mapping[str, int], float32: bool, form: str = CHUNKED, shared_limit: int | None = None) -> int:
    """Tokens a chunk: fewer where float32 operands of wide tiles would fill the shared memory, and again where two
    operands are more than `shared_limit`, the bytes of it that a program may take.

    A scan keeps its tiles in registers, so that its chunks are short for all sizes.
    """
    if form == SCAN:
        return SCAN_CHUNK
    widest = max(map(padded, sizes.values()), default=SMALLEST_BLOCK)
    chunk = WIDE_CHUNK if float32 and widest >= NOMINAL_SIZE else DEFAULT_CHUNK
    two_rows = 2 * widest * (4 if float32 else 2)
    while shared_limit is not None and chunk > SMALLEST_BLOCK and chunk * two_rows > shared_limit:
        chunk //= 2
    return chunk


def default_options(
    plan: KernelPlan,
    sizes: Mapping[str, int] | None = None,
    chunk: int = DEFAULT_CHUNK,
    float32: bool = False,
    lanes: int = 32,
) -> Options:
    """Options of every kernel by name. Dimensions without a size count as 128.

    `float32`: so are the products' operands, which take twice the registers; `lanes`: threads in a warp.
    """
    known = {ONE: 1, CHUNK: 1 if plan.form == STEP else chunk, PAST_CHUNK: chunk, **(sizes or {})}
    weight = 2 if float32 else 1
    return {kernel.name: _kernel_options(kernel, known, weight, lanes) for kernel in plan.kernels}


def modelled_elements(plan: KernelPlan, sizes: Mapping[str, int], chunk: int, float32: bool = False) -> dict[str, int]:
    """The elements that are alive at one time in every kernel with its default options, by the kernel's name."""
    known = {ONE: 1, CHUNK: 1 if plan.form == STEP else chunk, PAST_CHUNK: chunk, **sizes}
    chosen, found = default_options(plan, sizes, chunk, float32), {}
    for kernel in plan.kernels:
        blocks = {axis: chosen[kernel.name][block_name(axis)] for axis, role in kernel.roles if role == GRID}
        found[kernel.name] = _alive(kernel, blocks, known, 2 if float32 else 1)
    return found


def smallest_blocks(kernel: Kernel) -> dict[str, int]:
    """The axes whose blocks may be smaller than those of others, which matrix products need.

    Blocks of rotation angles are half of the rotated axis' ones; a matrix's lanes are the product of two blocks.
    """
    nodes = list(walk(kernel.roots()))
    halves = [(n if n.op == "cross_pairs" else n.args[0], n["axis"]) for n in nodes if n.op in PAIRED]
    lanes = {part for n in nodes for part in axis_parts(n.type.cols) if len(axis_parts(n.type.cols)) > 1}
    axes = [half.type.rows if axis == 0 else half.type.cols for half, axis in halves]
    return dict.fromkeys(axes, 8) | dict.fromkeys(lanes, 1)


def _kernel_options(kernel: Kernel, sizes: Mapping[str, int], weight: int, lanes: int) -> dict[str, int]:
    # a state with a whole axis is cut into narrow blocks: more programs, and it stays in registers
    narrow = kernel.sequential and any(role == FULL for _, role in kernel.roles)
    width = NARROW_BLOCK if narrow else WIDE_BLOCK
    smallest = smallest_blocks(kernel)
    blocks = {axis: min(width, _block(axis, sizes)) for axis, role in kernel.roles if role == GRID}
    if any(n.op == "scan" for n in walk(kernel.roots())):
        blocks = _scan_blocks(kernel, blocks, smallest, sizes)
    elif not kernel.loops:
        blocks = _fitting_blocks(kernel, blocks, sizes, weight)
    elif not kernel.sequential:
        blocks = _pair_blocks(kernel, blocks, sizes, weight)
    alive = 0 if kernel.loops else _alive(kernel, blocks, sizes, weight)
    kept = sum(_elements(n, blocks, sizes) for n in walk(kernel.roots()) if kernel.sequential and _is_param(n))
    elements = kept + weight * sum(_elements(n, blocks, sizes) for n in walk(kernel.roots()) if n.op not in FREE)
    limit = SEQUENTIAL_ELEMENTS if kernel.sequential else PARALLEL_ELEMENTS
    large = elements >= limit or alive > ALIVE_ELEMENTS
    warps = (16 if kept >= SEQUENTIAL_ELEMENTS else 8 if large else 4) * 32 // lanes
    return {**{block_name(axis): size for axis, size in blocks.items()}, "num_warps": warps, "num_stages": 2}


def _is_param(node: Node) -> bool:
    """Whether the tile is loaded once, before the loop, and stays in registers."""
    return node.op == "load" and node["kind"] == PARAM


def _fitting_blocks(kernel: Kernel, blocks: dict[str, int], sizes: Mapping[str, int], weight: int) -> dict[str, int]:
    """Narrow blocks where more is alive at once than registers hold and they change that."""
    narrow = {axis: min(NARROW_BLOCK, size) for axis, size in blocks.items()}
    alive = _alive(kernel, blocks, sizes, weight)
    fits = alive <= ALIVE_ELEMENTS or _alive(kernel, narrow, sizes, weight) > NARROWER * alive
    return blocks if fits else narrow


def _pair_blocks(kernel: Kernel, blocks: dict[str, int], sizes: Mapping[str, int], weight: int) -> dict[str, int]:
    """Whole axes in a kernel over pairs of chunks, if registers hold them; loops over levels leave less room."""
    limit = ALIVE_ELEMENTS if any(n.op == "level_sum" for n in walk(kernel.roots())) else PAIR_ELEMENTS
    whole = {axis: _block(axis, sizes) for axis in blocks}
    return whole if _alive(kernel, whole, sizes, weight) <= limit else blocks


def _alive(kernel: Kernel, blocks: Mapping[str, int], sizes: Mapping[str, int], weight: int) -> int:
    return weight * peak_elements(kernel.roots(), lambda n: _elements(n, blocks, sizes))


def _scan_blocks(
    kernel: Kernel, blocks: Mapping[str, int], smallest: Mapping[str, int], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Halves the widest block until the tiles of scans are small enough; blocks of products stay."""
    found = dict(blocks)
    scans = [n for n in walk(kernel.roots()) if n.op == "scan"]
    narrowest = {axis: smallest.get(axis, 1 if not any(n.op == "dot" for n in walk(kernel.roots())) else 16)
                 for axis in found}  # fmt: skip
    while any(_elements(n, found, sizes) > SCAN_ELEMENTS for n in scans):
        axis = max(found, key=lambda a: found[a] // narrowest[a], default=None)
        if axis is None or found[axis] <= narrowest[axis]:
            break
        found[axis] //= 2
    return found


def _elements(node: Node, blocks: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    return math.prod(
        blocks.get(part) or _block(part, sizes, len(axis_parts(axis)) > 1)
        for axis in (node.type.rows, node.type.cols)
        for part in axis_parts(axis)
    )


def _block(axis: str, sizes: Mapping[str, int], is_lane: bool = False) -> int:
    if axis in SIZELESS:
        return sizes[axis]
    if axis in sizes:
        return padded(sizes[axis], 1 if is_lane else SMALLEST_BLOCK)
    dim = Dim.parse(axis)
    return padded(dim.size({**dict.fromkeys(dim.names, NOMINAL_SIZE), **sizes}))
