"""Every reverse-mode rule against central differences, on random tiles; and the rules of what the rules give."""

from collections.abc import Mapping

import numpy as np
import pytest

from smir.backends.numpy_reference.evaluate import Leaves, run_schedule, schedule
from smir.backends.numpy_reference.layout import Extent
from smir.ir import tile
from smir.ir.graph import Node, walk
from smir.ir.tile import CHUNK, ONE
from smir.passes.gradients.differentiate import adjoints
from smir.passes.gradients.vjp import RULES
from tests.gradients.adjoints import slope

# Chunks that are no power of two.
EXTENT = Extent(1, 6, 1, 6, {ONE: 1, CHUNK: 6, "K": 4, "V": 3}, np.float64)
# Rows that are tokens, where that matters.
RAGGED = 4
BUDGET = 1e-8
Arrays = dict[str, np.ndarray]

p = tile.pointwise
a, b = (tile.token(name, CHUNK, "K") for name in "ab")
column, angle, value = tile.token("c", CHUNK, ONE), tile.token("t", CHUNK, "K/2"), tile.token("v", CHUNK, "V")
row, number, matrix = tile.param("r", ONE, "K"), tile.param("n", ONE, ONE), tile.carried("S", "K", "V")
side, plane = tile.carried("s", "K", ONE), tile.token("m", CHUNK, CHUNK)
two, zero = tile.const(2.0), tile.const(0.0)
# Positive tiles, away from zero.
above, over = p("add", p("mul", a, a), two), p("add", p("mul", b, b), two)
FLAGS = [(False, False), (False, True), (True, False), (True, True)]


def levels(reverse: bool, exclusive: bool) -> Node:
    """Decayed scores: level by level, with distances on both sides."""
    query = p("mul", a, p("exp", tile.pair_distance(b, reverse, exclusive)))
    key = p("mul", p("sin", a), p("exp", tile.pair_distance(b, reverse)))
    return tile.level_sum(tile.level_mask(tile.dot(query, tile.transpose(key)), reverse))


def angles(axis: int, inverse: bool) -> Node:
    if axis == 1:
        return tile.rotate(angle, a, 1, inverse)
    return tile.rotate(tile.transpose(angle), tile.transpose(a), 0, inverse)


def triangle(reverse: bool) -> Node:
    return tile.unit_inverse(tile.mask(plane, "strict_upper" if reverse else "strict_lower"), reverse)


def ratio() -> Node:
    """Weights relative to the largest: they don't depend on it, so it may be a constant."""
    weights = p("exp", p("sub", a, p("stop", tile.reduce_max(a, 1))))
    return p("div", p("mul", weights, b), tile.reduce_sum(weights, 1))


