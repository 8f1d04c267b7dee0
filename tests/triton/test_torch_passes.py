"""The passes of a traced training step on Triton kernels, interpreted: what they keep is among their results."""

from typing import Any

import pytest

from tests.triton.traced_passes import check

PASSES = [("linear_attention", "chunked", 1), *(pytest.param(*p, marks=pytest.mark.full) for p in (
    ("gla", "chunked", 2), ("hgrn", "scan", 1), ("lstm", "step", 2), ("softmax_causal", "quadratic", 1)))]  # fmt: skip


@pytest.mark.parametrize(("name", "form", "kept"), PASSES)
def test_a_traced_step_keeps_what_an_eager_one_keeps(name: str, form: str, kept: int, interpreted: Any) -> None:
    interpreted(check, name, form, kept).result()
