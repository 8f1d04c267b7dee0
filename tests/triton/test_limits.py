"""Large tensors: addresses beyond 32 bits, layouts that spread a tile too far, grids that are too large."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import smir
from smir.backends.triton_gpu.emit_kernel import print_kernel
from smir.backends.triton_gpu.facts import Facts
from smir.backends.triton_gpu.frame import tensor_axes
from smir.backends.triton_gpu.limits import check_programs, check_reach, within_reach
from smir.backends.triton_gpu.options import default_options
from smir.backends.triton_gpu.symbols import INPUT, symbols, tensors
from smir.errors import BackendError
from smir.ir.kernel import KernelPlan
from smir.ir.tile import DENSE, PARAM, TOKEN
from tests.triton.addresses import BATCH, HEADS, SIZE, TIME, overflowing
from tests.triton.classes import LIBRARY
from tests.triton.conftest import Submit
from tests.triton.packed import far_apart

CLASSES = {
    ("gated_delta_rule", "chunked"), ("lion_s", "quadratic"), ("mamba1", "scan"), ("gru", "step"),
    ("softmax_gqa", "quadratic"), ("aft_full", "quadratic"),
}  # fmt: skip
CASES = [case if case in CLASSES else pytest.param(*case, marks=pytest.mark.full) for case in LIBRARY]


def shapes(plan: KernelPlan) -> dict[str, tuple[int, ...]]:
    """Of the caller's tensors, by launcher name."""
    found = {}
    for leaf in tensors(plan):
        lead = {TOKEN: (BATCH, TIME, HEADS), PARAM: (HEADS,), DENSE: (HEADS, TIME, TIME)}[leaf.kind]
        axes = tensor_axes(leaf.rows, leaf.cols, leaf.kind)
        found[symbols(plan)[INPUT, leaf.name]] = (*lead, *[SIZE] * len(axes))
    return found


def overflows(plan: KernelPlan, packed: bool) -> list[str]:
    facts = Facts(packed=packed)
    return [
        f"{kernel.name}: {address}"
        for kernel in plan.kernels
        for address in overflowing(print_kernel(plan, kernel, facts), shapes(plan), packed)
    ]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_no_address_overflows(name: str, form: str) -> None:
    mixer = smir.compile(name)
    plans = mixer.training_plan(form=form)
    ways = (False,) if any(leaf.kind == DENSE for leaf in plans.forward.leaves) else (False, True)
    found = [x for plan in (plans.forward, plans.backward) for packed in ways for x in overflows(plan, packed)]
    assert found == []


def test_an_overflow_is_found() -> None:
    plan = smir.compile("scalar_decay").compilation.plans["chunked"]
    printed = print_kernel(plan, plan.kernels[0], Facts())
    assert overflowing(printed, shapes(plan), False) == []
    narrow = replace(printed, source=printed.source.replace("tl.int64", "tl.int32"))
    assert overflowing(narrow, shapes(plan), False)


def test_channels_far_apart(interpreted: Submit) -> None:
    assert interpreted(far_apart, "scalar_decay").result() == []


def test_only_tiles_out_of_reach_are_copied() -> None:
    def strided(*steps: int) -> Any:
        return torch.empty_strided((4, 4096, 8, 128), steps, device="meta")

    batch_far, tokens_first = strided(2**33, 1024, 128, 1), strided(1024, 4096, 128, 1)
    channels_first = strided(4096 * 8, 8, 1, 2**25)
    assert within_reach(batch_far, TOKEN, 64) is batch_far
    assert within_reach(tokens_first, TOKEN, 64) is tokens_first
    assert within_reach(channels_first, TOKEN, 64).is_contiguous()
    assert within_reach(strided(1, 2**26, 4, 32), TOKEN, 64).is_contiguous()


def test_what_no_grid_holds_is_refused() -> None:
    plan = smir.compile("scalar_decay").compilation.plans["chunked"]
    options = default_options(plan, {"K": 128, "V": 128})
    check_programs(plan, {"K": 128, "V": 128}, 2**20, 2**28, options)
    with pytest.raises(BackendError, match="programs, and a grid has 2147483647 at most"):
        check_programs(plan, {"K": 128, "V": 128}, 2**20, 2**31, options)
    wide = torch.empty(1, 64, 4096, 128, 128, device="meta")
    with pytest.raises(BackendError, match="64 tokens of x for 4096 heads"):
        check_reach({"x": (TOKEN, wide)}, 4096, 64)
