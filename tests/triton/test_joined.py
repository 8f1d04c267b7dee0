"""When a GPU takes kernels that make results from the start, and what is printed for them."""

from collections.abc import Mapping

import pytest

import smir
from smir.backends.triton_gpu.emit import emit
from smir.backends.triton_gpu.facts import Facts
from smir.backends.triton_gpu.joining import WARPS
from smir.backends.triton_gpu.options import default_options
from smir.calls.execution import joined_where_it_fits
from smir.derivatives import training_plan
from smir.ir.kernel import GRID, KernelPlan
from smir.passes.kernels.joined_outputs import with_joined_outputs

SIZES = {"K": 128, "V": 128}


def backward(name: str = "scalar_decay") -> KernelPlan:
    done = smir.compile(name).compilation
    return training_plan(done, "chunked", frozenset(d.name for d in done.spec.declarations)).backward


def taken(plan: KernelPlan, sizes: Mapping[str, int] = SIZES, chunk: int = 64, float32: bool = False) -> bool:
    return joined_where_it_fits(plan, sizes, chunk, float32) is not plan


def test_they_are_taken_where_a_program_holds_them() -> None:
    """By sizes and types alone: wider heads, longer chunks, or operands of 32 bits are too much."""
    plan = backward()
    assert taken(plan) and taken(plan, {"K": 64, "V": 96})
    assert not taken(plan, {"K": 256, "V": 256}) and not taken(plan, chunk=128) and not taken(plan, float32=True)
    assert not taken(plan, {"K": 16, "V": 16}), "products of tiny tiles are float32"


def test_states_in_too_many_kernels_at_once_stay_in_pieces() -> None:
    assert not taken(backward("momentum")), "three states of two directions fill the shared memory"


@pytest.mark.parametrize("name", ["linear_attention", "scalar_decay", "lion_s"])
def test_two_programs_share_a_multiprocessor(name: str) -> None:
    plan = with_joined_outputs(backward(name))
    tail = [k for k in plan.kernels if k.name.startswith("results")]
    chosen = default_options(plan, SIZES)
    assert {chosen[k.name]["num_warps"] for k in tail} == {WARPS}
    assert {chosen[k.name]["BLOCK_K"] for k in tail if dict(k.roles)["K"] == GRID} <= {128}, "each makes scores once"


def test_inner_products_of_states_come_from_memory() -> None:
    """No kernel holds two whole states for a number."""
    plan = with_joined_outputs(backward())
    facts = Facts.of_sizes(SIZES, {}, False)
    printed = "".join(emit(plan, facts).values())
    assert "= inner_product(\n" in printed
    assert "saved_S_before.to(tl.float32)" not in printed and "d_S_before.to(tl.float32)" not in printed
