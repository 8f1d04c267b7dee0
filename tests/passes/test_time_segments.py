"""Walks along a sequence cut into segments: which can be, and that results stay what they are."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.ir import tile
from smir.ir.interval import REAL
from smir.ir.kernel import KernelPlan
from smir.ir.tile import CHUNK, ONE, TOKEN
from smir.ir.tile_program import CHUNKED, Carry, Output, Scan, TileLeaf, TileProgram
from smir.ir.verifier import verify
from smir.passes.kernels.partition import partition
from smir.passes.kernels.time_segments import with_segments
from smir.sampling import sample, sample_states
from smir.verify import start_states

# No decay, numbers, rows, columns, both; normalisers, maxima, two directions, scans.
AFFINE = [
    ("linear_attention", "chunked"), ("scalar_decay", "chunked"), ("gla", "chunked"), ("dfw", "chunked"),
    ("abc", "chunked"), ("mlstm", "chunked"), ("lion_d_norm", "chunked"), ("hgrn", "scan"), ("rwkv4", "scan"),
]  # fmt: skip


def walks(plan: KernelPlan) -> tuple[int, int]:
    """How many sequential kernels walk along segments, and how many along whole sequences."""
    found = [k.in_segments for k in plan.kernels if k.sequential]
    return found.count(True), found.count(False)


def assert_same(plan: KernelPlan, arrays, states, segments: int) -> None:
    cut = with_segments(plan)
    verify(cut)
    wanted = run_results(plan, arrays, states, chunk=8)
    found = run_results(cut, arrays, states, chunk=8, segments=segments)
    for some, others in zip(wanted, found, strict=True):
        assert some.keys() == others.keys()
        for name, value in some.items():
            np.testing.assert_allclose(others[name], value, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(("name", "form", "segments"), [
    *((*case, 3) for case in AFFINE), ("mlstm", "chunked", 1), ("mlstm", "chunked", 9), ("hgrn", "scan", 9),
])  # fmt: skip
def test_results_and_final_states_stay(name: str, form: str, segments: int) -> None:
    """Seven chunks: segments of whole length, with fewer chunks, with none."""
    done = smir.compile(name).compilation
    arrays, states = sample(done.spec, T=50, extreme=True), sample_states(done.spec, 2, 2)
    assert_same(done.plans[form], arrays, start_states(done, arrays, states), segments)
    assert walks(with_segments(done.plans[form]))[0] > 0


@pytest.mark.parametrize(("name", "form"), [("dfw", "chunked"), ("bidir_half", "chunked"), ("mamba1", "scan")])
def test_gradients_stay(name: str, form: str) -> None:
    mixer = smir.compile(name)
    plan = mixer.training_plan(form=form)
    arrays, rng = sample(mixer.spec, T=50), np.random.default_rng(1)
    found, _ = run_results(plan.forward, arrays, chunk=8)
    kept = {inner: found[outer] for outer, inner in plan.kept.items()}
    assert_same(plan.backward, {**arrays, **kept, "d_y": rng.standard_normal(found["y"].shape)}, {}, 3)
    assert walks(with_segments(plan.backward))[0] > 0


def test_a_plan_is_cut_once() -> None:
    cut = with_segments(smir.compile("gla").compilation.plans["chunked"])
    assert walks(cut) == (2, 0) and with_segments(cut) is cut


@pytest.mark.parametrize(("name", "form"), [("delta_rule", "chunked"), ("gru", "step"), ("gla", "quadratic")])
def test_what_is_not_affine_stays(name: str, form: str) -> None:
    plan = smir.compile(name).compilation.plans[form]
    assert with_segments(plan) is plan


def test_states_that_need_each_other_stay() -> None:
    write = tile.reduce_sum(tile.token("w", CHUNK, "D"), 0)
    a, b = tile.carried("a", ONE, "D"), tile.carried("b", ONE, "D")
    carries = Carry("a", ONE, "D", op("add", b, write), state="a"), Carry("b", ONE, "D", op("add", b, a), state="b")
    output = Output.of("y", op("add", tile.token("w", CHUNK, "D"), a))
    plan = partition(TileProgram("m", CHUNKED, (TileLeaf(TOKEN, "w", CHUNK, "D", REAL),),
                                 (Scan("forward", carries),), (output,)))  # fmt: skip
    assert len(plan.kernels) == 3 and with_segments(plan) is plan


def carried(update) -> KernelPlan:
    """A plan that carries one row, whose next value is `update(row, write)`."""
    row, write = tile.carried("h", ONE, "D"), tile.token("w", CHUNK, "D")
    moved = update(row, tile.reduce_sum(write, 0))
    carry = Carry("h", ONE, "D", moved, state="h", transposed=True)
    output = Output.of("y", tile.pointwise("add", write, row))
    return partition(TileProgram("m", CHUNKED, (TileLeaf(TOKEN, "w", CHUNK, "D", REAL),),
                                 (Scan("forward", (carry,)),), (output,)))  # fmt: skip


def op(name: str, *args):
    return tile.pointwise(name, *args)


@pytest.mark.parametrize("update", [
    lambda h, u: op("sub", op("mul", op("add", op("mul", h, tile.const(0.5)), u), u), u),
    lambda h, u: op("max", u, op("add", h, tile.const(-1.0))),
    lambda h, u: op("logaddexp", op("add", op("add", u, h), u), u),
])  # fmt: skip
def test_sums_and_maxima_with_anything_between(update) -> None:
    w = np.random.default_rng(0).standard_normal((2, 45, 2, 3))
    assert_same(carried(update), {"w": w}, {"h": w[:, 0]}, 3)
    assert walks(with_segments(carried(update))) == (2, 0)


@pytest.mark.parametrize("update", [
    lambda h, u: op("mul", h, op("add", h, u)),
    lambda h, u: op("sub", u, h),
    lambda h, u: op("tanh", op("add", h, u)),
    lambda h, u: op("max", u, op("mul", h, u)),
    lambda h, u: op("max", op("add", h, u), op("add", h, tile.const(1.0))),
    lambda h, u: op("add", op("max", h, u), u),
])  # fmt: skip
def test_anything_else_stays(update) -> None:
    plan = carried(update)
    assert with_segments(plan) is plan
