"""Reverse-mode differentiation of tile values: adjoints of leaves from seeds at the roots.

The forward values are part of the result (hash-consed with it); which of them are stored and which recomputed is
the partitioner's business, not this pass's.
"""

from collections.abc import Callable, Mapping

from smir.ir import tile
from smir.ir.graph import Node, reaches, walk
from smir.passes.gradients.ratios import shared_rows, with_precise_products
from smir.passes.gradients.shares import of_exponents, shared_exponents
from smir.passes.gradients.vjp import RISKY, unless_zero, vjp


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
    endless, multiplied = {n for n in order if infinite(n)}, _operands(order)
    found = dict(seeds)
    for node in reversed(order):
        if node not in found or node not in useful or wanted(node):
            continue
        arguments, given = node.args, vjp(node, found[node], undefined, endless, multiplied)
        if (exponents := shared_exponents(node)) is not None and exponents in useful:
            arguments, given = (exponents,), (of_exponents(node, found[node]),)
        elif (rows := shared_rows(node)) is not None and node.args[1] in useful:
            given = given[0], _of_divisor(node, given[0], rows)
        for argument, adjoint in zip(arguments, given, strict=True):
            if adjoint is None or argument not in useful:
                continue
            if argument not in varying and (node in varying or node.op == "level_sum"):
                adjoint = tile.level_sum(adjoint)
            found[argument] = tile.pointwise("add", found[argument], adjoint) if argument in found else adjoint
    return {n: found[n] for n in order if wanted(n) and n in found}


def _of_divisor(quotient: Node, above: Node | None, rows: Node) -> Node:
    """The adjoint of a divisor from that of what it divides, where both are linear in the same rows (`ratios`)."""
    dividend, divisor = quotient.args
    assert above is not None, "the rule of a quotient leaves out an argument"
    by_way_of_dividend = with_precise_products(adjoints({dividend: above}, lambda n: n is rows)[rows])
    total = tile.reduce_sum(tile.pointwise("mul", rows, by_way_of_dividend), 1)
    share = tile.pointwise("neg", tile.pointwise("div", total, divisor))
    return tile.valid_rows(unless_zero(total, share))


def _operands(order: list[Node]) -> set[Node]:
    """What products multiply, as it is or transposed."""
    operands = {a for n in order if n.op == "dot" for a in n.args}
    return operands | {a.args[0] for a in operands if a.op == "transpose"}


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
