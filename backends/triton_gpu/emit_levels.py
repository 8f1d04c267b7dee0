"""Prints sums over the binary levels of a chunk: one run-time loop for all sums that share work."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smir.backends.triton_gpu.exact_sums import parts
from smir.backends.triton_gpu.joint_products import GridRow, JointProduct, joint_products
from smir.backends.triton_gpu.level_grids import merged
from smir.backends.triton_gpu.level_terms import Share, distance_of, mixed_of, shares, weighted
from smir.backends.triton_gpu.precise import is_precise, plain
from smir.backends.triton_gpu.spelling import Text
from smir.ir.graph import Node, reaches, walk
from smir.ir.tile import CARRIED, TOKEN, level_dependent

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter

# Inputs that a loop for scores keeps in the layout of products' results.
MOST_LAID_OUT = 2


@dataclass(frozen=True)
class Distance:
    """The variables of a pair distance: sums over a row's block up to it, from it on, and what neither counts; and the
    constant that says into how many parts its terms are split."""

    prefix: str
    suffix: str
    own: str
    parts: str


def print_level_sum(p: "TilePrinter", n: Node) -> Text:
    """The loop that computes this sum and the others of its group; gives the name of this one."""
    group = _group(p, n)
    arguments = [g.args[0] for g in group]
    members = _changing(arguments)
    joint = [pair for pair in joint_products(arguments) if pair.tile not in members]
    read = merged(shares((a.args[0] if a.op == "pair_collect" else a for a in arguments), joint))
    grids = dict.fromkeys(s.pair for found in read.values() for s in found if isinstance(s.pair, GridRow))
    for grid in grids:
        _mirror_grid(p, grid)
    for pair in joint:
        if not any(pair in (grid.own, grid.odd) for grid in grids):
            _mirror(p, pair)
    p.shares |= read
    p.weighted |= {share.pair for found in read.values() for share in found}
    masks = {m for pair in joint for m in pair.masks}
    readers = [m for m in walk(arguments) if m in members and m not in masks]
    for value in dict.fromkeys(a for m in readers for a in m.args if a not in members):
        if value.op != "const":
            p.value(value)
    starts = [_start(p, g, group) for g in group]
    distances = [_begin(p, d) for d in walk(arguments) if d.op == "pair_distance"]
    with p.nested("for level in range(LEVELS):", members):
        for argument, (name, _) in zip(arguments, starts, strict=True):
            p.line(f"{name} += {print_summand(p, argument)}")
        for d in distances:
            p.line(f"{d.prefix}, {d.suffix} = next_level({d.prefix}, {d.suffix}, {d.own}, level, PARTS={d.parts})")
    for g, (name, whole) in zip(group, starts, strict=True):
        # nothing but the whole reads a sum that began with the rest of it
        p.know(g, name)
        p.know(whole, name)
    return Text(starts[0][0])


def _start(p: "TilePrinter", n: Node, group: list[Node]) -> tuple[str, Node]:
    """The variable in which a sum is added up, and what it holds in the end: the sum, and what is added to it if only
    that reads the sum."""
    users = [u for u in walk(p.roots) if n in u.args]
    if len(users) == 1 and users[0].op == "add" and p.uses[n] == 1 and users[0].type == n.type:
        a, b = users[0].args
        other = b if a is n else a
        waiting = {*group, *p.summing}
        if other is not n and p.home(users[0]) == p.home(n) and not reaches([other], waiting.__contains__):
            p.summing |= set(group)
            text = p.value(other).text
            p.summing -= set(group)
            name = p.frame.names.new(p.wanted.get(users[0], "total"))
            p.line(f"{name} = {text}")
            return name, users[0]
    name = p.frame.names.new(p.wanted.get(n, "scores"))
    p.line(f"{name} = tl.zeros({p.frame.shape(n.type.rows, n.type.cols)}, tl.float32)")
    return name, n


def _begin(p: "TilePrinter", distance: Node) -> Distance:
    """The running sums behind a pair distance, for blocks of one row."""
    g, new = distance.args[0], p.frame.names.new
    value = (p.known(g) or p.bind(g, p.value(g).text)).text
    nothing = f"tl.zeros({p.frame.shape(g.type.rows, g.type.cols)}, tl.float32)"
    own = nothing if distance["exclusive"] else value
    names = Distance(new("prefix"), new("suffix"), value if distance["exclusive"] else "0.0", parts(p, g))
    p.line(f"{names.prefix} = {nothing if distance['reverse'] else own}")
    p.line(f"{names.suffix} = {own if distance['reverse'] else nothing}")
    p.distances[distance] = names
    return names


def _mirror(p: "TilePrinter", pair: JointProduct) -> None:
    """The tile of a joint product, mirrored once before the levels."""
    name = p.frame.names.new("mirrored")
    p.line(f"{name} = {_mirrored(p, pair, pair)}")
    p.joint |= {pair.first: (pair, name), pair.second: (pair, name)}


def _mirror_grid(p: "TilePrinter", grid: GridRow) -> None:
    """The tiles of both of its products, mirrored once before the levels."""
    own, other = p.frame.names.new("mirrored"), p.frame.names.new("crossed")
    p.line(f"{own} = {_mirrored(p, grid.own, grid.own)}")
    p.line(f"{other} = {_mirrored(p, grid.odd, grid.even)}")
    p.grids[grid] = own, other


def _mirrored(p: "TilePrinter", odd: JointProduct, even: JointProduct) -> str:
    """The tile that odd rows are multiplied with, and on the other side of the diagonal the transpose of even rows'."""
    tile, other = p.kept(odd.tile), p.kept(even.tile)
    turned = f"tl.trans({other})" if even.turned is None else p.kept(even.turned)
    return f"mirrored({tile}, {turned}, REVERSE={odd.reverse}).to(PRODUCT)"


