"""Operator programs by the definition of their types, against the mixers they stand for."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.operator_interpreter import run_operators
from smir.ir.dims import ONE
from smir.ir.expr import const, input_at, matmul, pointwise, read, state_at, transpose
from smir.ir.graph import Node
from smir.ir.mixer import Mixer, State
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
    Write,
)
from smir.ir.verifier import verify
from tests.oracle import mixers
from tests.oracle.mixers import QKV, K, V, add, exp, inputs, k, mul, outer, q, v

g, beta = input_at("g", ONE), input_at("beta", ONE)


def neg(a: Node) -> Node:
    return pointwise("neg", a)


def agree(program: OperatorProgram, seed: int = 0) -> None:
    """Both interpreters give the same, from given initial states."""
    verify(program)
    mixer = program.mixer
    arrays = mixers.arrays(mixer, seed=seed)
    for name, a in arrays.items():
        if name.startswith("g"):
            a[:, 3] = -np.inf
    rng = np.random.default_rng(seed + 1)
    states = {s.name: rng.standard_normal((2, 2, *(d.size(mixers.SIZES) for d in s.dims))) for s in mixer.states}
    y, final = run_mixer(mixer, arrays, states)
    found, found_final = run_operators(program, arrays, states)
    np.testing.assert_allclose(found, y, rtol=1e-12, atol=1e-12)
    assert final.keys() == found_final.keys()
    for name in final:
        assert found_final[name].shape == final[name].shape
        np.testing.assert_allclose(found_final[name], final[name], rtol=1e-12, atol=1e-12)


def single(mixer: Mixer, operator: Operator, *reads: Read, output: Node | None = None) -> OperatorProgram:
    return OperatorProgram(mixer, (operator,), reads, output if output is not None else read(reads[0].name, V))


def test_diagonal_decay_over_rows() -> None:
    step = MicroStep(Decay(rows=Diagonal(input_at("g", K))), (Write(k, v),))
    agree(single(mixers.diagonal(), Operator("S", K, V, FORWARD, (step,)), Read("r", "S", q, AFTER)))


@pytest.mark.parametrize("when", [BEFORE, DECAYED])
def test_erase_at_its_moment(when: str) -> None:
    S = state_at("S", K, V, -1)
    R = mul(exp(g), S)
    erased = matmul(transpose(R if when == DECAYED else S), k)
    update = add(R, outer(k, mul(beta, pointwise("sub", v, erased))))
    y = matmul(transpose(state_at("S", K, V)), q)
    mixer = Mixer("m", (*QKV, *inputs(g=(), beta=())), (State("S", (K, V), 0.0, update),), y, (V,))
    write = Write(k, mul(beta, v), Erase(mul(neg(beta), k), when))
    step = MicroStep(Decay(scalar=Diagonal(g)), (write,))
    agree(single(mixer, Operator("S", K, V, FORWARD, (step,)), Read("r", "S", q, AFTER)))


def test_decays_of_all_kinds_at_once_with_a_sign() -> None:
    ga, gb = input_at("ga", K), input_at("gb", V)
    sign = pointwise("where", pointwise("lt", input_at("s", ONE), const(0.0)), const(-1.0), const(1.0))
    factor = mul(mul(mul(sign, exp(g)), exp(ga)), transpose(exp(gb)))
    update = add(mul(factor, state_at("S", K, V, -1)), outer(k, v))
    y = matmul(transpose(state_at("S", K, V)), q)
    declared = (*QKV, *inputs(g=(), ga=(K,), gb=(V,), s=()))
    mixer = Mixer("m", declared, (State("S", (K, V), 0.0, update),), y, (V,))
    decay = Decay(Diagonal(g, sign), Diagonal(ga), Diagonal(gb))
    step = MicroStep(decay, (Write(k, v),))
    agree(single(mixer, Operator("S", K, V, FORWARD, (step,)), Read("r", "S", q, AFTER)))


def test_micro_steps_see_each_other_and_writes_of_one_step_do_not() -> None:
    S0 = state_at("S", K, V, -1)
    S1 = add(S0, add(outer(k, v), outer(q, neg(matmul(transpose(S0), k)))))
    S2 = add(S1, outer(k, neg(matmul(transpose(S1), mul(beta, q)))))
    y = matmul(transpose(state_at("S", K, V)), q)
    mixer = Mixer("m", (*QKV, *inputs(beta=())), (State("S", (K, V), 0.0, S2),), y, (V,))
    first = MicroStep(Decay(), (Write(k, v), Write(q, None, Erase(neg(k), DECAYED))))
    second = MicroStep(Decay(), (Write(k, None, Erase(neg(mul(beta, q)), DECAYED)),))
    agree(single(mixer, Operator("S", K, V, FORWARD, (first, second)), Read("r", "S", q, AFTER)))


def test_reads_before_decayed_and_after_and_a_bonus_term() -> None:
    S0, S = state_at("S", K, V, -1), state_at("S", K, V)
    update = add(mul(exp(g), S0), outer(k, v))
    parts = [matmul(transpose(S0), q), matmul(transpose(mul(exp(g), S0)), k), matmul(transpose(S), q)]
    y = add(add(parts[0], mul(parts[1], parts[2])), mul(matmul(transpose(k), q), v))
    mixer = Mixer("m", (*QKV, *inputs(g=())), (State("S", (K, V), 0.0, update),), y, (V,))
    step = MicroStep(Decay(scalar=Diagonal(g)), (Write(k, v),))
    reads = (Read("a", "S", q, BEFORE), Read("b", "S", k, DECAYED), Read("c", "S", q, AFTER))
    bonus = mul(matmul(transpose(k), q), v)
    output = add(add(read("a", V), mul(read("b", V), read("c", V))), bonus)
    agree(single(mixer, Operator("S", K, V, FORWARD, (step,)), *reads, output=output))


def test_two_directions() -> None:
    forward = MicroStep(Decay(scalar=Diagonal(g)), (Write(k, v),))
    backward = MicroStep(Decay(scalar=Diagonal(input_at("g", ONE, offset=1))), (Write(k, v),))
    operators = (Operator("F", K, V, FORWARD, (forward,)), Operator("B", K, V, BACKWARD, (backward,)))
    skip = neg(mul(matmul(transpose(k), q), v))
    output = add(add(read("f", V), read("b", V)), skip)
    reads = (Read("f", "F", q, AFTER), Read("b", "B", q, AFTER))
    agree(OperatorProgram(mixers.two_directions(), operators, reads, output))


def test_a_backward_read_before_the_tokens_own_write() -> None:
    update = add(mul(exp(g), state_at("B", K, V, 1)), outer(k, v))
    y = matmul(transpose(state_at("B", K, V, 1)), q)
    mixer = Mixer("m", (*QKV, *inputs(g=())), (State("B", (K, V), 0.0, update),), y, (V,))
    step = MicroStep(Decay(scalar=Diagonal(g)), (Write(k, v),))
    agree(single(mixer, Operator("B", K, V, BACKWARD, (step,)), Read("r", "B", q, BEFORE)))


def test_transposed_and_vector_states_under_a_ratio() -> None:
    S = State("S", (V, K), 0.0, add(mul(state_at("S", V, K, -1), exp(g)), outer(v, k)))
    z = State("z", (K,), 0.0, add(mul(state_at("z", K, ONE, -1), exp(g)), k))
    norm = matmul(transpose(state_at("z", K)), q)
    y = pointwise("div", matmul(state_at("S", V, K), q), norm)
    mixer = Mixer("m", (*QKV, *inputs(g=())), (S, z), y, (V,))
    decay = Decay(scalar=Diagonal(g))
    operators = (
        Operator("S", K, V, FORWARD, (MicroStep(decay, (Write(k, v),)),), transposed=True),
        Operator("z", K, ONE, FORWARD, (MicroStep(decay, (Write(k, const(1.0)),)),)),
    )
    reads = (Read("n", "S", q, AFTER), Read("d", "z", q, AFTER))
    agree(OperatorProgram(mixer, operators, reads, pointwise("div", read("n", V), read("d", ONE))))
