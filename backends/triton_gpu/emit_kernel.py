"""Prints one kernel: its parameters, index variables, loops over chunks, arithmetic and stores."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from smir.backends.triton_gpu.edges import PartOfScan, with_edges
from smir.backends.triton_gpu.emit_carries import is_constant, move_on, next_values, print_initial
from smir.backends.triton_gpu.emit_levels import print_level_sums
from smir.backends.triton_gpu.emit_tiles import INDENT, Block, TilePrinter
from smir.backends.triton_gpu.facts import Facts
from smir.backends.triton_gpu.frame import Argument, Frame
from smir.backends.triton_gpu.helpers import HELPERS
from smir.backends.triton_gpu.layout import comment_lines, wrapped
from smir.backends.triton_gpu.names import comment, identifier, word
from smir.backends.triton_gpu.options import carries_rows, has_columns
from smir.backends.triton_gpu.packed import PACKED_INDEX, PACKED_SIZES, packed_definitions
from smir.backends.triton_gpu.past import (
    PAST_CONSTANTS,
    PAST_INDEX,
    PAST_SIZES,
    divides_past,
    has_past,
    past_count,
    past_definitions,
    past_index,
    visited_chunks,
)
from smir.backends.triton_gpu.segments import (
    SEGMENT_INDEX,
    SEGMENTS,
    chunk_loop,
    is_met_last,
    segment_index,
    segment_loop,
)
from smir.backends.triton_gpu.spans import SPANNED, spanning
from smir.backends.triton_gpu.thin_products import without_thin_products
from smir.backends.triton_gpu.transposes import (
    with_turned_sums,
    without_transposed_products,
    without_transposed_results,
)
from smir.backends.triton_gpu.walk_options import multiplies_state
from smir.ir import tile
from smir.ir.graph import Node, reaches, walk
from smir.ir.kernel import PER_SEGMENT, Kernel, KernelPlan, Loop, Store
from smir.ir.live import early_lines
from smir.ir.tile import BUFFER, CARRIED, COL, LEVEL_OPS, PAST, POSITION, SEGMENT, SPLIT, TOKEN
from smir.ir.tile_program import BEFORE, INNER, ITSELF, SCAN, SEGMENT_ORDERS, SPLITS, STEP, Carry, Scan

RUNTIME_SIZES = ("time", "heads", "chunks", *PAST_SIZES, SEGMENTS)
CONSTANTS = (
    *("CHUNK", "OWN", "RAGGED", *PAST_CONSTANTS, "LEVELS"),
    *("PRODUCT", "WIDE", "PRECISION", "INVERSE_PRECISION", "PARTS"),
)

# Chunks whose rows are on their way while a loop that meets nothing else works: a step of it takes far less time; and
# chunks whose tiles are while a loop scans them.
ROWS_AHEAD, TILES_AHEAD = 16, 3


@dataclass(frozen=True)
class PrintedKernel:
    """The source of a kernel, the arguments of its launch, and the axes that its grid cuts into blocks."""

    name: str
    source: str
    arguments: tuple[Argument, ...]
    constants: tuple[str, ...]
    grid_axes: tuple[str, ...]
    sequential: bool


def print_kernel(plan: KernelPlan, kernel: Kernel, facts: Facts) -> PrintedKernel:
    """Raises IRError when the kernel holds something that has no Triton form."""
    spans = None if facts.packed else spanning(plan, kernel)
    kernel = _prepared(with_edges(spans or kernel))
    frame = Frame(plan, kernel, facts)
    printer = TilePrinter(frame, kernel.roots())
    _name_roots(printer, kernel)
    for loop in kernel.loops:
        if loop.scan.carries or loop.stores or kernel.sequential:
            _print_loop(printer, loop)
    if not kernel.loops:
        print_level_sums(printer)
    for store, lines in zip(kernel.stores, _early_lines(kernel), strict=True):
        _print_store(printer, store)
        for line in lines:
            printer.value(line)
    return _assemble(frame, kernel, printer.blocks[0])


def _early_lines(kernel: Kernel) -> list[tuple[Node, ...]]:
    """What is printed behind each store: in a loop, and where values change with levels, nothing."""
    values = [s.value for s in kernel.stores]
    return [()] * len(values) if kernel.loops or any(n.op in LEVEL_OPS for n in walk(values)) else early_lines(values)


def _prepared(kernel: Kernel) -> Kernel:
    """The kernel with its products in printable form."""

    flipped = without_transposed_results(kernel.roots())
    turned = with_turned_sums([without_thin_products(flipped(root)) for root in kernel.roots()])

    def prepare(node: Node) -> Node:
        return without_transposed_products(turned(without_thin_products(flipped(node))))

    def stores(group: tuple[Store, ...]) -> tuple[Store, ...]:
        return tuple(replace(s, value=prepare(s.value)) for s in group)

    def carry(c: Carry) -> Carry:
        start = c.start and prepare(tile.broadcast(c.start, c.rows, c.cols))
        return replace(c, next=prepare(tile.broadcast(c.next, c.rows, c.cols)), start=start)

    loops = tuple(
        Loop(replace(x.scan, carries=tuple(map(carry, x.scan.carries))), stores(x.stores), stores(x.final_stores))
        for x in kernel.loops
    )
    return replace(kernel, loops=loops, stores=stores(kernel.stores))


def _name_roots(printer: TilePrinter, kernel: Kernel) -> None:
    """What is stored is called by where it goes."""
    inner = [s for loop in kernel.loops for s in loop.stores]
    for store in (*inner, *kernel.stores):
        if store.value.op != "load":
            printer.wanted.setdefault(store.value, identifier(store.target))


# ---- loops ------------------------------------------------------------------------------------------------------


def _print_loop(p: TilePrinter, loop: Loop) -> None:
    """A scan: the carries' start, the loop over chunks, and what is stored after it."""
    moving = tuple(c for c in loop.scan.carries if not is_constant(c))
    p.constants |= {c.load: c for c in loop.scan.carries if is_constant(c) and c.start is None}
    for carry in (c for c in loop.scan.carries if c.load not in p.constants):
        p.know(carry.load, print_initial(p, carry))
    p.frame.scan = loop.scan
    header, definitions = _header(p, loop.scan)
    with p.nested(header, _changing(p, loop)) as block:
        for name, text in (
            *definitions,
            *_visited_definitions(loop.scan, p.frame),
        ):
            block.add(f"{name} = {text}")
        if p.frame.plan.form != STEP and multiplies_state(p.frame.kernel):
            # the chain of products first: the state leaves its registers before a step makes what it writes
            kept = [s for s in loop.stores if s.value.op == "load"]
            others = [s for s in loop.stores if s not in kept]
            _print_stores(p, loop, kept)
            ready = next_values(p, moving, [s.value for s in others])
            _print_stores(p, loop, others)
            move_on(p, ready)
        else:
            _print_stores(p, loop, loop.stores)
            move_on(p, next_values(p, moving))
        block.lines[:] = _without_unused(block.lines, INDENT * block.depth)
    if p.frame.plan.form == STEP and loop.final_stores:
        # they may go where the initial states lie: first every thread has read its part
        p.line("tl.debug_barrier()")
    for store in loop.final_stores:
        _print_final_store(p, store, loop.scan.order)


