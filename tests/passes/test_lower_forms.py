"""Chunked and quadratic forms against the operators' definition, float64, for every class and any chunk."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smir.backends.numpy_reference.operator_interpreter import run_operators
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.backends.numpy_reference.tile_interpreter import run_tile
from smir.errors import FormError
from smir.ir.verifier import verify
from smir.passes.forms.lower_chunked import lower_chunked
from smir.passes.forms.lower_quadratic import lower_quadratic
from smir.passes.kernels.partition import partition
from tests.passes.operator_programs import Case, arrays, every_class, program

CHUNKS = (1, 2, 3, 5, 8, 16, 64)
LOWERINGS = {"chunked": lower_chunked, "quadratic": lower_quadratic}
CASES = every_class()


def check(case: Case, form: str, seed: int, tokens: int, chunk: int, given_states: bool) -> None:
    operators = program(case)
    lowered = LOWERINGS[form](operators)
    verify(lowered)
    inputs, states = arrays(operators, seed, tokens, chunk)
    start = states if given_states else None
    y, final = run_operators(operators, inputs, start)
    for got_y, got_final in (
        run_tile(lowered, inputs, start, chunk=chunk),
        run_plan(partition(lowered), inputs, start, chunk=chunk),
    ):
        assert got_y.shape == y.shape and got_final.keys() == final.keys()
        np.testing.assert_allclose(got_y, y, rtol=0, atol=1e-10 * max(1.0, np.abs(y).max()))
        for name, value in final.items():
            np.testing.assert_allclose(got_final[name], value, rtol=0, atol=1e-10 * max(1.0, np.abs(value).max()))


@pytest.mark.parametrize("part", [0, 1, *(pytest.param(n, marks=pytest.mark.full) for n in (2, 3, 4))])
@pytest.mark.parametrize("form", LOWERINGS)
def test_every_class_agrees_on_a_ragged_sequence(form: str, part: int) -> None:
    """Two fifths of all combinations, with every decay, erase, moment and direction; full runs take the others too."""
    for number, case in enumerate(CASES[part::5]):
        check(case, form, seed=number, tokens=7, chunk=3, given_states=True)


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(CASES),
    form=st.sampled_from(sorted(LOWERINGS)),
    seed=st.integers(0, 10**6),
    tokens=st.sampled_from([1, 2, 5, 13, 16, 19]),
    chunk=st.sampled_from(CHUNKS),
    given_states=st.booleans(),
)
def test_any_chunk_and_length(case: Case, form: str, seed: int, tokens: int, chunk: int, given_states: bool) -> None:
    check(case, form, seed, tokens, chunk, given_states)


@pytest.mark.parametrize("form", LOWERINGS)
def test_float32_stays_finite_for_any_decay(form: str) -> None:
    for case in (Case(scalar=True), Case(rows=True), Case(rows=True, cols=True), Case(rows=True, erases=(1,))):
        operators = program(case)
        lowered = LOWERINGS[form](operators)
        inputs, _ = arrays(operators, 3, 130, 64)
        for gate in (0.0, -1e-3, -8.0, -1e4, -3e38, -np.inf):
            low = {n: (np.full_like(a, gate) if n.startswith("g") else a).astype(np.float32) for n, a in inputs.items()}
            y, _ = run_operators(operators, low)
            got, final = run_plan(partition(lowered), low, chunk=64)
            assert got.dtype == np.float32 and all(f.dtype == np.float32 for f in final.values())
            assert np.isfinite(got).all()
            assert np.sqrt(np.mean((got - y) ** 2)) <= 3e-6 * np.sqrt(np.mean(y**2)) + 1e-7


def test_quadratic_form_carries_nothing_but_states_and_logs() -> None:
    lowered = lower_quadratic(program(Case(scalar=True, normaliser=True)))
    orders = {scan.order: [c.name for c in scan.carries] for scan in lowered.scans}
    assert orders["forward"] == ["S", "z"]
    logs = [name for name in orders["earlier"] if name.startswith("log_")]
    assert len(logs) == 1, "states that decay alike share the decay between chunks"


def test_scores_of_several_reads_are_one_value() -> None:
    lowered = lower_chunked(program(Case(scalar=True, normaliser=True)))
    square = [n for n in lowered.nodes() if n.op == "dot" and n.type.rows == n.type.cols == "@C"]
    assert len(square) == 1
    assert not [n for n in lowered.nodes() if n.op == "broadcast"], "ones became row sums"


def test_erase_under_a_column_decay_is_refused() -> None:
    with pytest.raises(FormError, match="decays along its columns and erases along its rows"):
        lower_chunked(program(Case(cols=True, erases=(1,))))
