"""Partition: cut a tile program into kernels by its dependence on the carried states.

*prep* holds what no state reaches (parallel over chunks), *carry* takes every state from chunk to chunk
(sequential), *output* holds what needs a state but feeds no later one (parallel over chunks). Values that cross
are stored or recomputed, whichever moves fewer bytes (`crossing`).
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace

import networkx as nx

from smir.errors import IRError
from smir.ir.formula import formula
from smir.ir.graph import Node, reaches, substitute, walk
from smir.ir.kernel import GIVEN, PER_CHUNK, Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.tile import BUFFER, CHUNKED, QUADRATIC, STEP, Carry, Output, Scan, TileProgram, buffer
from smir.passes.axis_roles import assign_roles
from smir.passes.crossing import is_heavy, stored_values
from smir.passes.split_outputs import cut_outputs


@dataclass
class _Builder:
    """The plan under construction; `stored` maps a value to the buffer leaf that holds it."""

    program: TileProgram
    kernels: list[Kernel] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    stored: dict[Node, Node] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def keep(self, name: str, value: Node) -> Store:
        """Declares a buffer for the value; later kernels load it instead of computing it."""
        rows, cols = value.type.rows, value.type.cols
        self.buffers[name] = Buffer(name, rows, cols, PER_CHUNK)
        self.stored[value] = buffer(name, rows, cols)
        return Store(name, substitute(value, {k: v for k, v in self.stored.items() if k is not value}))

    def loaded(self, value: Node) -> Node:
        """The value with everything that is stored replaced by loads."""
        return substitute(value, self.stored)

    def launch(self, kernel: Kernel) -> None:
        self.kernels.append(assign_roles(kernel))


@dataclass(frozen=True)
class _Group:
    """Carries that need each other, their scan, and how many other groups must come before them."""

    scan: Scan
    carries: tuple[Carry, ...]
    stage: int


def partition(program: TileProgram) -> KernelPlan:
    """The kernels of any form. Raises IRError when scans need each other."""
    return partition_values(program)[0]


def partition_values(program: TileProgram) -> tuple[KernelPlan, dict[str, Node]]:
    """The kernels, and by its name the value that each buffer holds, in the program's own terms."""
    build = {STEP: _step, CHUNKED: _chunked, QUADRATIC: _quadratic}[program.form]
    builder = _Builder(program)
    given = [leaf for leaf in program.leaves if leaf.kind == BUFFER]
    builder.buffers |= {b.name: Buffer(b.name, b.rows, b.cols, PER_CHUNK, owner=GIVEN) for b in given}
    build(builder)
    leaves = tuple(leaf for leaf in program.leaves if leaf.kind != BUFFER)
    results = tuple(o.result for o in program.outputs)
    buffers, kernels = tuple(builder.buffers.values()), tuple(builder.kernels)
    plan = KernelPlan(program.name, program.form, leaves, results, buffers, kernels)
    return _with_buffer_types(plan), {leaf["name"]: value for value, leaf in builder.stored.items()}


# ---- forms ------------------------------------------------------------------------------------------------------


def _step(b: _Builder) -> None:
    """One sequential kernel per scan, everything inside its loop; an output is written by the last kernel
    whose states it needs."""
    if any(scan.exports for scan in b.program.scans) or not b.program.scans:
        return _handed_over(b)
    groups = [_Group(scan, scan.carries, stage) for stage, scan in enumerate(b.program.scans)]
    for position, group in enumerate(groups):
        later = [c.next for g in groups[position + 1 :] for c in g.carries]
        rest = {c.load for g in groups[position + 1 :] for c in g.carries}
        ready = [
            o for o in b.program.outputs if o.result.name not in b.written and not reaches([o.value], rest.__contains__)
        ]
        waiting = [o.value for o in b.program.outputs if o.result.name not in b.written and o not in ready]
        _carry(b, group, [*later, *waiting], ready)


