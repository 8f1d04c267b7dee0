"""Every way to write a wrong spec: the class of the error, where it points, and a piece of the hint."""

import pytest

from smir.errors import SmirError, SpecCycleError, SpecNameError, SpecSyntaxError, SpecTypeError
from smir.frontends import parse_mixer
from smir.source import Source

SYNTAX, NAME, TYPE, CYCLE = SpecSyntaxError, SpecNameError, SpecTypeError, SpecCycleError

HEAD = """mixer m
input q, k: K
input v: V
input g: scalar in [-inf, 0]
param D: V
state S: K, V
S[t] = S[t-1] + k[t] @ v[t].T
"""

# What stands after `y[t] = ` in line 8, and where the error points there; column 8 is the expression's first.
EQUATIONS = [
    # characters and tokens
    ("v[t]^2", SYNTAX, 12, "`x ** 2`"),
    ("v[t]'", SYNTAX, 12, "`x.T`"),
    ("λ * v[t]", SYNTAX, 8, "`gamma`"),
    ("v[t] \u00d7 v[t]", SYNTAX, 13, "`*` (elementwise)"),
    ("v[t] \u2212 v[t]", SYNTAX, 13, "minus is `-`"),
    ("v[t].t", SYNTAX, 12, "`x.T`"),
    ('"hello"', SYNTAX, 8, "no strings"),
    ("v[t] & v[t]", SYNTAX, 13, "`and`"),
    ("1e999 * v[t]", SYNTAX, 8, "`inf`"),
    ("2 v[t]", SYNTAX, 10, "operator missing between `2` and `v`"),
    ("0x10 * v[t]", SYNTAX, 9, "operator missing"),
    ("v[t] = 3", SYNTAX, 13, "`==`"),
    ("0 < g[t] < 1", SYNTAX, 17, "`a <= b and b < c`"),
    ("v[t] **", SYNTAX, 15, None),
    ("* v[t]", SYNTAX, 8, None),
    ("()", SYNTAX, 9, None),
    ("v[t])", SYNTAX, 12, None),
    ("(v[t]]", SYNTAX, 13, None),
    ("q[t", SYNTAX, 9, "closing bracket"),
    ("exp(v[t]\nz = 3", SYNTAX, 11, "closing bracket"),
    ("input * v[t]", SYNTAX, 8, "reserved word"),
    ("v[t]\nmixer n", SYNTAX, (9, 1), "one mixer per file"),
    # names
    ("vv[t]", NAME, 8, "did you mean `v`?"),
    ("lambda * v[t]", NAME, 8, "the names of this spec"),
    ("V * v[t]", NAME, 8, "`size(V)`"),
    ("expo(v[t])", NAME, 8, "did you mean `exp`?"),
    ("v(t)", NAME, 8, "`v[t]`"),
    ("y[t-1]", NAME, 8, "declare a state"),
    ("y", NAME, 8, "give the expression a name"),
    ("v[t]; z[t] = 3", NAME, 14, "`state z: ...`"),
    ("v[t]; v[t] = 3", NAME, 14, "one meaning"),
    ("v[t]; v = 3", NAME, 14, "one meaning"),
    ("v[t]; y = v", NAME, 14, "one equation"),
    ("v[t]; S[t] = S[t-1]", NAME, 14, "one equation"),
    ("v[t]; exp = 3", NAME, 14, "`exp(...)` keeps its meaning"),
    ("v[t]; t = 3", NAME, 14, "another name"),
    ("v[t]; form = v[t]", NAME, 14, "another name"),
    ("v[t]; lambda = v[t]", NAME, 14, "`lam`"),
    ("v[t]; _x = v[t]", NAME, 14, "`x`"),
    ("v[t]; a__b = v[t]", NAME, 14, "`a_b`"),
    ("sum(S[t], M)", NAME, 18, "`K` and `V`"),
    ("ones(W) * v[t]", NAME, 13, "`K` and `V`"),
    # dimensions
    ("q[t] @ k[t]", TYPE, 8, "`a @ b.T` is the outer product"),
    ("S[t] @ q[t]", TYPE, 8, "`a.T @ b`"),
    ("(q[t].T @ S[t]) @ v[t].T", TYPE, 8, "`a.T @ b`"),
    ("q[t].T @ S[t] @ S[t]", TYPE, 8, "`a @ b.T`"),
    ("q[t] * v[t]", TYPE, 8, "dimension names must match exactly"),
    ("S[t] + S[t].T", TYPE, 8, "`.T`"),
    ("v[t].T", TYPE, 8, "`.T`"),
    ("diag(S[t]) @ v[t]", TYPE, 8, "`diag(x[t])`"),
    ("rot(q[t]) @ v[t]", TYPE, 8, "the columns of the left side"),
    ("sum(S[t], 3)", TYPE, 8, "two dimensions"),
    ("eye(2.5) @ v[t]", TYPE, 12, "`K/2`"),
    # time
    ("v[t] + v", TYPE, 8, "with [t] in a step equation"),
    ("g * v[t]", TYPE, 8, "bare in a masked operator"),
    ("S", TYPE, 8, "`S[t-1]`"),
    ("v", TYPE, 8, "`y = ...`"),
    ("D", TYPE, 8, "`v[t]`"),
    ("D[t] * v[t]", TYPE, 8, "`D`"),
    ("t * v[t]", TYPE, 8, "`x[t]`"),
    ("v[i]", TYPE, 10, "`x[t-n]`"),
    ("v[2*t]", TYPE, 10, "`x[t-n]`"),
    ("v[t-1.5]", TYPE, 12, None),
    ("v[t-5000]", TYPE, 12, None),
    ("v[t, t]", TYPE, 8, "`v[t]`"),
    ("(v + v)[t]", TYPE, 9, "`x[t].T`"),
    ("R; R = R2[t]; R2 = v[t]", TYPE, 15, "write `R2`"),
    ("R[t-1]; R = v[t]", TYPE, 8, "declare a state"),
    ("cumsum(v[t])", TYPE, 8, "`cumsum(g)`"),
    ("sum(m, 0, 3, v[t])", TYPE, 8, "`M[i, j] = ...`"),
    ("S[t].T @ q[t] * (ones(T).T @ ones(T))", TYPE, 8, "`y = ...`"),
    ("size(T) * v[t]", TYPE, 8, "`sum(A, T)`"),
    # calls
    ("exp(v[t], v[t])", TYPE, 8, "`exp(x)`"),
    ("exp()", TYPE, 8, "`exp(x)`"),
    ("exp", TYPE, 8, "`exp(x)`"),
    ("decay * v", TYPE, 8, "`decay(gamma)`"),
    ("causal(3) * v", TYPE, 8, "`causal`"),
    ("decay(D) * v", TYPE, 8, "`: scalar`"),
    ("decay(exp(g)) * v", TYPE, 8, "`selective(exp(g))`"),
    ("lion(v) * v", TYPE, 8, "`diag(exp(g[t])) @ S[t-1]`"),
    ("selective(cumsum(g)) * v", TYPE, 8, "elementwise functions of inputs"),
    ("window(2.5) * v", TYPE, 8, "`window(8)`"),
    ("softmax(causal * (q @ k.T)) @ v", TYPE, 8, "`softmax(q @ k.T, causal)`"),
    ("softmax(causal * M) @ v; M[i, j] = q[i].T @ k[j]", TYPE, 8, "`softmax(scores, mask)`"),
    ("1/0 * v[t]", TYPE, 8, None),
    # index formulas
    ("M; M[i, j] = v[i]", TYPE, 21, None),
    ("M @ v; M[i, j] = q[i] @ k[j]", TYPE, 25, "`a.T @ b` the inner one"),
    ("M @ v; M[i, i] = 1", NAME, 20, "its own name"),
    ("M @ v; M[i, t] = 1", NAME, 20, "i, j and m"),
    ("M @ v; M[i, j+1] = 1", TYPE, 20, "`M[i, j] = ...`"),
    ("M @ v; M[i] = 1", NAME, 15, "`state M: ...`"),
    ("M @ v; M[i, j, l] = 1", TYPE, 23, "`M[i, j] = ...`"),
    ("M @ v; M[q, j] = 1", NAME, 17, "another index"),
    ("M @ v; M[i, j] = g", TYPE, 25, "`g[i]`"),
    ("M @ v; M[i, j] = f; f = exp(g)", TYPE, 25, "`f[i]`"),
    ("M @ v; M[i, j] = f; f = exp(g[t])", TYPE, 25, "`f[i]`"),
    ("M @ v; M[i, j] = f[i]; f = exp(g[t])", TYPE, 25, "elementwise functions of inputs"),
    ("M @ v; M[i, j] = 2 * N; N[i, j] = i - j", TYPE, 29, "`N[i, j]`"),
    ("M @ v; M[i, j] = causal * g[i]", TYPE, 25, "`M * causal`"),
    ("M @ v; M[i, j] = g[t]", TYPE, 27, "`i` and `j`"),
    ("M @ v; M[i, j] = S[i]", TYPE, 25, "step equations"),
    ("M @ v; M[i, j] = sum(i, 0, j, 1)", NAME, 29, "its own name"),
    ("M @ v; M[i, j] = sum(m+1, 0, j, 1)", TYPE, 29, "`sum(m, lo, hi, body)`"),
    ("M @ v; M[i, j] = sum(m, g[i], j, 1)", TYPE, 25, "`sum(m, j+1, i, g[m])`"),
    ("M @ v; M[i, j] = sum(m, 0.5, j, 1)", TYPE, 25, "`sum(m, j+1, i, g[m])`"),
    ("M[t] @ v; M[i, j] = 1", TYPE, 8, "a T x T matrix"),
    # cycles
    ("R; R = R + v[t]", CYCLE, 15, "`S[t-1]`"),
    ("R; R = Q * 1; Q = R", CYCLE, 15, "`S[t-1]`"),
]


