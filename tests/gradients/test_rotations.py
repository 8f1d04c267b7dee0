"""Gradients through states that rotate: slopes of the oracle, and every form alike."""

from functools import partial

import numpy as np
import pytest

import smir
from smir.sampling import sample_states
from tests.gradients.adjoints import Gradients, Point, loss, moved, random_cotangents, relative_errors, shapes, slope
from tests.gradients.adjoints import spec as gradients_of
from tests.passes.rotating import ROTATING, spec

SLOPE_BUDGET, FORM_BUDGET = 1e-8, 1e-10
SIZES = {"K": 4, "V": 2}


def moved_loss(made: Gradients, at: Point, key: str, direction: np.ndarray, step: float) -> float:
    return loss(made.mixer, moved(at, key, direction, step))


@pytest.mark.parametrize("name", ROTATING)
def test_gradients_are_slopes_in_every_form(name: str) -> None:
    made = gradients_of(spec(ROTATING[name]))
    sizes = {n: s for n, s in SIZES.items() if n in smir.sampling.dimension_names(made.mixer)}
    arrays = smir.sample(made.mixer, 2, 7, 2, sizes, seed=1)
    at = random_cotangents(made.mixer, arrays, sample_states(made.mixer, 2, 2, sizes, seed=2), seed=3)
    expected = made("step", 1, at)
    rng = np.random.default_rng(0)
    for key, shape in shapes(at).items():
        direction = rng.normal(size=shape)
        found = float(np.sum(expected[key] * direction))
        change = slope(partial(moved_loss, made, at, key, direction), 1e-3)
        assert abs(found - change) <= SLOPE_BUDGET * max(abs(change), 1.0), key
    for form, chunk in (("chunked", 1), ("chunked", 3), ("chunked", 8), ("quadratic", 4)):
        errors = relative_errors(made(form, chunk, at), expected, floor=1e-3)
        assert max(errors.values()) <= FORM_BUDGET, (form, chunk, errors)
