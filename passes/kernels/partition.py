"""Partition: cut a tile program into kernels by its dependence on the carried states.

*prep* holds what no state reaches (parallel over chunks), *carry* takes every state from chunk to chunk
(sequential), *output* holds what needs a state but feeds no later one (parallel over chunks). Values that cross
are stored or recomputed, whichever moves fewer bytes (`crossing`).
"""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

import networkx as nx

from smir.errors import IRError
from smir.ir.formula import formula
from smir.ir.graph import Node, reaches, substitute, walk
from smir.ir.kernel import GIVEN, GRID, PER_CHUNK, Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.tile import BUFFER, DENSE, ONE, PARAM, buffer
from smir.ir.tile_program import CHUNKED, INNER, OUTPUT, QUADRATIC, SCAN, STEP, Carry, Output, Scan, TileProgram
from smir.passes.analysis.tile_cost import operands
from smir.passes.kernels.affine_carries import affine_carries, is_scanned
from smir.passes.kernels.axis_roles import assign_roles
from smir.passes.kernels.buffer_types import with_buffer_types
from smir.passes.kernels.crossing import columns_on_the_way, is_heavy, on_the_way, stored_values
from smir.passes.kernels.cut_values import cut_values
from smir.passes.kernels.fit_outputs import Part, fit_parts, is_dear_tile
from smir.passes.kernels.level_kernels import with_level_kernels
from smir.passes.kernels.lines import summed_lines
from smir.passes.kernels.narrow_factors import narrow_walks
from smir.passes.kernels.on_chip import on_chip
from smir.passes.kernels.partition_pairs import has_pair_kernels, pair_plan
from smir.passes.kernels.projections import with_projections
from smir.passes.kernels.split_outputs import cut_outputs
from smir.passes.kernels.sums_apart import (
    factors,
    holds_too_much,
    is_matrix_sum,
    keeps_too_much,
    sum_carry,
    sum_loop,
)
from smir.passes.kernels.walks import walks
from smir.passes.kernels.wide_divisors import with_wide_divisors
from smir.passes.kernels.wide_exponents import with_wide_exponents


