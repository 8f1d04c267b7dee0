"""Choosing a form by cost: the cheapest one, and the exact length at which another becomes cheaper."""

import pytest
import sympy

import smir
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from smir.passes.analysis.cost import C, Cost, T, dimension, plan_cost
from smir.passes.analysis.select_form import GPU, MACHINES, NUMPY, Crossover, Machine, crossovers, select_form

ZERO = sympy.Integer(0)
# One operation a second, nothing else costs anything, chunks of one token: costs are seconds.
PLAIN = Machine("plain", 1.0, 1.0, 0.0, materialises=False, chunk=1)


def flops(expression: object) -> Cost:
    return Cost(sympy.sympify(expression), ZERO, ZERO, ZERO)


@pytest.mark.parametrize("boundary", [2, 3, 7, 100, 1024, 1025, 99_999])
def test_the_boundary_is_exact(boundary: int) -> None:
    """T^2 against (boundary - 1/2) T: the second is cheaper from the boundary on."""
    costs = {QUADRATIC: flops(T**2), CHUNKED: flops((boundary - sympy.Rational(1, 2)) * T)}
    assert crossovers(costs, PLAIN, {}, 1) == (Crossover(boundary, QUADRATIC, CHUNKED),)
    assert select_form(costs, PLAIN, boundary - 1, {}, 1) == QUADRATIC
    assert select_form(costs, PLAIN, boundary, {}, 1) == CHUNKED


def test_several_crossovers_are_found_in_order() -> None:
    costs = {STEP: flops(T**3), QUADRATIC: flops(10 * T**2), CHUNKED: flops(10_000 * T + 1)}
    found = crossovers(costs, PLAIN, {}, 1)
    assert [(c.before, c.after) for c in found] == [(STEP, QUADRATIC), (QUADRATIC, CHUNKED)]
    assert found[0].tokens == 11 and found[1].tokens == 1001


def test_one_legal_form_never_crosses() -> None:
    assert crossovers({STEP: flops(T)}, PLAIN, {}, 1) == ()
    assert select_form({STEP: flops(T)}, PLAIN, 10, {}, 1) == STEP


def test_ties_go_to_the_first() -> None:
    assert select_form({CHUNKED: flops(T), STEP: flops(T)}, PLAIN, 5, {}, 1) == CHUNKED


def test_seconds_add_up_work_traffic_and_waiting() -> None:
    cost = Cost(8 * T, 6 * T, 60 * T, 4 * T)
    machine = Machine("m", 2.0, 3.0, 0.5, materialises=False, chunk=1)
    assert machine.seconds(CHUNKED, cost, 10, {}) == pytest.approx(40 + 20 + 20)
    assert machine.seconds(CHUNKED, cost, 10, {}, sequences=3) == pytest.approx(3 * 60 + 20), "sequences wait together"
    spelled_out = Machine("m", 2.0, 3.0, 0.5, materialises=True, chunk=1)
    assert spelled_out.seconds(CHUNKED, cost, 10, {}) == pytest.approx(40 + 200 + 20)


def test_a_ragged_chunk_costs_as_much_as_a_whole_one() -> None:
    machine = Machine("m", 1.0, 1.0, 0.0, materialises=False, chunk=64)
    cost = flops(T + C)
    assert machine.seconds(CHUNKED, cost, 65, {}) == machine.seconds(CHUNKED, cost, 128, {}) == 192


def test_chunks_by_form() -> None:
    assert [NUMPY.chunk_of(f, 100) for f in (STEP, CHUNKED, QUADRATIC)] == [1, NUMPY.chunk, 100]
    assert [GPU.chunk_of(f, 100) for f in (STEP, CHUNKED, QUADRATIC)] == [1, GPU.chunk, GPU.chunk]


def test_dimensions_move_the_boundary() -> None:
    costs = {QUADRATIC: flops(T**2), CHUNKED: flops(T * dimension("K") + sympy.Rational(1, 2))}
    assert [crossovers(costs, PLAIN, {"K": k}, 1)[0].tokens for k in (16, 64)] == [17, 65]


@pytest.mark.parametrize("name", ["linear_attention", "gla", "gated_delta_rule", "lion_s"])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_long_sequences_of_real_mixers_are_cut_into_chunks(name: str, machine: Machine) -> None:
    costs = {form: plan_cost(plan) for form, plan in smir.compile(name).compilation.plans.items()}
    sizes = {"K": 64, "V": 64}
    assert select_form(costs, machine, 1 << 16, sizes, 16) == CHUNKED
    found = crossovers(costs, machine, sizes, 16)
    assert not found or found[-1].after == CHUNKED
    for crossing in found:
        assert select_form(costs, machine, crossing.tokens - 1, sizes, 16) == crossing.before
        assert select_form(costs, machine, crossing.tokens, sizes, 16) == crossing.after
