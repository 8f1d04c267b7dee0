"""Fits the kernels that write many results onto the chip, and makes what several of them need only once.

A kernel in which more elements are alive at once than a program can hold writes its results in another order, or is
divided: by its results, of which those that share the most work stay together, or along an axis. Then tiles of which
the axis has disappeared are made by a kernel of their own, so that results with the axis come in blocks of it. Small
tiles that are dear to make and that several kernels use cross through memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from smir.ir.graph import Node, reaches, substitute, walk
from smir.ir.kernel import GRID, Kernel, Store
from smir.ir.live import peak_elements
from smir.ir.tile import CHUNK, ONE, buffer, level_dependent
from smir.passes.analysis.tile_cost import elements, total_flops
from smir.passes.kernels.axis_roles import assign_roles
from smir.passes.kernels.crossing import (
    ELEMENT_BYTES,
    OPERATIONS_PER_BYTE,
    is_dear_vector,
    is_heavy,
    on_the_way,
    size,
)
from smir.passes.kernels.split_outputs import removes

# A program's registers hold 64 K numbers of 32 bits; of an axis that is cut into blocks, it holds this much.
BUDGET, BLOCK = 68 << 10, 32
# What it may hold, part of it spilled, rather than be divided into kernels with so much more work in all.
SPILLED, REPEATED = 96 << 10, 1.2


@dataclass(frozen=True)
class Part:
    """One kernel to be: what it writes by name. `keeps`: buffers for later kernels, else results."""

    name: str
    values: tuple[tuple[str, Node], ...]
    keeps: bool = False

    @property
    def roots(self) -> tuple[Node, ...]:
        return tuple(v for _, v in self.values)

    def reading(self, loads: dict[Node, Node]) -> "Part":
        """The same with some values loaded."""
        return Part(self.name, tuple((t, substitute(v, loads)) for t, v in self.values), self.keeps)


def fit_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Kernels that write the same and fit, in launch order. Names of new buffers begin with their kernel's."""
    whole = share_tiles(tuple(parts), "shared")
    divided = tuple(p for part in whole for p in _fit(part))
    return share_tiles(divided, "common") if len(divided) > len(whole) else divided


def is_too_large(part: Part) -> bool:
    """Whether more is alive at once than a program holds, at nominal sizes."""
    return peak(part) > BUDGET


def peak(part: Part) -> int:
    """The most elements that are alive at one time, at nominal sizes and in narrow blocks."""
    blocks = {axis: BLOCK for axis, role in _roles(part) if role == GRID}

    def count(node: Node) -> int:
        return int(elements(node, lambda axis: blocks.get(axis) or size(axis)))

    return peak_elements(part.roots, count)


# ---- tiles that several kernels need --------------------------------------------------------------------------


def share_tiles(parts: tuple[Part, ...], name: str) -> tuple[Part, ...]:
    """The kernels behind one more that makes the dear tiles of `CHUNK x CHUNK` which are computed more than once: by
    two or more of them, or by every block of one that is cut into blocks. Vectors on the way to them that are as dear,
    and that others need too, have a kernel before that."""
    users = [set(walk(p.roots)) for p in parts for _ in range(_copies(p))]
    kept = {v for p in parts if p.keeps for v in p.roots}
    tiles = [n for n in fixed_nodes(walk(v for p in parts for v in p.roots)) if is_dear_tile(n) and n not in kept]
    tiles = [n for n in tiles if sum(n in nodes for nodes in users) > 1]
    made = {t for p in parts if p.keeps for t, _ in p.values}
    late = reaches((v for p in parts for v in p.roots), lambda n: n.op == "load" and n["name"] in made)
    chosen = _outermost([n for n in tiles if n not in late])
    if not chosen:
        return parts
    vectors = on_the_way(chosen, (v for p in parts for v in p.roots), kept, is_dear_vector)
    first = [_kept(f"{name}_rows", vectors)] if vectors else []
    shared = _kept(name, chosen).reading({n: x for p in first for n, x in _loads(p).items()})
    loads = {n: x for p in (*first, _kept(name, chosen)) for n, x in _loads(p).items()}
    return (*first, shared, *(p.reading(loads) for p in parts))


def _copies(part: Part) -> int:
    """How often a kernel computes tiles without an axis that it is cut along: all others have the axis."""
    return 2 if GRID in dict(_roles(part)).values() else 1


def _roles(part: Part) -> tuple[tuple[str, str], ...]:
    return assign_roles(Kernel(part.name, "", (), tuple(Store(t, v) for t, v in part.values))).roles


