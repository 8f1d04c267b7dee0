"""Launch options that need no measurement: blocks of grid axes, warps and pipeline stages, by a rule on tile sizes.

The thresholds are where kernels compiled for sm_90 begin to spill registers, and what an H200 was fastest with: four
warps nearly everywhere. Check a changed option against the numpy backend before using it.
"""

import math
from collections.abc import Callable, Iterable, Mapping

from smir.backends.triton_gpu.facts import SMALLEST_BLOCK, block_name, padded
from smir.backends.triton_gpu.joining import WARPS as JOINED_WARPS
from smir.backends.triton_gpu.joining import is_joined
from smir.backends.triton_gpu.spans import OWN_ROWS, is_worth_spans, spanning
from smir.backends.triton_gpu.walk_options import multiplies_state, walk_choice, walk_warps, writes_output
from smir.ir.dims import Dim
from smir.ir.graph import Node, walk
from smir.ir.kernel import FULL, GRID, Kernel, KernelPlan
from smir.ir.live import peak_elements
from smir.ir.tile import BUFFER, CHUNK, LEVEL_OPS, ONE, PARAM, PAST_CHUNK, SIZELESS, TOKEN, axis_parts
from smir.ir.tile_program import CHUNKED, SCAN, STEP

DEFAULT_CHUNK, WIDE_CHUNK, SCAN_CHUNK = 64, 32, 16
# Tokens of a chunk up to which walks keep it on chip: each thread has an address for each of its rows.
LONGEST_WALKED = 32
# Elements of one tile of a scan that stay in registers: of each thread where threads hold whole columns, else of all;
# warps for columns that are lanes of matrices, where wider blocks leave fewer summands; elements of a carried row.
COLUMN_ELEMENTS, SCAN_ELEMENTS, LANE_WARPS, MOST_WARPS, ROW_ELEMENTS = 64, 2048, 4, 16, 128
# Elements alive at once in each thread that holds columns, from which it gets half as many; in walks.
ALIVE_A_THREAD, ALIVE_IN_WALKS = 400, 300
NOMINAL_SIZE = 128
# Of kernels over pairs that take two chunks at once.
SPAN_WARPS, SPAN_STAGES = 8, 3
WIDE_BLOCK, NARROW_BLOCK = 64, 32
# Elements in float32 that fill the registers of four warps.
FULL_ELEMENTS = 32 << 10
# Elements alive at once from which a kernel gets narrower blocks; those with operands that are loaded for products, and
# those that are computed, with the results, from which four warps spill far; what narrower blocks have to save.
ALIVE_ELEMENTS, HELD_ELEMENTS, SPILLING_ELEMENTS, NARROWER = 52 << 10, 64 << 10, 68 << 10, 0.85
# The same for kernels over pairs of chunks, whose every block computes all scores again.
PAIR_ELEMENTS = 88 << 10
FREE = frozenset("load const transpose broadcast widen narrow precise rounded".split())
# Operations on interleaved pairs: an axis beside one of half its length.
PAIRED = frozenset("rotate cross_pairs turn_pairs".split())

