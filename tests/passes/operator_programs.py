"""Hand-built operator programs of every class, and arrays with hard gates for them."""

import math
from dataclasses import dataclass

import numpy as np

from smir.ir import expr
from smir.ir.dims import ONE, Dim
from smir.ir.expr import STEP, ValueType
from smir.ir.graph import Node, make
from smir.ir.interval import REAL, Interval
from smir.ir.mixer import INPUT, Declaration, Mixer, State
from smir.ir.operator import (
    AFTER,
    BACKWARD,
    BEFORE,
    DECAYED,
    FORWARD,
    Decay,
    Diagonal,
    Erase,
    MicroStep,
    Operator,
    OperatorProgram,
    Read,
    Rotation,
    Write,
)

K, V = Dim.name("K"), Dim.name("V")
HALF = K / Dim.number(2)
SIZES = {"K": 4, "V": 3}
LOG = Interval(-math.inf, 0.0)


@dataclass(frozen=True)
class Case:
    """One class of operators. `erases`: for every micro-step how many writes erase; () is one plain write."""

    scalar: bool = False
    rows: bool = False
    cols: bool = False
    signed: bool = False
    direction: str = FORWARD
    moment: str = AFTER
    erases: tuple[int, ...] = ()
    erase_moment: str = DECAYED
    transposed: bool = False
    rotated: bool = False
    normaliser: bool = False


def column(name: str, dim: Dim = K) -> Node:
    return expr.input_at(name, dim)


def vector(name: str, dim: Dim | None) -> Declaration:
    dims = () if dim is None else (dim,)
    return Declaration(INPUT, name, dims, LOG if name.startswith("g") else REAL)


def program(case: Case) -> OperatorProgram:
    """Reads of one or two states of the class, `y = S^T q` (over `1 + (z^T q)^2` with a normaliser)."""
    declared = [vector("q", K), vector("k", K), vector("v", V), vector("u", K), vector("beta", None)]
    decay = Decay(
        _diagonal(case, declared, "g", ONE) if case.scalar else None,
        _diagonal(case, declared, "gk", K) if case.rows else None,
        _diagonal(case, declared, "gv", V) if case.cols else None,
    )
    rotation = Rotation(_angle(declared)) if case.rotated else Rotation()
    operators = [Operator("S", K, V, case.direction, _steps(case, decay, rotation), case.transposed)]
    reads = [Read("read_S", "S", column("q"), case.moment)]
    dims = (V, K) if case.transposed else (K, V)
    states = [State("S", dims, 0.0, column("q"))]
    output = _read("read_S", V)
    if case.normaliser:
        step = MicroStep(Decay(decay.scalar, decay.rows), (Write(column("k"), expr.const(1.0)),), rotation)
        operators.append(Operator("z", K, ONE, case.direction, (step,)))
        reads.append(Read("read_z", "z", column("q"), case.moment))
        states.append(State("z", (K,), 0.0, column("q")))
        z = _read("read_z", ONE)
        output = expr.pointwise("div", output, expr.pointwise("add", expr.const(1.0), expr.pointwise("mul", z, z)))
    mixer = Mixer("hand_built", tuple(declared), tuple(states), output, (V,))
    return OperatorProgram(mixer, tuple(operators), tuple(reads), output)


def _diagonal(case: Case, declared: list[Declaration], name: str, dim: Dim) -> Diagonal:
    declared.append(vector(name, None if dim == ONE else dim))
    log = column(name, dim)
    if not case.signed:
        return Diagonal(log)
    declared.append(vector(f"s{name}", None if dim == ONE else dim))
    below = expr.pointwise("lt", column(f"s{name}", dim), expr.const(0.0))
    return Diagonal(log, expr.pointwise("where", below, expr.const(-1.0), expr.const(1.0)))


def _angle(declared: list[Declaration]) -> Node:
    declared.append(vector("turn", HALF))
    return column("turn", HALF)


