"""Kernels of segments: prefill, then tokens and segments after it, are the whole sequence."""

import re

import pytest

import smir
from smir.backends.triton_gpu.emit import emit
from tests.passes.pair_specs import QKV, text_of
from tests.triton.conftest import Submit
from tests.triton.pair_segments import compare_divided, compare_fixed, compare_segments
from tests.triton.test_interpreter import FACTOR

# Positions that count, of which the last are kept; the other specs are in full runs.
TURNING = f"""mixer turning
 {QKV}; param theta: K/2
 A[i, j] = (rot(theta * i) @ q[i]).T @ (rot(theta * j) @ k[j]) * i
 y = softmax(A, window(5)) @ v
"""
QUICK = ["softmax_window8", "softmax_gqa", "forgetting_attention", TURNING]
FULL = ["softmax_causal", "softmax_alibi", "softmax_rope", "mla", text_of("delayed"), text_of("two reads"),
        text_of("two heads in one"), text_of("quotient")]  # fmt: skip


@pytest.mark.parametrize("spec", [*QUICK, *(pytest.param(s, marks=pytest.mark.full) for s in FULL)])
def test_segments_are_the_whole(interpreted: Submit, spec: str) -> None:
    assert interpreted(compare_segments, spec, (19, 1, 18), 16).result() < FACTOR


@pytest.mark.parametrize("spec", ["softmax_gqa", *(pytest.param(s, marks=pytest.mark.full) for s in FULL)])
def test_programs_that_share_a_past(interpreted: Submit, spec: str) -> None:
    assert interpreted(compare_divided, spec, (37, 1, 3)).result() < FACTOR


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("spec", [TURNING, *(pytest.param(s, marks=pytest.mark.full) for s in (*QUICK[:-1], *FULL))])
def test_memory_whose_tokens_are_counted_on_the_device(interpreted: Submit, spec: str, divided: bool) -> None:
    assert interpreted(compare_fixed, spec, divided).result() < FACTOR


def test_a_growing_past_needs_no_other_kernel() -> None:
    segment = smir.compile("forgetting_attention").compilation.pair_segment
    assert segment is not None
    head = emit(segment.plan)["output.py"]
    found = re.search(r"do_not_specialize=\[(.*)\]", head)
    assert found is not None
    assert {'"past"', '"k_past_stride_b"', '"v_past_stride_b"', '"g_past_stride_b"'} <= set(found[1].split(", "))
    assert "past: tl.constexpr" not in head
