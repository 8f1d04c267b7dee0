"""Every golden vector of the rows whose states are used by value: the scan form, at several chunk sizes."""

from functools import cache

import numpy as np
import pytest

import smir
from smir.ir.tile_program import SCAN, STEP
from tests.golden.rows import BY_VALUE, SCAN_CHUNKS, call
from tests.golden.test_forms import FLOAT32_BUDGET, FLOAT64_BUDGET, STEP_FACTOR
from tests.golden.vectors import cases, load, relative_rms

RUNS = [(name, case) for name in BY_VALUE for case in cases(name)]


@pytest.mark.parametrize("name", BY_VALUE)
def test_step_and_scan_are_legal(name: str) -> None:
    assert smir.compile(name).forms[:2] == (STEP, SCAN)


@pytest.mark.parametrize("chunk", SCAN_CHUNKS)
@pytest.mark.parametrize(("name", "case"), RUNS)
def test_scan_agrees_in_float64(name: str, case: str, chunk: int) -> None:
    golden = load(name, case)
    found = call(name, SCAN, chunk, golden.inputs, golden.initial)
    for result, value in {"y": golden.y, **golden.final}.items():
        assert found[result].shape == value.shape and found[result].dtype == np.float64
        assert relative_rms(found[result], value) <= FLOAT64_BUDGET, result


@cache
def float32_errors(name: str, case: str, form: str, chunk: int | None) -> dict[str, float]:
    """RMS errors against the vector's float64 results, relative to their RMS."""
    golden = load(name, case)
    found = call(name, form, chunk, golden.inputs, golden.initial, np.float32)
    return {result: relative_rms(found[result], value) for result, value in {"y": golden.y, **golden.final}.items()}


@pytest.mark.parametrize("chunk", SCAN_CHUNKS)
@pytest.mark.parametrize(("name", "case"), RUNS)
def test_scan_keeps_the_float32_budget(name: str, case: str, chunk: int) -> None:
    step = float32_errors(name, case, STEP, None)
    for result, error in float32_errors(name, case, SCAN, chunk).items():
        assert error <= max(STEP_FACTOR * step[result], FLOAT32_BUDGET), result