def _handed_over(b: _Builder) -> None:
    """Scans that say themselves what they hand on; the last one also writes the outputs."""
    scans = b.program.scans or (Scan("forward", ()),)
    for position, scan in enumerate(scans):
        stores = [Store(name, value) for name, value in scan.exports]
        for name, value in scan.exports:
            b.buffers[name] = Buffer(name, value.type.rows, value.type.cols, PER_CHUNK)
        if position == len(scans) - 1:
            stores += [Store(o.result.name, o.value) for o in b.program.outputs]
        name = "step" if len(scans) == 1 else f"step_{scan.order}"
        b.launch(Kernel(name, _formulas(scan.carries), (_loop(scan, scan.carries, tuple(stores)),), ()))


def _chunked(b: _Builder) -> None:
    values = [o.value for o in b.program.outputs]
    groups = _groups(b.program)
    for stage in sorted({g.stage for g in groups}):
        at_once = [g for g in groups if g.stage == stage]
        unready = {c.load for g in groups if g.stage >= stage for c in g.carries}
        _prep(b, [c.next for g in at_once for c in g.carries], unready)
        for group in at_once:
            later = [c.next for g in groups[groups.index(group) + 1 :] for c in g.carries]
            _carry(b, group, [*later, *values], ())
    _outputs(b)


def _quadratic(b: _Builder) -> None:
    """One kernel over row chunks with loops over column chunks; states, if any, in carry kernels of their own."""
    inner = [s for s in b.program.scans if s.order in ("earlier", "later")]
    if not inner:
        # one chunk as long as the sequence
        return _chunked(b)
    states = replace(b.program, scans=tuple(s for s in b.program.scans if s not in inner))
    for group in _groups(states):
        name = _carry_name(group.carries)
        b.launch(Kernel(name, _formulas(group.carries), (_loop(group.scan, group.carries, ()),), ()))
    loops = tuple(Loop(Scan(s.order, s.carries)) for s in inner)
    stores = tuple(Store(o.result.name, o.value) for o in b.program.outputs)
    b.launch(Kernel("output", "; ".join(f"{s.target} = {formula(s.value)}" for s in stores), loops, stores))


def _outputs(b: _Builder) -> None:
    """The parallel kernels that write the results."""
    outputs = b.program.outputs
    cut = cut_outputs(outputs, [c.cols for c in b.program.carries]) if len(outputs) > 1 else None
    if cut is None:
        return _parallel(b, "output", [(o.result.name, b.loaded(o.value)) for o in outputs])
    _parallel(b, "spread", [(o.result.name, b.loaded(o.value)) for o in cut.spread])
    values = [b.loaded(v) for v in cut.gathered]
    for i, value in enumerate(cut.gathered):
        b.keep(f"gathered_{i}", value)
    _parallel(b, "gather", [(f"gathered_{i}", v) for i, v in enumerate(values)])
    _parallel(b, "output", [(o.result.name, b.loaded(o.value)) for o in cut.rest])


def _parallel(b: _Builder, name: str, values: list[tuple[str, Node]]) -> None:
    """A kernel over all chunks at once, if there is anything for it to write."""
    stores = tuple(Store(target, value) for target, value in values)
    if stores:
        b.launch(Kernel(name, "; ".join(f"{s.target} = {formula(s.value)}" for s in stores), (), stores))


def _prep(b: _Builder, nexts: list[Node], unready: Set[Node]) -> None:
    """Stores the values that need no unready state and are too heavy for the sequential kernels."""
    stateful = reaches(nexts, unready.__contains__)
    frontier = [a for n in walk(nexts) if n in stateful for a in n.args if a not in stateful]
    frontier += [n for n in nexts if n not in stateful]
    chosen = [v for v in stored_values(frontier) if v not in b.stored]
    if chosen:
        # all are computed in one kernel, from what earlier kernels stored
        values = [b.loaded(v) for v in chosen]
        number = sum(k.name.startswith("prep") for k in b.kernels)
        name = f"prep_{number}" if number else "prep"
        stores = tuple(replace(b.keep(f"{name}_value_{i}", v), value=w)
                       for i, (v, w) in enumerate(zip(chosen, values, strict=True)))  # fmt: skip
        b.launch(Kernel(name, "; ".join(f"{s.target} = {formula(s.value)}" for s in stores), (), stores))


