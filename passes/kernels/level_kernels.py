"""Sums over binary levels in kernels of their own: a loop over levels fills the registers with tiles of its own.

A kernel that makes such a sum and goes on to tiles of whole rows would hold both; what it makes of the sum, small tiles
of `CHUNK x CHUNK` (scores, their inverse), crosses through memory instead.
"""

from dataclasses import replace

from smir.ir.formula import formula
from smir.ir.graph import Node, substitute, walk
from smir.ir.kernel import GRID, PER_CHUNK, Buffer, Kernel, KernelPlan, Store
from smir.ir.tile import CHUNK, ONE, buffer
from smir.passes.kernels.axis_roles import assign_roles
from smir.passes.kernels.buffer_types import with_buffer_types
from smir.passes.kernels.fit_outputs import fixed_nodes, is_dear_tile


def with_level_kernels(plan: KernelPlan) -> KernelPlan:
    """The plan in which no parallel kernel makes both dear small tiles of sums over levels and tiles of whole rows."""
    kernels: list[Kernel] = []
    buffers = list(plan.buffers)
    for kernel in plan.kernels:
        tiles = _tiles(kernel)
        names = {s.value: s.target for s in reversed(kernel.stores)}
        fresh = {v: f"{kernel.name}_tile_{i}" for i, v in enumerate(tiles) if v not in names}
        buffers += [Buffer(name, v.type.rows, v.type.cols, PER_CHUNK) for v, name in fresh.items()]
        groups = [[Store({**names, **fresh}[v], v), *_inside(kernel, v)] for v in tiles]
        made = [_kernel(f"{kernel.name}_tiles_{i}" if i else f"{kernel.name}_tiles", g) for i, g in enumerate(groups)]
        kernels += [*made, *_reading(kernel, [s for group in groups for s in group])] if made else [kernel]
    found = replace(plan, kernels=tuple(kernels), buffers=tuple(buffers))
    return found if found == plan else with_buffer_types(found)


def _tiles(kernel: Kernel) -> list[Node]:
    """The outermost dear tiles of a kernel that writes tiles of whole rows too."""
    values = [s.value for s in kernel.stores]
    wide = any({v.type.rows, v.type.cols} - {CHUNK, ONE} for v in values)
    if kernel.loops or not wide or not any(n.op == "level_sum" for n in walk(values)):
        return []
    dear = [n for n in fixed_nodes(walk(values)) if is_dear_tile(n) and _sums(n)]
    inner = {n for top in dear for n in walk([top]) if n is not top}
    return [n for n in dear if n not in inner]


def _sums(node: Node) -> bool:
    return any(n.op == "level_sum" for n in walk([node]))


def _inside(kernel: Kernel, tile: Node) -> list[Store]:
    """The small tiles that the kernel stores too, and that this one is made of."""
    below = set(walk([tile])) - {tile}
    return [s for s in kernel.stores if s.value in below and s.value.type == tile.type and _sums(s.value)]


def _reading(kernel: Kernel, made: list[Store]) -> list[Kernel]:
    """The kernel without these stores, which it loads; one for each axis, if each may be cut into blocks then."""
    loads = {s.value: buffer(s.target, s.value.type.rows, s.value.type.cols) for s in made}
    rest = [replace(s, value=substitute(s.value, loads)) for s in kernel.stores if s not in made]
    axes = {s: frozenset({s.value.type.rows, s.value.type.cols} - {CHUNK, ONE}) for s in rest}
    by_axis = [[s for s in rest if axes[s] == found] for found in dict.fromkeys(axes.values())]
    kernels = [_kernel(f"{kernel.name}_along_{i}" if i else kernel.name, stores) for i, stores in enumerate(by_axis)]
    whole = [_kernel(kernel.name, rest)] if rest else []
    return kernels if all(GRID in dict(k.roles).values() for k in kernels) else whole


def _kernel(name: str, stores: list[Store]) -> Kernel:
    return assign_roles(Kernel(name, "; ".join(f"{s.target} = {formula(s.value)}" for s in stores), (), tuple(stores)))
