"""The rules of tile simplification: result and value."""

import numpy as np
import pytest

from smir.backends.numpy_reference.evaluate import Leaves, run_schedule, schedule
from smir.backends.numpy_reference.layout import Extent
from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.tile import CHUNK, ONE
from smir.passes.tiles.simplify_tiles import simplify_nodes

a, b = tile.token("a", CHUNK, CHUNK), tile.token("b", CHUNK, CHUNK)
v, w = tile.token("v", CHUNK, "V"), tile.token("w", CHUNK, "V")
g, row = tile.token("g", CHUNK, ONE), tile.param("row", ONE, "V")
one, zero = tile.const(1.0), tile.const(0.0)
p = tile.pointwise
ones = tile.broadcast(one, CHUNK, ONE)

RULES = [
    (p("mul", v, one), v),
    (p("mul", tile.const(-1.0), v), p("neg", v)),
    (p("add", zero, v), v),
    (p("sub", v, zero), v),
    (p("sub", zero, v), p("neg", v)),
    (p("neg", p("neg", v)), v),
    (p("add", v, p("neg", w)), p("sub", v, w)),
    (p("sub", v, p("neg", w)), p("add", v, w)),
    (p("div", v, one), v),
    (p("exp", zero), one),
    (p("mul", g, tile.broadcast(one, ONE, "V")), tile.broadcast(g, CHUNK, "V")),
    (p("exp", tile.broadcast(row, CHUNK, "V")), tile.broadcast(p("exp", row), CHUNK, "V")),
    (p("mul", v, tile.broadcast(row, CHUNK, "V")), p("mul", v, row)),
    (tile.dot(a, ones), tile.reduce_sum(a, 1)),
    (tile.dot(tile.transpose(v), ones), tile.transpose(tile.reduce_sum(v, 0))),
    (tile.dot(p("neg", a), v), p("neg", tile.dot(a, v))),
    (p("add", tile.dot(a, v), tile.dot(b, v)), tile.dot(p("add", a, b), v)),
    (p("sub", tile.dot(a, v), tile.dot(b, v)), tile.dot(p("sub", a, b), v)),
    (p("add", p("add", tile.dot(a, v), w), tile.dot(b, v)), p("add", tile.dot(p("add", a, b), v), w)),
    (p("add", tile.reduce_sum(a, 1), tile.reduce_sum(b, 1)), tile.reduce_sum(p("add", a, b), 1)),
    (p("add", p("div", v, g), p("div", w, g)), p("div", p("add", v, w), g)),
    (tile.reduce_sum(g, 1), g),
    (tile.transpose(one), one),
]


def value(node: Node, seed: int = 0) -> np.ndarray:
    extent = Extent(1, 4, 1, 4, {CHUNK: 4, "V": 3, ONE: 1}, np.float64)

    def load(leaf: Node) -> np.ndarray:
        shape = extent.shape(leaf.type.rows, leaf.type.cols)
        return np.random.default_rng([seed, *map(ord, leaf["name"])]).normal(size=shape)

    (result,) = run_schedule(schedule([node]), {}, Leaves(load, lambda n: 4), extent)
    return np.broadcast_to(result, shape=extent.shape(node.type.rows, node.type.cols))


@pytest.mark.parametrize(("before", "after"), RULES)
def test_rule(before: Node, after: Node) -> None:
    found = before
    while (better := simplify_nodes([found])[found]) is not found:
        found = better
    assert found is after
    np.testing.assert_allclose(value(found), value(before), atol=1e-12)


def test_a_sum_that_others_use_is_not_taken_apart() -> None:
    inner = p("add", tile.dot(a, v), w)
    outer = p("add", inner, tile.dot(b, v))
    both = p("mul", outer, inner)
    found = simplify_nodes([both])[both]
    assert inner in found.args and sum(n.op == "dot" for n in (*inner.args, *found.args[0].args)) == 2
