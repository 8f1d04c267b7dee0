"""Every golden vector of the rows that have all forms, in every form and at several chunk sizes."""

from functools import cache

import numpy as np
import pytest

import smir
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from tests.golden.rows import FORM_IDS, FORMS, ROWS, RUNS, call, compiled
from tests.golden.vectors import load, relative_rms

FLOAT64_BUDGET = 1e-9
# Of the oracle's RMS; or so many times the error of the float32 step form.
FLOAT32_BUDGET, STEP_FACTOR, ERASE_FACTOR = 2e-6, 2.0, 5.0


@pytest.mark.parametrize("name", ROWS)
def test_all_three_forms_are_legal(name: str) -> None:
    assert smir.compile(name).forms == (STEP, CHUNKED, QUADRATIC)


@pytest.mark.parametrize(("form", "chunk"), FORMS, ids=FORM_IDS)
@pytest.mark.parametrize(("name", "case"), RUNS)
def test_form_agrees_in_float64(name: str, case: str, form: str, chunk: int | None) -> None:
    golden = load(name, case)
    found = call(name, form, chunk, golden.inputs, golden.initial)
    expected = {"y": golden.y, **golden.final}
    assert set(found) == set(expected)
    for result, value in expected.items():
        assert found[result].shape == value.shape and found[result].dtype == np.float64
        assert relative_rms(found[result], value) <= FLOAT64_BUDGET, result


def test_initial_states_of_the_vectors_matter() -> None:
    """Case b would pass with forgotten states if its states were zero."""
    golden = load("gated_delta_rule", "b")
    forgotten = call("gated_delta_rule", "chunked", 16, golden.inputs)
    assert relative_rms(forgotten["y"], golden.y) > 1e-3


@cache
def float32_errors(name: str, case: str, form: str, chunk: int | None) -> dict[str, float]:
    """RMS errors against the vector's float64 results, relative to their RMS."""
    golden = load(name, case)
    found = call(name, form, chunk, golden.inputs, golden.initial, np.float32)
    assert all(a.dtype == np.float32 for a in found.values())
    return {result: relative_rms(found[result], value) for result, value in {"y": golden.y, **golden.final}.items()}


@pytest.mark.parametrize(("form", "chunk"), FORMS[1:], ids=FORM_IDS[1:])
@pytest.mark.parametrize(("name", "case"), RUNS)
def test_form_keeps_the_float32_budget(name: str, case: str, form: str, chunk: int | None) -> None:
    operators = compiled(name, form, chunk).compilation.operators
    assert operators is not None
    factor = ERASE_FACTOR if any(o.erases for o in operators.operators) else STEP_FACTOR
    step = float32_errors(name, case, "step", None)
    for result, error in float32_errors(name, case, form, chunk).items():
        assert error <= max(factor * step[result], FLOAT32_BUDGET), result
