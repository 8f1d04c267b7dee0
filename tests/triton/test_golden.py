"""Golden vectors in Triton's interpreter, in both types: outputs, final states and all gradients within the budget."""

import pytest

from tests.golden.vectors import cases, names
from tests.triton.classes import forms
from tests.triton.conftest import Submit
from tests.triton.work import golden_excess

# States that float32 can't hold, a softmax, an erase with given states: the other vectors and forms run with
# `make test-all`, and `python -m benchmarks.gpu_golden` takes them all to a GPU.
ALWAYS = {
    ("rwkv4", "s", "scan"),
    ("mlstm", "s", "chunked"),
    ("softmax_gqa", "a", "quadratic"),
    ("gated_delta_rule", "b", "chunked"),
}
# An erase, a parameter's sum over all tokens, one read divided by another.
ALWAYS_SHORT = {
    ("delta_rule", "a", "chunked"),
    ("retnet", "b", "chunked"),
    ("lion_lit_norm", "a", "chunked"),
}
RUNS = [(name, case, form) for name in names() for case in cases(name) for form in forms(name)]


@pytest.mark.parametrize(
    ("name", "case", "form"), [r if r in ALWAYS else pytest.param(*r, marks=pytest.mark.full) for r in RUNS]
)
def test_golden_vectors(interpreted: Submit, name: str, case: str, form: str) -> None:
    assert not interpreted(golden_excess, name, case, form).result()


@pytest.mark.parametrize(
    ("name", "case", "form"), [r if r in ALWAYS_SHORT else pytest.param(*r, marks=pytest.mark.full) for r in RUNS]
)
def test_golden_vectors_in_bfloat16(interpreted: Submit, name: str, case: str, form: str) -> None:
    assert not interpreted(golden_excess, name, case, form, "bfloat16").result()


def test_no_vector_is_left_out() -> None:
    assert len(names()) == 44 and set(RUNS) >= ALWAYS | ALWAYS_SHORT
