"""Runs in a process of Triton's interpreter: kernels over pairs that take two chunks at once, whatever the length."""

from unittest.mock import patch

from smir.backends.triton_gpu import runtime
from smir.backends.triton_gpu.spans import has_spans
from tests.triton.work import Case, compare, compare_gradients


def compare_spans(spec: str, case: Case) -> dict[str, float]:
    """`compare` and `compare_gradients` of the quadratic form."""
    with patch.object(runtime, "span_of", lambda plan, *_: 2 if has_spans(plan) else 1):
        return compare(spec, "quadratic", case) | compare_gradients(spec, "quadratic", case)