def is_dear_tile(node: Node) -> bool:
    """Whether keeping a small tile moves fewer bytes than computing it again is worth."""
    if (node.type.rows, node.type.cols) != (CHUNK, CHUNK) or node.op == "transpose" or not is_heavy(node):
        return False
    work = sum(total_flops(n, size) for n in fixed_nodes(walk([node])) if n.args)
    return bool(2 * elements(node, size) * ELEMENT_BYTES <= work / OPERATIONS_PER_BYTE)


def fixed_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Those that don't change from level to level."""
    found = list(nodes)
    changing = {n for s in found if s.op == "level_sum" for n in level_dependent(s.args[0])}
    return [n for n in found if n not in changing]


def _outermost(nodes: list[Node]) -> tuple[Node, ...]:
    """Those that no other one is made of."""
    inner = {n for top in nodes for n in walk([top]) if n is not top}
    return tuple(n for n in nodes if n not in inner)


def _kept(name: str, values: Iterable[Node]) -> Part:
    return Part(name, tuple((f"{name}_{i}", v) for i, v in enumerate(values)), keeps=True)


def _loads(part: Part) -> dict[Node, Node]:
    return {v: buffer(t, v.type.rows, v.type.cols) for t, v in part.values}


# ---- kernels that don't fit -------------------------------------------------------------------------------------


def _fit(part: Part) -> tuple[Part, ...]:
    part = part if not is_too_large(part) else _ordered(part)
    if not is_too_large(part):
        return (part,)
    cut = tuple(small for piece in _cut_axis(part) for small in _divided_where_it_pays(piece))
    return min(_divided(part), cut, key=lambda parts: (sum(map(is_too_large, parts)), len(parts)))


def _ordered(part: Part) -> Part:
    """The results in an order in which less is alive at once: one by one the one that is best written next."""
    done: tuple[tuple[str, Node], ...] = ()
    rest = list(part.values)
    while rest:
        peaks = [peak(replace(part, values=(*done, x, *(o for o in rest if o is not x)))) for x in rest]
        done = (*done, rest.pop(peaks.index(min(peaks))))
    return replace(part, values=done)


def _cut_axis(part: Part) -> tuple[Part, ...]:
    """Three kernels: what no longer has the axis, then the results in blocks of it, then those without it."""
    axes = sorted({a for v in part.roots for a in (v.type.rows, v.type.cols)} - {CHUNK, ONE})
    for axis in axes:
        wide = tuple((t, v) for t, v in part.values if axis in (v.type.rows, v.type.cols))
        inner = _kept(f"{part.name}_tiles", _without_axis([v for _, v in wide], axis))
        loads = _loads(inner)
        blocks = Part(part.name, wide, part.keeps).reading(loads)
        if inner.values and not any(removes(n, axis) for n in walk(blocks.roots)):
            rest = Part(f"{part.name}_sums", tuple(x for x in part.values if x not in wide), part.keeps).reading(loads)
            return (inner, blocks, rest) if rest.values else (inner, blocks)
    return (part,)


def _without_axis(values: list[Node], axis: str) -> tuple[Node, ...]:
    """The outermost tiles for which the axis was summed over, where whatever is made of them has the axis."""
    nodes = list(walk(values))
    summed = reaches(values, lambda n: removes(n, axis))
    fixed = set(fixed_nodes(nodes))
    found = [n for n in nodes if n in summed and n in fixed and axis not in (n.type.rows, n.type.cols)]
    return _outermost([n for n in found if n.op != "transpose"])


def _divided_where_it_pays(part: Part) -> tuple[Part, ...]:
    """The results in several kernels, unless these would make most of what they share again and spilling is less."""
    parts = _divided(part)
    repeated = sum(_flops(walk(p.roots)) for p in parts) > REPEATED * _flops(walk(part.roots))
    return (part,) if repeated and peak(part) <= SPILLED else parts


def _divided(part: Part) -> tuple[Part, ...]:
    """The results in as many kernels as it takes, each with those that it shares the most work with."""
    if not is_too_large(part):
        return (part,)
    bins: list[Part] = []
    for name, value in part.values:
        work = {n for n in walk([value]) if n.args}
        best = sorted(bins, key=lambda p: -_flops(work & set(walk(p.roots))))
        joined = (Part(p.name, (*p.values, (name, value)), p.keeps) for p in best)
        fitting = next((p for p in joined if not is_too_large(p)), None)
        if fitting is None:
            bins.append(Part(f"{part.name}_{len(bins)}" if bins else part.name, ((name, value),), part.keeps))
        else:
            bins = [fitting if p.name == fitting.name else p for p in bins]
    return tuple(bins)


def _flops(nodes: Iterable[Node]) -> int:
    return int(sum(total_flops(n, size) for n in nodes))
