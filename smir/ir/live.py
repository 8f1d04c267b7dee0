"""How much of a kernel is alive at once, in tile elements: what decides whether it fits into registers."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from smir.ir.graph import Node, walk
from smir.ir.tile import level_dependent

# The same elements under another shape or in another type, or none at all.
FREE = frozenset({"const", "transpose", "broadcast", "widen", "narrow", "precise", "rounded"})
# What a program of four warps keeps in registers, of 255 a thread, beside addresses and masks: measured with kernels
# compiled for sm_90, of which larger ones spill.
HELD_BY_FOUR_WARPS = 29 << 10
PRODUCTS = frozenset({"dot", "pair_collect", "level_sum"})


def peak_elements(roots: Iterable[Node], elements: Callable[[Node], int]) -> int:
    """The most elements that are alive at one time: first all sums over levels, then the roots in order.

    A value is computed at its first use and alive to its last; what a sum over levels reads and adds up, during all of
    its loop, which sums that share work have in common. `elements` gives the size of a tile. What is multiplied and
    added up in such a loop counts twice: a chunk has half the rows that eight warps multiply at once, so they hold
    each number twice. The cosines and sines of angles, each for both of a pair, are alive from the first rotation by
    them to the last; while pairs exchange their two, there is another copy of them.
    """
    groups = _level_groups(list(walk(roots := tuple(roots))))
    twice = {n for s in groups for n in (s, *level_dependent(s.args[0])) if n.op in PRODUCTS}
    order = _in_order(roots, groups)
    first = {node: position for position, node in enumerate(order)}
    last = dict(first)

    def use(node: Node, position: int) -> None:
        owner = _owner(node)
        last[owner] = max(last[owner], position)

    for position, node in enumerate(order):
        for a in node.args:
            use(a, last[node] if node.op in FREE else position)
    for group in {id(g): g for g in groups.values()}.values():
        inside = {n for s in group for n in level_dependent(s.args[0])}
        start, end = min(first[n] for n in inside), max(first[s] for s in group)
        for a in {a for n in inside for a in n.args if a not in inside}:
            use(a, end)
        first |= dict.fromkeys(group, start)
    changes: defaultdict[int, int] = defaultdict(int)
    for node in order:
        if node.op not in FREE:
            size = elements(node) * (2 if node in twice else 1)
            changes[first[node]] += size
            changes[last[node] + 1] -= size
    for node in (n for n in order if n.op in ("rotate", "cross_pairs", "turn_pairs")):
        changes[first[node]] += elements(node.args[1])
        changes[first[node] + 1] -= elements(node.args[1])
    for turns in _turns(order).values():
        size = 2 * elements(turns[0])
        changes[first[turns[0]]] += size
        changes[first[turns[-1]] + 1] -= size
    alive = peak = 0
    for position in sorted(changes):
        alive += changes[position]
        peak = max(peak, alive)
    return peak


def peak_computed(roots: Iterable[Node], elements: Callable[[Node], int]) -> int:
    """The same of what is computed, with early lines: what is loaded for products alone needs no registers."""
    values = tuple(roots)
    order = [n for root, lines in zip(values, early_lines(values), strict=True) for n in (root, *lines)]
    return peak_elements(order, lambda n: 0 if n.op == "load" else elements(n))


def early_lines(roots: Iterable[Node]) -> list[tuple[Node, ...]]:
    """For every root the sums to one column, row or number that take products which are there once it is computed, and
    no others: made then, they end the life of tiles that only they still need."""
    roots, done, found = tuple(roots), set[Node](), list[tuple[Node, ...]]()
    for position, root in enumerate(roots):
        done |= set(walk([root]))
        lines: list[Node] = []
        for n in walk(roots[position + 1 :]):
            if n.op == "sum" and n not in done and _takes_only(n, done):
                lines.append(n)
                done |= set(walk([n]))
        found.append(tuple(lines))
    return found


def _takes_only(line: Node, done: set[Node]) -> bool:
    """Whether a value takes some product of these, and none beside them."""
    stack, takes = list(line.args), False
    while stack:
        node = stack.pop()
        if node in done:
            takes = takes or node.op in PRODUCTS
        elif node.op in PRODUCTS:
            return False
        else:
            stack.extend(node.args)
    return takes


def _turns(order: Iterable[Node]) -> dict[Node, list[Node]]:
    """Rotations by their angles: what is turned by the same ones shares cosines and sines."""
    turns: defaultdict[Node, list[Node]] = defaultdict(list)
    for node in order:
        if node.op == "rotate":
            turns[_owner(node.args[0])].append(node)
    return turns


def _level_groups(nodes: list[Node]) -> dict[Node, list[Node]]:
    """By sum over levels those that share its loop: they share work, and none is made of another."""
    groups: dict[Node, list[Node]] = {}
    for node in (n for n in nodes if n.op == "level_sum"):
        inside, below = level_dependent(node.args[0]), set(walk([node]))
        for group in groups.values():
            if any(inside & level_dependent(s.args[0]) for s in group) and not any(s in below for s in group):
                group.append(node)
                groups[node] = group
                break
        else:
            groups[node] = [node]
    return groups


def _in_order(roots: Iterable[Node], groups: dict[Node, list[Node]]) -> list[Node]:
    """All nodes, arguments first, sums over levels before everything that they don't need."""
    together = (other for group in groups.values() for other in group)
    return list(walk((*together, *roots)))


def _owner(node: Node) -> Node:
    """The value whose elements a transposed or widened tile shows."""
    while node.op in FREE and node.args:
        node = node.args[0]
    return node
