"""Operands of products that keep all their digits."""

from smir.ir.graph import Node


def is_precise(operand: Node) -> bool:
    """Whether a product takes this tile unrounded."""
    return operand.op == "precise" or (operand.op == "transpose" and operand.args[0].op == "precise")
