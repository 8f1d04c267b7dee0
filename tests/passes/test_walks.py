"""Walks of the scan form: what they make on their way is what parallel kernels make, whole and in segments of time."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.ir.kernel import GRID, KernelPlan
from smir.ir.verifier import verify
from smir.passes.kernels.time_segments import with_segments
from smir.sampling import sample, sample_states
from smir.verify import start_states

# Columns, lanes of matrices, resets, a running maximum that others hold, two directions.
NAMES = ["mamba1", "rwkv4", *(pytest.param(n, marks=pytest.mark.full) for n in ("hgrn", "rglru", "vision_mamba"))]


def assert_same(plan: KernelPlan, arrays, states, cut: bool):
    """Results by the parallel kernels, which the walks have too."""
    assert plan.walks
    walked = with_segments(plan.walked) if cut else plan.walked
    verify(walked)
    wanted = run_results(plan, arrays, states, chunk=8)
    found = run_results(walked, arrays, states, chunk=8, segments=3)
    for some, others in zip(wanted, found, strict=True):
        assert some.keys() == others.keys()
        for name, value in some.items():
            np.testing.assert_allclose(others[name], value, rtol=1e-8, atol=1e-10, err_msg=name)
    return wanted[0]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_results_states_and_gradients_stay(name: str, cut: bool) -> None:
    mixer = smir.compile(name)
    done, training = mixer.compilation, mixer.training_plan(form="scan")
    arrays = sample(done.spec, T=50, extreme=True)
    states = start_states(done, arrays, sample_states(done.spec, 2, 2))
    assert_same(done.plans["scan"], arrays, states, cut)
    found = assert_same(training.forward, arrays, states, cut)
    kept = {inner: found[outer] for outer, inner in training.kept.items()}
    d_y = np.random.default_rng(1).standard_normal(found["y"].shape)
    assert_same(training.backward, {**arrays, **kept, "d_y": d_y}, states, cut)


def test_a_walk_keeps_nothing_but_what_a_backward_pass_reads() -> None:
    mixer = smir.compile("mamba1")
    forward, training = mixer.compilation.plans["scan"].walked, mixer.training_plan(form="scan")
    assert forward.buffers == () and [k.name for k in forward.kernels] == ["walk_x"]
    assert [b.name for b in training.forward.walked.buffers] == ["x_before"]
    (walk,) = training.backward.walked.kernels
    stores = [s for loop in walk.loops for s in (*loop.stores, *loop.final_stores)]
    assert {s.target for s in stores if s.summed == "D"} == {"d_B", "d_C"} and walk.role("D") == GRID
    # sums over the sequence, of which every segment has its own
    assert training.backward.walked.totals == {"d_A", "d_D"}
    assert with_segments(training.backward.walked).segment_totals == {"d_A", "d_D"}


@pytest.mark.parametrize(("name", "form"), [("qrnn", "scan"), ("s4d", "scan"), ("gla", "chunked"), ("gru", "step")])
def test_products_and_what_is_one_walk_already_have_none(name: str, form: str) -> None:
    plan = smir.compile(name).compilation.plans[form]
    assert plan.walks == () and plan.walked is plan


def test_a_state_that_holds_another_is_not_cut() -> None:
    walked = smir.compile("rwkv4").compilation.plans["scan"].walked
    assert len(walked.kernels) == 1 and with_segments(walked) is walked
