"""Pair IR to the quadratic form: every row chunk meets itself, then earlier and later column chunks.

The row chunk's own part is where the carries start; one scan visits earlier chunks, nearest first, so that sums between
the two positions grow chunk by chunk, of a segment another one goes on with what is before it, a third visits later
ones. Chunks farther away than any mask admits are not visited.
"""

from collections.abc import Mapping
from dataclasses import replace

from smir.errors import FormError
from smir.ir import tile
from smir.ir.graph import Node, substitute
from smir.ir.pairs import SOFTMAX, PairProgram, PairRead
from smir.ir.tile import CHUNK
from smir.ir.tile_program import ITSELF, OUTPUT, QUADRATIC, Carry, Output, Scan, TileProgram
from smir.passes.pairs.column_sums import with_column_sums
from smir.passes.pairs.pair_sides import is_met, own_block
from smir.passes.pairs.pair_terms import LOWEST, Partial, Region, Term, regions, scan_orders, width
from smir.passes.pairs.pair_tiles import Between
from smir.passes.tiles.leaves import with_leaves
from smir.passes.tiles.rowwise import Rowwise
from smir.passes.tiles.simplify_tiles import simplify

OUTPUT_KERNEL = "output"
# What the names of a read's value and of the logarithm of its sum of weights end with.
VALUE, LOG = "_value", "_log"


def lower_pairs(program: PairProgram, kernel: str = OUTPUT_KERNEL, past: bool = False) -> TileProgram:
    """The quadratic form of a masked operator. Raises FormError for formulas that no tile expresses.

    For every read `name` it exports what a backward pass needs: `name_value`, and of a softmax `name_log`. With `past`,
    the sequence is a segment, and its rows also meet the tokens before it.
    """
    known = regions(program, past)
    own = known["own"]
    met = bool(own.terms) and not past and is_met(n for term in own.terms.values() for n in term.parts())
    running = {r.name: _start(r, None if met else own.terms.get(r.name)) for r in program.reads}
    scans = []
    for region, order in ((("own", ITSELF),) if met else ()) + tuple(scan_orders()):
        if region in known:
            passed = known["earlier"].between if region == "past" else {}
            scan, running = _scan(known[region], order, kernel, running, program.reads, passed)
            scans.append(scan)
    scans = scans or [Scan("earlier", (), kernel=kernel, reach=0)]
    exports = tuple(e for r in program.reads for e in _exports(r, running[r.name]))
    scans[-1] = Scan(scans[-1].order, scans[-1].carries, exports, kernel, (), scans[-1].reach)
    output = output_tile(program, {r.name: _value(running[r.name]) for r in program.reads})
    made = simplify(TileProgram(program.mixer.name, QUADRATIC, (), tuple(scans), (Output.of(OUTPUT, output),)))
    return with_leaves(program.mixer, with_column_sums(made, "sums") if kernel == OUTPUT_KERNEL and not past else made)


def lower_split(program: PairProgram) -> TileProgram:
    """The same of a segment with a long past: kernels over one part of it each, and one that joins what they found.

    Raises FormError for formulas that no tile expresses, and for sums between two positions, which go on from part to
    part.
    """
    known = regions(program, True)
    far = known.get("past", Region("past"))
    if far.between:
        raise FormError("sums between two positions go through the past in order", program.mixer.span(program.output))
    parts, found = _scan(far, "past", "past_parts", {r.name: _start(r, None) for r in program.reads}, program.reads, {})
    pieces = {r.name: _pieces(r, found[r.name]) for r in program.reads if r.name in far.terms}
    scans = [replace(parts, exports=tuple(e for exported in pieces.values() for e in exported.items()))]
    running = {r.name: _start(r, known["own"].terms.get(r.name)) for r in program.reads}
    for region, order in scan_orders():
        if region in known and region != "past":
            scan, running = _scan(known[region], order, "output", running, program.reads, {})
            scans.append(scan)
    joined = {name: _joined(running[name], exported) for name, exported in pieces.items()}
    scans.append(Scan("splits", tuple(c for carries, _ in joined.values() for c in carries), (), "output"))
    running |= {name: after for name, (_, after) in joined.items()}
    output = output_tile(program, {r.name: _value(running[r.name]) for r in program.reads})
    made = TileProgram(program.mixer.name, QUADRATIC, (), tuple(scans), (Output.of(OUTPUT, output),))
    return with_leaves(program.mixer, simplify(made))


def _joined(before: "Running", pieces: Mapping[str, Node]) -> tuple[list[Carry], "Running"]:
    """What is carried over the parts of the past, and a read after them; `pieces` are what a part gives."""
    starts = list(before.parts()) if isinstance(before, Partial) else [before]
    loads = [tile.buffer(n, v.type.rows, v.type.cols, tile.SPLIT) for n, v in pieces.items()]
    held = [_load(f"joined_{n}", start) for n, start in zip(pieces, starts, strict=True)]
    if not isinstance(before, Partial):
        return [_carry(held[0], before, tile.pointwise("add", held[0], loads[0]))], held[0]
    moved = Partial(*held).with_more(Partial(*loads)).parts()
    return [_carry(h, start, m) for h, start, m in zip(held, starts, moved, strict=True)], Partial(*held)


