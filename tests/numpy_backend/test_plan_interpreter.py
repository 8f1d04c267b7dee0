"""The fast path does what the plain one does: threads, cache-sized groups, float types."""

import numpy as np
import pytest

from smir.backends.numpy_reference import plan_interpreter
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.backends.numpy_reference.tile_interpreter import run_tile
from smir.errors import ArgumentError
from smir.ir.tile_program import TileProgram
from smir.passes.forms.lower_chunked import lower_chunked
from smir.passes.forms.lower_quadratic import lower_quadratic
from smir.passes.kernels.partition import partition
from tests.passes.operator_programs import Case, arrays, program

CASES = [Case(scalar=True, normaliser=True), Case(rows=True, cols=True), Case(rows=True, erases=(1,), transposed=True)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lower", [lower_chunked, lower_quadratic])
@pytest.mark.parametrize(("threaded", "cached"), [(1, 1 << 17), (1 << 40, 1), (1, 64)])
def test_threads_and_groups_change_nothing(case, lower, threaded, cached, monkeypatch) -> None:
    monkeypatch.setattr(plan_interpreter, "THREADED_ELEMENTS", threaded)
    monkeypatch.setattr(plan_interpreter, "CACHED_ELEMENTS", cached)
    operators = program(case)
    lowered: TileProgram = lower(operators)
    inputs, states = arrays(operators, 1, 29, heads=3)
    y, final = run_tile(lowered, inputs, states, chunk=4)
    got, end = run_plan(partition(lowered), inputs, states, chunk=4)
    np.testing.assert_allclose(got, y, atol=1e-11)
    for name, value in final.items():
        np.testing.assert_allclose(end[name], value, atol=1e-11)


def test_half_precision_inputs_keep_their_type_and_states_start_in_float32() -> None:
    operators = program(Case(scalar=True))
    plan = partition(lower_chunked(operators))
    inputs = {n: a.astype(np.float16) for n, a in arrays(operators, 1, 20)[0].items()}
    y, final = run_plan(plan, inputs, chunk=8)
    assert y.dtype == np.float16 == final["S"].dtype
    assert np.isfinite(y).all()


def test_inputs_are_not_changed() -> None:
    operators = program(Case(rows=True))
    plan = partition(lower_chunked(operators))
    inputs, states = arrays(operators, 1, 16)
    before = {n: a.copy() for n, a in (inputs | states).items()}
    run_plan(plan, inputs, states, chunk=4)
    assert all(np.array_equal(before[n], a) for n, a in (inputs | states).items())


def test_a_program_without_inputs_has_no_length() -> None:
    operators = program(Case())
    lowered = lower_chunked(operators)
    bare = TileProgram("bare", lowered.form, (), (), lowered.outputs)
    with pytest.raises(ArgumentError, match="without inputs"):
        run_tile(bare, {}, chunk=4)
