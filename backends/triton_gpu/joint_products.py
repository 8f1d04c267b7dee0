"""Pairs of products on the levels of a chunk that one product computes.

On a level the rows of odd blocks act as queries and those of even blocks as keys. `level_mask(a) @ x` is zero in the
rows of keys and reads x in them, `level_mask(a.T, reversed) @ z` is zero in the rows of queries and reads z there. So
both are parts of one product: a mirrored at its diagonal, times the rows of z in odd blocks and of x in even ones.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from smir.ir.graph import Node, walk
from smir.ir.tile import dot, level_dependent, transpose


@dataclass(frozen=True)
class JointProduct:
    """`first` is `level_mask(tile) @ first.args[1]`, `second` the one with the transposed tile.

    `turned`: the transposed tile, where products make it too; None where it is read from memory.
    """

    tile: Node
    first: Node
    second: Node
    turned: Node | None = None

    @property
    def masks(self) -> tuple[Node, Node]:
        return self.first.args[0], self.second.args[0]

    @property
    def reverse(self) -> bool:
        """Whether queries stand before their keys."""
        return bool(self.masks[0]["reverse"])

    @property
    def in_odd_rows(self) -> Node:
        """The product whose rows in odd blocks aren't zero: that of the mask that isn't reversed."""
        return self.second if self.reverse else self.first

    @property
    def in_even_rows(self) -> Node:
        """The other one, which reads rows in odd blocks."""
        return self.first if self.reverse else self.second


@dataclass(frozen=True)
class GridRow:
    """The gradient of one of the two mixed tiles.

    `own` is its joint product; of the other tile's rows, `odd` says what its odd rows are multiplied with, and `even`,
    transposed, what its even rows are.
    """

    own: JointProduct
    other: JointProduct
    odd: JointProduct
    even: JointProduct

    def takes(self, pair: JointProduct, is_odd: bool) -> bool:
        """Whether these rows of a joint product are part of this one's."""
        return pair in ((self.own, self.odd) if is_odd else (self.own, self.even))


def joint_products(roots: Iterable[Node]) -> Iterator[JointProduct]:
    """The pairs below these values whose masked tiles nothing else reads."""
    nodes = list(walk(roots))
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for a in node.args:
            users.setdefault(a, []).append(node)
    products = [n for n in nodes if n.op == "dot" and n.args[0].op == "level_mask" and len(users[n.args[0]]) == 1]
    by_tile = {(n.args[0].args[0], n.args[0]["reverse"], n.type): n for n in products}
    for first in products:
        mask = first.args[0]
        turned = mask.args[0]
        tile = _untransposed(turned, mask["reverse"])
        second = by_tile.get((tile, not mask["reverse"], first.type)) if tile is not None else None
        if tile is not None and second is not None:
            yield JointProduct(tile, second, first, None if turned.op == "transpose" else turned)


def _untransposed(turned: Node, reverse: bool) -> Node | None:
    """The tile that this one is the transpose of; of two products that are each other's, the first queries' one."""
    if turned.op == "transpose":
        return turned.args[0]
    made_once = turned.op == "dot" and turned not in level_dependent(turned)
    if made_once and turned.args[1].op == "transpose" and reverse:
        return dot(turned.args[1].args[0], transpose(turned.args[0]))
    return None
