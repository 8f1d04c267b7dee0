"""Rules of tile programs and kernel plans."""

from collections.abc import Iterable, Iterator, Mapping, Set

from smir.ir.graph import Node, walk
from smir.ir.kernel import (
    FLOAT32,
    FULL,
    GIVEN,
    GRID,
    OWN,
    PER_CHUNK,
    PER_PAIR,
    PER_SEGMENT,
    PER_SEQUENCE,
    PER_SPLIT,
    PER_TOKEN,
    PRODUCT,
    SAVED,
    WIDE,
    Kernel,
    KernelPlan,
    Loop,
    Store,
)
from smir.ir.signatures import TILE_OPS
from smir.ir.summands import Summands, all_stores
from smir.ir.tile import (
    BUFFER,
    CARRIED,
    CHUNK,
    COL,
    DENSE,
    LEVEL_OPS,
    ONE,
    PAIR,
    PARAM,
    PAST,
    POSITION,
    ROW,
    SEGMENT,
    SIZELESS,
    SPLIT,
    TOKEN,
    Tile,
    combined_axes,
)
from smir.ir.tile_program import (
    BEFORE,
    CHUNKED,
    INNER,
    QUADRATIC,
    SCAN,
    SEGMENT_ORDERS,
    SPLITS,
    STEP,
    Carry,
    Result,
    Scan,
    TileLeaf,
    TileProgram,
)
from smir.ir.verify_nodes import check_member, check_nodes, check_unique, refuse
from smir.ir.verify_segments import check_segments

FORMS = (STEP, SCAN, CHUNKED, QUADRATIC)
IN_TIME = ("forward", "backward")
EXTENTS = (PER_CHUNK, PER_SEQUENCE, PER_TOKEN, PER_PAIR, PER_SPLIT, PER_SEGMENT)
Axes = Mapping[str, Tile]


def verify_tile(program: TileProgram) -> None:
    """Raises IRError at the first node or part that breaks a rule of the tile IR."""
    _check_form(program.form, program.leaves, program.roots())
    check_unique([c.name for c in program.carries], "carry")
    check_unique([name for s in program.scans for name, _ in s.exports], "export")
    carried: dict[str, Tile] = {}
    exported: dict[str, Tile] = {}
    for scan in program.scans:
        _check_scan(scan, program.form)
        starts = (c.start for c in scan.carries if c.start is not None)
        _check_loads(starts, program.leaves, carried, exported, f"the start of the {scan.order} scan")
        carried |= _carry_axes(scan)
        roots = (*(c.next for c in scan.carries), *(value for _, value in (*scan.exports, *scan.each)))
        _check_loads(roots, program.leaves, carried, exported, f"the {scan.order} scan")
        exported |= {name: value.type for name, value in (*scan.exports, *scan.each)}
    check_unique([o.result.name for o in program.outputs], "output")
    for output in program.outputs:
        _check_result(output.result, output.value)
    _check_loads((o.value for o in program.outputs), program.leaves, carried, exported, "the output")


def _check_form(form: str, leaves: tuple[TileLeaf, ...], roots: tuple[Node, ...]) -> None:
    """What holds for every node of a form, wherever it stands."""
    check_member(form, FORMS, "the form")
    check_nodes(roots, TILE_OPS, Tile)
    check_unique([leaf.name for leaf in leaves], "leaf")
    for leaf in leaves:
        check_member(leaf.kind, (TOKEN, PAST, PARAM, DENSE, BUFFER), f"leaf {leaf.name}")
    for node in walk(roots):
        _check_structure(node)
        blocks = {node.get("block", ROW), node.get("other", ROW)}
        if blocks - {ROW, COL, PAST, SPLIT, SEGMENT}:
            refuse(node, f"a block is {ROW}, {COL}, {PAST}, {SPLIT} or {SEGMENT}")
        if SPLIT in blocks and (node.op != "load" or node["kind"] != BUFFER):
            refuse(node, "only buffers have a tile for each part of the past")
        if blocks & {COL, PAST} and form != QUADRATIC:
            refuse(node, "only the quadratic form visits other chunks")
        if form == STEP and CHUNK in (node.type.rows, node.type.cols):
            refuse(node, "the step form has one token, no chunk")
    _check_levels(roots)


def _check_structure(node: Node) -> None:
    square = node.op in ("mask", "unit_inverse", "level_mask")
    if square and node.type.rows != node.type.cols:
        refuse(node, "needs a square tile")
    if node.op == "segment_sum" and node.args[0].type.cols != ONE:
        refuse(node, "needs a column of numbers")
    if node.op == "load" and node["kind"] not in (TOKEN, PAST, PARAM, CARRIED, BUFFER, POSITION, DENSE, PAIR):
        refuse(node, f"{node['kind']!r} is nothing to load")


