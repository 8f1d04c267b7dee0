"""Partition of programs on pairs of chunks: the scans of one `kernel` are the loops of one launch over row chunks.

What a kernel's scans export is stored when their loops have ended, if a later kernel loads it or the caller keeps it;
results go to the kernel whose carries they are made of.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from smir.errors import IRError
from smir.ir.formula import formula
from smir.ir.graph import Node, walk
from smir.ir.kernel import GIVEN, OWN, PER_CHUNK, PER_PAIR, PER_SPLIT, SAVED, Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.tile import BUFFER, CARRIED, SPLIT
from smir.ir.tile_program import INNER, Output, Scan, TileProgram
from smir.passes.kernels.axis_roles import assign_roles


def has_pair_kernels(program: TileProgram) -> bool:
    """Whether all of the program's scans say themselves which kernels they are."""
    return bool(program.scans) and all(scan.kernel for scan in program.scans)


def pair_plan(program: TileProgram, keep: Collection[str] = ()) -> KernelPlan:
    """The kernels; exports named in `keep` are handed out, buffers among the leaves are handed in."""
    groups = _groups(program)
    loaded = {n["name"] for n in program.nodes() if n.op == "load" and n["kind"] == BUFFER}
    split = {n["name"] for n in program.nodes() if n.get("block") == SPLIT}
    given = [leaf for leaf in program.leaves if leaf.kind == BUFFER]
    buffers = [Buffer(b.name, b.rows, b.cols, PER_CHUNK, owner=GIVEN) for b in given]
    results = {o.result.name for o in program.outputs}
    waiting, kernels = list(program.outputs), []
    for position, (name, scans) in enumerate(groups):
        exports = [e for s in scans for e in s.exports if e[0] in loaded or e[0] in keep]
        extents = {name: PER_SPLIT if name in split else PER_CHUNK for name, _ in exports}
        buffers += [_buffer(e, extents[e[0]], SAVED if e[0] in keep else OWN) for e in exports]
        buffers += [_buffer(e, PER_PAIR, OWN) for s in scans for e in s.each if e[0] not in results]
        mine = waiting if position == len(groups) - 1 else _made_by(scans, waiting)
        waiting = [o for o in waiting if o not in mine]
        if exports or mine or any(s.each for s in scans):
            kernels.append(_kernel(name, scans, exports, mine))
    leaves = tuple(leaf for leaf in program.leaves if leaf.kind != BUFFER)
    return KernelPlan(program.name, program.form, leaves, tuple(o.result for o in program.outputs), tuple(buffers),
                      tuple(kernels))  # fmt: skip


def _groups(program: TileProgram) -> list[tuple[str, list[Scan]]]:
    found: dict[str, list[Scan]] = {}
    for scan in program.scans:
        if scan.order not in INNER:
            raise IRError(f"a {scan.order} scan beside kernels over pairs of chunks")
        found.setdefault(scan.kernel, []).append(scan)
    return list(found.items())


def _made_by(scans: Iterable[Scan], outputs: list[Output]) -> list[Output]:
    own = {c.name for s in scans for c in s.carries}
    return [o for o in outputs if any(_is_carried(n) and n["name"] in own for n in walk([o.value]))]


def _is_carried(n: Node) -> bool:
    return n.op == "load" and bool(n["kind"] == CARRIED)


def _buffer(named: tuple[str, Node], extent: str, owner: str) -> Buffer:
    name, value = named
    return Buffer(name, value.type.rows, value.type.cols, extent, owner=owner)


def _kernel(name: str, scans: list[Scan], exports: list[tuple[str, Node]], outputs: list[Output]) -> Kernel:
    loops = tuple(Loop(replace(s, exports=(), each=()), tuple(Store(n, v) for n, v in s.each)) for s in scans)
    stores = [Store(n, v) for n, v in exports] + [Store(o.result.name, o.value) for o in outputs]
    written = [*stores, *(s for loop in loops for s in loop.stores)]
    text = "; ".join(f"{s.target} = {formula(s.value)}" for s in written)
    return assign_roles(Kernel(name, text, loops, tuple(stores)))
