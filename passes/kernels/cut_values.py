"""Cuts kernels that don't fit, and can't be divided by their results, at a value: one more kernel makes it before.

The value is the one for which the fuller of the two kernels holds the least at a time. All kernels that are made of it
read it then, so that results which share a long way to them become smaller together.
"""

from smir.ir.graph import Node, substitute, walk
from smir.ir.live import FREE, PRODUCTS
from smir.ir.tile import buffer
from smir.passes.analysis.tile_cost import elements
from smir.passes.kernels.crossing import size
from smir.passes.kernels.fit_outputs import Part, fixed_nodes, peak

# What a kernel may hold before it is worth a cut; how much less the fuller part has to hold; so many cuts at most.
BUDGET, WORTH, MOST = 100 << 10, 0.9, 8


def cut_values(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same kernels in launch order, before those that are too large others that make some of their values."""
    settled: set[str] = set()
    for _ in range(MOST):
        large = max((p for p in parts if p.name not in settled and _multiplies(p)), key=peak, default=None)
        if large is None or peak(large) <= BUDGET:
            break
        value = _best_cut(large, {v for p in parts if p.keeps for v in p.roots})
        if value is None:
            settled.add(large.name)
        else:
            parts = _cut(parts, value, _free_name(f"{large.name}_part", parts))
    return parts


def _multiplies(part: Part) -> bool:
    """Whether the kernel has matrix products: without, elements pass through it one by one."""
    return any(n.op in PRODUCTS for n in walk(part.roots))


def _cut(parts: tuple[Part, ...], value: Node, name: str) -> tuple[Part, ...]:
    """A kernel that makes the value stands before the first one that needs it."""
    made = Part(name, ((f"{name}_value", value),), keeps=True)
    loads = {value: buffer(f"{name}_value", value.type.rows, value.type.cols)}
    first = next(i for i, p in enumerate(parts) if value in set(walk(p.roots)))
    return (*parts[:first], made, *(p.reading(loads) for p in parts[first:]))


def _free_name(name: str, parts: tuple[Part, ...]) -> str:
    taken, number = {p.name for p in parts}, 0
    while (found := f"{name}_{number}" if number else name) in taken:
        number += 1
    return found


def _best_cut(part: Part, kept: set[Node]) -> Node | None:
    """The value at which to cut, if the kernels before and after it hold much less than the whole."""
    whole = peak(part)
    found: list[tuple[float, int, Node]] = []
    for value in _candidates(part, kept):
        load = buffer("_", value.type.rows, value.type.cols)
        after = peak(Part(part.name, tuple((t, substitute(v, {value: load})) for t, v in part.values)))
        if after <= WORTH * whole and (before := peak(Part(part.name, (("_", value),)))) <= WORTH * whole:
            found.append((max(before, after), elements(value, size), value))
    return min(found, key=lambda f: f[:2], default=(0, 0, None))[2]


def _candidates(part: Part, kept: set[Node]) -> list[Node]:
    """Values that are computed, are the same at all levels, and that no kernel keeps already."""
    roots = set(part.roots)
    nodes = [n for n in fixed_nodes(walk(part.roots)) if n.args and n.op not in FREE]
    return [n for n in nodes if n not in roots and n not in kept]
