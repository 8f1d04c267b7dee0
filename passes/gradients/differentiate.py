"""Reverse-mode differentiation of tile values: adjoints of leaves from seeds at the roots.

The forward values are part of the result (hash-consed with it); which of them are stored and which recomputed is
the partitioner's business, not this pass's.
"""

from collections.abc import Callable, Mapping

from smir.ir import tile
from smir.ir.graph import Node, reaches, walk
from smir.passes.gradients.vjp import RISKY, vjp


def adjoints(
    seeds: Mapping[Node, Node], wanted: Callable[[Node], bool], infinite: Callable[[Node], bool] = lambda node: False
) -> dict[Node, Node]:
    """The adjoint of every wanted node that influences a root; `seeds` maps roots to their adjoints.

    `infinite` says which nodes may be -inf.

    A value that doesn't vary from level to level, used by one that does, collects its adjoint over all levels.
    """
    order = list(walk(seeds))
    useful = reaches(seeds, wanted)
    varying, undefined = _level_varying(order), _undefined_at_the_end(order)
    endless = {n for n in order if infinite(n)}
    found = dict(seeds)
    for node in reversed(order):
        if node not in found or node not in useful or wanted(node):
            continue
        for argument, adjoint in zip(node.args, vjp(node, found[node], undefined, endless), strict=True):
            if adjoint is None or argument not in useful:
                continue
            if argument not in varying and (node in varying or node.op == "level_sum"):
                adjoint = tile.level_sum(adjoint)
            found[argument] = tile.pointwise("add", found[argument], adjoint) if argument in found else adjoint
    return {n: found[n] for n in order if wanted(n) and n in found}


def _level_varying(order: list[Node]) -> set[Node]:
    """The values that change from level to level; a `level_sum` ends that."""
    varying: set[Node] = set()
    for node in order:
        if node.op in tile.LEVEL_OPS or (node.op != "level_sum" and any(a in varying for a in node.args)):
            varying.add(node)
    return varying


def _undefined_at_the_end(order: list[Node]) -> set[Node]:
    """The values that may have NaN or infinities in the rows of tokens beyond the end of the sequence."""
    undefined: set[Node] = set()
    for node in order:
        if node.type.rows != tile.CHUNK or node.op == "valid_rows":
            continue
        # there, what is relative to a running maximum may be relative to anything
        relative = node.op == "scan" and node["kind"] != tile.SUM
        if node.op in RISKY or relative or any(a in undefined for a in node.args):
            undefined.add(node)
    return undefined
