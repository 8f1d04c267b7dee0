"""The leaves of a tile program: what it loads, and what alone tells the size of an axis."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from smir.ir.dims import TIME
from smir.ir.mixer import PARAM as PARAM_DECLARATION
from smir.ir.mixer import Declaration, Mixer, matrix_shape
from smir.ir.segment import past_of
from smir.ir.tile import (
    BUFFER,
    CARRIED,
    CHUNK,
    DENSE,
    ONE,
    PARAM,
    PAST,
    PAST_CHUNK,
    SIZELESS,
    TOKEN,
    Tile,
    axis_parts,
    lanes,
)
from smir.ir.tile_program import QUADRATIC, SCAN, STEP, TileLeaf, TileProgram


def with_leaves(mixer: Mixer, program: TileProgram) -> TileProgram:
    """The program with its leaves declared, in the order of the spec."""
    return with_needed_leaves(program, _declared(mixer, program.form))


def with_needed_leaves(program: TileProgram, candidates: Iterable[TileLeaf]) -> TileProgram:
    """The program with those of the candidates that it loads or that alone say how long an axis or the sequence is."""
    candidates = tuple(candidates)
    loaded = {(n["kind"], n["name"], n.type) for n in program.nodes() if n.op == "load" and n["kind"] != CARRIED}
    leaves = {leaf for leaf in candidates if (leaf.kind, leaf.name, Tile(leaf.rows, leaf.cols)) in loaded}
    axes = {a for n in program.nodes() for a in _dimensions(n.type)} - SIZELESS
    for leaf in (leaf for leaf in candidates if leaf.kind != BUFFER and leaf.name not in {x.name for x in leaves}):
        missing = axes - {a for known in leaves if known.kind != BUFFER for a in _dimensions(known)}
        if missing & _dimensions(leaf) or not any(known.kind == TOKEN for known in leaves):
            leaves.add(leaf)
    return replace(program, leaves=tuple(leaf for leaf in candidates if leaf in leaves))


def _dimensions(tile: Tile | TileLeaf) -> set[str]:
    return {*axis_parts(tile.rows), *axis_parts(tile.cols)}


def _declared(mixer: Mixer, form: str) -> Iterator[TileLeaf]:
    """Every declaration as the leaves that this form could load: a matrix as lanes, or for all tokens as declared."""
    for d in mixer.declarations:
        kind = PARAM if d.kind == PARAM_DECLARATION else TOKEN
        if kind == PARAM and d.dims == (TIME, TIME):
            yield TileLeaf(DENSE, d.name, CHUNK, CHUNK, d.range)
            continue
        for axes in _axes(d, kind, form):
            yield TileLeaf(kind, d.name, *axes, d.range)
    for d in mixer.inputs if form == QUADRATIC else ():
        rows, cols = map(str, matrix_shape(d.dims))
        if cols == ONE:
            yield TileLeaf(PAST, past_of(d.name), PAST_CHUNK, rows, d.range)


def _axes(d: Declaration, kind: str, form: str) -> Iterator[tuple[str, str]]:
    rows, cols = map(str, matrix_shape(d.dims))
    row = ONE if kind == PARAM else CHUNK
    if cols == ONE and (kind == PARAM or form != STEP):
        yield row, rows
        return
    if form == STEP or kind == PARAM:
        yield rows, cols
    if form == SCAN and ONE not in (rows, cols):
        yield row, lanes(rows, cols)
