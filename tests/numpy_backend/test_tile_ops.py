"""Tile operations against loops that follow their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smir.backends.numpy_reference import tile_ops as ops

COUNTS = st.sampled_from([1, 2, 3, 5, 8, 11, 16])
SEEDS = st.integers(0, 10**6)


def level_of(i: int, j: int) -> int:
    """The highest binary digit in which two different rows differ."""
    return 1 << ((i ^ j).bit_length() - 1)


@settings(max_examples=40, deadline=None)
@given(count=COUNTS, seed=SEEDS, reverse=st.booleans(), exclusive=st.booleans())
def test_segment_sums(count: int, seed: int, reverse: bool, exclusive: bool) -> None:
    g = np.random.default_rng(seed).normal(size=(2, count, 1))
    got = ops.segment_sum(g, reverse, exclusive)
    for i in range(count):
        for j in range(count):
            low, high = (i + 1 if exclusive else i, j) if reverse else (j + 1, i if exclusive else i + 1)
            np.testing.assert_allclose(got[:, i, j], g[:, low:high, 0].sum(axis=1), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(count=COUNTS, seed=SEEDS, reverse=st.booleans(), exclusive=st.booleans())
def test_cumsum(count: int, seed: int, reverse: bool, exclusive: bool) -> None:
    a = np.random.default_rng(seed).normal(size=(count, 3))
    for i in range(count):
        rows = (slice(i + exclusive, None)) if reverse else slice(0, i + 1 - exclusive)
        np.testing.assert_allclose(ops.cumsum(a, reverse, exclusive)[i], a[rows].sum(axis=0), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(count=COUNTS, seed=SEEDS, reverse=st.booleans(), exclusive=st.booleans())
def test_level_scores_are_the_decayed_scores_of_all_pairs(
    count: int, seed: int, reverse: bool, exclusive: bool
) -> None:
    rng = np.random.default_rng(seed)
    q, k, g = rng.normal(size=(2, count, 3)), rng.normal(size=(2, count, 3)), -rng.random((2, count, 3))
    expected = np.zeros((2, count, count))
    for i in range(count):
        for j in range(count):
            if (i < j) if reverse else (i > j):
                low, high = (i + exclusive, j) if reverse else (j + 1, i + 1 - exclusive)
                expected[:, i, j] = (q[:, i] * k[:, j] * np.exp(g[:, low:high].sum(axis=1))).sum(axis=1)
    by_levels = np.zeros_like(expected)
    for level in ops.levels(count):
        w = np.exp(ops.pair_distance(g, level, reverse, exclusive))
        product = np.matmul(q * w, np.swapaxes(k * np.exp(ops.pair_distance(g, level, reverse)), -1, -2))
        by_levels += ops.level_mask(product, level, reverse)
    np.testing.assert_allclose(by_levels, expected, atol=1e-12)
    np.testing.assert_allclose(ops.level_scores(q, k, g, reverse, exclusive), expected, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_pair_has_exactly_one_level(count: int, reverse: bool) -> None:
    ones = np.ones((count, count))
    for i in range(count):
        for j in range(count):
            found = [s for s in ops.levels(count) if ops.level_mask(ones, s, reverse)[i, j]]
            assert found == ([level_of(i, j)] if (i < j if reverse else i > j) else [])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 33, 64])
@pytest.mark.parametrize("reverse", [False, True])
def test_unit_inverse_even_of_correlated_keys(count: int, reverse: bool) -> None:
    rng = np.random.default_rng(count)
    k = 0.05 * rng.normal(size=(3, count, 8)) + rng.normal(size=(3, 1, 8))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    n = ops.mask(k @ np.swapaxes(k, -1, -2), "strict_upper" if reverse else "strict_lower")
    product = ops.unit_inverse(n, reverse) @ (np.eye(count) + n)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(count), n.shape), atol=1e-9)


def test_level_scores_under_exact_resets() -> None:
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 9, 3))
    g = np.where(rng.random((9, 3)) < 0.4, -np.inf, -rng.random((9, 3)))
    scores = ops.level_scores(q, k, g)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[8, 2], (q[8] * k[2] * np.exp(g[3:]).prod(axis=0)).sum(), atol=1e-14)


def test_rotate_there_and_back() -> None:
    rng = np.random.default_rng(0)
    theta, a = rng.normal(size=(5, 2)), rng.normal(size=(5, 4))
    turned = ops.rotate(theta, a, axis=1)
    expected = np.array([np.cos(theta[0, 0]) * a[0, 0] - np.sin(theta[0, 0]) * a[0, 1]])
    np.testing.assert_allclose(turned[0, :1], expected)
    np.testing.assert_allclose(ops.rotate(theta, turned, axis=1, inverse=True), a, atol=1e-14)
    np.testing.assert_allclose(ops.rotate(theta.T, a.T, axis=0), turned.T, atol=1e-14)


def test_valid_rows_counts_per_chunk() -> None:
    a = np.ones((1, 1, 2, 3, 2))
    got = ops.valid_rows(a, np.array([3, 1])[:, None, None], fill=7.0)
    assert (got[0, 0, 0] == 1).all() and (got[0, 0, 1, 1:] == 7).all() and (got[0, 0, 1, 0] == 1).all()


@settings(max_examples=40, deadline=None)
@given(count=COUNTS, seed=SEEDS, reverse=st.booleans(), exclusive=st.booleans())
def test_pair_collect_is_the_transpose_of_pair_distance(count: int, seed: int, reverse: bool, exclusive: bool) -> None:
    rng = np.random.default_rng(seed)
    g, d = rng.normal(size=(2, count, 3)), rng.normal(size=(2, count, 3))
    for level in (*ops.levels(count), 16):
        distance = ops.pair_distance(np.eye(count), level, reverse, exclusive)
        np.testing.assert_array_equal(ops.pair_collect(np.eye(count), level, reverse, exclusive), distance.T)
        one = np.sum(ops.pair_distance(g, level, reverse, exclusive) * d)
        np.testing.assert_allclose(np.sum(g * ops.pair_collect(d, level, reverse, exclusive)), one, atol=1e-11)


def test_turn_pairs_is_what_cross_pairs_asks_of_its_left_operand() -> None:
    rng = np.random.default_rng(0)
    a, b, g = rng.normal(size=(5, 6)), rng.normal(size=(5, 6)), rng.normal(size=(5, 3))
    turned = ops.turn_pairs(g, b, axis=1)
    np.testing.assert_array_equal(turned[1, 2:4], [g[1, 1] * b[1, 3], -g[1, 1] * b[1, 2]])
    np.testing.assert_allclose(np.sum(turned * a), np.sum(g * ops.cross_pairs(a, b, axis=1)))
    np.testing.assert_array_equal(ops.turn_pairs(g.T, b.T, axis=0), turned.T)


def test_cross_pairs_is_the_area_between_the_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 6)), rng.normal(size=(2, 5, 6))
    got = ops.cross_pairs(a, b, axis=1)
    assert got.shape == (2, 5, 3)
    np.testing.assert_allclose(got[1, 2, 1], a[1, 2, 2] * b[1, 2, 3] - a[1, 2, 3] * b[1, 2, 2])
    np.testing.assert_array_equal(ops.cross_pairs(b, a, axis=1), -got)
    np.testing.assert_array_equal(ops.cross_pairs(a.swapaxes(1, 2), b.swapaxes(1, 2), axis=0), got.swapaxes(1, 2))
    turned = ops.rotate(np.full((2, 5, 3), 0.3), a, axis=1)
    lengths = a[..., 0::2] ** 2 + a[..., 1::2] ** 2
    np.testing.assert_allclose(ops.cross_pairs(a, turned, axis=1), lengths * np.sin(0.3))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["sum", "max", "logsum"])
def test_scans_are_their_recurrence(kind: str, reverse: bool) -> None:
    rng = np.random.default_rng(3)
    decay, write, start = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 1, 3))
    decay[:, 4, 1] = 0.0 if kind == "sum" else -np.inf
    step = {"sum": lambda d, h, w: d * h + w, "max": lambda d, h, w: np.maximum(d + h, w),
            "logsum": lambda d, h, w: np.log(np.exp(d + h) + np.exp(w))}[kind]  # fmt: skip
    expected, state = np.empty_like(write), start[:, 0]
    for row in reversed(range(7)) if reverse else range(7):
        expected[:, row] = state = step(decay[:, row], state, write[:, row])
    found = ops.scan(decay, write, start, kind, reverse)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_array_equal(found[:, 4, 1], write[:, 4, 1])
    before = ops.shift(found, start, reverse)
    np.testing.assert_allclose(step(decay, before, write), expected, rtol=1e-13)
    np.testing.assert_allclose(ops.edge_row(found, reverse)[:, 0], state, rtol=1e-13)


def test_lanes_are_the_entries_of_a_matrix_in_rows() -> None:
    rng = np.random.default_rng(4)
    column, row = rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    outer = np.einsum("ci,cj->cij", column, row)
    wide = ops.spread_lanes(column, 4, 0) * ops.spread_lanes(row, 3, 1)
    np.testing.assert_array_equal(wide, outer.reshape(5, 12))
    np.testing.assert_allclose(ops.fold_lanes(wide, 4, 0), outer.sum(axis=2))
    np.testing.assert_allclose(ops.fold_lanes(wide, 3, 1), outer.sum(axis=1))