def _print_stores(p: TilePrinter, loop: Loop, stores: Iterable[Store]) -> None:
    """What every step of a loop writes."""
    for store in stores:
        if loop.scan.order in INNER:
            type_, text = store.value.type, p.value(store.value).text
            p.line(p.frame.store_pair(identifier(store.target), type_.rows, type_.cols, text))
        else:
            _print_store(p, store)


_LOOPS = {
    "forward": ("for chunk in range(chunks):", ()),
    "backward": ("for visited in range(chunks):", (("chunk", "chunks - 1 - visited"),)),
    "itself": ("for part in range(1):", (("col_chunk", "chunk + part"),)),
    "earlier": ("for distance in range(1, chunk + 1):", (("col_chunk", "chunk - distance"),)),
    "later": ("for col_chunk in range(chunk + 1, chunks):", ()),
    SPLITS: ("for split in range(splits):", ()),
}


def _header(p: TilePrinter, scan: Scan) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A loop's first line, and what a step of it visits. Chunks out of reach aren't visited."""
    if scan.order == BEFORE:
        first, over_past = visited_chunks(divides_past(p.frame.plan, p.frame.kernel))
        for line in (f"past_chunks = {past_count(scan.reach)}", *first):
            p.line(line)
        return over_past, past_definitions()
    if scan.order in SEGMENT_ORDERS:
        return segment_loop(scan.order)
    in_segments = p.frame.kernel.in_segments
    header, definitions = chunk_loop(scan.order) if in_segments else _LOOPS[scan.order]
    if p.frame.plan.form == SCAN and has_columns(p.frame.kernel):
        ahead = ROWS_AHEAD if carries_rows(p.frame.kernel) else TILES_AHEAD
        return f"{header.removesuffix('):').replace('range(', 'tl.range(')}, num_stages={ahead}):", definitions
    if in_segments:
        return header, definitions
    if p.frame.spans:
        header = header.replace("chunk + 1, chunks", f"chunk + {SPANNED}, chunks")
        header = header.replace("range(1):", f"range({SPANNED.strip('()')}):")
    if scan.order not in INNER or (scan.reach is None and not scan.inward):
        return header, definitions
    last = f"chunk + {SPANNED} - 1" if p.frame.spans else "chunk"
    nearest = "chunk -" if scan.order == "earlier" else f"{last} +"
    step = "(farthest - visited)" if scan.inward else "(visited + 1)"
    return f"for visited in range({_visited(p, scan, last)}):", (("col_chunk", f"{nearest} {step}"),)


def _visited(p: TilePrinter, scan: Scan, last: str) -> str:
    """The range of a loop over other chunks by their distance; `last` is the last of the program's own."""
    if isinstance(scan, PartOfScan) and scan.far:
        return "whole, farthest"
    count = "chunk" if scan.order == "earlier" else f"chunks - 1 - {f'({last})' if p.frame.spans else last}"
    if scan.reach is not None:
        count = f"tl.minimum({count}, tl.cdiv({scan.reach}, CHUNK))"
    p.line(f"farthest = {count}")
    if not isinstance(scan, PartOfScan):
        return "farthest"
    own = "OWN" if p.frame.spans else "CHUNK"
    p.line(f"whole = tl.minimum(farthest, tl.maximum({scan.whole + 1} - {own}, 0) // CHUNK)")
    return "whole"


