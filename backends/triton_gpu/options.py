"""Launch options that need no measurement: blocks of grid axes, warps and pipeline stages, by a rule on tile sizes.

The thresholds are where kernels compiled for sm_90 begin to spill registers with four warps. Four warps are the
faster choice below them. Known risk: some kernels of four warps die on Hopper with an illegal memory access when
Triton pipelines a triangular solve; check a changed option against the numpy backend before using it.
"""

from collections.abc import Mapping

from smir.backends.triton_gpu.facts import block_name, padded
from smir.ir.dims import Dim
from smir.ir.graph import Node, walk
from smir.ir.kernel import FULL, GRID, Kernel, KernelPlan
from smir.ir.tile import CHUNK, ONE, STEP

DEFAULT_CHUNK, WIDE_CHUNK = 64, 32
NOMINAL_SIZE = 128
WIDE_BLOCK, NARROW_BLOCK = 64, 32
# Elements of all computed tiles together from which a kernel gets eight warps.
PARALLEL_ELEMENTS, SEQUENTIAL_ELEMENTS = 80 << 10, 32 << 10
FREE = frozenset("load const transpose broadcast".split())

Options = dict[str, dict[str, int]]


def default_chunk(sizes: Mapping[str, int], float32: bool) -> int:
    """Tokens a chunk: fewer where float32 operands of wide tiles would fill the shared memory."""
    return WIDE_CHUNK if float32 and any(padded(size) >= NOMINAL_SIZE for size in sizes.values()) else DEFAULT_CHUNK


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
    known = {ONE: 1, CHUNK: 1 if plan.form == STEP else chunk, **(sizes or {})}
    weight = 2 if float32 else 1
    return {kernel.name: _kernel_options(kernel, known, weight, lanes) for kernel in plan.kernels}


def _kernel_options(kernel: Kernel, sizes: Mapping[str, int], weight: int, lanes: int) -> dict[str, int]:
    # a state with a whole axis is cut into narrow blocks: more programs, and it stays in registers
    narrow = kernel.sequential and any(role == FULL for _, role in kernel.roles)
    width = NARROW_BLOCK if narrow else WIDE_BLOCK
    blocks = {axis: min(width, _block(axis, sizes)) for axis, role in kernel.roles if role == GRID}
    elements = weight * sum(_elements(n, blocks, sizes) for n in walk(kernel.roots()) if n.op not in FREE)
    limit = SEQUENTIAL_ELEMENTS if kernel.sequential else PARALLEL_ELEMENTS
    warps = (8 if elements >= limit else 4) * 32 // lanes
    return {**{block_name(axis): size for axis, size in blocks.items()}, "num_warps": warps, "num_stages": 2}


def _elements(node: Node, blocks: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    rows, cols = (blocks.get(a) or _block(a, sizes) for a in (node.type.rows, node.type.cols))
    return rows * cols


def _block(axis: str, sizes: Mapping[str, int]) -> int:
    if axis in (ONE, CHUNK):
        return sizes[axis]
    if axis in sizes:
        return padded(sizes[axis])
    dim = Dim.parse(axis)
    return padded(dim.size({**dict.fromkeys(dim.names, NOMINAL_SIZE), **sizes}))
