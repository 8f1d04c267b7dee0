"""What a loop over chunks needn't compute in every step: the values at the border of what changes in it."""

from smir.ir.graph import Node, reaches, walk
from smir.ir.tile import CARRIED, ROW


def frontier(roots: tuple[Node, ...], loads: set[Node]) -> tuple[Node, ...]:
    """The values that the chunk by chunk part uses and that no state reaches."""
    return _border(roots, reaches(roots, lambda n: n in loads))


def one_sided(roots: tuple[Node, ...]) -> tuple[Node, ...]:
    """The values that depend on the row chunk only or on the column chunk only."""

    def carried_or_mixed(n: Node) -> bool:
        return (n.op == "load" and n["kind"] == CARRIED) or len(_blocks(n)) > 1

    return _border(roots, reaches(roots, carried_or_mixed))


def _border(roots: tuple[Node, ...], inside: set[Node]) -> tuple[Node, ...]:
    edge = dict.fromkeys(a for n in walk(roots) if n in inside for a in n.args if a not in inside)
    edge.update(dict.fromkeys(r for r in roots if r not in inside))
    return tuple(edge)


def _blocks(node: Node) -> set[str]:
    """Whose chunks a value is made of."""
    leaves = [n for n in walk([node]) if n.op in ("load", "valid_rows")]
    return {n[key] for n in leaves for key in ("block", "other") if n.get(key)}


def block_of(node: Node) -> str:
    blocks = _blocks(node)
    return blocks.pop() if len(blocks) == 1 else ROW