def _steps(case: Case, decay: Decay, rotation: Rotation) -> tuple[MicroStep, ...]:
    plain = Write(column("k"), column("v", V))
    if not case.erases:
        return (MicroStep(decay, (plain,), rotation),)
    steps = []
    for number, count in enumerate(case.erases):
        writes = [_erasing(w + 2 * number, case.erase_moment) for w in range(count)] or [plain]
        first = number == 0
        steps.append(MicroStep(decay if first else Decay(), tuple(writes), rotation if first else Rotation()))
    return tuple(steps)


def _erasing(number: int, moment: str) -> Write:
    """`left (beta v - beta key^T S)^T` with vectors that differ from write to write; odd ones have no value."""
    beta = column("beta", ONE)
    left = column("k") if number % 4 < 2 else column("u")
    key = column("k") if number % 3 == 0 else column("u")
    erase = Erase(expr.pointwise("mul", expr.pointwise("neg", beta), key), moment)
    value = None if number % 2 else expr.pointwise("mul", beta, column("v", V))
    return Write(left, value, erase)


def _read(name: str, dim: Dim) -> Node:
    return make("read", (), ValueType(dim, ONE, STEP), name=name)


def arrays(program: OperatorProgram, seed: int, tokens: int, chunk: int = 4, batch: int = 2, heads: int = 2):
    """Inputs and initial states: log decays of 0, -8 and -inf at random places and at chunk edges, correlated keys."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for d in program.mixer.declarations:
        shape = (batch, tokens, heads, *(x.size(SIZES) for x in d.dims))
        value = rng.normal(size=shape)
        if d.name.startswith("g"):
            value = -rng.exponential(size=shape)
            value = np.where(rng.random(shape) < 0.1, rng.choice([0.0, -8.0, -np.inf], size=shape), value)
            if rng.random() < 0.5:
                value[:, ::chunk] = -np.inf
            if rng.random() < 0.5:
                value[:, chunk - 1 :: chunk] = rng.choice([0.0, -np.inf])
        if d.name in ("k", "u"):
            value = 0.1 * value + rng.normal(size=(batch, 1, heads, SIZES["K"]))
            value /= np.linalg.norm(value, axis=-1, keepdims=True)
        if d.name == "beta":
            value = rng.random(shape)
        inputs[d.name] = value
    states = {s.name: rng.normal(size=(batch, heads, *(x.size(SIZES) for x in s.dims))) for s in program.mixer.states}
    return inputs, states


DECAYS = [
    {}, {"scalar": True}, {"rows": True}, {"scalar": True, "rows": True}, {"cols": True},
    {"rows": True, "cols": True}, {"scalar": True, "cols": True},
]  # fmt: skip
ERASES = [(1,), (2,), (1, 1), (0, 1), (1, 0), (2, 1)]
MOMENTS = [BEFORE, DECAYED, AFTER]
DIRECTIONS = [FORWARD, BACKWARD]


def every_class() -> list[Case]:
    """Every decay with every sign, direction and moment; erases with every decay that admits them."""
    cases = [
        Case(**d, signed=s, direction=w, moment=m, transposed=s, normaliser=not s)
        for d in DECAYS for s in (False, True) for w in DIRECTIONS for m in MOMENTS
    ]  # fmt: skip
    cases += [
        Case(**d, signed=e == (1, 1), direction=w, moment=m, erases=e, erase_moment=t)
        for d in DECAYS if "cols" not in d
        for e in ERASES for w in DIRECTIONS for t in (BEFORE, DECAYED) for m in (AFTER,)
    ]  # fmt: skip
    cases += [Case(rows=True, moment=m, erases=(1,), erase_moment=BEFORE) for m in MOMENTS]
    cases += [
        Case(**d, signed=m == BEFORE, direction=w, moment=m, rotated=True, normaliser=m == AFTER)
        for d in DECAYS if "rows" not in d for w in DIRECTIONS for m in MOMENTS
    ]  # fmt: skip
    cases += [
        Case(scalar=True, direction=w, rotated=True, erases=e, erase_moment=t)
        for e in ERASES for w in DIRECTIONS for t in (BEFORE, DECAYED)
    ]  # fmt: skip
    return cases
