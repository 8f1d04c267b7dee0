"""The leaves of a tile program: what it loads, and what alone tells the size of an axis."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from smir.ir.dims import ONE as UNIT
from smir.ir.mixer import PARAM as PARAM_DECLARATION
from smir.ir.mixer import Declaration, Mixer, matrix_shape
from smir.ir.tile import BUFFER, CARRIED, CHUNK, ONE, PARAM, STEP, TOKEN, TileLeaf, TileProgram


def with_leaves(mixer: Mixer, program: TileProgram) -> TileProgram:
    """The program with its leaves declared, in the order of the spec."""
    return with_needed_leaves(program, _declared(mixer, program.form))


def with_needed_leaves(program: TileProgram, candidates: Iterable[TileLeaf]) -> TileProgram:
    """The program with those of the candidates that it loads or that alone say how long an axis or the sequence is."""
    candidates = tuple(candidates)
    loaded = {(n["kind"], n["name"]) for n in program.nodes() if n.op == "load" and n["kind"] != CARRIED}
    leaves = {leaf for leaf in candidates if (leaf.kind, leaf.name) in loaded}
    axes = {a for n in program.nodes() for a in (n.type.rows, n.type.cols)} - {CHUNK, ONE}
    for leaf in (leaf for leaf in candidates if leaf.kind != BUFFER):
        missing = axes - {a for known in leaves if known.kind != BUFFER for a in (known.rows, known.cols)}
        if missing & {leaf.rows, leaf.cols} or not any(known.kind == TOKEN for known in leaves):
            leaves.add(leaf)
    return replace(program, leaves=tuple(leaf for leaf in candidates if leaf in leaves))


def _declared(mixer: Mixer, form: str) -> Iterator[TileLeaf]:
    """Every declaration as the leaf that this form would load; a matrix for every token has none in chunks."""
    for d in mixer.declarations:
        kind = PARAM if d.kind == PARAM_DECLARATION else TOKEN
        axes = _axes(d, kind, form)
        if axes is not None:
            yield TileLeaf(kind, d.name, *axes, d.range)


def _axes(d: Declaration, kind: str, form: str) -> tuple[str, str] | None:
    rows, cols = matrix_shape(d.dims)
    if cols == UNIT and kind == PARAM:
        return ONE, str(rows)
    if form == STEP or kind == PARAM:
        return str(rows), str(cols)
    return (CHUNK, str(rows)) if cols == UNIT else None