@pytest.mark.parametrize(("equation", "error", "place", "hint"), EQUATIONS, ids=[e[0] for e in EQUATIONS])
def test_bad_equation(equation, error, place, hint):
    line, column = place if isinstance(place, tuple) else (8, place)
    check(HEAD + "y[t] = " + equation + "\n", error, line, column, hint)


IO = "mixer m; input v: V; "

# Whole specs, all in one line, and the column.
SPECS = [
    ("", SYNTAX, 1, "`mixer NAME`"),
    ("   # only a comment", SYNTAX, 20, "`mixer NAME`"),
    ("input v: V", SYNTAX, 1, "`mixer NAME`"),
    ("mixer", SYNTAX, 6, None),
    ("mixer 3", SYNTAX, 7, None),
    ("mixer input", SYNTAX, 7, "reserved word"),
    ("mixer class", NAME, 7, "`class_value`"),
    ("mixer m; y[t] = 1", NAME, 7, "`input v: V`"),
    (IO, NAME, 7, "`y[t] = ...`"),
    (IO + "input v: V; y = v", NAME, 28, "one meaning"),
    (IO + "input: V; y = v", SYNTAX, 27, None),
    (IO + "input a b: V; y = v", SYNTAX, 30, "operator missing"),
    (IO + "input y: V", NAME, 28, "another name"),
    (IO + "input T: V; y = v", NAME, 28, "another name"),
    (IO + "input return_state: V; y = v", NAME, 28, "another name"),
    (IO + "input causal: V; y = v", NAME, 28, "another name"),
    (IO + "input inplace: V; y = v", NAME, 28, "another name"),
    (IO + "input v_past: V; y = v", NAME, 28, "another name"),
    (IO + "input x: A heads; y = v", SYNTAX, 38, None),
    (IO + "input x: A heads 2; y = v", TYPE, 39, "`heads H/4`"),
    (IO + "input x: A heads A/2; y = v", TYPE, 39, "`heads H/4`"),
    (IO + "input x: A heads H/H; y = v", TYPE, 39, "`heads H/4`"),
    (IO + "input x: A heads H/0; y = v", TYPE, 39, "`heads H/4`"),
    (IO + "input x: A heads H/2.5; y = v", TYPE, 41, None),
    (IO + "param x: A heads H/2; y = v", TYPE, 39, "leave `heads` out"),
    (IO + "input x: A heads H/A; y = v", NAME, 28, "another name"),
    (IO + "input x: H heads H/2; y = v", NAME, 28, "another name"),
    (IO + "input heads: A; y = v", SYNTAX, 28, "reserved word"),
    ("mixer m; input v: V heads H/2; y = v", NAME, 16, "leave `heads` out"),
    (IO + "input x: A, B, C; y = v", TYPE, 37, "a matrix `K, V`"),
    (IO + "input x: T; y = v", TYPE, 31, "only parameters"),
    (IO + "input x: 0; y = v", TYPE, 31, "whole number"),
    (IO + "input x: 1/2; y = v", TYPE, 31, "whole number"),
    (IO + "input x: K/K; y = v", TYPE, 31, "`K/2`"),
    (IO + "input x: K/0; y = v", TYPE, 31, "`K/2`"),
    (IO + "input x: exp(K); y = v", TYPE, 31, "`K/2`"),
    (IO + "input x: 99999999999; y = v", TYPE, 31, "whole number"),
    (IO + "input x: V in [1, 0]; y = v", TYPE, 33, "smaller end first"),
    (IO + "input x: V in (0, 0]; y = v", TYPE, 33, "smaller end first"),
    (IO + "input x: V in [0, v]; y = v", TYPE, 40, "names of constants"),
    (IO + "input x: V in [0, 1; y = v", SYNTAX, 36, "closing bracket"),
    (IO + "input x: V in 3; y = v", SYNTAX, 36, None),
    (IO + "input x: V, W; y = x", TYPE, 41, "`x[t]`"),
    (IO + "const w = v; y = v", TYPE, 32, "names of constants"),
    (IO + "const w = 10 ** 400; y = v", TYPE, 32, "a number or `inf`"),
    (IO + "const w = inf - inf; y = v", TYPE, 32, "a number or `inf`"),
    (IO + "const w = (-8) ** 0.5; y = v", TYPE, 32, "a number or `inf`"),
    (IO + "const w = 8; y[t] = w[t]", TYPE, 42, "write `w`"),
    (IO + "state S: V; y = v", NAME, 28, "`S[t] = ...`"),
    (IO + "state S: V; S[t] = v[t]; y[t] = v[t]", NAME, 28, "delete it"),
    (IO + "state S: V; S[t] = S[t-1] + v[t]; y[t] = v[t]", NAME, 28, "delete it"),
    (IO + "state S: W; S[t] = v[t]; y[t] = S[t]", NAME, 28, "`V`"),
    (IO + "state S: V = v; S[t] = v[t]; y[t] = S[t]", TYPE, 35, "numbers"),
    (IO + "state S: V; S[t] = S[t] + v[t]; y[t] = S[t]", CYCLE, 41, "`S[t-1]`"),
    (IO + "state S: V; S[t] = S[t-1] + S[t+1]; y[t] = S[t]", CYCLE, 50, "one state per direction"),
    (IO + "state S, R: V; S[t] = R[t-1]; R[t] = S[t+1]; y[t] = S[t]", CYCLE, 59, "one state per direction"),
    (IO + "state S: V; S[t] = S[2*t]; y[t] = S[t]", TYPE, 43, "`x[t-n]`"),
    (IO + "state S: V; S = v[t]; y[t] = S[t]", TYPE, 34, "`S[t] = ...`"),
    (IO + "state S: V; S[t-1] = v[t]; y[t] = S[t]", TYPE, 36, "`S[t] = ...`"),
    (IO + "state S: V; S[t] = v; y[t] = S[t]", TYPE, 41, "[t]"),
    (IO + "state S: V; S[t] = ones(V); y[t] = S[t] + v[t]", TYPE, 41, "local definition"),
    (IO + "state S: V; S[t] = v[t].T; y[t] = S[t]", TYPE, 41, "`.T`"),
    (IO + "state S: V; S[t] = 0 * S[t-1].T @ v[t]; y[t] = S[t]", TYPE, 41, "a column is"),
    (IO + "y = v.T", TYPE, 26, "`.T`"),
    (IO + "y = v @ v.T", TYPE, 26, "multiply it by `v`"),
    (IO + "y = sum(v, T)", TYPE, 26, "its rows are the time steps"),
    (IO + "y[i, j] = v[i]", TYPE, 24, "`y[t] = ...`"),
    (IO + "y = sum(v @ v.T, T)", TYPE, 26, "`ones(T).T @ a`"),
    (IO + "param w: T, T; y = w", TYPE, 41, "use an input"),
    (IO + "y = softmax(v, causal)", TYPE, 26, None),
    (IO + "input theta: V; y[t] = rot(theta[t]) @ v[t]", TYPE, 45, "the columns of the left side"),
]


