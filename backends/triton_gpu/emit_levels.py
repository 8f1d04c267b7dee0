"""Prints sums over the binary levels of a chunk: one run-time loop for all sums that share work."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smir.backends.triton_gpu.joint_products import JointProduct, joint_products
from smir.backends.triton_gpu.spelling import Text
from smir.ir.graph import Node, walk
from smir.ir.tile import CARRIED, level_dependent

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter


@dataclass(frozen=True)
class Distance:
    """The variables of a pair distance: sums over a row's block up to it, from it on, and what neither counts."""

    prefix: str
    suffix: str
    own: str


def print_level_sum(p: "TilePrinter", n: Node) -> Text:
    """The loop that computes this sum and the others of its group; gives the name of this one."""
    group = _group(p, n)
    arguments = [g.args[0] for g in group]
    members = _changing(arguments)
    joint = list(joint_products(arguments))
    for pair in joint:
        _mirror(p, pair)
    masks = {m for pair in joint for m in pair.masks}
    readers = [m for m in walk(arguments) if m in members and m not in masks]
    for value in dict.fromkeys(a for m in readers for a in m.args if a not in members):
        if value.op != "const":
            p.value(value)
    names = [p.frame.names.new(p.wanted.get(g, "scores")) for g in group]
    for g, name in zip(group, names, strict=True):
        p.line(f"{name} = tl.zeros({p.frame.shape(g.type.rows, g.type.cols)}, tl.float32)")
    distances = [_begin(p, d) for d in walk(arguments) if d.op == "pair_distance"]
    with p.nested("for level in range(LEVELS):", members):
        for argument, name in zip(arguments, names, strict=True):
            p.line(f"{name} += {p.value(argument).text}")
        for d in distances:
            p.line(f"{d.prefix}, {d.suffix} = next_level({d.prefix}, {d.suffix}, {d.own}, level)")
    for g, name in zip(group, names, strict=True):
        p.know(g, name)
    return Text(names[0])


def _begin(p: "TilePrinter", distance: Node) -> Distance:
    """The running sums behind a pair distance, for blocks of one row."""
    g, new = distance.args[0], p.frame.names.new
    value = (p.known(g) or p.bind(g, p.value(g).text)).text
    nothing = f"tl.zeros({p.frame.shape(g.type.rows, g.type.cols)}, tl.float32)"
    own = nothing if distance["exclusive"] else value
    names = Distance(new("prefix"), new("suffix"), value if distance["exclusive"] else "0.0")
    p.line(f"{names.prefix} = {nothing if distance['reverse'] else own}")
    p.line(f"{names.suffix} = {own if distance['reverse'] else nothing}")
    p.distances[distance] = names
    return names


def _mirror(p: "TilePrinter", pair: JointProduct) -> None:
    """The tile of a joint product, mirrored once before the levels."""
    name = p.frame.names.new("mirrored")
    p.line(f"{name} = mirrored({p.value(pair.tile).text}, REVERSE={pair.reverse})")
    p.joint |= {pair.first: (pair, name), pair.second: (pair, name)}


def print_joint_product(p: "TilePrinter", n: Node) -> Text:
    """One of the two parts of a joint product; the first that is needed prints the product."""
    pair, mirrored = p.joint[n]
    rows = p.joint_rows.get(pair)
    if rows is None:
        queries, keys = pair.in_even_rows.args[1], pair.in_odd_rows.args[1]
        rows = p.joint_rows[pair] = p.frame.names.new("product")
        mixed = p.frame.names.new("mixed")
        p.line(f"{mixed} = {_mixed(p, queries, keys)}.to(PRODUCT)")
        p.line(f"{rows} = tl.dot(same_pair({mirrored}, level).to(PRODUCT), {mixed}, input_precision=PRECISION)")
    return Text(f"level_rows({rows}, level, ODD={n is pair.in_odd_rows})")


def _mixed(p: "TilePrinter", queries: Node, keys: Node) -> str:
    """The queries' rows in odd blocks, the keys' in even ones; weights that both have are multiplied once."""
    for a, weights in _weighted(queries):
        for b, others in _weighted(keys):
            if weights is others:
                return (
                    f"(pick_rows({p.value(a).text}, {p.value(b).text}, level, REVERSE=False) * {p.value(weights).text})"
                )
    return f"pick_rows({p.value(queries).text}, {p.value(keys).text}, level, REVERSE=False)"


def print_level_sums(p: "TilePrinter") -> None:
    """All sums over levels of the kernel: before the rest, for in their loops the fewest registers are free."""
    for node in walk(p.roots):
        if node.op == "level_sum" and p.known(node) is None:
            p.value(node)


def level_operands(masked: Node) -> tuple[Node, Node, Node | None] | None:
    """Queries, keys and common weights of a `level_mask` of a product over columns; None for anything else, and for a
    product that is the same at all levels.

    Weights are e^(pair distance). Those of keys are the same whether or not a query's own row counts, so that the
    queries' weights serve both.
    """
    product = masked.args[0]
    if product.op != "dot" or product.args[1].op != "transpose" or product not in level_dependent(product):
        return None
    left, right = product.args[0], product.args[1].args[0]
    for queries, weights in _weighted(left):
        for keys, others in _weighted(right):
            if _distance(weights) == _distance(others):
                return queries, keys, weights
    return left, right, None


def _weighted(node: Node) -> list[tuple[Node, Node]]:
    """The ways to read a tile as rows times e^(pair distance)."""
    if node.op != "mul":
        return []
    a, b = node.args
    return [(x, w) for x, w in ((a, b), (b, a)) if _distance(w) is not None and x.type == node.type]


def _distance(weights: Node) -> tuple[Node, bool] | None:
    if weights.op == "exp" and weights.args[0].op == "pair_distance":
        distance = weights.args[0]
        return distance.args[0], distance["reverse"]
    return None


def _changing(arguments: Iterable[Node]) -> set[Node]:
    """What differs from level to level below these arguments."""
    return {n for a in arguments for n in level_dependent(a)}


def _group(p: "TilePrinter", n: Node) -> list[Node]:
    """This sum and the unprinted others of its block that share level-dependent values with it and don't need it."""
    group, shared = [n], _changing(n.args)
    for other in walk(p.roots):
        if other.op != "level_sum" or other is n or p.home(other) != p.home(n) or p.known(other) is not None:
            continue
        tangled = any(x in walk([other]) or other in walk([x]) for x in group)
        if not tangled and not _waits(p, other) and shared & _changing(other.args):
            group.append(other)
            shared |= _changing(other.args)
    return group


def _waits(p: "TilePrinter", node: Node) -> bool:
    """Whether a value holds what a loop that comes later carries."""
    held = [n for n in walk([node]) if n.op == "load" and n["kind"] == CARRIED]
    return any(p.known(n) is None and n not in p.constants for n in held)