def _visited_definitions(scan: Scan, frame: Frame) -> tuple[tuple[str, str], ...]:
    """Where a step of a loop is."""
    if scan.order in (BEFORE, SPLITS, *SEGMENT_ORDERS):
        return ()
    return _chunk_definitions("col_" if scan.order in INNER else "", frame)


def _chunk_definitions(prefix: str, frame: Frame) -> tuple[tuple[str, str], ...]:
    """A chunk's number among all, where it starts, how many tokens are left there, and which rows are tokens."""
    chunk = "col_chunk" if prefix else "chunk"
    return (
        ("there" if prefix else "here", f"{frame.first_tile} + {chunk}"),
        (f"{prefix}start", f"tl.cast({chunk} * CHUNK, tl.int64)"),
        (f"{prefix}left", f"time - {chunk} * CHUNK"),
        (f"{prefix}inside", f"{'own_row' if frame.spans and not prefix else 'row'} < {prefix}left"),
    )


def _changing(p: TilePrinter, loop: Loop) -> set[Node]:
    """What differs from one iteration to the next."""
    own = {c.name for c in loop.scan.carries if not is_constant(c)}
    over_columns, visited = loop.scan.order in INNER, {BEFORE: PAST, SPLITS: SPLIT}.get(loop.scan.order, COL)

    def changes(node: Node) -> bool:
        if node.op == "valid_rows":
            return loop.scan.order not in SEGMENT_ORDERS and (not over_columns or node["block"] == visited)
        if node.op != "load":
            return False
        if node["kind"] == CARRIED:
            return node["name"] in own
        if over_columns:
            return visited in (node.get("block"), node.get("other"))
        if loop.scan.order in SEGMENT_ORDERS:
            return bool(node.get("block") == SEGMENT)
        return node["kind"] in (TOKEN, BUFFER, POSITION)

    return reaches(p.roots, changes)


def _print_store(p: TilePrinter, store: Store) -> None:
    rows, cols = store.value.type.rows, store.value.type.cols
    value = p.value(store.value).text
    p.line(p.frame.store(identifier(store.target), rows, cols, store.transposed, value, store.summed))


def _print_final_store(p: TilePrinter, store: Store, order: str) -> None:
    """What segments end with goes to memory of each; everything else is written once, by the one that is met last."""
    plan = p.frame.plan
    own = {b.name for b in plan.buffers if b.extent == PER_SEGMENT} | plan.segment_totals
    if not p.frame.kernel.in_segments or store.target in own:
        return _print_store(p, store)
    p.value(store.value)
    with p.nested(is_met_last(order), set()):
        _print_store(p, store)


# ---- the whole function -----------------------------------------------------------------------------------------


def _assemble(frame: Frame, kernel: Kernel, body: Block) -> PrintedKernel:
    lines = [INDENT + line for line in _index_definitions(frame, kernel)]
    lines = _without_unused(lines + body.lines, INDENT)
    text = "\n".join(wrapped(line) for line in lines)
    arguments = [a for group in frame.pointers.values() for a in group]
    arguments = [a for a in arguments if _uses(text, a.name)]
    sizes = [s for s in (PACKED_SIZES if frame.facts.packed else RUNTIME_SIZES) if _uses(text, s)]
    axis_constants = [n for axis, _ in kernel.roles for n in frame.axis_constants(axis)]
    constants = [c for c in (*CONSTANTS, *axis_constants) if _uses(text, c)]
    signature = [a.name for a in arguments] + sizes + [f"{c}: tl.constexpr" for c in constants]
    helpers = {module: [h for h in names if _uses(text, h + "(", whole=False)] for module, names in HELPERS.items()}
    imports = [f"from .{module} import {', '.join(used)}\n" for module, used in sorted(helpers.items()) if used]
    source = _HEADER.format(
        title=comment(kernel.name),
        programs=_programs(frame, kernel),
        formula="\n".join(comment_lines(kernel.formula)),
        imports="".join(["\n", *imports]) if imports else "",
        sizes=", ".join(f'"{s}"' for s in (*sizes, *frame.growing)),
        name=identifier(kernel.name),
        parameters="".join(f"    {s},\n" for s in signature),
        body=text,
    )
    launched = (*arguments, *(Argument(s, s) for s in sizes))
    return PrintedKernel(kernel.name, source, launched, tuple(constants), tuple(frame.grid_axes()), kernel.sequential)


