"""The oracle against loops written out by hand, one per class of mixer."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.errors import ArgumentError, SpecCycleError
from smir.ir import expr
from smir.ir.dims import ONE, TIME, Dim
from smir.ir.expr import const, input_at, matmul, pointwise, state_at, transpose
from smir.ir.mixer import Mixer, State
from tests.oracle import mixers
from tests.oracle.mixers import K, V, add, inputs, mul, outer, params


def test_diagonal_decay_with_exact_resets_and_initial_state() -> None:
    a = mixers.arrays(mixers.diagonal())
    a["g"][:, 4, :, 1] = -np.inf
    S = np.random.default_rng(1).standard_normal((2, 2, 4, 3))
    y, final = run_mixer(mixers.diagonal(), a, {"S": S})
    for t in range(9):
        S = np.exp(a["g"][:, t])[..., None] * S + a["k"][:, t][..., None] * a["v"][:, t][..., None, :]
        np.testing.assert_allclose(y[:, t], np.einsum("bhkv,bhk->bhv", S, a["q"][:, t]), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(final["S"], S, rtol=1e-13, atol=1e-13)


def test_erase_reads_the_decayed_state() -> None:
    a = mixers.arrays(mixers.erasing())
    y, final = run_mixer(mixers.erasing(), a)
    S = np.zeros((2, 2, 4, 3))
    for t in range(9):
        q, k, v, g, beta = (a[n][:, t] for n in ("q", "k", "v", "g", "beta"))
        R = np.exp(g)[..., None, None] * S
        u = beta[..., None] * (v - np.einsum("bhkv,bhk->bhv", R, k))
        S = R + np.einsum("bhk,bhv->bhkv", k, u)
        np.testing.assert_allclose(y[:, t], np.einsum("bhkv,bhk->bhv", S, q), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(final["S"], S, rtol=1e-13, atol=1e-13)


def test_backward_state_uses_the_next_tokens_gate_and_ends_at_the_first_step() -> None:
    a = mixers.arrays(mixers.two_directions())
    y, final = run_mixer(mixers.two_directions(), a)
    decay = np.ones((2, 9, 9, 2))
    for i in range(9):
        for j in range(9):
            decay[:, i, j] = np.exp(a["g"][:, min(i, j) + 1 : max(i, j) + 1].sum(axis=1))
    expected = np.einsum("bijh,bihk,bjhk,bjhv->bihv", decay, a["q"], a["k"], a["v"])
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(final["B"], np.einsum("bjh,bjhk,bjhv->bhkv", decay[:, 0], a["k"], a["v"]), rtol=1e-12)
    np.testing.assert_allclose(final["F"], np.einsum("bjh,bjhk,bjhv->bhkv", decay[:, 8], a["k"], a["v"]), rtol=1e-12)


def test_index_formula_equals_its_recurrent_form() -> None:
    a = mixers.arrays(mixers.two_directions())
    y, _ = run_mixer(mixers.two_directions(), a)
    found, final = run_mixer(mixers.masked(), a)
    np.testing.assert_allclose(found, y, rtol=1e-12, atol=1e-12)
    assert final == {}


def test_nonlinear_update_with_a_parameter_matrix_and_declared_start() -> None:
    a = mixers.arrays(mixers.nonlinear())
    y, final = run_mixer(mixers.nonlinear(), a)
    h = np.full((2, 2, 4), 0.5)
    for t in range(9):
        h = np.tanh(np.einsum("hkl,bhl->bhk", a["U"], h) + a["x"][:, t])
        np.testing.assert_allclose(y[:, t], h, rtol=1e-14)
    np.testing.assert_allclose(final["h"], h)


def test_delays_of_inputs_are_zero_outside_and_of_states_the_initial_value() -> None:
    update = add(state_at("h", K, ONE, -2), input_at("x", K, offset=-1))
    y = add(state_at("h", K, ONE, -1), add(input_at("x", K, offset=2), state_at("h", K, ONE, 3)))
    mixer = Mixer("delays", inputs(x=(K,)), (State("h", (K,), 7.0, update),), y, (K,))
    x = mixers.arrays(mixer, tokens=5)["x"]
    found, final = run_mixer(mixer, {"x": x})
    zero, seven = np.zeros_like(x[:, 0]), np.full_like(x[:, 0], 7.0)
    h = [seven, x[:, 0] + 7, x[:, 1] + 7, x[:, 2] + x[:, 0] + 7, x[:, 3] + x[:, 1] + 7]
    before = [seven, *h[:4]]
    ahead = [*x.swapaxes(0, 1)[2:], zero, zero]
    later = [h[3], h[4], zero, zero, zero]
    expected = np.stack([b + a + n for b, a, n in zip(before, ahead, later, strict=True)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_allclose(final["h"], h[4])


def test_states_are_computed_in_the_order_they_need_each_other() -> None:
    x = input_at("x", ONE)
    a = State("a", (), 0.0, add(state_at("b", ONE, ONE), x))  # declared first, needs b of the same step
    b = State("b", (), 1.0, mul(const(0.5), state_at("a", ONE, ONE, -1)))
    mixer = Mixer("coupled", inputs(x=()), (a, b), state_at("a", ONE), ())
    y, final = run_mixer(mixer, {"x": np.ones((1, 4, 1))})
    np.testing.assert_allclose(y[0, :, 0], [1.0, 1.5, 1.75, 1.875])
    np.testing.assert_allclose(final["b"], [[0.875]])


def test_a_backward_state_may_feed_a_forward_one() -> None:
    B = State("B", (), 0.0, add(state_at("B", ONE, ONE, 1), input_at("x", ONE)))
    F = State("F", (), 0.0, add(state_at("F", ONE, ONE, -1), state_at("B", ONE, ONE, 1)))
    mixer = Mixer("chain", inputs(x=()), (F, B), state_at("F", ONE), ())
    y, final = run_mixer(mixer, {"x": np.arange(1.0, 5.0).reshape(1, 4, 1)})
    np.testing.assert_allclose(y[0, :, 0], [9, 16, 20, 20])
    np.testing.assert_allclose(final["B"], [[10.0]])


@pytest.mark.parametrize(
    ("update", "word"),
    [
        (lambda h: add(h(-1), h(1)), "forward and backward"),
        (lambda h: mul(h(0), const(2.0)), "defined by itself"),
    ],
)
def test_impossible_orders_are_refused(update, word) -> None:
    mixer = Mixer("knot", inputs(x=()), (State("h", (), 0.0, update(lambda n: state_at("h", ONE, ONE, n))),),
                  state_at("h", ONE), ())  # fmt: skip
    with pytest.raises(SpecCycleError, match=word):
        run_mixer(mixer, {"x": np.ones((1, 3, 1))})


def test_a_mixer_without_inputs_is_refused() -> None:
    mixer = Mixer("empty", params(u=(K,)), (), expr.param("u", K), (K,))
    with pytest.raises(ArgumentError, match="no input"):
        run_mixer(mixer, {"u": np.ones((2, 4))})


def test_masked_softmax_and_a_row_with_nothing_allowed() -> None:
    i, j = expr.position("i"), expr.position("j")
    strict = expr.pairwise(pointwise("lt", j, i))
    scores = matmul(expr.sequence("q", K), transpose(expr.sequence("k", K)))
    mixer = Mixer("strict", mixers.QKV, (), matmul(expr.softmax(scores, strict), expr.sequence("v", V)), (V,))
    a = mixers.arrays(mixer, tokens=6)
    y, _ = run_mixer(mixer, a)
    assert np.all(y[:, 0] == 0)
    for t in range(1, 6):
        weights = np.exp(np.einsum("bhk,bjhk->bjh", a["q"][:, t], a["k"][:, :t]))
        expected = np.einsum("bjh,bjhv->bhv", weights / weights.sum(axis=1, keepdims=True), a["v"][:, :t])
        np.testing.assert_allclose(y[:, t], expected, rtol=1e-12)


def test_cumsum_of_a_sequence_and_a_time_by_time_parameter() -> None:
    w = expr.param("w", TIME, TIME)
    y = add(expr.cumsum(expr.sequence("x", K)), matmul(w, expr.sequence("x", K)))
    mixer = Mixer("pairs", (*inputs(x=(K,)), *params(w=(TIME, TIME))), (), y, (K,))
    a = mixers.arrays(mixer, tokens=5)
    found, _ = run_mixer(mixer, a)
    expected = np.cumsum(a["x"], axis=1) + np.einsum("hij,bjhk->bihk", a["w"], a["x"])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_products_over_a_range_and_positions() -> None:
    i, j, m = expr.position("i"), expr.position("j"), expr.position("m")
    lam = expr.input_of("lam", "m", ONE, offset=-1)
    formula = pointwise("where", pointwise("le", j, i), expr.reduce_range("prod", "m", j, i, mul(lam, m)), const(0.0))
    mixer = Mixer("prod", inputs(lam=(), v=(V,)), (), matmul(expr.pairwise(formula), expr.sequence("v", V)), (V,))
    a = mixers.arrays(mixer, tokens=5)
    found, _ = run_mixer(mixer, a)
    lagged = np.concatenate([np.zeros((2, 1, 2)), a["lam"][:, :-1]], axis=1) * np.arange(1, 6)[None, :, None]
    for t in range(5):
        expected = sum(lagged[:, s : t + 1].prod(axis=1)[..., None] * a["v"][:, s] for s in range(t + 1))
        np.testing.assert_allclose(found[:, t], expected, rtol=1e-12, atol=1e-12)


def test_rotation_of_interleaved_pairs() -> None:
    theta = input_at("theta", K / Dim.number(2))
    x = input_at("x", K)
    there = expr.rotate(theta, x)
    back = expr.rotate(theta, there, inverse=True)
    declared = inputs(x=(K,), theta=(K / Dim.number(2),))
    a = mixers.arrays(Mixer("rot", declared, (), there, (K,)))
    y, _ = run_mixer(Mixer("rot", declared, (), there, (K,)), a)
    z = (a["x"][..., 0::2] + 1j * a["x"][..., 1::2]) * np.exp(1j * a["theta"])
    np.testing.assert_allclose(y[..., 0::2] + 1j * y[..., 1::2], z, rtol=1e-13)
    np.testing.assert_allclose(run_mixer(Mixer("rot", declared, (), back, (K,)), a)[0], a["x"], atol=1e-14)


def test_eye_ones_sum_and_matrix_outputs() -> None:
    x = input_at("x", K)
    y = add(mul(expr.eye(K), expr.sum_over(x, 0)), outer(x, expr.ones(K)))
    mixer = Mixer("matrix", inputs(x=(K,)), (), y, (K, K))
    a = mixers.arrays(mixer)
    found, _ = run_mixer(mixer, a)
    expected = np.eye(4) * a["x"].sum(axis=-1)[..., None, None] + a["x"][..., :, None] * np.ones(4)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_constant_output_is_repeated_over_time() -> None:
    mixer = Mixer("still", (*inputs(x=()), *params(u=(K,))), (), expr.param("u", K), (K,))
    u = np.arange(8.0).reshape(2, 4)
    y, _ = run_mixer(mixer, {"x": np.zeros((3, 5, 2)), "u": u})
    np.testing.assert_array_equal(y, np.broadcast_to(u, (3, 5, 2, 4)))
