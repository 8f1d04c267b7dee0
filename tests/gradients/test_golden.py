"""The gradients of every golden vector that the library has a spec for, in every form, in float64."""

import numpy as np
import pytest

from smir.calls.binding import bind
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP
from smir.library import names as library_names
from tests.golden.vectors import Case, cases, load, names
from tests.gradients.adjoints import Arrays, Gradients, Point, library, relative_errors, state_key

BUDGET = 1e-8
SPECS = [n for n in names() if n in library_names()]
RUNS = [(name, case) for name in SPECS for case in cases(name)]
# Inputs that are 0 or 1, of which the vectors have no gradients.
FLAGS = {"rglru": {"reset"}}
WAYS = [(STEP, 1), (SCAN, 16), (CHUNKED, 16), (CHUNKED, 64), (QUADRATIC, 64)]
# Chunks that cut a sequence as these do: many and a ragged one, or one as long as the sequence.
MORE_WAYS = [(SCAN, 5), (SCAN, 64), (CHUNKED, 1)]
LEGAL = [(name, case, form, chunk) for name, case in RUNS for form, chunk in WAYS if form in library(name).forms]
MORE = [
    pytest.param(name, case, form, chunk, marks=pytest.mark.full)
    for name, case in RUNS
    for form, chunk in MORE_WAYS
    if form in library(name).forms
]


def point(made: Gradients, golden: Case) -> tuple[Point, bool]:
    """The vector in canonical layout, and whether it has a head axis."""
    bound = bind(made.mixer, (), golden.inputs, golden.initial or None)
    zeros = {s.name: np.zeros_like(bound.states[s.name]) for s in made.mixer.states if s.name in bound.states}
    dfinal = {n: d if bound.has_heads else d[:, None] for n, d in golden.dfinal.items()}
    dy = golden.dy if bound.has_heads else golden.dy[:, :, None]
    return Point(dict(bound.arrays), dict(bound.states), dy, {**zeros, **dfinal}), bound.has_heads


def without_heads(gradients: Arrays, made: Gradients) -> Arrays:
    """Gradients in the layout of a call that leaves the head axis out."""
    heads = {d.name: 2 if d.kind == "input" else 0 for d in made.mixer.declarations}
    return {n: np.squeeze(a, heads.get(n, 1)) for n, a in gradients.items()}


def expected(golden: Case) -> Arrays:
    return {
        state_key(n.removeprefix("initial_state_")) if n.startswith("initial_state_") else n: a
        for n, a in golden.gradients.items()
    }


def check(name: str, case: str, form: str, chunk: int, by_tiles: bool = False) -> None:
    made, golden = library(name), load(name, case)
    at, has_heads = point(made, golden)
    found = made(form, chunk, at, by_tiles=by_tiles)
    found = found if has_heads else without_heads(found, made)
    truth = expected(golden)
    found = {n: a for n, a in found.items() if n not in FLAGS.get(name, ())}
    if not golden.initial:
        # The vector has no gradients of states that start at their declared values.
        found = {n: a for n, a in found.items() if n in truth}
    for gradient, error in relative_errors(found, truth).items():
        assert error <= BUDGET, gradient


@pytest.mark.parametrize(("name", "case", "form", "chunk"), [*LEGAL, *MORE])
def test_kernels_compute_the_golden_gradients(name: str, case: str, form: str, chunk: int) -> None:
    check(name, case, form, chunk)


@pytest.mark.parametrize(("name", "case", "form"), sorted({way[:3] for way in LEGAL}))
def test_tile_programs_compute_the_golden_gradients(name: str, case: str, form: str) -> None:
    check(name, case, form, 16, by_tiles=True)


def test_the_rows_of_the_library_have_gradients_of_everything() -> None:
    for name in SPECS:
        declared = {d.name for d in library(name).mixer.declarations}
        declared -= FLAGS.get(name, set())
        assert all(declared <= set(load(name, case).gradients) for case in cases(name)), name
    assert len(SPECS) >= 25


def test_cotangents_of_final_states_count() -> None:
    """Case b would pass with forgotten final states if their cotangents were zero."""
    made, golden = library("gated_delta_rule"), load("gated_delta_rule", "b")
    at, _ = point(made, golden)
    forgotten = Point(at.arrays, at.states, at.dy, {n: np.zeros_like(d) for n, d in at.dfinal.items()})
    errors = relative_errors(made(CHUNKED, 16, forgotten), made(CHUNKED, 16, at))
    assert min(errors[n] for n in ("k", "v")) > 1e-3