_HEADER = """# {title}: {programs}
{formula}

import triton
import triton.language as tl
{imports}

@triton.jit(do_not_specialize=[{sizes}])
def {name}(
{parameters}):
{body}
"""


def _programs(frame: Frame, kernel: Kernel) -> str:
    blocks = "".join(f", block of {axis}" for axis in frame.grid_axes())
    per = "batch, head" if kernel.sequential else "batch, chunk, head"
    per += ", segment" if kernel.in_segments else ""
    whose = " of its segment" if kernel.in_segments else ""
    order = f" and visits the chunks{whose} in order" if kernel.sequential else ""
    return comment(f"one program per ({per}{blocks}){order}.")


def _index_definitions(frame: Frame, kernel: Kernel) -> list[str]:
    """Which batch, head, chunk and blocks this program works on; unused ones are dropped later."""
    lines = ["program = tl.program_id(0)"]
    for axis in frame.grid_axes():
        block, size = frame.axis_constants(axis)
        lines.append(f"blocks_of_{word(axis)} = tl.cdiv({size}, {block})")
        lines.append(f"block_of_{word(axis)} = program % blocks_of_{word(axis)}")
        lines.append(f"program = program // blocks_of_{word(axis)}")
    if divides_past(frame.plan, kernel):
        lines += ["split = program % splits", "program = program // splits"]
    lines += segment_index() if kernel.in_segments else []
    lines += _own_place(frame, kernel)
    lines += ["sequence = batch * heads + head", "row = tl.arange(0, CHUNK)"]
    lines += ["own_row = tl.arange(0, OWN)"] if frame.spans else []
    lines += past_index(kernel) if has_past(frame.plan) else []
    lines += [text for _, text in frame.axis_definitions()]
    lines += frame.bases.values()
    if not kernel.sequential:
        lines += [f"{name} = {text}" for name, text in _chunk_definitions("", frame)]
    return lines


def _own_place(frame: Frame, kernel: Kernel) -> list[str]:
    """Which head, batch and chunk a program works on.

    Programs that visit other chunks work on one sequence after the other, whose tokens then stay in the cache; those
    that visit most chunks begin first, so that short ones are left for the end.
    """
    if kernel.loops and not kernel.sequential and not frame.facts.packed:
        visits_earlier = {loop.scan.order for loop in kernel.loops if loop.scan.reach is None} - {ITSELF} == {"earlier"}
        count, unit = (f"(chunks // {SPANNED})", f" * {SPANNED}") if frame.spans else ("chunks", "")
        number = f"{count} - 1 - program % {count}" if visits_earlier else f"program % {count}"
        return [f"chunk = ({number}){unit}" if unit else f"chunk = {number}", f"program = program // {count}",
                "head = tl.cast(program % heads, tl.int64)", "batch = tl.cast(program // heads, tl.int64)"]  # fmt: skip
    head = "head = tl.cast(program % heads, tl.int64)"
    if frame.facts.packed:
        return [head, *packed_definitions(kernel)]
    if kernel.sequential:
        return [head, "batch = tl.cast(program // heads, tl.int64)"]
    return [head, "chunk = program // heads % chunks", "batch = tl.cast(program // heads // chunks, tl.int64)"]


def _uses(text: str, name: str, whole: bool = True) -> bool:
    pattern = rf"\b{re.escape(name)}" + (r"\b" if whole else "")
    return re.search(pattern, text) is not None


def _without_unused(lines: list[str], indent: str) -> list[str]:
    """Drops definitions of index variables that nothing below them uses."""
    kept: list[str] = []
    for line in reversed(lines):
        found = re.match(rf"{indent}(\w+) = ", line)
        droppable = found and (found[1] in _INDEX or found[1].startswith(("over_", "block_of_", "blocks_of_")))
        if found and droppable and not any(_uses(later, found[1]) for later in kept):
            continue
        kept.append(line)
    return kept[::-1]


_OWN_INDEX = (
    "program head batch chunk col_chunk row own_row sequence here there start left inside col_start col_left col_inside"
)
_INDEX = PACKED_INDEX | PAST_INDEX | SEGMENT_INDEX | frozenset(_OWN_INDEX.split())
