"""How kernels of the scan form spell what costs an operation for each state of each token: with fewer of them.

- e to a product with a row that no token changes: the row meets the logarithm of e first, outside of the loop.
- A row added to a tile's edge is added there alone; zeros that are added cost as much as anything else.
- A product that is zero wherever its first factor is, whatever the second: with that one finite it is so by itself.
"""

from typing import TYPE_CHECKING

from smir.backends.triton_gpu.facts import block_name
from smir.backends.triton_gpu.options import has_columns
from smir.backends.triton_gpu.spelling import Text
from smir.ir.graph import Node
from smir.ir.tile import ONE, axis_parts
from smir.ir.tile_program import SCAN

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter


def scan_term(p: "TilePrinter", n: Node) -> Text | None:
    """The text of a pointwise operation that has a cheaper one."""
    if p.frame.plan.form != SCAN or not has_columns(p.frame.kernel):
        return None
    if n.op == "exp":
        return _power_of_product(p, n.args[0])
    if n.op == "add":
        return _edge_sum(p, n)
    return _guarded(p, n) if n.op == "where" else None


def _power_of_product(p: "TilePrinter", product: Node) -> Text | None:
    if product.op != "mul" or p.uses[product] > 1 or product.type.rows == ONE:
        return None
    row = next((a for a in product.args if a.type.rows == ONE and a.type.cols != ONE), None)
    if row is None:
        return None
    other = next(a for a in product.args if a is not row)
    return Text(f"exp_of_product({p.numeric(other).text}, {p.numeric(row).text}, PRODUCT)")


def _edge_sum(p: "TilePrinter", n: Node) -> Text | None:
    placed = next((a for a in n.args if a.op == "place_row" and p.uses[a] == 1 and a.type == n.type), None)
    if placed is None or all(a.op in ("place_row", "const", "broadcast") for a in n.args):
        return None
    other = next(a for a in n.args if a is not placed)
    both = f"{p.numeric(other).text}, {p.numeric(placed.args[0]).text}"
    return Text(f"add_to_edge({both}, REVERSE={placed['reverse']})")


def _guarded(p: "TilePrinter", n: Node) -> Text | None:
    """`where(a == 0, 0, a * b)` of a row b, or of one that is spread from a narrower tile."""
    condition, nothing, product = n.args
    if condition.op != "eq" or product.op != "mul" or not (_is_zero(nothing) and _is_zero(condition.args[1])):
        return None
    first = condition.args[0]
    if first not in product.args:
        return None
    second = next((a for a in product.args if a is not first), first)
    text = _finite(p, second)
    return text and Text(f"{p.numeric(first).text} * {text.text}")


def _finite(p: "TilePrinter", factor: Node) -> Text | None:
    """A factor with the largest finite numbers for infinite ones, made of fewer elements than the product has."""
    if factor.type.rows == ONE:
        return Text(f"finite({p.numeric(factor).text})")
    if factor.op != "spread":
        return None
    side = ("outer", "inner")[factor["part"]]
    count = block_name(axis_parts(factor.type.cols)[1 - factor["part"]])
    return Text(f"spread_{side}(finite({p.numeric(factor.args[0]).text}), {count})")


def _is_zero(n: Node) -> bool:
    inner = n.args[0] if n.op == "broadcast" else n
    return inner.op == "const" and inner["value"] == 0.0
