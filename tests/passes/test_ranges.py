"""Ranges: every interval holds for random values, and the ones that numerics rely on are tight."""

from functools import partial

import numpy as np
import pytest

from smir.backends.numpy_reference.expressions import Context, evaluate, make_context
from smir.ir.graph import Node, walk
from smir.ir.interval import INF, REAL, UNIT, Interval, point
from smir.passes.analysis.ranges import node_ranges
from tests.passes.oracle_checks import mixer_of, random_arrays

# An output expression and the interval that must be found for it.
TIGHT = [
    ("exp(g[t])", UNIT),
    ("1 - exp(g[t])", UNIT),
    ("lam[t] * beta[t]", UNIT),
    ("sigmoid(w[t])", UNIT),
    ("elu(w[t]) + 1", Interval(0.0, INF)),
    ("gamma**2", UNIT),
    ("gk[t].T @ gk[t]", Interval(0.0, INF)),
    ("q[t].T @ q[t]", Interval(0.0, INF)),
    ("sum(gk[t], K)", Interval(-INF, 0.0)),
    ("ones(K).T @ gk[t]", Interval(-INF, 0.0)),
    ("q[t].T @ k[t]", REAL),
    ("lam[t+1] + 1", Interval(1.0, 2.0)),
    ("-lam[t-1]", Interval(-1.0, 0.0)),
    ("exp(-s) * gamma", UNIT),
    ("sum(softmax(q[t]), K)", Interval(0.0, INF)),
]


@pytest.mark.parametrize(("expression", "interval"), TIGHT)
def test_interval(expression: str, interval: Interval) -> None:
    mixer = mixer_of(f"y[t] = {expression} + 0 * v[t]\n")
    declared = {d.name: d.range for d in mixer.declarations}
    (value,) = [n for n in mixer.output.args if n.type.is_scalar]
    assert node_ranges([value], declared)[value] == interval


def test_input_beyond_the_ends_may_be_zero() -> None:
    mixer = mixer_of("input r: scalar in [2, 3]\ny[t] = (r[t] * r[t-1]) * v[t]\n")
    declared = {d.name: d.range for d in mixer.declarations}
    found = node_ranges([mixer.output], declared)
    by_offset = {n["offset"]: found[n] for n in found if n.op == "input" and n["name"] == "r"}
    assert by_offset == {0: Interval(2.0, 3.0), -1: Interval(0.0, 3.0)}


def test_states_may_be_anything() -> None:
    mixer = mixer_of("state n: scalar\nn[t] = n[t-1] * 0 + 1\ny[t] = n[t] * v[t]\n")
    found = node_ranges(mixer.roots(), {})
    assert {found[n] for n in found if n.op == "state"} == {REAL}
    assert point(0.0) in [found[n] for n in found if n.op == "mul"]


def leaf_at(context: Context, t: int, node: Node) -> np.ndarray:
    return context.input_at(node["name"], t + node["offset"])


SAMPLED = [
    "rmsnorm(q[t]) * (elu(w[t]) + logsigmoid(w[t])) + max(k[t], u) - min(q[t], 0)",
    "softmax(q[t]) @ (gk[t].T @ abs(k[t])) + where(w[t] < 0, gk[t], u)",
    "rot(sum(k[t], K) * ones(K/2)) @ tanh(q[t]) / (1 + lam[t]) + logaddexp(g[t], s) * gk[t+1]",
    "sqrt(abs(k[t])) ** 3 - softplus(q[t]) + cos(k[t]) * sin(q[t]) * sigmoid(u)",
]


@pytest.mark.parametrize("expression", SAMPLED)
def test_every_interval_holds(expression: str) -> None:
    mixer = mixer_of(f"y[t] = {expression}\n")
    found = node_ranges([mixer.output], {d.name: d.range for d in mixer.declarations})
    context = make_context(mixer, random_arrays(mixer, tokens=20), mixer.roots())
    for t in range(20):
        memo: dict = {}
        evaluate(context, walk([mixer.output]), memo, partial(leaf_at, context, t))
        for node, value in memo.items():
            interval = found[node]
            assert interval.lo - 1e-9 <= np.min(value), node
            assert np.max(value) <= interval.hi + 1e-9, node
