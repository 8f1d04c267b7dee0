"""States that rotate: recognised, and the same in every form as token by token."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.operator_interpreter import run_operators
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.compilation import Compilation
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from smir.sampling import dimension_names, sample_states
from tests.passes.rotating import LAWS, REFUSED, ROTATING, spec

SIZES = {"K": 6, "V": 4}
BUDGET = 1e-12
Results = dict[str, np.ndarray]


def compiled(body: str) -> Compilation:
    return smir.compile(spec(body)).compilation


def arguments(done: Compilation, tokens: int = 19) -> tuple[Results, Results]:
    sizes = {n: SIZES[n] for n in dimension_names(done.spec)}
    return smir.sample(done.spec, 2, tokens, 2, sizes, extreme=True), sample_states(done.spec, 2, 2, sizes, seed=1)


def assert_same(found: tuple[np.ndarray, Results], expected: tuple[np.ndarray, Results]) -> None:
    for a, b in zip((found[0], *found[1].values()), (expected[0], *expected[1].values()), strict=True):
        assert np.abs(a - b).max() <= BUDGET * max(np.abs(b).max(), 1.0)


@pytest.mark.parametrize("name", ROTATING)
def test_operators_rotate_as_the_spec_does(name: str) -> None:
    done = compiled(ROTATING[name])
    assert done.operators is not None and any("rotation" in o.kind for o in done.operators.operators)
    assert_same(run_operators(done.operators, *arguments(done)), run_mixer(done.spec, *arguments(done)))


@pytest.mark.parametrize("form", [CHUNKED, QUADRATIC])
@pytest.mark.parametrize("name", ROTATING)
def test_forms_rotate_as_the_spec_does(name: str, form: str) -> None:
    done = compiled(ROTATING[name])
    given = arguments(done)
    expected = run_mixer(done.spec, *given)
    for chunk in (1, 5, 16, 64):
        assert_same(run_plan(done.plans[form], *given, chunk=chunk), expected)


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_commute_is_refused_by_its_law(name: str) -> None:
    done = compiled(REFUSED[name])
    assert done.forms == ("step",)
    assert LAWS[name] in str(done.obstacles[CHUNKED][0])


def test_kinds_are_named() -> None:
    done = compiled(ROTATING["an erase after it"])
    assert done.operators is not None
    assert done.operators.operators[0].kind == "scalar, rotation K + low rank"


def float32_error(tokens: int) -> float:
    """Of the chunked form, relative to the RMS of y, for angles of two radians and more at every token."""
    done = compiled(ROTATING["an angle for each token"])
    inputs, states = arguments(done, tokens)
    inputs["w"] = np.abs(inputs["w"]) + 2.0
    narrow, start = ({n: a.astype(np.float32) for n, a in group.items()} for group in (inputs, states))
    y, _ = run_plan(done.plans[STEP], {n: a.astype(np.float64) for n, a in narrow.items()}, start, chunk=1)
    found, _ = run_plan(done.plans[CHUNKED], narrow, start, chunk=16)
    return float(np.sqrt(np.mean((found - y) ** 2) / np.mean(y**2)))


def test_float32_errors_of_angles_grow_like_a_random_walk() -> None:
    """Angles are summed inside a chunk only; of longer sums the error would grow as the sequence, here fifty times."""
    assert float32_error(4000) < 15 * float32_error(80) < 1e-4
