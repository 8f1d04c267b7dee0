"""Products of tokens with parameters, and their rotations, in programs over pairs of chunks: made once for each chunk.

A kernel over pairs would hold the parameters' matrices beside the tiles of two chunks, and multiply or rotate a column
chunk's tokens again for every row chunk that meets it.
"""

from collections.abc import Iterable
from dataclasses import replace

from smir.ir.graph import Node, make, substitute, walk
from smir.ir.tile import CHUNK, COL, PARAM, ROW, TOKEN, buffer
from smir.ir.tile_program import INNER, TileProgram


def with_projections(program: TileProgram, name: str) -> tuple[TileProgram, dict[str, Node]]:
    """The program in which scans over pairs, and the results, read such products from memory.

    Beside it what is to be stored for every chunk, by its buffer: `<name>_value_0` and so on.
    """
    inner = [s for s in program.scans if s.order in INNER]
    nexts = [c.next for s in inner for c in s.carries]
    found = _outermost([n for n in walk([*nexts, *(o.value for o in program.outputs)]) if _is_projection(n)])
    made = {v: f"{name}_value_{i}" for i, v in enumerate(dict.fromkeys(map(_of_rows, found)))}
    loads = {n: buffer(made[_of_rows(n)], n.type.rows, n.type.cols, _blocks(n).pop()) for n in found}
    scans = tuple(
        replace(s, carries=tuple(replace(c, next=substitute(c.next, loads)) for c in s.carries)) if s in inner else s
        for s in program.scans
    )
    outputs = tuple(replace(o, value=substitute(o.value, loads)) for o in program.outputs)
    return replace(program, scans=scans, outputs=outputs), {n: v for v, n in made.items()}


def _is_projection(node: Node) -> bool:
    """Whether the node is a product of one chunk's tokens with parameters, or turns them."""
    if node.op not in ("dot", "rotate") or node.type.rows != CHUNK:
        return False
    inside = list(walk([node]))
    leaves = all(n.op in ("load", "const") for n in inside if not n.args)
    kinds = {n["kind"] for n in inside if n.op == "load"}
    same_rows = all(n.op != "valid_rows" for n in inside)
    by_params = node.op == "rotate" or not _blocks(node.args[1])
    return leaves and kinds <= {TOKEN, PARAM} and same_rows and len(_blocks(node)) == 1 and by_params


def _blocks(node: Node) -> set[str]:
    """Which chunks' tokens a value is made of."""
    return {n["block"] for n in walk([node]) if n.op == "load" and n["kind"] == TOKEN}


def _of_rows(node: Node) -> Node:
    """The same value of the row chunk."""
    turned = {n: make("load", (), n.type, **{**dict(n.attrs), "block": ROW})
              for n in walk([node]) if n.op == "load" and n.get("block") == COL}  # fmt: skip
    return substitute(node, turned)


def _outermost(nodes: Iterable[Node]) -> list[Node]:
    found = list(nodes)
    inner = {n for top in found for n in walk([top]) if n is not top}
    return [n for n in found if n not in inner]