@dataclass
class _Builder:
    """The plan under construction; `stored` maps a value to the buffer leaf that holds it.

    `handed` are carries to store before every chunk although nothing in the program needs them later, `offered` values
    that whoever makes them stores, `beside` those that the kernel of the outputs stores too. `apart`: loops keep too
    much, so that sums of parameters' results get loops of their own, `sums`, after all other kernels.
    """

    program: TileProgram
    kernels: list[Kernel] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    stored: dict[Node, Node] = field(default_factory=dict)
    handed: frozenset[str] = frozenset()
    offered: Mapping[Node, str] = field(default_factory=dict)
    beside: Mapping[Node, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    preps: int = 0
    apart: bool = False
    sums: list[tuple[str, str, Node]] = field(default_factory=list)
    factors: dict[Node, Node] = field(default_factory=dict)

    def keep(self, name: str, value: Node) -> Store:
        """Declares a buffer for the value; later kernels load it instead of computing it."""
        rows, cols = value.type.rows, value.type.cols
        self.buffers[name] = Buffer(name, rows, cols, PER_CHUNK)
        self.stored[value] = buffer(name, rows, cols)
        return Store(name, substitute(value, {k: v for k, v in self.stored.items() if k is not value}))

    def cuts(self) -> list[Set[str]]:
        """Along which axes to cut what is too much: the states' columns; where they differ, twice, and then rows."""
        widths = {c.cols for c in self.program.carries} - {ONE}
        return [widths, widths, {c.rows for c in self.program.carries}] if len(widths) > 1 else [widths]

    def walked(self) -> Set[str]:
        """Along which axes walks over the chunks are cut: the columns of states that are matrices."""
        return {c.cols for c in self.program.carries if ONE not in (c.rows, c.cols)}

    def loaded(self, value: Node) -> Node:
        """The value with everything that is stored replaced by loads."""
        return substitute(value, self.stored)

    def assigned(self, kernel: Kernel) -> Kernel:
        names = [o.result.name for o in self.program.outputs if o.result.kind != DENSE]
        return assign_roles(kernel, [name for name in names if name != OUTPUT])

    def launch(self, kernel: Kernel) -> None:
        """Adds a kernel, under another name where one that was cut into several has taken its own."""
        while any(k.name == kernel.name for k in self.kernels):
            kernel = replace(kernel, name=f"{kernel.name}_")
        self.kernels.append(self.assigned(kernel))


@dataclass(frozen=True)
class _Group:
    """Carries that need each other, their scan, and how many other groups must come before them."""

    scan: Scan
    carries: tuple[Carry, ...]
    stage: int


def partition(program: TileProgram) -> KernelPlan:
    """The kernels of any form. Raises IRError when scans need each other."""
    return with_wide_exponents(with_wide_divisors(with_level_kernels(on_chip(partition_values(program)[0]))))


def partition_values(
    program: TileProgram,
    handed: frozenset[str] = frozenset(),
    offered: Mapping[Node, str] | None = None,
    beside: Mapping[Node, str] | None = None,
) -> tuple[KernelPlan, dict[str, Node]]:
    """The kernels, nothing in them wide, and by its name the value that each buffer holds, in the program's own terms.

    The carries `handed` get a buffer in any case (not in quadratic form), and so do `offered` values, under these
    names, that a kernel before the loops computes on its way to others. Those `beside` the outputs, in chunked form,
    are stored by their kernel.
    """
    if has_pair_kernels(program):
        return pair_plan(program), {}
    builder = _built(program, handed, offered or {}, beside=beside or {})
    if program.form in (STEP, SCAN) and any(k.loops and keeps_too_much(k) for k in builder.kernels):
        builder = _built(program, handed, offered or {}, apart=True)
    decodes = any(o.result.name == OUTPUT for o in program.outputs)
    if program.form == STEP and not decodes and any(k.loops and holds_too_much(k) for k in builder.kernels):
        # what no state reaches, and what no state needs, in parallel kernels, as in chunked form
        builder = _built(replace(program, form=CHUNKED), handed, offered or {}, apart=True)
    leaves = tuple(leaf for leaf in program.leaves if leaf.kind != BUFFER)
    results = tuple(o.result for o in program.outputs)
    buffers, kernels = tuple(builder.buffers.values()), tuple(builder.kernels)
    walked, more = walks(program, handed) if len(kernels) > len(program.scans) else ((), ())
    buffers += tuple(b for b in more if b.name not in builder.buffers)
    plan = KernelPlan(program.name, program.form, leaves, results, buffers, kernels, walked)
    return with_buffer_types(narrow_walks(plan)), {leaf["name"]: value for value, leaf in builder.stored.items()}


def _built(
    program: TileProgram,
    handed: frozenset[str],
    offered: Mapping[Node, str],
    apart: bool = False,
    beside: Mapping[Node, str] | None = None,
) -> _Builder:
    program = affine_carries(program) if program.form in (SCAN, CHUNKED) else program
    scan = _scan_apart if apart or not is_scanned(program) else _step
    build = {STEP: _step, SCAN: scan, CHUNKED: _chunked, QUADRATIC: _quadratic}
    builder = _Builder(program, handed=handed, offered=offered, beside=beside or {}, apart=apart)
    given = [leaf for leaf in program.leaves if leaf.kind == BUFFER]
    builder.buffers |= {b.name: Buffer(b.name, b.rows, b.cols, PER_CHUNK, owner=GIVEN) for b in given}
    build[program.form](builder)
    _fit(builder)
    _sum_apart(builder)
    return builder


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
        turn = sum(s.order == scan.order for s in scans[:position])
        name = "step" if len(scans) == 1 else f"step_{scan.order}_{turn}" if turn else f"step_{scan.order}"
        loop = _summed(b, _loop(scan, scan.carries, tuple(stores)))
        b.launch(Kernel(name, _formulas(scan.carries), (loop,), ()))


def _scan_apart(b: _Builder) -> None:
    """What no state reaches, and what no state needs, in parallel kernels beside those of the scans, as in chunked
    form."""
    matrices = [o for o in b.program.outputs if is_matrix_sum(o)]
    rest = [o for o in b.program.outputs if o not in matrices]
    kept = [s for o in matrices for s in _factors_kept(b, "forward", o.result.name, o.value)]
    b.program = replace(b.program, outputs=(*rest, *(Output.of(s.target, s.value) for s in kept)))
    _chunked(b)


def _sum_apart(b: _Builder) -> None:
    """The loops of the sums that wait for them."""
    for order, target, value in b.sums:
        loop = sum_loop(order, target, b.loaded(value), [c.name for c in b.program.carries])
        b.launch(Kernel(f"sum_{target}", f"{target} = sum of {formula(value)}", (loop,), ()))


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
    if not any(s.order in INNER for s in b.program.scans):
        # one chunk as long as the sequence
        return _chunked(b)
    b.program, ahead = with_projections(b.program, "prep")
    inner = [s for s in b.program.scans if s.order in INNER]
    _parallel(b, "prep", list(ahead.items()))
    for target, value in ahead.items():
        b.keep(target, value)
    states = replace(b.program, scans=tuple(s for s in b.program.scans if s not in inner))
    _in_time(b, states)
    kernels = {name: [s for s in inner if s.kernel == name] for name in dict.fromkeys(s.kernel for s in inner)}
    outputs = [(o.result.name, o.value) for o in b.program.outputs]
    for name, scans in kernels.items():
        exports = [e for s in scans for e in s.exports]
        b.buffers |= {n: Buffer(n, value.type.rows, value.type.cols, PER_CHUNK) for n, value in exports}
        stores = tuple(Store(n, value) for n, value in (exports if name else [*exports, *outputs]))
        loops = tuple(Loop(Scan(s.order, s.carries)) for s in scans)
        written = "; ".join(f"{s.target} = {formula(s.value)}" for s in stores)
        b.launch(Kernel(name or "output", written, loops, stores))
    if "" not in kernels:
        _parallel(b, "output", outputs)


def _in_time(b: _Builder, program: TileProgram) -> None:
    """The sequential kernels of a quadratic form's states; the first one that can stores what is handed over."""
    groups = _groups(program)
    exports = [Output.of(name, value) for scan in program.scans for name, value in scan.exports]
    for position, group in enumerate(groups):
        rest = [c for g in groups[position + 1 :] for c in g.carries]
        unready = {c.load for c in rest}
        ready = [e for e in exports if e.result.name not in b.written and not reaches([e.value], unready.__contains__)]
        loads = {e.value: buffer(e.result.name, e.value.type.rows, e.value.type.cols) for e in ready}
        _carry(b, group, [substitute(c.next, loads) for c in rest], ready)
        b.buffers |= {n["name"]: Buffer(n["name"], n.type.rows, n.type.cols, PER_CHUNK) for n in loads.values()}
        b.stored |= loads


def _outputs(b: _Builder) -> None:
    """The parallel kernels that write the results: one if it scans, and some axis is cut into blocks there."""
    outputs = b.program.outputs
    stores = tuple(Store(o.result.name, b.loaded(o.value)) for o in outputs)
    at_once = b.program.form == SCAN and GRID in dict(b.assigned(Kernel("output", "", (), stores)).roles).values()
    beside = {name: b.loaded(value) for value, name in b.beside.items() if value not in b.stored}
    both = (*outputs, *(Output.of(name, value) for name, value in beside.items()))
    for value, name in b.beside.items():
        if name in beside:
            b.buffers[name] = Buffer(name, value.type.rows, value.type.cols, PER_CHUNK)
    _in_pieces(b, "output", both, b.cuts() if len(outputs) > 1 and not at_once else [])
    b.stored |= {v: buffer(n, v.type.rows, v.type.cols) for v, n in b.beside.items() if n in beside}


def _in_pieces(b: _Builder, name: str, outputs: tuple[Output, ...], axes: list[Set[str]], number: int = 0) -> None:
    """Parallel kernels for the outputs, cut along one axis of each of the sets, one after the other."""
    cut = cut_outputs(outputs, axes[0], b.stored) if axes else None
    if cut is None:
        return _parallel(b, name, [(o.result.name, b.loaded(o.value)) for o in outputs])
    prefix, suffix = "" if name == "output" else f"{name}_", f"_{number}" if number else ""
    _parallel(b, f"{prefix}spread{suffix}", [(o.result.name, b.loaded(o.value)) for o in cut.spread])
    needed = _above([o.value for o in cut.rest], b.stored)
    gathered = [v for v in cut.gathered if v not in b.stored and v in needed]
    values = [(f"{prefix}gathered{suffix}_{i}", b.loaded(v)) for i, v in enumerate(gathered)]
    for (target, _), value in zip(values, gathered, strict=True):
        b.keep(target, value)
    _parallel(b, f"{prefix}gather{suffix}", values)
    rest = tuple(replace(o, value=b.loaded(o.value)) for o in cut.rest)
    _in_pieces(b, name, rest, [a - {cut.axis} for a in axes[1:]], number + 1)


def _above(roots: Iterable[Node], ends: Collection[Node]) -> set[Node]:
    """The nodes below the roots that aren't needed for `ends` alone."""
    found: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in found and node not in ends:
            found.add(node)
            stack.extend(operands(node))
    return found


def _fit(b: _Builder) -> None:
    """The parallel kernels after the last loop over chunks, in kernels that fit onto the chip."""
    first = max((i + 1 for i, k in enumerate(b.kernels) if k.loops), default=0)
    kernels = b.kernels[first:]
    if b.program.form == SCAN and any(n.op == "scan" for k in kernels for n in walk(k.roots())):
        return
    written = [(k.name, tuple((s.target, s.value) for s in k.stores)) for k in kernels]
    parts = [Part(name, values, keeps=values[0][0] in b.buffers) for name, values in written]
    del b.kernels[first:]
    for part in cut_values(fit_parts(parts)):
        new = {n: v for n, v in part.values if part.keeps and n not in b.buffers}
        b.buffers |= {n: Buffer(n, v.type.rows, v.type.cols, PER_CHUNK) for n, v in new.items()}
        made = {leaf: value for value, leaf in b.stored.items()}
        b.stored |= {substitute(v, made): buffer(n, v.type.rows, v.type.cols) for n, v in new.items()}
        _parallel(b, part.name, list(part.values))


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
    rows = (v for v in dict.fromkeys(frontier) if v.type.rows == ONE)
    scanned = [v for v in rows if any(n.op == "scan" for n in walk([v]))]
    heavy = [*scanned, *stored_values((v for v in frontier if v not in scanned), b.walked())]
    lines = summed_lines(frontier, {*heavy, *b.stored}) if b.program.form == CHUNKED else []
    chosen = [v for v in (*heavy, *lines) if v not in b.stored]
    if chosen:
        # all are computed at once, from what earlier kernels stored
        number, b.preps = b.preps, b.preps + 1
        name = f"prep_{number}" if number else "prep"
        inner = {n: b.offered[n] for n in walk(chosen) if n in b.offered and n not in b.stored and n not in chosen}
        later = [o.value for o in b.program.outputs]
        tiles = on_the_way(chosen, later, {*b.stored, *inner}, is_dear_tile)
        inner |= {n: f"{name}_inner_{i}" for i, n in enumerate(tiles)}
        # walks in time make results without kernels of their own, which keep nothing
        columns = columns_on_the_way(chosen, later, {*b.stored, *inner}) if b.program.form == CHUNKED else []
        inner |= {n: f"{name}_column_{i}" for i, n in enumerate(columns)}
        named = {**inner, **{v: f"{name}_value_{i}" for i, v in enumerate(chosen)}}
        outputs = tuple(Output.of(called, v) for v, called in named.items())
        _in_pieces(b, name, outputs, b.cuts() if number and len(b.cuts()) > 1 else [])
        for o in outputs:
            b.keep(o.result.name, o.value)


def _carry(b: _Builder, group: _Group, later: list[Node], outputs: Iterable[Output]) -> None:
    """The sequential kernel of one group of states; it writes `outputs` and hands on what `later` values need."""
    carries = group.carries
    nexts = [c.next for c in carries]
    own = {c.load for c in carries}
    shared = set(walk(nexts)) & reaches(later, own.__contains__)
    outside = {a for u in walk(later) if u not in set(walk(nexts)) for a in u.args} | set(later)
    heavy = {n for n in walk(nexts) if is_heavy(n, own) or (n.op == "scan" and b.program.form != SCAN)}
    handed = [n for n in walk(nexts) if n in shared and n in outside and n not in own and n in heavy]
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
        if c.load in held or c.name in b.handed:
            stores.append(replace(b.keep(f"{c.name}_before", c.load), value=c.load))
    loop = _summed(b, _loop(group.scan, inside, tuple(stores)))
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


def _summed(b: _Builder, loop: Loop) -> Loop:
    """The loop that sums parameters' results over the tokens it visits, instead of storing every token's summand."""
    sums = {o.result.name: is_matrix_sum(o) for o in b.program.outputs if o.result.kind == PARAM}
    taken = [c.name for c in b.program.carries]
    carries, stores, final = list(loop.scan.carries), list[Store](), list(loop.final_stores)
    for store in loop.stores:
        if store.target not in sums:
            stores.append(store)
        elif b.apart and sums[store.target]:
            stores += _factors_kept(b, loop.scan.order, store.target, store.value)
        else:
            carry, end = sum_carry(store.target, store.value, taken)
            carries.append(carry)
            final.append(end)
    return Loop(replace(loop.scan, carries=tuple(carries)), tuple(stores), tuple(final))


def _factors_kept(b: _Builder, order: str, target: str, value: Node) -> list[Store]:
    """Stores of what a sum is made of, unless an earlier one is too; the sum itself waits for its loop."""
    fresh = [n for n in factors(value) if n not in b.factors]
    for i, n in enumerate(fresh):
        leaf = buffer(f"{target}_factor_{i}", n.type.rows, n.type.cols)
        b.factors[n] = leaf
        b.buffers[leaf["name"]] = Buffer(leaf["name"], n.type.rows, n.type.cols, PER_CHUNK)
    b.sums.append((order, target, substitute(value, b.factors)))
    return [Store(b.factors[n]["name"], n) for n in fresh]


def _carry_name(carries: tuple[Carry, ...]) -> str:
    return "carry_" + "_".join(c.name for c in carries)


def _formulas(carries: Iterable[Carry]) -> str:
    return "; ".join(f"{c.name} = {formula(c.next)}" for c in carries)
