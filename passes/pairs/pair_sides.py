"""Whose tokens a tile is made of, in programs on pairs of chunks, and the largest parts that belong to one side."""

from collections.abc import Iterable, Iterator, Mapping

from smir.ir import tile
from smir.ir.graph import Node, make, walk
from smir.ir.tile import CARRIED, CHUNK, COL, DENSE, ROW

p = tile.pointwise


def is_dense(n: Node) -> bool:
    """Whether the node is a parameter declared T x T at a pair of chunks."""
    return n.op == "load" and bool(n["kind"] == DENSE)


def blocks(node: Node) -> set[str]:
    """Whose tokens a value is made of; what is carried between chunks belongs to both."""
    nodes = list(walk([node]))
    found = {str(n[key]) for n in nodes for key in ("block", "other") if n.get(key)}
    return found | ({ROW, COL} if any(n.op == "load" and n["kind"] == CARRIED for n in nodes) else set())


def is_row_sided(n: Node) -> bool:
    """Made of the row chunk's tokens, or of parameters alone."""
    return blocks(n) <= {ROW}


def untransposed(node: Node) -> Node:
    """The value with `(a b)^T` as `b^T a^T`."""
    if node.op == "add":
        return p("add", *map(untransposed, node.args))
    if node.op == "transpose" and node.args[0].op == "add":
        return p("add", *(untransposed(tile.transpose(a)) for a in node.args[0].args))
    if node.op == "transpose" and node.args[0].op == "dot":
        a, b = node.args[0].args
        return tile.dot(tile.transpose(b), tile.transpose(a))
    return node


def one_sided(roots: list[Node], block: str) -> Iterator[Node]:
    """The largest values below the roots with a row for each token of one chunk, and made of that chunk alone."""
    seen: set[Node] = set()
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        wide = node.type.cols == CHUNK or node.op in ("transpose", "broadcast")
        if blocks(node) == {block} and node.type.rows == CHUNK and not wide:
            yield node
        else:
            stack.extend(reversed(node.args))


def frontier(roots: list[Node], useful: set[Node]) -> set[Node]:
    """The largest useful values of one side only; transposes are looked through."""
    found: set[Node] = set()
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node not in useful:
            continue
        seen.add(node)
        if len(blocks(node)) < 2 and node.op != "transpose":
            found.add(node)
        else:
            stack.extend(node.args)
    return found


def is_met(values: Iterable[Node]) -> bool:
    """Whether a row chunk may meet itself as it meets others: no value knows that both are the same chunk."""
    return not any(n.op in ("segment_sum", "mask") for n in walk(values))


def own_block(node: Node) -> Node:
    """The tile with the row chunk itself as the column chunk."""
    return with_blocks(node, {tile.COL: tile.ROW})


def with_blocks(node: Node, names: Mapping[str, str]) -> Node:
    """The tile of other chunks: every `block` and `other` renamed."""
    done: dict[Node, Node] = {}
    for n in walk([node]):
        attrs = {k: names.get(str(v), v) if k in ("block", "other") else v for k, v in n.attrs}
        done[n] = make(n.op, (done[a] for a in n.args), n.type, **attrs)
    return done[node]
