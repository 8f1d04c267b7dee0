"""Prints sums over the binary levels of a chunk: one run-time loop for all sums that share work."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from smir.backends.triton_gpu.spelling import Text
from smir.ir.graph import Node, walk
from smir.ir.tile import LEVEL_OPS

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter


def print_level_sum(p: "TilePrinter", n: Node) -> Text:
    """The loop that computes this sum and the others of its group; gives the name of this one."""
    group = _group(p, n)
    arguments = [g.args[0] for g in group]
    members = _changing(arguments)
    for value in dict.fromkeys(a for m in walk(arguments) if m in members for a in m.args if a not in members):
        if value.op != "const":
            p.value(value)
    names = [p.frame.names.new(p.wanted.get(g, "scores")) for g in group]
    for g, name in zip(group, names, strict=True):
        p.line(f"{name} = tl.zeros({p.frame.shape(g.type.rows, g.type.cols)}, tl.float32)")
    with p.nested("for level in range(LEVELS):", members):
        for argument, name in zip(arguments, names, strict=True):
            p.line(f"{name} += {p.value(argument).text}")
    for g, name in zip(group, names, strict=True):
        p.know(g, name)
    return Text(names[0])


def _changing(arguments: Iterable[Node]) -> set[Node]:
    """What differs from level to level below these arguments."""
    found: set[Node] = set()
    for n in walk(arguments):
        if n.op in LEVEL_OPS or (n.op != "level_sum" and any(a in found for a in n.args)):
            found.add(n)
    return found


def _group(p: "TilePrinter", n: Node) -> list[Node]:
    """This sum and the unprinted others of its block that share level-dependent values with it and don't need it."""
    group, shared = [n], _changing(n.args)
    for other in walk(p.roots):
        if other.op != "level_sum" or other is n or p.home(other) != p.home(n) or p.known(other) is not None:
            continue
        tangled = any(x in walk([other]) or other in walk([x]) for x in group)
        if not tangled and shared & _changing(other.args):
            group.append(other)
            shared |= _changing(other.args)
    return group