def print_joint_product(p: "TilePrinter", n: Node) -> Text:
    """One of the two parts of a joint product that nothing weighs; the first that is needed prints the product."""
    pair, _ = p.joint[n]
    return Text(f"level_rows({_product(p, pair)}, level, ODD={n is pair.in_odd_rows})")


def print_summand(p: "TilePrinter", n: Node) -> str:
    """What a sum over levels adds up, or what is collected for one."""
    if n not in p.shares:
        return p.value(n).text
    return " + ".join(_share(p, share) for share in p.shares[n])


def _share(p: "TilePrinter", share: Share) -> str:
    """A weighted product's rows, or those of one half, or both halves with a factor each."""
    rows, (odd, even) = _product(p, share.pair), (share.odd, share.even)
    if odd == even == ():
        return rows
    if odd and even:
        known = p.picked.get((odd, even))
        return f"{rows} * {known or _picked(p, odd[0], even[0])}"
    halves = [(half, is_odd) for half, is_odd in ((odd, True), (even, False)) if half is not None]
    kept = [[f"level_rows({rows}, level, ODD={is_odd})", *(p.value(f).text for f in half)] for half, is_odd in halves]
    return " + ".join(" * ".join(factors) for factors in kept)


def _picked(p: "TilePrinter", odd: Node, even: Node) -> str:
    return f"pick_rows({p.value(odd).text}, {p.value(even).text}, level, REVERSE=False)"


