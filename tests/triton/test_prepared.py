"""Kernels that were prepared for one call run on tensors that lie otherwise in memory."""

import pytest

from tests.triton.conftest import Submit
from tests.triton.work import compare_layouts


@pytest.mark.parametrize("spec", ["scalar_decay", pytest.param("gated_delta_rule", marks=pytest.mark.full)])
def test_strides_and_places_are_read_at_every_call(interpreted: Submit, spec: str) -> None:
    errors = interpreted(compare_layouts, spec).result()
    assert max(errors.values()) < 1e-4, errors
