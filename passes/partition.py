"""Partition: cut a tile program into kernels by its dependence on the carried states.

*prep* holds what no state reaches (parallel over chunks), *carry* takes every state from chunk to chunk
(sequential), *output* holds what needs a state but feeds no later one (parallel over chunks). Values that cross
are stored or recomputed, whichever moves fewer bytes (`crossing`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import networkx as nx

from smir.errors import IRError
from smir.ir.formula import formula
from smir.ir.graph import Node, reaches, substitute, walk
from smir.ir.kernel import PER_CHUNK, Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.tile import BUFFER, CARRIED, CHUNKED, QUADRATIC, STEP, Carry, Scan, TileProgram, buffer
from smir.passes.axis_roles import assign_roles
from smir.passes.crossing import is_heavy, stored_values

OUTPUT = "y"


@dataclass
class _Builder:
    """The plan under construction; `stored` maps a value to the buffer leaf that holds it."""

    program: TileProgram
    kernels: list[Kernel] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    stored: dict[Node, Node] = field(default_factory=dict)

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


def partition(program: TileProgram) -> KernelPlan:
    """The kernels of any form. Raises IRError when scans need each other."""
    build = {STEP: _step, CHUNKED: _chunked, QUADRATIC: _quadratic}[program.form]
    builder = _Builder(program)
    build(builder)
    plan = KernelPlan(program.name, program.form, program.leaves, tuple(builder.buffers.values()), tuple(builder.kernels))
    return _with_buffer_types(plan)


# ---- forms ------------------------------------------------------------------------------------------------------


def _step(b: _Builder) -> None:
    """One kernel per scan, everything inside its loop; the last one also writes the output."""
    scans = b.program.scans or (Scan("forward", ()),)
    for position, scan in enumerate(scans):
        stores = [Store(name, value) for name, value in scan.exports]
        for name, value in scan.exports:
            b.buffers[name] = Buffer(name, value.type.rows, value.type.cols, PER_CHUNK)
        if position == len(scans) - 1:
            stores.append(Store(OUTPUT, b.program.output))
        name = "step" if len(scans) == 1 else f"step_{scan.order}"
        b.launch(Kernel(name, _formulas(scan.carries), (_loop(scan, scan.carries, tuple(stores)),), ()))


def _chunked(b: _Builder) -> None:
    output = b.program.output
    components = _components(b.program)
    _prep(b, [c.next for _, carries in components for c in carries])
    for scan, carries in components:
        _carry(b, scan, carries, output)
    value = b.loaded(output)
    b.launch(Kernel("output", f"{OUTPUT} = {formula(value)}", (), (Store(OUTPUT, value),)))


def _quadratic(b: _Builder) -> None:
    """One kernel over row chunks with loops over column chunks; states, if any, in carry kernels of their own."""
    inner = [s for s in b.program.scans if s.order in ("earlier", "later")]
    if not inner:
        # one chunk as long as the sequence
        return _chunked(b)
    states = replace(b.program, scans=tuple(s for s in b.program.scans if s not in inner))
    for scan, carries in _components(states):
        b.launch(Kernel(_carry_name(carries), _formulas(carries), (_loop(scan, carries, ()),), ()))
    loops = tuple(Loop(Scan(s.order, s.carries)) for s in inner)
    output = b.program.output
    b.launch(Kernel("output", f"{OUTPUT} = {formula(output)}", loops, (Store(OUTPUT, output),)))


def _prep(b: _Builder, nexts: list[Node]) -> None:
    """Stores the state-free values that are too heavy for the sequential kernels."""
    stateful = reaches(nexts, lambda n: n.op == "load" and n["kind"] == CARRIED)
    frontier = [a for n in walk(nexts) if n in stateful for a in n.args if a not in stateful]
    frontier += [n for n in nexts if n not in stateful]
    chosen = stored_values(frontier)
    if chosen:
        stores = tuple(b.keep(f"prep_{i}", value) for i, value in enumerate(chosen))
        # every prep value is computed in this one kernel: none is loaded back
        stores = tuple(replace(s, value=v) for s, v in zip(stores, chosen, strict=True))
        b.launch(Kernel("prep", "; ".join(f"{s.target} = {formula(s.value)}" for s in stores), (), stores))


def _carry(b: _Builder, scan: Scan, carries: tuple[Carry, ...], output: Node) -> None:
    """The sequential kernel of one group of states; it hands on what the output needs of them."""
    inside = replace(scan, carries=tuple(replace(c, next=b.loaded(c.next)) for c in carries))
    own = {c.load for c in carries}
    shared = set(walk(c.next for c in carries)) & reaches([output], lambda n: n in own)
    handed = [n for n in walk(shared) if n in shared and n not in own and is_heavy(n, own) and _crosses(n, shared, output, carries)]
    still_needed = own & set(walk([substitute(output, {n: buffer("_", n.type.rows, n.type.cols) for n in handed})]))
    stores = []
    for i, value in enumerate(handed):
        inner = b.loaded(value)
        stores.append(replace(b.keep(f"{carries[0].name}_new_{i}" if i else f"{carries[0].name}_new", value), value=inner))
    for c in carries:
        if c.load in still_needed:
            stores.append(replace(b.keep(f"{c.name}_before", c.load), value=c.load))
    b.launch(Kernel(_carry_name(carries), _formulas(inside.carries), (_loop(inside, inside.carries, tuple(stores)),), ()))


def _crosses(n: Node, shared: set[Node], output: Node, carries: tuple[Carry, ...]) -> bool:
    """Whether the value is used outside the carry's own computation, by the output."""
    carry_nodes = set(walk(c.next for c in carries))
    return n is output or any(n in u.args for u in walk([output]) if u not in carry_nodes)


# ---- parts ------------------------------------------------------------------------------------------------------


def _components(program: TileProgram) -> list[tuple[Scan, tuple[Carry, ...]]]:
    """Groups of carries that need each other, each with its scan, in an order in which each needs earlier ones only."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    owner = {c.load: c for c in program.carries}
    scan_of = {c.name: s for s in program.scans for c in s.carries}
    for c in program.carries:
        graph.add_node(c.name)
        graph.add_edges_from((owner[n].name, c.name) for n in walk([c.next]) if n in owner)
    condensed = nx.condensation(graph)
    groups = []
    for component in nx.lexicographical_topological_sort(condensed):
        names = condensed.nodes[component]["members"]
        carries = tuple(c for c in program.carries if c.name in names)
        if len({scan_of[c.name].order for c in carries}) != 1:
            raise IRError(f"carries {sorted(names)} need each other but run in different directions")
        groups.append((scan_of[carries[0].name], carries))
    return groups


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
            full |= {a.args[0]["name"] for a in n.args if n.op != "dot" and a.op == "transpose" and _is_buffer(a.args[0])}
    typed = tuple(b if b.name in full else replace(b, dtype="product") for b in plan.buffers)
    return replace(plan, buffers=typed)


def _is_buffer(n: Node) -> bool:
    return n.op == "load" and n["kind"] == BUFFER