def _check_levels(roots: tuple[Node, ...]) -> None:
    """What changes from level to level stays below a `level_sum`."""
    dependent: set[Node] = set()
    for node in walk(roots):
        if node.op in LEVEL_OPS or (node.op != "level_sum" and any(a in dependent for a in node.args)):
            dependent.add(node)
    for root in roots:
        if root in dependent:
            culprit = next(n for n in walk([root]) if n in dependent)
            refuse(culprit, "depends on the level outside of any level_sum")


def _check_scan(scan: Scan, form: str, in_segments: bool = False) -> None:
    orders = (*IN_TIME, *INNER) if form == QUADRATIC else (*IN_TIME, *(SEGMENT_ORDERS if in_segments else ()))
    check_member(scan.order, orders, f"the order of a scan in {form} form")
    for carry in scan.carries:
        if carry.next.type != Tile(carry.rows, carry.cols):
            refuse(carry.next, f"carry {carry.name} is {carry.rows} x {carry.cols}")
        if carry.start is not None and carry.start.type != carry.next.type:
            refuse(carry.start, f"carry {carry.name} is {carry.rows} x {carry.cols}")
    pairs = (scan.kernel, scan.each, scan.reach is not None, scan.inward)
    starts = any(c.start for c in scan.carries) and not in_segments
    if (starts or any(pairs)) and scan.order not in INNER:
        refuse(f"the {scan.order} scan", "only scans over other chunks know pairs of chunks")
    if scan.order in (BEFORE, SPLITS) and (scan.each or scan.inward):
        refuse(f"the {scan.order} scan", "nothing is stored for a chunk of the past, and the nearest is visited first")


def _carry_axes(scan: Scan) -> dict[str, Tile]:
    return {c.name: Tile(c.rows, c.cols) for c in scan.carries}


def _check_loads(roots: Iterable[Node], leaves: tuple[TileLeaf, ...], carried: Axes, buffers: Axes, where: str) -> None:
    """Every load below the roots names something that is there, with its axes."""
    known: dict[tuple[str, str], Tile] = {(leaf.kind, leaf.name): Tile(leaf.rows, leaf.cols) for leaf in leaves}
    known |= {(CARRIED, name): axes for name, axes in carried.items()}
    known |= {(kind, name): axes for name, axes in buffers.items() for kind in (BUFFER, PAIR)}
    for node in walk(roots):
        if node.op != "load" or node["kind"] == POSITION:
            continue
        axes = known.get((node["kind"], node["name"]))
        if axes is None:
            refuse(node, f"{where} has no {node['kind']} {node['name']} to load")
        if axes != node.type:
            refuse(node, f"{node['kind']} {node['name']} is {axes}")


# ---- kernel plans -----------------------------------------------------------------------------------------------


def verify_plan(plan: KernelPlan) -> None:
    """Raises IRError at the first node or part that breaks a rule of kernel plans."""
    roots = tuple(n for k in plan.kernels for n in _values(k))
    _check_form(plan.form, plan.leaves, roots)
    check_unique([b.name for b in plan.buffers], "buffer")
    check_unique([k.name for k in plan.kernels], "kernel")
    for b in plan.buffers:
        check_member(b.extent, EXTENTS, f"buffer {b.name}")
        check_member(b.dtype, (FLOAT32, PRODUCT, WIDE), f"buffer {b.name}")
        check_member(b.owner, (OWN, SAVED, GIVEN), f"buffer {b.name}")
    carries = [c for k in plan.kernels for loop in k.loops for c in loop.scan.carries]
    states = {c.state: c for c in carries if c.state is not None}
    check_unique([r.name for r in plan.results], "result")
    clash = {b.name for b in plan.buffers} & {*states, *(r.name for r in plan.results)}
    if clash:
        refuse(f"buffer {min(clash)}", "has the name of a result or of a state")
    shadowed = {b.name for b in plan.given} & {leaf.name for leaf in plan.leaves}
    if shadowed:
        refuse(f"buffer {min(shadowed)}", "is given under the name of an input")
    written = {b.name for b in plan.given}
    for kernel in plan.kernels:
        _check_kernel(plan, kernel, states, written)
    promised = {*(r.name for r in plan.results), *(b.name for b in plan.saved)}
    missing = promised - {s.target for k in plan.kernels for s in _stores(k)}
    if missing:
        refuse(f"plan {plan.name}", f"nothing stores the result `{min(missing)}`")
    if plan.walks:
        _check_walks(plan, set(states))


