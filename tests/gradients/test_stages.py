"""Gradients of specs whose states hold values of earlier states: the chunked form's are those of the step form."""

import numpy as np
import pytest

from smir.ir.tile_program import CHUNKED, STEP
from smir.source import Source
from tests.gradients.adjoints import Gradients, Point, relative_errors
from tests.passes.oracle_checks import PRELUDE, random_arrays, random_states
from tests.passes.staged_specs import STAGED, body

BUDGET = 1e-8


@pytest.mark.parametrize("name", STAGED)
def test_gradients_of_the_chunked_form_are_those_of_the_step_form(name: str) -> None:
    made = Gradients(Source("spec", PRELUDE + body(name)))
    arrays, states = random_arrays(made.mixer, 7), random_states(made.mixer)
    rng = np.random.default_rng(2)
    dy = rng.normal(size=(*next(iter(arrays.values())).shape[:2], 1, 3))
    at = Point(arrays, states, dy, {n: rng.normal(size=a.shape) for n, a in states.items()})
    truth = made(STEP, 1, at)
    for chunk in (3, 16):
        for gradient, error in relative_errors(made(CHUNKED, chunk, at), truth, floor=1e-3).items():
            assert error <= BUDGET, gradient
