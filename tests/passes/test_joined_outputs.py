"""Results of a backward pass made from the start: which share a kernel, and that nothing else changes."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.derivatives import training_plan
from smir.ir import tile
from smir.ir.kernel import KernelPlan
from smir.ir.live import HELD_BY_FOUR_WARPS, early_lines, peak_computed
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.verifier import verify
from smir.passes.analysis.tile_cost import elements
from smir.passes.gradients.saved_values import TrainingPlan
from smir.passes.kernels.crossing import size
from smir.passes.kernels.joined_outputs import with_joined_outputs
from smir.sampling import common_sizes
from smir.tuning.arguments import Shape, draw

# What each kernel behind the last walk writes.
KERNELS = {
    "linear_attention": [{"d_q", "d_k", "d_v"}],
    "scalar_decay": [{"d_k", "d_v"}, {"d_g", "d_q"}],
    "retnet": [{"d_k", "d_v"}, {"d_gamma", "d_q"}],
    "lion_s": [{"d_v"}, {"d_k", "d_q"}, {"d_g", "d_g_1"}],
}


def plans(name: str) -> TrainingPlan:
    done = smir.compile(name).compilation
    return training_plan(done, "chunked", frozenset(d.name for d in done.spec.declarations))


@pytest.mark.parametrize("name", KERNELS)
def test_results_that_share_most_share_a_kernel_that_fits(name: str) -> None:
    joined = with_joined_outputs(plans(name).backward)
    tail = [k for k in joined.kernels if k.name.startswith("results")]
    assert [{s.target for s in k.stores} for k in tail] == KERNELS[name]
    assert not any(b.name.startswith("gathered") for b in joined.buffers)
    for k in tail:
        assert peak_computed([s.value for s in k.stores], lambda n: int(elements(n, size))) <= HELD_BY_FOUR_WARPS


@pytest.mark.parametrize("name", KERNELS)
def test_they_compute_the_same(name: str) -> None:
    both = plans(name)
    joined = with_joined_outputs(both.backward)
    verify(joined)
    assert parse_ir(print_ir(joined)) == joined
    done = smir.compile(name).compilation
    arrays = draw(done.spec, Shape.even(done.spec, 2, 45, 2, common_sizes(done.spec, 8)))
    kept, _ = run_results(both.forward, arrays, chunk=16)
    given = {**arrays, **{inner: kept[outer] for outer, inner in both.kept.items()}}
    given["d_y"] = np.random.default_rng(1).standard_normal(kept["y"].shape)
    expected, _ = run_results(both.backward, given, chunk=16)
    got, _ = run_results(joined, given, chunk=16)
    assert expected.keys() == got.keys()
    for tensor, value in expected.items():
        np.testing.assert_allclose(got[tensor], value, rtol=1e-12, atol=1e-13, err_msg=tensor)


def unjoined(plan: KernelPlan) -> bool:
    return with_joined_outputs(plan) is plan


def test_what_stays_in_pieces() -> None:
    """A loop over levels, a result that is too much for one program, and a single kernel."""
    assert unjoined(plans("gla").backward) and unjoined(plans("gated_delta_rule").backward)
    assert unjoined(plans("scalar_decay").forward)


def test_sums_are_made_when_their_product_is_there() -> None:
    """The second root needs a row sum of the first one's product, and another product."""
    q, k = tile.token("q", tile.CHUNK, "K"), tile.token("k", tile.CHUNK, "K")
    scores = tile.dot(q, tile.transpose(k))
    line = tile.reduce_sum(tile.pointwise("mul", scores, scores), 1)
    other = tile.pointwise("mul", tile.dot(tile.transpose(scores), q), line)
    assert early_lines([scores, other]) == [(line,), ()]
    assert early_lines([other, scores]) == [(), ()]
    later = tile.reduce_sum(tile.dot(k, tile.transpose(q)), 1)
    assert early_lines([scores, later]) == [(), ()]