def _check_walks(plan: KernelPlan, states: Set[str]) -> None:
    """They are a plan themselves, end with the same states, and have names of their own."""
    verify_plan(plan.walked)
    check_unique([k.name for k in (*plan.kernels, *plan.walks)], "kernel")
    for k in plan.walks:
        if not k.sequential or k.stores:
            refuse(f"kernel {k.name}", "is among the walks, and doesn't make everything on its way along the sequence")
    found = {c.state for k in plan.walks for loop in k.loops for c in loop.scan.carries if c.state is not None}
    if found != states:
        refuse(f"plan {plan.name}", "its walks carry other states than its kernels")


def _values(kernel: Kernel) -> tuple[Node, ...]:
    return (*(value for loop in kernel.loops for _, value in loop.scan.exports), *kernel.roots())


def _stores(kernel: Kernel) -> Iterator[Store]:
    for loop in kernel.loops:
        yield from loop.stores
        yield from loop.final_stores
    yield from kernel.stores


def _check_kernel(plan: KernelPlan, kernel: Kernel, states: Mapping[str, Carry], written: set[str]) -> None:
    """Checks one kernel and adds the buffers it stores to `written`."""
    for store in _stores(kernel):
        _check_store(plan, store, states)
    check_unique([c.name for loop in kernel.loops for c in loop.scan.carries], "carry")
    carried: dict[str, Tile] = {}
    for loop in kernel.loops:
        _check_scan(loop.scan, plan.form, kernel.in_segments)
        carried |= _carry_axes(loop.scan)
        written |= {s.target for s in loop.stores}
        exported = {name: value.type for name, value in loop.scan.exports}
        _check_loads(_loop_values(loop), plan.leaves, carried, _readable(plan, written) | exported, _where(kernel))
        written |= {s.target for s in loop.final_stores}
    stored = (s.value for s in kernel.stores)
    _check_loads(stored, plan.leaves, carried, _readable(plan, written), _where(kernel))
    written |= {s.target for s in kernel.stores}
    _check_roles(kernel)
    check_segments(plan, kernel)


def _where(kernel: Kernel) -> str:
    return f"kernel {kernel.name} (where buffers must be written before they are read)"


def _loop_values(loop: Loop) -> tuple[Node, ...]:
    stores = (s.value for s in (*loop.stores, *loop.final_stores))
    starts = (c.start for c in loop.scan.carries if c.start is not None)
    return (*starts, *(c.next for c in loop.scan.carries), *(value for _, value in loop.scan.exports), *stores)


def _readable(plan: KernelPlan, written: set[str]) -> dict[str, Tile]:
    return {b.name: Tile(b.rows, b.cols) for b in plan.buffers if b.name in written}


def _check_store(plan: KernelPlan, store: Store, states: Mapping[str, Carry]) -> None:
    found = store.value.type
    found = Tile(found.cols, found.rows) if store.transposed else found
    buffer = next((b for b in plan.buffers if b.name == store.target), None)
    if buffer is not None and found != Tile(buffer.rows, buffer.cols):
        refuse(store.value, f"buffer {buffer.name} is {buffer.rows} x {buffer.cols}")
    result = next((r for r in plan.results if r.name == store.target), None)
    if result is not None:
        _check_result(result, store.value)
    elif buffer is None and store.target not in states:
        refuse(f"store to {store.target}", "is neither a buffer, nor a result, nor a state")


def _check_result(result: Result, value: Node) -> None:
    check_member(result.kind, (TOKEN, PARAM, DENSE), f"result {result.name}")
    if value.type != Tile(result.rows, result.cols):
        refuse(value, f"result {result.name} is {result.rows} x {result.cols}")


def _check_roles(kernel: Kernel) -> None:
    check_unique([axis for axis, _ in kernel.roles], "role of axis")
    for axis, role in kernel.roles:
        check_member(role, (FULL, GRID), f"the role of axis {axis}")
    grid = {axis for axis, role in kernel.roles if role == GRID}
    if grid & SIZELESS:
        refuse(f"kernel {kernel.name}", f"axis {min(grid & SIZELESS)} can't be cut into blocks")
    for store in _stores(kernel):
        if store.summed is not None and store.summed not in grid:
            refuse(f"kernel {kernel.name}", f"stores a sum over axis {store.summed}, which it doesn't cut into blocks")
    summed = {axis: _summands(kernel, axis) for axis in grid}
    for node in walk(_values(kernel)):
        bad = {axis for axis in grid & set(combined_axes(node)) if node not in summed[axis]}
        if bad:
            refuse(node, f"combines elements along axis {min(bad)}, which kernel {kernel.name} cuts into blocks")


def _summands(kernel: Kernel, axis: str) -> Set[Node]:
    """The values that may be sums over one block of the axis."""
    targets = {s.target for s in all_stores(kernel) if s.summed == axis}
    if not targets:
        return set()
    found = Summands(kernel, axis, targets)
    if not found.is_sound:
        refuse(f"kernel {kernel.name}", f"needs whole sums over axis {axis}, which it cuts into blocks")
    return found.values
