"""Operands of products that keep all their digits."""

from smir.ir.graph import Node


def is_precise(operand: Node) -> bool:
    """Whether a product takes this tile unrounded."""
    return operand.op == "precise" or (operand.op == "transpose" and operand.args[0].op == "precise")


def is_wide(product: Node) -> bool:
    """Whether a matrix product of float32 operands is to be made in float64."""
    return all(a.op == "widen" for a in product.args)


def plain(operand: Node) -> Node:
    """The tile without its mark."""
    return operand.args[0] if operand.op in ("precise", "widen") else operand