def _carry(b: _Builder, group: _Group, later: list[Node], outputs: Iterable[Output]) -> None:
    """The sequential kernel of one group of states; it writes `outputs` and hands on what `later` values need."""
    carries = group.carries
    nexts = [c.next for c in carries]
    own = {c.load for c in carries}
    shared = set(walk(nexts)) & reaches(later, own.__contains__)
    outside = {a for u in walk(later) if u not in set(walk(nexts)) for a in u.args} | set(later)
    handed = [n for n in walk(nexts) if n in shared and n in outside and n not in own and is_heavy(n, own)]
    unneeded = {n: buffer("_", n.type.rows, n.type.cols) for n in handed}
    held = own & set(walk(substitute(n, unneeded) for n in later))
    inside = tuple(replace(c, next=b.loaded(c.next)) for c in carries)
    stores = [Store(o.result.name, b.loaded(o.value)) for o in outputs]
    b.written |= {o.result.name for o in outputs}
    loaded = {n: b.loaded(n) for n in handed}
    for i, value in enumerate(handed):
        name = f"{carries[0].name}_new_{i}" if i else f"{carries[0].name}_new"
        stores.append(replace(b.keep(name, value), value=loaded[value]))
    for c in carries:
        if c.load in held:
            stores.append(replace(b.keep(f"{c.name}_before", c.load), value=c.load))
    loop = _loop(group.scan, inside, tuple(stores))
    b.launch(Kernel(_carry_name(carries), _formulas(inside), (loop,), ()))


# ---- parts ------------------------------------------------------------------------------------------------------


def _groups(program: TileProgram) -> list[_Group]:
    """The groups in an order in which each needs earlier ones only."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    owner = {c.load: c for c in program.carries}
    scan_of = {c.name: s for s in program.scans for c in s.carries}
    for c in program.carries:
        graph.add_node(c.name)
        graph.add_edges_from((owner[n].name, c.name) for n in walk([c.next]) if n in owner)
    condensed = nx.condensation(graph)
    groups: dict[int, _Group] = {}
    for component in nx.lexicographical_topological_sort(condensed):
        names = condensed.nodes[component]["members"]
        carries = tuple(c for c in program.carries if c.name in names)
        if len({scan_of[c.name].order for c in carries}) != 1:
            raise IRError(f"carries {sorted(names)} need each other but run in different directions")
        stage = max((groups[p].stage + 1 for p in condensed.predecessors(component)), default=0)
        groups[component] = _Group(scan_of[carries[0].name], carries, stage)
    return sorted(groups.values(), key=lambda g: g.stage)


def _loop(scan: Scan, carries: tuple[Carry, ...], stores: tuple[Store, ...]) -> Loop:
    final = tuple(Store(c.state, c.load, c.transposed) for c in carries if c.state and c.final)
    return Loop(Scan(scan.order, carries), stores, final)


def _carry_name(carries: tuple[Carry, ...]) -> str:
    return "carry_" + "_".join(c.name for c in carries)


def _formulas(carries: Iterable[Carry]) -> str:
    return "; ".join(f"{c.name} = {formula(c.next)}" for c in carries)


def _with_buffer_types(plan: KernelPlan) -> KernelPlan:
    """Buffers that only feed matrix products hold the products' operand type: nothing is lost by rounding early."""
    full: set[str] = set()
    for kernel in plan.kernels:
        for root in kernel.roots():
            full |= {root["name"]} if _is_buffer(root) else set()
        for n in walk(kernel.roots()):
            if n.op not in ("dot", "transpose"):
                full |= {a["name"] for a in n.args if _is_buffer(a)}
            full |= {
                a.args[0]["name"] for a in n.args if n.op != "dot" and a.op == "transpose" and _is_buffer(a.args[0])
            }
    typed = tuple(b if b.name in full else replace(b, dtype="product") for b in plan.buffers)
    return replace(plan, buffers=typed)


def _is_buffer(n: Node) -> bool:
    return n.op == "load" and n["kind"] == BUFFER
