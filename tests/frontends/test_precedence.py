"""Operators bind as the reference says: nodes are interned, so equal meaning is the same object."""

import pytest

from smir.frontends import parse_mixer
from smir.source import Source

HEAD = "mixer m; input a, b, c: scalar; input p, q: K; param A: K, K; y[t] = "


def meaning(expression):
    return parse_mixer(Source("s", HEAD + expression)).output


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("-a[t] ** 2", "-(a[t] ** 2)"),
        ("2 ** -a[t]", "2 ** (-a[t])"),
        ("a[t] ** b[t] ** c[t]", "a[t] ** (b[t] ** c[t])"),
        ("A.T @ p[t]", "(A.T) @ p[t]"),
        ("-a[t] * b[t]", "(-a[t]) * b[t]"),
        ("a[t] * -b[t]", "a[t] * (-b[t])"),
        ("a[t] / b[t] * c[t]", "(a[t] / b[t]) * c[t]"),
        ("a[t] * b[t] / c[t]", "(a[t] * b[t]) / c[t]"),
        ("a[t] * p[t] @ q[t].T @ p[t]", "((a[t] * p[t]) @ (q[t].T)) @ p[t]"),
        ("p[t] @ q[t].T * A @ p[t]", "((p[t] @ q[t].T) * A) @ p[t]"),
        ("a[t] - b[t] - c[t]", "(a[t] - b[t]) - c[t]"),
        ("a[t] - b[t] + c[t]", "(a[t] - b[t]) + c[t]"),
        ("a[t] + b[t] * c[t]", "a[t] + (b[t] * c[t])"),
        ("a[t] + b[t] < c[t] - 1", "(a[t] + b[t]) < (c[t] - 1)"),
        ("a[t] < b[t] and b[t] < c[t]", "(a[t] < b[t]) and (b[t] < c[t])"),
        ("a[t] < 1 or b[t] < 1 and c[t] < 1", "(a[t] < 1) or ((b[t] < 1) and (c[t] < 1))"),
        ("a[t] > b[t]", "b[t] < a[t]"),
        ("a[t] >= b[t]", "b[t] <= a[t]"),
        ("p[t] ∘ q[t]", "p[t] * q[t]"),
        ("p[t].T.T", "p[t]"),
        ("- - a[t]", "-(-a[t])"),
        ("1 / 4 * a[t]", "0.25 * a[t]"),
        ("-0 * a[t]", "0 * a[t]"),
        (".5e1 * a[t]", "5 * a[t]"),
    ],
)
def test_binding(written, meant):
    assert meaning(written) is meaning(meant)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-a[t] ** 2", "(-a[t]) ** 2"),
        ("a[t] - b[t] - c[t]", "a[t] - (b[t] - c[t])"),
        ("p[t] @ q[t].T @ p[t]", "p[t] @ (q[t].T @ p[t])"),
        ("a[t] / b[t] * c[t]", "a[t] / (b[t] * c[t])"),
        ("a[t] ** b[t] ** c[t]", "(a[t] ** b[t]) ** c[t]"),
    ],
)
def test_parentheses_matter(one, other):
    assert meaning(one) is not meaning(other)
