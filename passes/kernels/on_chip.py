"""States on chip: the loop that carries a matrix also writes the output, so that no state before a chunk is stored.

The output of a chunk is a product of scores with its values and one of its queries with the state before it. What the
blocks of values have in common (scores, decays) a parallel kernel makes before the loop; what has the axis along which
the state is cut into blocks is made in the loop, from tiles that are loaded. Factors of rows move from the left operand
of a product to the narrower side, so that loaded tiles are operands as they are.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from smir.ir import tile
from smir.ir.formula import formula
from smir.ir.graph import Node, reaches, substitute, walk
from smir.ir.kernel import GRID, PER_CHUNK, Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.summands import all_stores, has_axis
from smir.ir.tile import BUFFER, CHUNK, ONE, TOKEN, buffer
from smir.ir.tile_program import CHUNKED, QUADRATIC
from smir.ir.tile_program import OUTPUT as Y
from smir.passes.analysis.tile_cost import elements, operands
from smir.passes.kernels.axis_roles import assign_roles
from smir.passes.kernels.buffer_types import with_buffer_types
from smir.passes.kernels.crossing import is_heavy, size
from smir.passes.kernels.lines import differs, is_line
from smir.passes.kernels.narrow_factors import narrow


@dataclass(frozen=True)
class _Place:
    """A loop that carries a matrix, and the last kernel, which reads what it stores for every chunk."""

    carry: Kernel
    output: Kernel
    axis: str

    @property
    def loop(self) -> Loop:
        return self.carry.loops[0]

    @property
    def handed(self) -> dict[str, Node]:
        """By its name what the loop stores for every chunk."""
        return {s.target: s.value for s in self.loop.stores}


def on_chip(plan: KernelPlan, kept: Collection[str] = ()) -> KernelPlan:
    """The plan whose last loop writes the output itself, if it has one that can and fewer elements move then.

    `kept`: buffers that are written in any case, because the caller gets them.
    """
    place = _place(plan)
    fused = place and _fused(plan, place, kept)
    return fused if fused and _moved(fused) < _moved(plan) else plan


def _place(plan: KernelPlan) -> _Place | None:
    output, results = plan.kernels[-1], plan.results
    alone = plan.form in (CHUNKED, QUADRATIC) and len(results) == 1 and (results[0].name, results[0].kind) == (Y, TOKEN)
    written = {s.value for s in output.stores if has_axis(s.value, results[0].cols)} if alone else set()
    if not alone or output.loops or len(written) != 1:
        return None
    read = _loaded(output.roots())
    loops = [k for k in plan.kernels if len(k.loops) == 1 and k.sequential and _carries_matrix(k)]
    carry = next((k for k in reversed(loops) if read & {s.target for s in k.loops[0].stores}), None)
    if carry is None:
        return None
    found = _Place(carry, output, results[0].cols)
    others = [k for k in plan.kernels if k not in (carry, output)]
    return None if any(found.handed.keys() & _loaded(k.roots()) for k in others) else found


def _carries_matrix(kernel: Kernel) -> bool:
    return any(not {ONE, CHUNK} & {c.rows, c.cols} for c in kernel.loops[0].scan.carries)


def _fused(plan: KernelPlan, place: _Place, saved: Collection[str]) -> KernelPlan | None:
    """None where the loop would need what a loop shouldn't make, or blocks that it can't be cut into."""
    made = [k for k in plan.kernels if not k.loops and k is not place.output and _makes_blocks(plan, place, k)]
    again = {s.target: s.value for k in made for s in k.stores if not _is_shared(s.value, place.axis)}
    # what the state's update adds in the products' type is less to load than what makes it
    stay = {*saved, *(b.name for b in plan.buffers if b.dtype == "product")}
    inlined = {name: value for name, value in again.items() if name not in stay} | place.handed
    written = [*place.output.stores, *(s for s in place.loop.stores if s.target in saved)]
    roots = [*(s.value for s in written), *(c.next for c in place.loop.scan.carries)]
    handed = {n: inlined[n["name"]] for n in walk(roots) if _is_buffer(n) and n["name"] in inlined}
    for _ in handed:
        roots = [substitute(n, handed) for n in roots]
    roots = [narrow(n, place.axis) for n in roots]
    name = f"prep_{place.output.name}"
    lines = {r: s.target for r, s in zip(roots, written, strict=False) if s.target != Y}
    fresh = {
        v: buffer(lines.get(v, f"{name}_value_{i}"), v.type.rows, v.type.cols)
        for i, v in enumerate(_prepared(roots, place.axis))
    }
    # a line that the output kernel kept is kept by the kernel that makes it now
    kept = [not (r in fresh and fresh[r]["name"] == s.target) for r, s in zip(roots, written, strict=False)]
    roots = [substitute(n, fresh) for n, k in zip(roots, [*kept, *(True for _ in roots)], strict=False) if k]
    written = [s for s, k in zip(written, kept, strict=True) if k]
    kernel = _kernel(place, written, roots)
    if kernel.role(place.axis) != GRID or not _takes_loaded(kernel, roots[: len(written)]):
        return None
    stores = [s for k in made for s in k.stores if s.target not in inlined]
    stores += [Store(leaf["name"], v) for v, leaf in fresh.items()]
    prep = _parallel(name, stores) if stores else ()
    kernels = (*(k for k in plan.kernels if k not in (*made, place.carry, place.output)), *prep, kernel)
    targets = {s.target for k in kernels for s in all_stores(k)}
    buffers = [b for b in plan.buffers if b.name in targets]
    new = [n for n in fresh.values() if n["name"] not in lines.values()]
    buffers += [Buffer(n["name"], n.type.rows, n.type.cols, PER_CHUNK) for n in new]
    return with_buffer_types(replace(plan, buffers=tuple(buffers), kernels=kernels))


def _is_shared(value: Node, axis: str) -> bool:
    """Whether a tile is the same for all blocks of the axis."""
    return value.type.cols != ONE and not has_axis(value, axis)


def _makes_blocks(plan: KernelPlan, place: _Place, kernel: Kernel) -> bool:
    """Whether it makes something along the axis of the blocks, or what the state needs, for the loop alone."""
    targets = {s.target for s in kernel.stores}
    readers = [k for k in plan.kernels if targets & _loaded(k.roots())]
    needed = bool(targets & _loaded(place.carry.roots()))
    own = needed or any(not _is_shared(s.value, place.axis) for s in kernel.stores)
    return own and all(k in (place.carry, place.output) for k in readers)


def _parallel(name: str, stores: Iterable[Store]) -> tuple[Kernel, ...]:
    stores = tuple(stores)
    return (assign_roles(Kernel(name, "; ".join(f"{s.target} = {formula(s.value)}" for s in stores), (), stores)),)


def _kernel(place: _Place, written: list[Store], roots: list[Node]) -> Kernel:
    """The loop with these stores; `roots` are what they write, then what is carried on."""
    stores = [replace(s, value=v) for s, v in zip(written, roots, strict=False)]
    scan = place.loop.scan
    carries = tuple(replace(c, next=n) for c, n in zip(scan.carries, roots[len(written) :], strict=True))
    loop = replace(place.loop, scan=replace(scan, carries=carries), stores=tuple(stores))
    text = "; ".join(f"{name} = {formula(v)}" for name, v in
                     [*((s.target, s.value) for s in stores), *((c.name, c.next) for c in carries)])  # fmt: skip
    return assign_roles(Kernel(place.carry.name, text, (loop,), ()))


# ---- what is made where -----------------------------------------------------------------------------------------


def _prepared(roots: Iterable[Node], axis: str) -> list[Node]:
    """The outermost values that no state reaches, that all blocks have in common, and that a loop shouldn't make."""
    roots = list(roots)
    inside = reaches(roots, lambda n: n.get("kind") == tile.CARRIED)
    found: dict[Node, None] = {}
    stack, seen = roots[::-1], set[Node]()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node not in inside and not has_axis(node, axis) and _is_dear(node):
            found.setdefault(node)
        else:
            stack.extend(reversed(operands(node)))
    return list(found)