CASES: dict[str, list[Node]] = {
    "add": [p("add", a, b), p("add", a, row), p("add", column, row), p("add", number, a), p("add", a, a)],
    "sub": [p("sub", a, b), p("sub", row, a), p("sub", number, column), p("sub", a, p("neg", a))],
    "mul": [p("mul", a, b), p("mul", a, row), p("mul", column, b), p("mul", a, number), p("mul", a, a)],
    "div": [p("div", a, over), p("div", row, above), p("div", a, p("add", two, p("mul", column, column)))],
    "pow": [p("pow", above, b), p("pow", a, two), p("pow", a, tile.const(3.0)), p("pow", above, row)],
    "max": [p("max", a, b), p("max", a, zero), p("max", row, b)],
    "min": [p("min", a, b), p("min", number, b)],
    "logaddexp": [p("logaddexp", a, b), p("logaddexp", column, row)],
    "neg": [p("neg", a)],
    "exp": [p("exp", a)],
    "log": [p("log", above)],
    "sqrt": [p("sqrt", above)],
    "abs": [p("abs", a)],
    "floor": [p("mul", p("floor", a), a)],
    "sigmoid": [p("sigmoid", a)],
    "tanh": [p("tanh", a)],
    "cos": [p("cos", a)],
    "sin": [p("sin", a)],
    "where": [p("where", p("lt", a, b), p("mul", a, a), b), p("where", p("lt", column, zero), row, p("sin", a))],
    "stop": [ratio()],
    "widen": [p("mul", p("widen", a), a)],
    "narrow": [p("mul", p("narrow", p("mul", p("widen", a), b)), a)],
    "precise": [tile.dot(a, p("precise", matrix)), tile.dot(tile.transpose(p("precise", a)), value)],
    "rounded": [p("mul", p("rounded", a), a)],
    "lt": [p("where", p("lt", a, zero), p("sin", a), a)],
    "le": [p("where", p("le", a, b), p("sin", a), b)],
    "eq": [p("where", p("eq", a, b), zero, a)],
    "ne": [p("where", p("ne", a, b), p("mul", a, b), a)],
    "and": [p("where", p("and", p("lt", a, b), p("lt", zero, a)), p("mul", a, a), b)],
    "or": [p("where", p("or", p("lt", a, b), p("lt", zero, a)), p("mul", a, a), b)],
    "dot": [tile.dot(a, matrix), tile.dot(a, tile.transpose(a)), tile.dot(tile.transpose(a), value)],
    "transpose": [tile.transpose(p("mul", a, a)), p("mul", tile.transpose(a), side)],
    "broadcast": [tile.broadcast(row, CHUNK, "K"), tile.broadcast(number, "K", "V"),
                  tile.broadcast(column, CHUNK, "V")],
    "sum": [tile.reduce_sum(p("mul", a, a), 0), tile.reduce_sum(p("mul", a, row), 1), tile.reduce_sum(matrix, 0)],
    "reduce_max": [tile.reduce_max(a, 0), tile.reduce_max(p("mul", a, b), 1)],
    "cumsum": [tile.cumsum(p("mul", a, a), r, e) for r, e in FLAGS],
    "segment_sum": [p("exp", tile.segment_sum(p("sin", column), r, e)) for r, e in FLAGS],
    "mask": [tile.mask(p("mul", plane, plane), kind, 7.0) for kind in tile.MASKS],
    "valid_rows": [tile.valid_rows(p("mul", a, a), 3.0), tile.cumsum(tile.valid_rows(column))],
    "unit_inverse": [triangle(False), triangle(True), tile.dot(triangle(False), a)],
    "pair_distance": [tile.level_sum(p("sin", tile.pair_distance(p("mul", a, b), r, e))) for r, e in FLAGS]
    + [tile.level_sum(p("mul", tile.pair_distance(a), p("mul", column, row)))],
    "pair_collect": [tile.level_sum(p("sin", tile.pair_collect(p("mul", a, b), r, e))) for r, e in FLAGS],
    "level_mask": [levels(r, e) for r, e in FLAGS],
    "level_sum": [p("mul", levels(False, False), levels(True, True)), tile.level_sum(p("mul", a, b)),
                  tile.level_sum(p("add", p("mul", a, a), tile.pair_distance(b)))],
    "rotate": [angles(axis, inverse) for axis in (0, 1) for inverse in (False, True)],
    "cross_pairs": [tile.cross_pairs(p("sin", a), b, 1, "K/2"),
                    tile.cross_pairs(tile.transpose(a), tile.transpose(b), 0, "K/2")],
    "turn_pairs": [tile.turn_pairs(angle, p("sin", a), 1),
                   tile.turn_pairs(tile.transpose(angle), tile.transpose(b), 0)],
    "scan": [tile.scan(a, b, row, kind, r) for kind in tile.SEMIRINGS for r in (False, True)]
    + [tile.scan(row, p("mul", a, column), zero), tile.scan(column, tile.scan(a, b, row), zero, reverse=True)],
    "shift": [tile.shift(p("mul", a, a), row, r) for r in (False, True)],
    "edge_row": [tile.edge_row(p("mul", a, a), r) for r in (False, True)],
    "place_row": [p("mul", tile.place_row(row, r), b) for r in (False, True)],
    "spread": [p("mul", tile.spread(a, "K.V", tile.OUTER), tile.spread(value, "K.V", tile.INNER))],
    "fold": [tile.fold(p("mul", tile.spread(a, "K.V", tile.OUTER), tile.token("l", CHUNK, "K.V")), part)
             for part in (tile.OUTER, tile.INNER)],
}  # fmt: skip
RUNS = [pytest.param(root, id=f"{op}-{i}") for op, roots in CASES.items() for i, root in enumerate(roots)]


def test_every_rule_is_tested() -> None:
    assert set(CASES) == set(RULES)
    for op, roots in CASES.items():
        assert all(any(n.op == op for n in walk([root])) for root in roots), op


def test_every_operation_has_a_rule() -> None:
    assert tile.OPS - set(RULES) == {"load", "const"}


def leaves_of(roots: tuple[Node, ...]) -> list[Node]:
    return [n for n in walk(roots) if n.op == "load"]