@pytest.mark.parametrize(("text", "error", "column", "hint"), SPECS, ids=[s[0] or "empty" for s in SPECS])
def test_bad_spec(text, error, column, hint):
    check(text, error, 1, column, hint)


def check(text, error, line, column, hint):
    with pytest.raises(SmirError) as caught:
        parse_mixer(Source("spec.smir", text))
    found = caught.value
    assert type(found) is error, found
    assert (found.span.line, found.span.column) == (line, column), found
    assert str(found).startswith(f"spec.smir:{line}:{column}: {found.message}\n") and "^" in str(found)
    assert hint is None or hint in (found.hint or ""), found


def test_the_tables_are_large():
    assert len(EQUATIONS) + len(SPECS) >= 150


def test_a_missing_bracket_is_reported_at_the_bracket_not_where_the_parser_noticed():
    text = "mixer m\ninput v: V\nR = exp(v[t]\ny[t] = R\n"
    with pytest.raises(SpecSyntaxError, match=r"`\(` is never closed") as caught:
        parse_mixer(Source("s", text))
    assert caught.value.span.line == 3


def test_the_cycle_is_listed():
    with pytest.raises(SpecCycleError, match=r"`R` -> `Q` -> `R`|`Q` -> `R` -> `Q`"):
        parse_mixer(Source("s", HEAD + "y[t] = R; R = Q; Q = R"))