def _is_dear(node: Node) -> bool:
    """Whether a loop would wait for it: a line, or a tile that takes a product and isn't spread from a smaller one."""
    if is_line(node):
        return differs(node) and not any(map(_is_buffer, (node, *node.args)))
    if node.op in ("transpose", "broadcast"):
        return False
    heavy = [a for a in node.args if is_heavy(a)]
    larger = node.op == "dot" or not heavy or any(elements(a, size) >= elements(node, size) for a in heavy)
    return is_heavy(node) and larger


def _takes_loaded(kernel: Kernel, values: list[Node]) -> bool:
    """Whether the loop makes no tile of a whole chunk, and left operands are loaded tiles, without another product."""
    own = {c.load for c in kernel.loops[0].scan.carries}
    products = [n for n in walk(values) if n.op == "dot" and ONE not in (n.type.rows, n.type.cols)]
    whole = any(n.op in ("level_sum", "unit_inverse", "segment_sum") for n in walk(kernel.roots()))
    return not whole and not any(m.op == "dot" or m in own for n in products for m in walk([n.args[0]]))


# ---- what moves -------------------------------------------------------------------------------------------------


def _moved(plan: KernelPlan) -> int:
    """Elements of buffers that a chunk writes and reads."""
    sizes = {b.name: size(b.rows) * size(b.cols) for b in plan.buffers}
    return sum(sizes.values()) + sum(sizes[name] for k in plan.kernels for name in _loaded(k.roots()))


def _loaded(roots: Iterable[Node]) -> set[str]:
    return {n["name"] for n in walk(roots) if _is_buffer(n)}


def _is_buffer(node: Node) -> bool:
    return node.op == "load" and node["kind"] == BUFFER
