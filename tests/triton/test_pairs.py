"""Kernels over pairs of chunks: gradients in the interpreter, groups of heads, and what they take of a GPU."""

import pytest

from tests.passes.pair_specs import PAIR_SPECS, text_of
from tests.triton.conftest import Submit
from tests.triton.test_interpreter import FACTOR, assert_close, assert_gradients_close
from tests.triton.work import Case, backward_resources, compare_head_groups, resources

LIBRARY = "softmax_causal softmax_window8 softmax_alibi forgetting_attention aft_full aft_full_causal bigbird".split()
# A T x T parameter with channels; the other specs of the library are in full runs.
GRADIENTS = ["aft_full_causal"]
# Both sides out of reach, sums between the chunks on both sides.
KINDS = ["both sides", "decays both ways"]


@pytest.mark.parametrize("name", [n if n in GRADIENTS else pytest.param(n, marks=pytest.mark.full) for n in LIBRARY])
def test_gradients_of_the_library(interpreted: Submit, name: str) -> None:
    assert_gradients_close(interpreted, name, "quadratic", Case(T=37, H=1))


@pytest.mark.parametrize("name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.full) for n in PAIR_SPECS])
def test_every_kind_of_mask_and_bias(interpreted: Submit, name: str) -> None:
    assert_close(interpreted, text_of(name), "quadratic", Case(T=21, H=1))
    assert_gradients_close(interpreted, text_of(name), "quadratic", Case(T=21, H=1))


def test_groups_of_heads(interpreted: Submit) -> None:
    errors = interpreted(compare_head_groups, "softmax_gqa").result()
    assert set(errors) == {"y", "d_q", "d_k", "d_v"} and max(errors.values()) < FACTOR, errors


@pytest.mark.slow
def test_softmax_attention_fits_with_common_heads(compiled: Submit) -> None:
    rows = compiled(resources, "softmax_causal", "quadratic", "sm_90", 128, "bfloat16", 64).result()
    rows += compiled(backward_resources, "softmax_causal", "quadratic", "sm_90", 128, "bfloat16", 64).result()
    assert len(rows) == 3 and all(within for *_, within in rows), rows


@pytest.mark.full
@pytest.mark.parametrize("name", ["softmax_full", "softmax_alibi", "forgetting_attention", "aft_full", "bigbird"])
def test_backward_kernels_fit_with_common_heads(compiled: Submit, name: str) -> None:
    rows = compiled(backward_resources, name, "quadratic", "sm_90", 128, "bfloat16", 64).result()
    assert rows and all(within for *_, within in rows), rows
