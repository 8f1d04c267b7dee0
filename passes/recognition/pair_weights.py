"""Index formulas as weights: conditions of masks, logarithms of products of exponentials, formulas of one position."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from smir.ir.dims import ONE
from smir.ir.expr import PAIR, ValueType, const, input_at, join_time, pointwise
from smir.ir.graph import Node, make, walk
from smir.passes.expressions.algebra import ZERO, is_const


def condition(formula: Node) -> Node | None:
    """Where the formula isn't zero, as a condition; None where it never is."""
    if formula.op == "const":
        return None if formula["value"] else pointwise("ne", ZERO, ZERO)
    if formula.op in ("le", "lt", "eq", "ne", "and", "or"):
        return formula
    if formula.op == "where" and is_const(formula.args[2], 0.0):
        return both(formula.args[0], condition(formula.args[1]))
    if formula.op == "mul":
        return both(*(condition(a) for a in formula.args))
    if formula.op == "exp":
        return None
    return pointwise("ne", formula, ZERO)


def both(a: Node | None, b: Node | None) -> Node | None:
    """Where two conditions hold."""
    return b if a is None else a if b is None or a is b else pointwise("and", a, b)


@dataclass(frozen=True)
class Weights:
    """Weights `e^log` where the mask holds, zero elsewhere."""

    log: Node
    mask: Node | None


def log_weights(formula: Node) -> Weights | None:
    """A product of exponentials, positive numbers and masks in log form; None for anything else."""
    if formula.op == "const" and formula["value"] > 0:
        return Weights(const(math.log(formula["value"])), None)
    if formula.op == "exp":
        return Weights(formula.args[0], None)
    if formula.op == "where" and is_const(formula.args[2], 0.0):
        inner = log_weights(formula.args[1])
        return inner and Weights(inner.log, both(formula.args[0], inner.mask))
    if formula.op in ("mul", "div"):
        a, b = (log_weights(part) for part in formula.args)
        if a is None or b is None or (formula.op == "div" and b.mask is not None):
            return None
        return Weights(added("add" if formula.op == "mul" else "sub", a.log, b.log), both(a.mask, b.mask))
    return None


def added(op: str, a: Node, b: Node) -> Node:
    """a + b or a - b without zeros."""
    if is_const(b, 0.0):
        return a
    return b if op == "add" and is_const(a, 0.0) else pointwise(op, a, b)


def indices(formula: Node) -> frozenset[str]:
    """The positions on which a formula depends; those bound by ranges don't count."""
    nodes = list(walk([formula]))
    bound = {n["index"] for n in nodes if n.op in ("sum_range", "prod_range")}
    found = {n["index"] for n in nodes if n.op in ("position", "input_of")}
    found |= {i for n in nodes if n.op == "param_at" for i in (n["row"], n["col"])}
    return frozenset(found - bound)


def at_step(formula: Node, columns: Mapping[str, Node]) -> Node:
    """A formula of one position as the same expression of one step; `columns` are those that `input_of` names."""
    done: dict[Node, Node] = {}
    for node in walk([formula]):
        if node.op == "input_of":
            own = input_at(node["name"], node.type.rows, ONE, node["offset"])
            done[node] = columns.get(node["name"], own)
        elif node.type.time == PAIR:
            args = [done[a] for a in node.args]
            type_ = ValueType(node.type.rows, node.type.cols, join_time(a.type.time for a in args))
            done[node] = make(node.op, args, type_, **dict(node.attrs))
        else:
            done[node] = node
    return done[formula]
