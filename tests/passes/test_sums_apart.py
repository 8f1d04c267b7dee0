"""Sums of parameters' gradients in loops of their own, where one loop would keep too much on the chip."""

import pytest

import smir
from smir.derivatives import adjoint_plan
from smir.ir.kernel import KernelPlan
from smir.ir.tile import ONE
from smir.passes.kernels.sums_apart import keeps_too_much


def backward(name: str, form: str) -> KernelPlan:
    done = smir.compile(name).compilation
    return adjoint_plan(done, form, frozenset(d.name for d in done.spec.declarations))


@pytest.mark.parametrize(
    ("name", "form"), [("gru", "step"), ("lstm", "step"), ("qrnn", "scan"), ("window_ffn", "scan")]
)
def test_every_matrix_is_summed_by_a_loop_of_its_own(name: str, form: str) -> None:
    plan = backward(name, form)
    matrices = {r.name for r in plan.results if r.kind == "param" and ONE not in (r.rows, r.cols)}
    sums = [k for k in plan.kernels if k.name.startswith("sum_")]
    ends = [s.target for k in sums for loop in k.loops for s in loop.final_stores]
    assert sorted(ends) == sorted(matrices) and len(sums) == len(matrices) > 1
    assert matrices <= plan.totals


@pytest.mark.parametrize("name", ["qrnn", "window_ffn"])
def test_loops_over_chunks_keep_what_registers_hold(name: str) -> None:
    assert not any(keeps_too_much(k) for k in backward(name, "scan").kernels if k.loops)


def test_few_sums_stay_in_the_loop_that_makes_them() -> None:
    assert [k.name for k in backward("elman", "step").kernels if k.name.startswith("sum_")] == []
