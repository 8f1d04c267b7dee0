"""Symbolic costs: they grow with T and the dimensions as the forms do, and count what a person would count."""

from functools import cache

import pytest
import sympy

import smir
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from smir.passes.analysis.cost import C, Cost, T, dimension, plan_cost, size

K, V = dimension("K"), dimension("V")
AT = {K: 64, V: 64}
ONE_OF_EACH = ["linear_attention", "scalar_decay", "gla", "gated_delta_rule", "linear_attention_elu_norm", "lion_s"]
LONG = 1 << 20


@cache
def cost(name: str, form: str) -> Cost:
    return plan_cost(smir.compile(name).compilation.plans[form])


def at(expression: sympy.Expr, tokens: int, chunk: int, **sizes: int) -> float:
    return float(expression.subs({**AT, **{dimension(n): s for n, s in sizes.items()}, T: tokens, C: chunk}))


def growth(expression: sympy.Expr, chunk: int) -> float:
    """How much larger it is for a sequence twice as long."""
    return at(expression, 2 * LONG, chunk) / at(expression, LONG, chunk)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_step_and_chunked_are_linear_in_time(name: str) -> None:
    for form, chunk in ((STEP, 1), (CHUNKED, 64)):
        found = cost(name, form)
        for part in (found.flops, found.moved, found.materialised):
            assert growth(part, chunk) == pytest.approx(2.0, rel=1e-6)
    assert growth(cost(name, STEP).sequential, 1) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("name", [n for n in ONE_OF_EACH if n != "gated_delta_rule"])
def test_quadratic_is_quadratic_in_time(name: str) -> None:
    found = cost(name, QUADRATIC)
    assert growth(found.flops, 64) == pytest.approx(4.0, rel=1e-2)
    assert growth(found.materialised, 64) == pytest.approx(4.0, rel=1e-2)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_one_block_is_at_least_quadratic_too(name: str) -> None:
    """The whole sequence as one chunk; an erase inverts a triangle of T x T, T^3 operations."""
    flops = cost(name, QUADRATIC).flops.subs(C, T)
    ratio = at(flops, 2 * LONG, 1) / at(flops, LONG, 1)
    assert ratio > 3.9
    assert (ratio > 7.9) == (name == "gated_delta_rule")


def test_one_step_of_linear_attention_is_counted_by_hand() -> None:
    """S + k v' is KV products and KV sums; S' q is 2 KV: between 4 and 5 KV operations with what surrounds them."""
    per_token = at(cost("linear_attention", STEP).flops, 1, 1) / (64 * 64)
    assert 4.0 <= per_token <= 5.0


def test_products_of_a_chunk_are_counted_by_hand() -> None:
    """q k' and k' v and A v and q H: 2 C (C K + C V + 2 K V) in every chunk, and little else."""
    chunk = 64
    by_hand = 2 * chunk * (chunk * 64 + chunk * 64 + 2 * 64 * 64)
    assert by_hand <= at(cost("linear_attention", CHUNKED).flops, chunk, chunk) <= 1.1 * by_hand


@pytest.mark.parametrize("form", [STEP, CHUNKED, QUADRATIC])
def test_more_columns_cost_more(form: str) -> None:
    found = cost("scalar_decay", form)
    for part in (found.flops, found.moved, found.materialised):
        assert at(part, 256, 16, V=64) < at(part, 256, 16, V=128) <= 2 * at(part, 256, 16, V=64)


def test_richer_classes_cost_more() -> None:
    names = ("linear_attention", "scalar_decay", "gated_delta_rule", "kda")
    flops = [at(cost(n, CHUNKED).flops, 4096, 64) for n in names]
    assert flops == sorted(flops) and len(set(flops)) == len(flops)


def test_steps_wait_for_each_other_and_chunks_do_less() -> None:
    step, chunked = (cost("scalar_decay", f).sequential for f in (STEP, CHUNKED))
    assert at(step, 4096, 1) > 20 * at(chunked, 4096, 64)


def test_sizes_of_axes() -> None:
    assert size("1") == 1 and size("@C") == C
    assert size("K/2") == K / 2 and size("2*V") == 2 * V


def test_a_dimension_may_be_called_like_time() -> None:
    assert dimension("T") != T and dimension("C") != C