def _product(p: "TilePrinter", pair: JointProduct | GridRow) -> str:
    """The variable of a joint product, weighted where all that read it want that."""
    if isinstance(pair, GridRow):
        return _grid_product(p, pair)
    rows, mixed = p.joint_rows.get(pair), mixed_of(pair)
    if rows is None:
        tile, mirrored = p.frame.names.new("mixed"), p.joint[pair.first][1]
        exact = any(is_precise(half.args[1]) for half in (pair.first, pair.second))
        p.line(f"{tile} = {_mixed(p, pair)}" + (".to(tl.float32)" if exact else ".to(PRODUCT)"))
        rows = p.joint_rows[pair] = p.frame.names.new("product")
        both = f"same_pair({mirrored}, {p.frame.levels()}, level), {tile}"
        text = (f"precise_product({both}, PRODUCT, PRECISION)" if exact else
                f"tl.dot({both}, input_precision=PRECISION)")  # fmt: skip
        p.line(f"{rows} = {text}" + (f" * {p.value(mixed.weights).text}" if mixed and pair in p.weighted else ""))
    return rows


def _grid_product(p: "TilePrinter", grid: GridRow) -> str:
    """The variable of what two mixed tiles give one of them, weighted."""
    if grid not in p.joint_rows:
        tiles = [_mixed_tile(p, grid.own), _mixed_tile(p, grid.other)]
        kept = [f"same_pair({tile}, {p.frame.levels()}, level)" for tile in p.grids[grid]]
        both = [f"tl.dot({a}, {b}, input_precision=PRECISION)" for a, b in zip(kept, tiles, strict=True)]
        mixed, rows = mixed_of(grid), p.frame.names.new("product")
        assert mixed is not None
        weights = p.value(mixed.weights).text
        p.line(f"{rows} = {both[0]}")
        p.line(f"{rows} += {both[1]}")
        p.line(f"{rows} *= {weights}")
        p.joint_rows[grid] = rows
    return p.joint_rows[grid]


def _mixed_tile(p: "TilePrinter", pair: JointProduct) -> str:
    """The variable of a mixed tile that several products read."""
    mixed = mixed_of(pair)
    assert mixed is not None
    if mixed not in p.mixed:
        tile = p.frame.names.new("mixed")
        p.line(f"{tile} = {_mixed(p, pair)}.to(PRODUCT)")
        p.mixed[mixed] = tile
    return p.mixed[mixed]


def _mixed(p: "TilePrinter", pair: JointProduct) -> str:
    """The queries' rows in odd blocks, the keys' in even ones; weights that both have are multiplied once."""
    mixed = mixed_of(pair)
    if mixed is None:
        queries, keys = pair.in_even_rows.args[1], pair.in_odd_rows.args[1]
        return _picked(p, queries, keys)
    name = p.frame.names.new("picked")
    p.line(f"{name} = {_picked(p, mixed.odd, mixed.even)}")
    p.picked[(mixed.odd,), (mixed.even,)] = name
    return f"({name} * {p.value(mixed.weights).text})"


def print_level_sums(p: "TilePrinter") -> None:
    """All sums over levels of the kernel: before the rest, for in their loops the fewest registers are free."""
    for node in walk(p.roots):
        if node.op == "level_sum" and p.known(node) is None:
            p.value(node)


def laid_out_leaves(roots: Iterable[Node]) -> set[Node]:
    """The inputs of which rows are picked at each level for scores; none where there are more than registers hold
    twice, as beside gradients. What an exponent is made of may be infinite, which no product with zeros leaves alone.
    """
    operands = [level_operands(n) for n in walk(roots) if n.op == "level_mask"]
    picked = [o for found in operands if found and found[0] is not found[1] for o in found[:2]]
    if any(n.op == "pair_collect" for n in walk(roots)):
        return set()
    shapes, exponents = [o.type for o in picked], set(walk(e for e in walk(picked) if e.op == "exp"))
    loads = (n for n in walk(picked) if n.op == "load" and n["kind"] == TOKEN and n.type in shapes)
    leaves = {n for n in loads if n not in exponents}
    return leaves if len(leaves) <= MOST_LAID_OUT else set()


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
    for queries, weights in weighted(left):
        for keys, others in weighted(right):
            if distance_of(weights) == distance_of(others):
                return queries, keys, weights
    return plain(left), plain(right), None


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
