"""The backward pass of a tile program, again a tile program: the same chunks, every scan also in reverse.

A forward scan that carries H gets a reverse scan that carries dH, the adjoint of H before the chunk: it starts from
the cotangent of the final state and ends as the gradient of the initial state. The adjoint of a chunk's outputs comes
in as the inputs `d_<output>`. Values of the forward pass that the adjoints need are part of the program; the scans
that nothing needs are left out.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from smir.ir import tile
from smir.ir.graph import Node, substitute, walk
from smir.ir.interval import INF, REAL
from smir.ir.tile import CARRIED, DENSE, PARAM, TOKEN
from smir.ir.tile_program import Carry, Output, Result, Scan, TileLeaf, TileProgram
from smir.passes.gradients.differentiate import adjoints
from smir.passes.tiles.leaves import with_needed_leaves

PREFIX = "d_"
_REVERSED = {"forward": "backward", "backward": "forward"}


def adjoint_program(program: TileProgram, wanted: Collection[str], carried: str = PREFIX) -> TileProgram:
    """Gradients of the inputs, parameters and initial states named in `wanted`.

    Outputs are called `d_<name>`; a name read at several offsets has several outputs with that target. The gradient of
    an initial state is the final state `d_<state>`, which starts from the cotangent of the final state.

    An adjoint is a program like others: its inputs and initial states, cotangents among them, have gradients too. What
    it carries is called `d_<name>` already, so the reversed carries and the states of its own adjoint need another
    beginning of their names, `carried`.
    """
    program = inline_exports(program)
    seeds = _seeds(program, carried)
    endless = {leaf.name for leaf in program.leaves if leaf.range != REAL and -INF in leaf.range}
    found = adjoints(
        seeds,
        wanted=lambda n: n.op == "load" and (n["kind"] == CARRIED or n["name"] in wanted),
        infinite=lambda n: n.op == "load" and n["name"] in endless,
    )
    reverse = {c.name: _reversed(c, found, program, wanted, carried) for c in program.carries}
    outputs = _outputs({n: g for n, g in found.items() if n["kind"] != CARRIED})
    scans = [Scan(s.order, tuple(replace(c, final=False) for c in s.carries)) for s in program.scans]
    scans += [Scan(_REVERSED[s.order], tuple(reverse[c.name] for c in s.carries)) for s in reversed(program.scans)]
    loads = dict.fromkeys(_cotangent(o.result) for o in program.outputs)
    cotangents = {n["name"]: TileLeaf(n["kind"], n["name"], n.type.rows, n.type.cols) for n in loads}
    leaves = (*program.leaves, *cotangents.values())
    return needed(TileProgram(program.name, program.form, leaves, tuple(scans), outputs))


def inline_exports(program: TileProgram) -> TileProgram:
    """The program without hand-over between scans: what a scan exports is written where it is used."""
    values: dict[Node, Node] = {}
    for scan in program.scans:
        for name, value in scan.exports:
            values[tile.buffer(name, value.type.rows, value.type.cols)] = substitute(value, values)
    if not values:
        return program
    scans = tuple(
        Scan(s.order, tuple(replace(c, next=substitute(c.next, values)) for c in s.carries)) for s in program.scans
    )
    outputs = tuple(replace(o, value=substitute(o.value, values)) for o in program.outputs)
    return replace(program, scans=scans, outputs=outputs)


def _seeds(program: TileProgram, carried: str) -> dict[Node, Node]:
    """The adjoints of everything a chunk hands on: its outputs' cotangents, and dH of the chunk after it."""
    seeds: dict[Node, Node] = {}
    for o in program.outputs:
        _add(seeds, o.value, _cotangent(o.result))
    for c in program.carries:
        seed = _adjoint_load(c, carried)
        for older in _older(program, c):
            seed = tile.pointwise("sub", seed, _adjoint_load(older, carried))
        _add(seeds, c.next, seed)
    return seeds


def _cotangent(result: Result) -> Node:
    """What a chunk's part of a result is multiplied with: the cotangent of where it goes."""
    name = PREFIX + result.tensor
    if result.kind == PARAM:
        return tile.param(name, result.rows, result.cols)
    if result.kind == DENSE:
        return tile.dense(name, tile.ROW, tile.ROW)
    return tile.token(name, result.rows, result.cols, result.offset)


def _adjoint_load(c: Carry, carried: str) -> Node:
    return tile.carried(carried + c.name, c.rows, c.cols)


def _older(program: TileProgram, c: Carry) -> tuple[Carry, ...]:
    """The other carries that start from the state that this one owns.

    All their adjoints are the gradient of that initial state, so the state's own reversed carry holds their sum.
    """
    return tuple(o for o in program.carries if o.state == c.state and o is not c) if _owns_state(program, c) else ()


def _owns_state(program: TileProgram, c: Carry) -> bool:
    """Whether a carry starts from a state and ends as the final one or, where none does (in an adjoint), is the first
    that starts from it."""
    same = [o for o in program.carries if c.state and o.state == c.state]
    return bool(same) and c is next((o for o in same if o.final), same[0])


def _add(seeds: dict[Node, Node], root: Node, seed: Node) -> None:
    seeds[root] = tile.pointwise("add", seeds[root], seed) if root in seeds else seed


def _reversed(
    c: Carry, found: Mapping[Node, Node], program: TileProgram, wanted: Collection[str], carried: str
) -> Carry:
    """The carry of dH. Without influence of H on anything, dH before the chunk is zero."""
    adjoint = found.get(c.load, tile.broadcast(tile.const(0.0), c.rows, c.cols))
    for o in _older(program, c):
        adjoint = tile.pointwise("add", adjoint, found[o.load]) if o.load in found else adjoint
    owns = _owns_state(program, c)
    state = carried + c.state if c.state and owns else None
    return Carry(carried + c.name, c.rows, c.cols, adjoint, 0.0, state, c.transposed, owns and c.state in wanted)


def _outputs(found: dict[Node, Node]) -> tuple[Output, ...]:
    outputs: list[Output] = []
    for leaf, adjoint in found.items():
        target = PREFIX + leaf["name"]
        same = sum(o.result.tensor == target for o in outputs)
        name = f"{target}_{same}" if same else target
        outputs.append(Output.of(name, adjoint, leaf["kind"], leaf.get("offset", 0), target))
    return tuple(sorted(outputs, key=lambda o: (o.result.kind != TOKEN, o.result.name)))


def needed(program: TileProgram) -> TileProgram:
    """The program without the carries and leaves that no output and no wanted state needs."""
    by_load = {c.load: c for c in program.carries}
    keep: set[str] = set()
    todo = [*(o.value for o in program.outputs), *(c.load for c in program.carries if c.final)]
    while todo:
        fresh = [by_load[n] for n in walk(todo) if n in by_load and by_load[n].name not in keep]
        keep |= {c.name for c in fresh}
        todo = [c.next for c in fresh]
    scans = tuple(replace(s, carries=tuple(c for c in s.carries if c.name in keep)) for s in program.scans)
    kept = replace(program, scans=tuple(s for s in scans if s.carries))
    return with_needed_leaves(kept, program.leaves)