def random_arrays(roots: tuple[Node, ...], seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {n["name"]: rng.normal(size=EXTENT.shape(n.type.rows, n.type.cols)) for n in leaves_of(roots)}


def evaluate(roots: tuple[Node, ...], arrays: Mapping[str, np.ndarray], tokens: int = EXTENT.time) -> list[np.ndarray]:
    """The tiles' values at full size."""
    with np.errstate(all="ignore"):
        found = run_schedule(schedule(roots), {}, Leaves(lambda n: arrays[n["name"]], lambda n: tokens), EXTENT)
    sizes = [EXTENT.shape(root.type.rows, root.type.cols) for root in roots]
    return [np.broadcast_to(value, size) for value, size in zip(found, sizes, strict=True)]


def seed_of(root: Node, name: str = "seed") -> Node:
    return tile.carried(name, root.type.rows, root.type.cols)


def check(roots: tuple[Node, ...], found: Mapping[Node, Node], arrays: Arrays, cotangents: list[np.ndarray]) -> None:
    """Every adjoint, contracted with a random direction, is the slope of the roots along it."""
    rng = np.random.default_rng(1)
    tokens = RAGGED if any(n.op == "valid_rows" for n in walk(roots)) else EXTENT.time
    for leaf in leaves_of(roots):
        name = leaf["name"]
        direction = rng.normal(size=arrays[name].shape)

        def along(step: float, name: str = name, direction: np.ndarray = direction) -> float:
            values = evaluate(roots, {**arrays, name: arrays[name] + step * direction}, tokens)
            return sum(float(np.sum(v * c)) for v, c in zip(values, cotangents, strict=True))

        expected = slope(along, 1e-3)
        if leaf not in found:
            assert abs(expected) < 1e-12, f"{name} has influence but no adjoint"
            continue
        assert found[leaf].type == leaf.type
        (gradient,) = evaluate((found[leaf],), arrays, tokens)
        scale = np.linalg.norm(gradient * direction) + np.abs(expected)
        assert abs(np.sum(gradient * direction) - expected) <= BUDGET * scale, name


@pytest.mark.parametrize("root", RUNS)
def test_rule(root: Node) -> None:
    seed = seed_of(root)
    found = adjoints({root: seed}, lambda n: n.op == "load" and n != seed)
    arrays = random_arrays((root, seed))
    check((root,), found, arrays, [arrays["seed"]])


@pytest.mark.parametrize("root", RUNS)
def test_rules_of_adjoints(root: Node) -> None:
    """The adjoints of all leaves are differentiated again, by the leaves and by the first seed."""
    first = seed_of(root)
    once = tuple(adjoints({root: first}, lambda n: n.op == "load" and n != first).values())
    assert once
    seeds: dict[Node, Node] = {}
    second = [seed_of(node, f"seed_{i}") for i, node in enumerate(once)]
    for node, seed in zip(once, second, strict=True):
        seeds[node] = p("add", seeds[node], seed) if node in seeds else seed
    arrays = random_arrays((root, *once, *second))
    found = adjoints(seeds, lambda n: n.op == "load" and n not in second)
    check(once, found, arrays, [arrays[s["name"]] for s in second])


def test_a_value_that_stands_at_all_levels_collects_all_of_them() -> None:
    root = tile.level_sum(p("mul", a, tile.pair_distance(b)))
    found = adjoints({root: seed_of(root)}, lambda n: n == a)
    arrays = random_arrays((root, seed_of(root)))
    (gradient,) = evaluate((found[a],), arrays)
    (total,) = evaluate((tile.level_sum(tile.pair_distance(b)),), arrays)
    np.testing.assert_allclose(gradient, arrays["seed"] * total, atol=1e-12)


def test_equal_entries_share_the_adjoint_of_their_maximum() -> None:
    root = tile.reduce_max(a, 1)
    found = adjoints({root: seed_of(root)}, lambda n: n == a)
    same = {"a": np.ones((6, 4)), "seed": np.ones((6, 1))}
    np.testing.assert_array_equal(evaluate((found[a],), same)[0], np.full((6, 4), 0.25))


@pytest.mark.parametrize("op", ["max", "min"])
def test_equal_arguments_of_max_and_min_count_once(op: str) -> None:
    root = p(op, a, b)
    found = adjoints({root: seed_of(root)}, lambda n: n in (a, b))
    same = {"a": np.ones((6, 4)), "b": np.ones((6, 4)), "seed": np.ones((6, 4))}
    total = sum(evaluate(tuple(found[x] for x in (a, b)), same))
    np.testing.assert_array_equal(total, np.ones((6, 4)))


RISKY = [p("div", a, b), p("log", a), p("sqrt", a), p("pow", a, tile.const(0.5))]


@pytest.mark.parametrize("root", RISKY, ids=lambda root: root.op)
def test_rows_beyond_the_sequence_give_no_nan(root: Node) -> None:
    """There inputs and cotangents are zero: 0/0 must not reach a sum over rows."""
    found = adjoints({root: seed_of(root)}, lambda n: n in (a, b))
    arrays = random_arrays((root, seed_of(root)))
    arrays = {n: np.where(np.arange(6)[:, None] < RAGGED, np.abs(x) + 0.5, 0.0) for n, x in arrays.items()}
    for gradient in evaluate(tuple(found.values()), arrays, RAGGED):
        assert np.isfinite(gradient).all() and (gradient[RAGGED:] == 0).all()
