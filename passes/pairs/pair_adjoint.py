"""The backward pass of pair reads, again sums over pairs of chunks, in which no two programs write one place.

Given what the forward kernel hands over (of every read its value N; of a softmax the logarithm L of the sum of its
weights), the weights are P = e^(S - L), and with dN the adjoint of N and D = sum over the entries of dN * N

    dS_ij = P_ij (dN_i . v_j - D_i)        dv_j = sum over i of P_ij dN_i

L already makes up for the largest score, so no gradient flows through a maximum. The kernel `rows` sums over column
chunks what belongs to positions i, the kernel `columns` over row chunks what belongs to positions j. Both stop at the
values of one position (queries, keys, running sums inside a chunk) and go on to the inputs when the sums are complete.

Values of a row's position that aren't inputs (D among them) are handed from `rows` to `columns`, which would make them
again for every pair of chunks.

A sum between the two positions has a part between the two chunks, which a third kernel, `between`, stores for every
pair beforehand. Its adjoint for a pair of chunks belongs to every chunk between: `rows` visits the farthest chunk first
and stores, for each chunk, the sum over all chunks beyond it; `columns` adds these up over the row chunks. Nothing is
subtracted.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from smir.ir import tile
from smir.ir.graph import Node, reaches, substitute
from smir.ir.interval import INF, REAL
from smir.ir.pairs import SOFTMAX, PairProgram
from smir.ir.tile import BUFFER, CARRIED, COL, DENSE, ONE, PARAM, ROW, TOKEN
from smir.ir.tile_program import ITSELF, OUTPUT, QUADRATIC, Carry, Output, Scan, TileLeaf, TileProgram
from smir.passes.gradients.adjoint_program import PREFIX
from smir.passes.gradients.differentiate import adjoints
from smir.passes.pairs.column_sums import sums_tokens, with_column_sums
from smir.passes.pairs.lower_pairs import log_buffer, lower_pairs, output_tile, value_buffer
from smir.passes.pairs.pair_distances import EARLIER, LATER, OWN
from smir.passes.pairs.pair_sides import (
    blocks,
    frontier,
    is_dense,
    is_met,
    is_row_sided,
    one_sided,
    own_block,
    untransposed,
    with_blocks,
)
from smir.passes.pairs.pair_terms import Region, Term, regions
from smir.passes.tiles.leaves import with_needed_leaves

p = tile.pointwise
FORWARD_KERNEL, BETWEEN_KERNEL, ROWS_KERNEL, COLUMNS_KERNEL = "forward", "between", "rows", "columns"
_SWAPPED = {ROW: COL, COL: ROW}
_BACK = {OWN: ITSELF, EARLIER: "later", LATER: "earlier"}
_ORDER = {OWN: ITSELF, EARLIER: "earlier", LATER: "later"}


def pair_adjoint(program: PairProgram, wanted: Collection[str]) -> TileProgram:
    """Gradients `d_<name>` of the inputs and parameters named in `wanted`, from the inputs and the cotangent `d_y`."""
    return _Adjoint(program, frozenset(wanted)).made()


@dataclass(frozen=True)
class _Side:
    """The sums for the positions of one side: by the one-sided value they are the adjoint of, in each region."""

    found: Mapping[str, Mapping[Node, Node]]

    def values(self) -> tuple[Node, ...]:
        return tuple(dict.fromkeys(n for region in self.found.values() for n in region))


@dataclass
class _Adjoint:
    program: PairProgram
    wanted: frozenset[str]
    scans: list[Scan] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    def made(self) -> TileProgram:
        forward = lower_pairs(self.program, FORWARD_KERNEL)
        self.scans += forward.scans
        self.endless = {leaf.name for leaf in forward.leaves if leaf.range != REAL and -INF in leaf.range}
        self.regions = regions(self.program)
        self.output = output_tile(self.program, {r.name: value_buffer(r) for r in self.program.reads})
        self.cotangent = tile.token(PREFIX + OUTPUT, self.output.type.rows, self.output.type.cols)
        self.read_adjoints = self._gradients({self.output: self.cotangent}, lambda n: n in self._values())
        found = {name: self._pairs(region) for name, region in self.regions.items()}
        self._between()
        self._rows(found)
        self._columns(found)
        leaf = TileLeaf(TOKEN, PREFIX + OUTPUT, self.output.type.rows, self.output.type.cols)
        made = TileProgram(forward.name, QUADRATIC, (), tuple(self.scans), tuple(self.outputs))
        loaded = {n["name"] for n in made.nodes() if n.op == "load" and n["kind"] == BUFFER}
        if not loaded & {name for s in forward.scans for name, _ in s.exports}:
            made = replace(made, scans=made.scans[len(forward.scans) :])
        return with_needed_leaves(with_column_sums(made, "column_sums"), (*forward.leaves, leaf))

    def _values(self) -> set[Node]:
        return {value_buffer(r) for r in self.program.reads}

    def _gradients(self, seeds: Mapping[Node, Node], wanted: Callable[[Node], bool]) -> dict[Node, Node]:
        return adjoints(seeds, wanted, lambda n: n.op == "load" and n["name"] in self.endless)

    def _is_wanted(self, n: Node) -> bool:
        return n.op == "load" and n["kind"] in (TOKEN, PARAM, DENSE) and n["name"] in self.wanted

    # ---- one pair of chunks -------------------------------------------------------------------------------------

    def _pairs(self, region: Region) -> dict[Node, Node]:
        """The adjoints of everything one-sided, of dense parameters and of what is between, for one pair of chunks."""
        seeds: dict[Node, Node] = {}
        for term in region.terms.values():
            for root, seed in self._seeds(term):
                seeds[root] = p("add", seeds[root], seed) if root in seeds else seed
        between = {b.load for b in region.between.values()}
        useful = reaches(seeds, lambda n: self._is_wanted(n) or n in between)
        ends = frontier(list(seeds), useful) | between
        return self._gradients(seeds, lambda n: n in ends or (n.op == "load" and n["kind"] == DENSE and n in useful))

    def _seeds(self, term: Term) -> list[tuple[Node, Node]]:
        """What a pair of chunks adds to a read, with its adjoint."""
        read = term.read
        d_value = self.read_adjoints.get(value_buffer(read))
        if d_value is None:
            return []
        if read.kind != SOFTMAX:
            return [(term.total(), d_value)]
        weighted = p("mul", d_value, value_buffer(read))
        if read.channels is None:
            weights = p("exp", term.relative(log_buffer(read)))
            share = p("neg", tile.reduce_sum(weighted, 1))
            return [(tile.dot(weights, term.value), d_value), (tile.reduce_sum(weights, 1), share)]
        part = term.partial()
        scale = p("exp", p("sub", part.top, log_buffer(read)))
        # precise: of what the two make of a channel, the difference is left
        return [(root, p("precise", p("mul", seed, scale)))
                for root, seed in ((part.acc, d_value), (part.sum, p("neg", weighted)))]  # fmt: skip

    # ---- kernels ------------------------------------------------------------------------------------------------

    def _between(self) -> None:
        """Stores what is between every two chunks, to be visited in any order."""
        for name, region in self.regions.items():
            carries, each = [], []
            for b in region.between.values():
                load = tile.carried(f"{b.load['name']}_so_far", ONE, ONE)
                carries.append(Carry(load["name"], ONE, ONE, p("add", load, b.total)))
                each.append((_stored(b.load), load))
            if carries:
                self.scans.append(Scan(_ORDER[name], tuple(carries), (), BETWEEN_KERNEL, tuple(each), region.reach))

    def _rows(self, found: Mapping[str, Mapping[Node, Node]]) -> None:
        side = {name: {n: g for n, g in adjoint.items() if is_row_sided(n)} for name, adjoint in found.items()}
        ends = self._summed(_Side(side), ROWS_KERNEL, found)
        seeds = {self.output: self.cotangent}
        for value, total in ends.items():
            seeds[value] = p("add", seeds[value], total) if value in seeds else total
        self._results(self._gradients(seeds, self._is_wanted))
        for leaf, gradient in found[OWN].items():
            if is_dense(leaf):
                self._add(leaf, own_block(gradient))

    def _columns(self, found: Mapping[str, Mapping[Node, Node]]) -> None:
        side = {name: {n: g for n, g in adjoint.items() if blocks(n) == {COL}} for name, adjoint in found.items()}
        ends = self._summed(_Side(side), COLUMNS_KERNEL, found)
        self._results(self._gradients({own_block(v): total for v, total in ends.items()}, self._is_wanted))

    def _summed(self, side: _Side, kernel: str, found: Mapping[str, Mapping[Node, Node]]) -> dict[Node, Node]:
        """The scans that add up a side's adjoints over all chunks, and the sums they end with."""
        handed = self._handed_over(side) if kernel == COLUMNS_KERNEL else {}
        met = bool(side.found[OWN]) and is_met(side.found[OWN].values())
        own = {v: own_block(substitute(untransposed(g), handed)) for v, g in side.found[OWN].items() if not met}
        ends = {v: own.get(v, tile.broadcast(tile.const(0.0), v.type.rows, v.type.cols)) for v in side.values()}
        for name in (*([OWN] if met else []), EARLIER, LATER):
            if name in found:
                self._visit(self.regions[name], side, kernel, found[name], handed, ends)
        if not any(s.kernel == kernel for s in self.scans):
            self.scans.append(_nothing_visited(kernel))
        return ends

    def _visit(
        self,
        region: Region,
        side: _Side,
        kernel: str,
        adjoint: Mapping[Node, Node],
        handed: Mapping[Node, Node],
        ends: dict[Node, Node],
    ) -> None:
        """The scan over one region's chunks; `ends` has the sums before it, and gets those after it."""
        columns, numbers = kernel == COLUMNS_KERNEL, {v: i for i, v in enumerate(side.values())}
        look = {b.load: tile.pair_buffer(_stored(b.load), ONE, ONE) for b in region.between.values()}
        carries, each = [], []
        for v, gradient in side.found[region.name].items():
            load = tile.carried(f"{PREFIX}{kernel}_{region.name}_{numbers[v]}", v.type.rows, v.type.cols)
            step = substitute(untransposed(gradient), {**look, **handed})
            step = with_blocks(step, _SWAPPED) if columns else step
            carries.append(Carry(load["name"], v.type.rows, v.type.cols, p("add", load, step), start=ends[v]))
            ends[v] = load
        for b in region.between.values():
            if b.load in adjoint and columns:
                carries.append(_total_beyond(b.load, ends.get(b.total)))
                ends[b.total] = carries[-1].load
            elif b.load in adjoint:
                carries.append(_beyond(b.load, substitute(adjoint[b.load], look)))
                each.append((PREFIX + b.load["name"], carries[-1].load))
        if not columns and region.name != OWN:
            each += [(PREFIX + n["name"], substitute(g, look)) for n, g in adjoint.items() if is_dense(n)]
        if carries or each:
            order, inward = (_BACK if columns else _ORDER)[region.name], not columns and bool(region.between)
            self.scans.append(Scan(order, tuple(carries), (), kernel, tuple(each), region.reach, inward))

    def _handed_over(self, side: _Side) -> dict[Node, Node]:
        """Values of one row each that the sums for columns need, as the kernel `rows` stores them; not sums over the
        tokens of a chunk, which `with_column_sums` takes out of the loop."""
        roots = [g for region in side.found.values() for g in region.values()]
        sides = dict.fromkeys(n for n in one_sided(roots, ROW) if n.op != "load")
        found = [n for n in sides if not sums_tokens(n)]
        loads = {n: tile.buffer(f"row_value_{i}", n.type.rows, n.type.cols) for i, n in enumerate(found)}
        if loads:
            last = next(i for i, s in enumerate(self.scans) if s.kernel == ROWS_KERNEL)
            exports = tuple((load["name"], n) for n, load in loads.items())
            self.scans[last] = replace(self.scans[last], exports=exports)
        return {n: loads.get(n, n) for n in sides}

    # ---- results ------------------------------------------------------------------------------------------------

    def _results(self, found: Mapping[Node, Node]) -> None:
        for leaf, gradient in sorted(found.items(), key=lambda item: (item[0]["kind"] != TOKEN, item[0]["name"])):
            if leaf["kind"] != CARRIED:
                self._add(leaf, gradient)

    def _add(self, leaf: Node, gradient: Node) -> None:
        target = PREFIX + leaf["name"]
        same = sum(o.result.tensor == target for o in self.outputs)
        name = f"{target}_{same}" if same else target
        self.outputs.append(Output.of(name, gradient, leaf["kind"], leaf.get("offset", 0), target))


def _nothing_visited(kernel: str) -> Scan:
    """The scan of a kernel that needs no other chunk."""
    return Scan("earlier", (), (), kernel, (), 0)


def _beyond(load: Node, step: Node) -> Carry:
    """The adjoint of what is between, summed over the chunks beyond the visited one."""
    total = tile.carried(f"{PREFIX}{load['name']}_beyond", ONE, ONE)
    return Carry(total["name"], ONE, ONE, p("add", total, step))


def _total_beyond(load: Node, start: Node | None) -> Carry:
    """The sum of these over all row chunks."""
    name = f"{PREFIX}{load['name']}"
    total = tile.carried(f"{name}_total", ONE, ONE)
    return Carry(total["name"], ONE, ONE, p("add", total, tile.pair_buffer(name, ONE, ONE, COL, ROW)), start=start)


def _stored(load: Node) -> str:
    return f"{load['name']}_chunks"
