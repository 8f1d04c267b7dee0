"""Mixers built by hand from IR constructors, and arrays for them."""

import numpy as np

from smir.ir import expr
from smir.ir.dims import ONE, Dim
from smir.ir.expr import const, input_at, matmul, pointwise, state_at, transpose
from smir.ir.graph import Node
from smir.ir.mixer import INPUT, PARAM, Declaration, Mixer, State

K, V = Dim.name("K"), Dim.name("V")
SIZES = {"K": 4, "V": 3}


def add(a: Node, b: Node) -> Node:
    return pointwise("add", a, b)


def mul(a: Node, b: Node) -> Node:
    return pointwise("mul", a, b)


def exp(a: Node) -> Node:
    return pointwise("exp", a)


def outer(a: Node, b: Node) -> Node:
    return matmul(a, transpose(b))


def inputs(**dims: tuple[Dim, ...]) -> tuple[Declaration, ...]:
    return tuple(Declaration(INPUT, name, d) for name, d in dims.items())


def params(**dims: tuple[Dim, ...]) -> tuple[Declaration, ...]:
    return tuple(Declaration(PARAM, name, d) for name, d in dims.items())


q, k, v = input_at("q", K), input_at("k", K), input_at("v", V)
QKV = inputs(q=(K,), k=(K,), v=(V,))


def diagonal() -> Mixer:
    """S = diag(e^g) S- + k v', read after the update."""
    S = state_at("S", K, V)
    update = add(mul(exp(input_at("g", K)), state_at("S", K, V, -1)), outer(k, v))
    y = matmul(transpose(S), q)
    return Mixer("diagonal", (*QKV, *inputs(g=(K,))), (State("S", (K, V), 0.0, update),), y, (V,))


def erasing() -> Mixer:
    """R = e^g S-; S = R + k (beta (v - R' k))'."""
    g, beta = input_at("g", ONE), input_at("beta", ONE)
    R = mul(exp(g), state_at("S", K, V, -1))
    update = add(R, outer(k, mul(beta, pointwise("sub", v, matmul(transpose(R), k)))))
    y = matmul(transpose(state_at("S", K, V)), q)
    declared = (*QKV, *inputs(g=(), beta=()))
    return Mixer("erasing", declared, (State("S", (K, V), 0.0, update),), y, (V,), (("R", R), ("y", y)))


def two_directions() -> Mixer:
    """F forward with its own gate, B backward with the next token's gate."""
    F = add(mul(exp(input_at("g", ONE)), state_at("F", K, V, -1)), outer(k, v))
    B = add(mul(exp(input_at("g", ONE, offset=1)), state_at("B", K, V, 1)), outer(k, v))
    both = add(state_at("F", K, V), state_at("B", K, V))
    y = pointwise("sub", matmul(transpose(both), q), mul(matmul(transpose(k), q), v))
    states = (State("F", (K, V), 0.0, F), State("B", (K, V), 0.0, B))
    return Mixer("two_directions", (*QKV, *inputs(g=())), states, y, (V,))


def masked() -> Mixer:
    """The same operator as `two_directions` as an index formula."""
    i, j, m = expr.position("i"), expr.position("j"), expr.position("m")
    g = expr.input_of("g", "m", ONE)
    one = const(1.0)
    below = expr.reduce_range("sum", "m", add(j, one), i, g)
    above = expr.reduce_range("sum", "m", add(i, one), j, g)
    assert m.type.is_scalar
    formula = exp(pointwise("where", pointwise("lt", j, i), below, above))
    Q, Ks, Vs = expr.sequence("q", K), expr.sequence("k", K), expr.sequence("v", V)
    y = matmul(mul(expr.pairwise(formula), matmul(Q, transpose(Ks))), Vs)
    return Mixer("masked", (*QKV, *inputs(g=())), (), y, (V,))


def nonlinear() -> Mixer:
    """h = tanh(U h- + x), a parameter matrix, started at 0.5."""
    x = input_at("x", K)
    update = pointwise("tanh", add(matmul(expr.param("U", K, K), state_at("h", K, ONE, -1)), x))
    declared = (*inputs(x=(K,)), *params(U=(K, K)))
    return Mixer("nonlinear", declared, (State("h", (K,), 0.5, update),), state_at("h", K), (K,))


ALL = (diagonal, erasing, two_directions, masked, nonlinear)


def arrays(mixer: Mixer, batch: int = 2, tokens: int = 9, heads: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays in canonical layout; names that start with `g` are log-decays."""
    rng = np.random.default_rng(seed)
    out = {}
    for d in mixer.declarations:
        lead = (batch, tokens, heads) if d.kind == INPUT else (heads,)
        a = rng.standard_normal((*lead, *(dim.size(SIZES | {"T": tokens}) for dim in d.dims)))
        out[d.name] = -np.abs(a) if d.name.startswith("g") else a
    return out