# The assembler gives some kernels with float32 products 32 registers a thread and spills everything else, unless it is
# told how many there may be: at most 255 a thread, and 64 K in all.
REGISTERS, MOST_REGISTERS, ALL_REGISTERS = "maxnreg", 255, 64 << 10

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
    span: int = 1,
    sequences: int | None = None,
) -> Options:
    """Options of every kernel by name. Dimensions without a size count as 128.

    `float32`: so are the products' operands, which take twice the registers; `lanes`: threads in a warp; `span`: chunks
    that a program over pairs of them takes at once; `sequences`: of all heads, how many walks such a call has room for.
    """
    known = {ONE: 1, CHUNK: 1 if plan.form == STEP else chunk, PAST_CHUNK: chunk, **(sizes or {})}
    weight = 2 if float32 else 1
    found = {
        kernel.name: _column_options(kernel, known, lanes)
        if plan.form == SCAN and has_columns(kernel)
        else _kernel_options(kernel, known, weight, lanes, sequences)
        for kernel in plan.kernels
    }
    found |= {
        k.name: {**found[k.name], "num_warps": JOINED_WARPS * 32 // lanes} for k in plan.kernels if is_joined(plan, k)
    }
    spanned = [k.name for k in plan.kernels if span > 1 and spanning(plan, k) and is_worth_spans(plan, k)]
    chosen = {"num_warps": SPAN_WARPS * 32 // lanes, "num_stages": SPAN_STAGES, OWN_ROWS: chunk * span}
    alone = {k.name: {**found[k.name], OWN_ROWS: chunk} for k in plan.kernels if span > 1 and spanning(plan, k)}
    found |= alone | {name: {**found[name], **chosen} for name in spanned}
    if not float32 or lanes != 32:
        return found
    multiplying = [k.name for k in plan.kernels if any(n.op == "dot" for n in walk(k.roots()))]
    return found | {name: with_registers({**found[name], REGISTERS: 0}) for name in multiplying}


def with_registers(options: dict[str, int]) -> dict[str, int]:
    """Options that say how many registers a thread may have, with as many as so many warps have room for."""
    if REGISTERS not in options:
        return options
    return {**options, REGISTERS: min(MOST_REGISTERS, ALL_REGISTERS // (32 * options["num_warps"]))}


def modelled_elements(plan: KernelPlan, sizes: Mapping[str, int], chunk: int, float32: bool = False) -> dict[str, int]:
    """The elements that are alive at one time in every kernel with its default options, by the kernel's name."""
    known = {ONE: 1, CHUNK: 1 if plan.form == STEP else chunk, PAST_CHUNK: chunk, **sizes}
    chosen, found = default_options(plan, sizes, chunk, float32), {}
    for kernel in plan.kernels:
        blocks = {axis: chosen[kernel.name][block_name(axis)] for axis, role in kernel.roles if role == GRID}
        found[kernel.name] = _alive(kernel, blocks, known, 2 if float32 else 1)
    return found


def tile_elements(sizes: Mapping[str, int], chunk: int) -> Callable[[Node], int]:
    """How many elements a tile has that no axis of is cut."""
    known = {ONE: 1, CHUNK: chunk, PAST_CHUNK: chunk, **sizes}
    return lambda node: _elements(node, {}, known)


def smallest_blocks(kernel: Kernel) -> dict[str, int]:
    """The axes whose blocks may be smaller than those of others, which matrix products need.

    Blocks of rotation angles are half of the rotated axis' ones; a matrix's lanes are the product of two blocks.
    """
    nodes = list(walk(kernel.roots()))
    halves = [(n if n.op == "cross_pairs" else n.args[0], n["axis"]) for n in nodes if n.op in PAIRED]
    lanes = {part for n in nodes for part in axis_parts(n.type.cols) if len(axis_parts(n.type.cols)) > 1}
    axes = [half.type.rows if axis == 0 else half.type.cols for half, axis in halves]
    return dict.fromkeys(axes, 8) | dict.fromkeys(lanes, 1)


def _kernel_options(
    kernel: Kernel, sizes: Mapping[str, int], weight: int, lanes: int, sequences: int | None
) -> dict[str, int]:
    smallest = smallest_blocks(kernel)
    width = _state_width(kernel, sizes) if kernel.sequential else WIDE_BLOCK
    blocks = {axis: min(width, _block(axis, sizes)) for axis, role in kernel.roles if role == GRID}
    if any(n.op == "scan" and n.type.cols != ONE for n in walk(kernel.roots())):
        blocks = _scan_blocks(kernel, blocks, smallest, sizes)
    elif not kernel.loops:
        blocks = _fitting_blocks(kernel, blocks, sizes, weight)
    elif not kernel.sequential:
        blocks = _pair_blocks(kernel, blocks, sizes, weight)
    stages, fewest = 2, 1
    multiplies = writes_output(kernel) or multiplies_state(kernel)
    if sizes[CHUNK] > 1 and multiplies and not any(n.op == "scan" for n in walk(kernel.roots())):
        whole = {axis: _block(axis, sizes) for axis in blocks}
        blocks, stages = walk_choice(kernel, whole, lambda n, cut: _elements(n, cut, sizes), weight, sequences)
        fewest = walk_warps(kernel, blocks)
    warps = max(fewest, _warps(kernel, blocks, sizes, weight)) * 32 // lanes
    return {**{block_name(axis): size for axis, size in blocks.items()}, "num_warps": warps, "num_stages": stages}


def _warps(kernel: Kernel, blocks: Mapping[str, int], sizes: Mapping[str, int], weight: int) -> int:
    """Four warps, unless what a kernel must hold fills their registers: its results and the operands that it splits,
    values that it computes at one time, or parameters beside a state.

    In a loop over levels eight warps wait for each other more often than four spill.
    """
    nodes = list(walk(kernel.roots()))
    if kernel.sequential:
        kept = sum(_elements(n, blocks, sizes) for n in nodes if _is_param(n))
        tokens = kept + weight * sum(_elements(n, blocks, sizes) for n in nodes if n.op not in FREE)
        # operands of a chunk's products come and go; those of one token are no products' and stay
        single = sizes[CHUNK] == 1 and tokens >= FULL_ELEMENTS
        return 16 if kept >= FULL_ELEMENTS else 8 if single else 4
    # 16-bit products hold a precise operand and what rounding takes from it
    split = [n for n in nodes if n.op == "precise" and weight == 1]
    held = weight * sum(_elements(n, blocks, sizes) for n in (*(s.value for s in kernel.stores), *split))
    computed = weight * peak_elements(kernel.roots(), lambda n: 0 if n.op in FREE else _elements(n, blocks, sizes))
    spills = computed + held >= SPILLING_ELEMENTS or _alive(kernel, blocks, sizes, weight) >= HELD_ELEMENTS
    in_levels = any(n.op in LEVEL_OPS for n in nodes)
    return 8 if held >= FULL_ELEMENTS or (spills and not in_levels) else 4


def _state_width(kernel: Kernel, sizes: Mapping[str, int]) -> int:
    """The block of a state's cut axes.

    A state with a whole axis is cut into narrow blocks: more programs, and it stays in registers. Not where what a step
    loads beside the state fills half the chip's shared memory: then one program has a multiprocessor to itself anyway.
    """
    if not any(role == FULL for _, role in kernel.roles):
        return WIDE_BLOCK
    whole = {axis for axis, role in kernel.roles if role == FULL}
    loads = [n for n in walk(kernel.roots()) if n.op == "load" and n["kind"] in (TOKEN, BUFFER)]
    shared = [n for n in loads if whole & {n.type.rows, n.type.cols} and CHUNK in (n.type.rows, n.type.cols)]
    return WIDE_BLOCK if sum(_elements(n, {}, sizes) for n in shared) >= FULL_ELEMENTS else NARROW_BLOCK


def _is_param(node: Node) -> bool:
    """Whether the tile is loaded once, before the loop, and stays in registers."""
    return node.op == "load" and node["kind"] == PARAM


def _fitting_blocks(kernel: Kernel, blocks: dict[str, int], sizes: Mapping[str, int], weight: int) -> dict[str, int]:
    """The widest blocks with which no more is alive at once than registers hold, or than with narrow ones; not whole
    axes where results alone fill the registers of four warps.

    Every block of a kernel with products computes the scores of its chunk again.
    """
    narrow = {axis: min(NARROW_BLOCK, size) for axis, size in blocks.items()}
    whole = {axis: min(NOMINAL_SIZE, _block(axis, sizes)) for axis in blocks}
    most = max(ALIVE_ELEMENTS, _alive(kernel, narrow, sizes, weight) / NARROWER)
    wide = [whole, blocks] if any(n.op == "dot" for n in walk(kernel.roots())) else [blocks]

    def fits(found: Mapping[str, int]) -> bool:
        held = weight * sum(_elements(s.value, found, sizes) for s in kernel.stores)
        return _alive(kernel, found, sizes, weight) <= most and (held < FULL_ELEMENTS or found == blocks)

    return next((found for found in wide if fits(found)), narrow)


def _pair_blocks(kernel: Kernel, blocks: dict[str, int], sizes: Mapping[str, int], weight: int) -> dict[str, int]:
    """Whole axes in a kernel over pairs of chunks, if registers hold them; loops over levels leave less room."""
    limit = ALIVE_ELEMENTS if any(n.op == "level_sum" for n in walk(kernel.roots())) else PAIR_ELEMENTS
    whole = {axis: _block(axis, sizes) for axis in blocks}
    return whole if _alive(kernel, whole, sizes, weight) <= limit else blocks


def _alive(kernel: Kernel, blocks: Mapping[str, int], sizes: Mapping[str, int], weight: int) -> int:
    return weight * peak_elements(kernel.roots(), lambda n: _elements(n, blocks, sizes))


def has_columns(kernel: Kernel) -> bool:
    """Whether a kernel of the scan form scans or carries rows and multiplies no matrices: columns are independent."""
    nodes = list(walk(kernel.roots()))
    return (any(n.op == "scan" for n in nodes) or carries_rows(kernel)) and not any(n.op == "dot" for n in nodes)


def carries_rows(kernel: Kernel) -> bool:
    """Whether a kernel walks over the chunks and meets nothing but rows of them."""
    return kernel.sequential and all(n.type.rows == ONE for n in walk(kernel.roots()))


def _column_options(kernel: Kernel, sizes: Mapping[str, int], lanes: int) -> dict[str, int]:
    """As few threads as can hold whole columns of a chunk, so that scans need no other thread (`holds_columns`).

    Where much is alive at once a thread gets half as many columns; of a walk, which keeps its state beside that, fewer.
    """
    share, fewest = COLUMN_ELEMENTS, COLUMN_ELEMENTS // (8 if kernel.sequential else 2)
    most = ALIVE_IN_WALKS if kernel.sequential else ALIVE_A_THREAD
    blocks, warps = _columns(kernel, sizes, lanes, share)
    while share > fewest and _alive(kernel, blocks, sizes, 1) > most * warps * lanes:
        share //= 2
        blocks, warps = _columns(kernel, sizes, lanes, share)
    return {**{block_name(axis): size for axis, size in blocks.items()}, "num_warps": warps, "num_stages": 2}


def _columns(kernel: Kernel, sizes: Mapping[str, int], lanes: int, share: int) -> tuple[dict[str, int], int]:
    """Blocks and warps for so many elements of a tile a thread. Columns that are no lanes of matrices are taken by two
    (`Frame`), and by one warp, if it has no whole axis to hold."""
    nodes, smallest = list(walk(kernel.roots())), smallest_blocks(kernel)
    has_lanes = any(len(axis_parts(n.type.cols)) > 1 for n in nodes)
    tiles = nodes if carries_rows(kernel) else [n for n in nodes if n.op == "scan"]
    most = ROW_ELEMENTS if carries_rows(kernel) else lanes * share * (LANE_WARPS if has_lanes else 1)
    blocks = {axis: min(WIDE_BLOCK, _block(axis, sizes)) for axis, role in kernel.roles if role == GRID}
    narrowest = {axis: smallest.get(axis, 1 if has_lanes else min(2 * lanes, size)) for axis, size in blocks.items()}
    blocks = _narrowed(tiles, blocks, narrowest, sizes, most)
    warps = max(_elements(n, blocks, sizes) for n in tiles) // (lanes * share)
    return blocks, max(1, min(MOST_WARPS, warps))


def _scan_blocks(
    kernel: Kernel, blocks: Mapping[str, int], smallest: Mapping[str, int], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Narrower blocks until the tiles of scans are small enough; blocks of products stay."""
    scans = [n for n in walk(kernel.roots()) if n.op == "scan"]
    narrowest = {axis: smallest.get(axis, 1 if not any(n.op == "dot" for n in walk(kernel.roots())) else 16)
                 for axis in blocks}  # fmt: skip
    return _narrowed(scans, blocks, narrowest, sizes, SCAN_ELEMENTS)


def _narrowed(
    tiles: Iterable[Node], blocks: Mapping[str, int], narrowest: Mapping[str, int], sizes: Mapping[str, int], most: int
) -> dict[str, int]:
    """Halves the widest block until none of these tiles has more than so many elements."""
    found, nodes = dict(blocks), list(tiles)
    while any(_elements(n, found, sizes) > most for n in nodes):
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
