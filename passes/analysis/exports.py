"""What scans hand on to each other, seen through: the values that stand behind loads of exports."""

from smir.ir.graph import Node, make, rebuild, walk
from smir.ir.tile import BUFFER, ROW
from smir.ir.tile_program import TileProgram


def opened_exports(program: TileProgram) -> dict[Node, Node]:
    """Every node of the program as a value in which nothing is loaded that another scan exports."""
    exports = {name: value for s in program.scans for name, value in s.exports}
    done: dict[Node, Node] = {}
    for node in walk((*exports.values(), *program.roots())):
        if node.op == "load" and node["kind"] == BUFFER and exports.get(node["name"]) in done:
            done[node] = _in_block(done[exports[node["name"]]], node["block"])
        else:
            done[node] = rebuild(node, (done[a] for a in node.args))
    return done


def _in_block(value: Node, block: str) -> Node:
    """The same value of another block's tokens."""
    if block == ROW:
        return value
    done: dict[Node, Node] = {}
    for node in walk([value]):
        attrs = dict(node.attrs)
        if attrs.get("block") == ROW:
            attrs["block"] = block
        done[node] = make(node.op, (done[a] for a in node.args), node.type, **attrs)
    return done[value]
