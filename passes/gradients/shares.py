"""Rows of shares, as a softmax gives them: an exponential divided by its own sum over the row.

With p the shares and g their adjoint, that of the exponents is `p (g - sum g p)`. The rules of quotient, sum and
exponential would say the same of the exponential itself, which then had to be made again or kept beside the shares. A
number that is taken from all exponents of a row changes no share, so it has no gradient.
"""

from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.tile import CHUNK, ONE

_p = tile.pointwise


def shared_exponents(node: Node) -> Node | None:
    """What the exponentials of a row of shares are made of, without a number that all of them have less; None for any
    other value. A row without any is divided by one."""
    if node.op != "div" or node.args[0].op != "exp" or node.type.rows != CHUNK or node.args[1].type.cols != ONE:
        return None
    exponentials, divisor = node.args
    if _or_one(divisor) is not tile.reduce_sum(exponentials, 1):
        return None
    exponents = exponentials.args[0]
    moved = exponents.op == "sub" and exponents.args[1].type.cols == ONE and exponents.args[0].type == exponents.type
    return exponents.args[0] if moved else exponents


def _or_one(divisor: Node) -> Node:
    """What is divided by where it isn't zero."""
    if divisor.op == "where" and divisor.args[0].op == "eq" and divisor.args[0].args[0] is divisor.args[2]:
        return divisor.args[2]
    return divisor


def of_exponents(shares: Node, adjoint: Node) -> Node:
    """The adjoint of what `shared_exponents` gives."""
    own = tile.valid_rows(shares)
    mean = tile.reduce_sum(_p("mul", adjoint, own), 1)
    return tile.valid_rows(_p("mul", _p("sub", adjoint, mean), own))