def _pieces(read: PairRead, running: "Running") -> dict[str, Node]:
    """What is known of a read over one part of the past, by name."""
    if not isinstance(running, Partial):
        return {f"{read.name}_part": running}
    return {f"{read.name}_{n}": part for n, part in zip(("top", "sum", "acc"), running.parts(), strict=True)}


def lower_one_chunk(program: PairProgram) -> TileProgram:
    """The masked operator with the whole sequence as its only chunk: no scans, T x T tiles.

    No derivative goes through a softmax's largest score. Raises FormError for formulas that no tile expresses.
    """
    own = regions(program)["own"].terms
    running = {r.name: _without_slope(_start(r, own.get(r.name))) for r in program.reads}
    output = output_tile(program, {r.name: _value(running[r.name]) for r in program.reads})
    made = TileProgram(program.mixer.name, QUADRATIC, (), (), (Output.of(OUTPUT, output),))
    return with_leaves(program.mixer, simplify(made))


def _without_slope(running: "Running") -> "Running":
    """A softmax whose sums are relative to a constant."""
    if not isinstance(running, Partial):
        return running
    top = {running.top: tile.pointwise("stop", running.top)}
    return Partial(*(substitute(part, top) for part in (running.top, running.sum, running.acc)))


def output_tile(program: PairProgram, reads: Mapping[str, Node]) -> Node:
    """The output expression, a row for every token."""
    found = Rowwise(program.mixer, reads=reads.__getitem__).vector(program.output)
    return tile.broadcast(found, CHUNK, found.type.cols)


def value_buffer(read: PairRead) -> Node:
    """What a read gave, as a later kernel loads it."""
    return tile.buffer(f"{read.name}{VALUE}", CHUNK, width(read))


def log_buffer(read: PairRead) -> Node:
    """The logarithm of the sum of a softmax's weights, as a later kernel loads it."""
    return tile.buffer(f"{read.name}{LOG}", CHUNK, width(read) if read.channels is not None else tile.ONE)


Running = Partial | Node


def _start(read: PairRead, term: Term | None) -> Running:
    """A read over the row chunk's own columns."""
    zero = tile.broadcast(tile.const(0.0), CHUNK, width(read))
    if read.kind != SOFTMAX:
        return zero if term is None else own_block(term.total())
    if term is None:
        shape = width(read) if read.channels is not None else tile.ONE
        lowest, nothing = (tile.broadcast(tile.const(v), CHUNK, shape) for v in (LOWEST, 0.0))
        return Partial(lowest, nothing, zero)
    part = term.partial()
    return Partial(own_block(part.top), own_block(part.sum), own_block(part.acc))


def _scan(
    region: Region,
    order: str,
    kernel: str,
    running: Mapping[str, Running],
    reads: tuple[PairRead, ...],
    passed: Mapping[Node, Between],
) -> tuple[Scan, dict[str, Running]]:
    """The scan over one region's chunks, and what the reads are after it; sums between two positions go on from those
    of the scan that has `passed` nearer chunks."""
    starts = {column: between.load for column, between in passed.items()}
    carries = [Carry(b.load["name"], tile.ONE, tile.ONE, tile.pointwise("add", b.load, b.total), start=starts.get(c))
               for c, b in region.between.items()]  # fmt: skip
    after = dict(running)
    for read in reads:
        term, before = region.terms.get(read.name), running[read.name]
        if term is None:
            continue
        if isinstance(before, Partial):
            names = ("top", "sum", "acc")
            loads = [_load(f"{n}_{region.name}_{read.name}", getattr(before, n)) for n in names]
            held = Partial(*loads)
            moved = term.joined(held)
            carries += [_carry(getattr(held, n), getattr(before, n), getattr(moved, n)) for n in names]
            after[read.name] = held
        else:
            load = _load(f"acc_{region.name}_{read.name}", before)
            carries.append(_carry(load, before, tile.pointwise("add", load, term.total())))
            after[read.name] = load
    return Scan(order, tuple(carries), (), kernel, (), region.reach), after


def _load(name: str, like: Node) -> Node:
    return tile.carried(name, like.type.rows, like.type.cols)


def _carry(load: Node, start: Node, following: Node) -> Carry:
    return Carry(load["name"], load.type.rows, load.type.cols, following, start=start)


def _value(running: Running) -> Node:
    return running.read() if isinstance(running, Partial) else running


def _exports(read: PairRead, running: Running) -> list[tuple[str, Node]]:
    value = (f"{read.name}{VALUE}", tile.valid_rows(_value(running), 0.0, tile.ROW))
    return [value, (f"{read.name}{LOG}", running.log())] if isinstance(running, Partial) else [value]
