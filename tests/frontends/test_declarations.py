"""Declarations: dimensions, ranges, initial values, constants, and what of a spec reaches the mixer."""

import math

import pytest

from smir.frontends import parse_mixer
from smir.ir import expr
from smir.ir.dims import ONE, TIME, Dim
from smir.ir.interval import Interval
from smir.source import Source

K, V = Dim.name("K"), Dim.name("V")


def parse(text):
    return parse_mixer(Source("s", text))


def test_kinds_order_and_dimensions():
    mixer = parse(
        "mixer m; param D: D; input q, k: K; input s: scalar; input g: K, V; param n: 16; y[t] = q[t] * s[t] + k[t]"
    )
    assert [(d.kind, d.name, [str(x) for x in d.dims]) for d in mixer.declarations] == [
        ("param", "D", ["D"]),
        ("input", "q", ["K"]),
        ("input", "k", ["K"]),
        ("input", "s", []),
        ("input", "g", ["K", "V"]),
        ("param", "n", ["16"]),
    ]
    assert mixer.output_dims == (K,)


@pytest.mark.parametrize(
    ("written", "dim"),
    [
        ("K/2", K / Dim.number(2)),
        ("2*K + 1", K * Dim.number(2) + ONE),
        ("(K - V) * K", K * K - V * K),
        ("8 * 2", Dim.number(16)),
        ("K/2 + K/2", K),
    ],
)
def test_dimension_arithmetic(written, dim):
    assert parse(f"mixer m; input x: {written}; y = x").inputs[0].dims == (dim,)


def test_equal_dimensions_agree_however_written():
    mixer = parse("mixer m; input a: 2*K; input b: K + K; y = a + b")
    assert mixer.declaration("a").dims == mixer.declaration("b").dims == mixer.output_dims


def test_a_parameter_may_be_as_long_as_the_sequence():
    mixer = parse("mixer m; input k, v: D; param w: T, T; y = (exp(w) @ (exp(k) * v)) / (exp(w) @ exp(k))")
    assert mixer.params[0].dims == (TIME, TIME)
    assert mixer.masked and mixer.output_dims == (Dim.name("D"),)


@pytest.mark.parametrize(
    ("written", "interval"),
    [
        ("[0, 1]", Interval(0, 1)),
        ("(0, 1)", Interval(0, 1, True, True)),
        ("[-inf, 0]", Interval(-math.inf, 0)),
        ("(-inf, 0)", Interval(-math.inf, 0, True, True)),
        ("[-1/2, 2**3)", Interval(-0.5, 8, False, True)),
        ("[-w, w]", Interval(-8, 8)),
    ],
)
def test_ranges(written, interval):
    mixer = parse(f"mixer m; const w = 8; input x: V in {written}; y = x")
    assert mixer.inputs[0].range == interval


def test_constants_may_be_used_before_their_line_and_in_offsets():
    mixer = parse("mixer m; input x: V in [0, w]; y[t] = w * x[t-w] + x[t+w/2]; const w = 4")
    assert mixer.inputs[0].range.hi == 4
    assert {n["offset"] for n in mixer.nodes() if n.op == "input"} == {-4, 2}


def test_states_and_initial_values():
    mixer = parse(
        "mixer m; input x: M; state l: M = -inf; state a, b: M = 1/2\n"
        "l[t] = logaddexp(l[t-1], x[t]); a[t] = a[t-2] + x[t]; b[t] = b[t+1] + x[t]; y[t] = l[t] + a[t-1] + b[t]"
    )
    assert [(s.name, s.initial) for s in mixer.states] == [("l", -math.inf), ("a", 0.5), ("b", 0.5)]
    assert {(n["name"], n["offset"]) for n in mixer.nodes() if n.op == "state"} == {
        ("l", -1), ("l", 0), ("a", -2), ("a", -1), ("b", 1), ("b", 0),
    }  # fmt: skip


def test_dimensions_have_their_own_namespace():
    mixer = parse("mixer m; input v: v; param D: D; input u: D; y[t] = D * u[t] * sum(v[t], v)")
    assert mixer.output_dims == (Dim.name("D"),)


def test_letters_of_index_formulas_are_free_as_names_elsewhere():
    mixer = parse("mixer m; input i, j, m: V; y[t] = i[t] * j[t] + m[t]")
    assert [d.name for d in mixer.inputs] == ["i", "j", "m"] and not mixer.masked


def test_definitions_are_kept_by_name_in_an_order_that_defines_before_use():
    mixer = parse("mixer m; input v: V; c = b + a; a = exp(v[t]); b = a * 2; y[t] = c")
    names = [name for name, _ in mixer.names]
    assert sorted(names) == ["a", "b", "c"] and names.index("a") < names.index("b") < names.index("c")
    assert dict(mixer.names)["c"] is mixer.output


def test_definitions_have_the_time_of_what_they_read():
    mixer = parse(
        "mixer m; input v: V; param D: V; a = exp(D); b = exp(v); M[i, j] = where(j <= i, 1, 0); y = M @ (b * a.T)"
    )
    times = {name: node.type.time for name, node in mixer.names}
    assert times == {"a": expr.CONST, "b": expr.SEQ, "M": expr.SEQ}


def test_scalar_and_matrix_outputs():
    assert parse("mixer m; input q, k: K; y[t] = q[t].T @ k[t]").output_dims == ()
    assert parse("mixer m; input q: K; input v: V; y[t] = q[t] @ v[t].T").output_dims == (K, V)
    assert parse("mixer m; input q, k: K; y = sum(q * k, K)").output_dims == ()


def test_every_node_has_a_span():
    source = Source(
        "s", "mixer m; input q, k: K; input v: V; input g: scalar; y = normalize(lion(exp(g)) * (q @ k.T)) @ l2norm(v)"
    )
    mixer = parse_mixer(source)
    assert all(mixer.span(node) is not None for node in mixer.nodes())
    assert mixer.span(mixer.output).text == "normalize(lion(exp(g)) * (q @ k.T)) @ l2norm(v)"
    assert mixer.span(mixer.output.args[1]).text == "l2norm(v)"
