"""Taking `stop` away: marks that only derivatives look at, gone before kernels are made."""

from collections.abc import Iterable
from dataclasses import replace

from smir.ir.graph import Node, rebuild, walk
from smir.ir.tile_program import Carry, TileProgram


def unmarked_nodes(roots: Iterable[Node]) -> dict[Node, Node]:
    """Every node below the roots as the same value in which nothing is marked."""
    done: dict[Node, Node] = {}
    for node in walk(roots):
        done[node] = done[node.args[0]] if node.op == "stop" else rebuild(node, (done[a] for a in node.args))
    return done


def unmarked(program: TileProgram) -> TileProgram:
    """The program without `stop`, after differentiation."""
    starts = (c.start for c in program.carries if c.start is not None)
    done = unmarked_nodes((*program.roots(), *starts))
    scans = tuple(
        replace(
            s,
            carries=tuple(_unmarked(c, done) for c in s.carries),
            exports=tuple((name, done[value]) for name, value in s.exports),
            each=tuple((name, done[value]) for name, value in s.each),
        )
        for s in program.scans
    )
    return replace(program, scans=scans, outputs=tuple(replace(o, value=done[o.value]) for o in program.outputs))


def _unmarked(carry: Carry, done: dict[Node, Node]) -> Carry:
    return replace(carry, next=done[carry.next], start=None if carry.start is None else done[carry.start])
