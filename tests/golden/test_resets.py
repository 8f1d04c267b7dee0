"""Exact resets (log-decays of -inf, decays of 0) at every kind of place, in every form: never NaN, and exact."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.calls.binding import bind
from smir.frontends import parse_mixer
from smir.library import load as load_spec
from tests.golden.resets.make_vectors import GATES
from tests.golden.resets.vectors import PLACES, Resets, load, names
from tests.golden.rows import FORM_IDS, FORMS, call

each_form = pytest.mark.parametrize(("form", "chunk"), FORMS, ids=FORM_IDS)
each_row = pytest.mark.parametrize("name", names())
# Rows in which a reset of every channel leaves nothing of the state: no erase reads it before its decay.
FORGETFUL = ["scalar_decay", "gla", "hgrn2", "dfw", "gated_rfa_unnorm", "gated_rfa", "gated_delta_rule", "kda"]


def errors(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Relative RMS error by place; NaN stays NaN."""

    def rms(a: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean(a**2, axis=tuple(range(1, a.ndim))))

    scale = rms(expected)
    return dict(zip(PLACES, rms(found - expected) / np.where(scale > 0, scale, 1.0), strict=True))


def test_every_row_with_gates_has_vectors() -> None:
    assert set(names()) == set(GATES)


@each_row
def test_the_vectors_are_what_the_oracle_computes(name: str) -> None:
    mixer, vectors = parse_mixer(load_spec(name)), load(name)
    bound = bind(mixer, (), vectors.inputs, vectors.initial or None, check_ranges=True)
    y, final = run_mixer(mixer, bound.arrays, bound.states)
    for result, value in vectors.results.items():
        np.testing.assert_allclose({"y": y, **final}[result], value, rtol=1e-12, atol=1e-13)


@each_row
def test_the_vectors_have_resets_at_every_place(name: str) -> None:
    vectors = load(name)
    for gate in GATES[name]:
        values = vectors.inputs[gate]
        resets = np.isneginf(values) if np.isneginf(values).any() else values == 0
        if values.ndim == 1:  # a parameter per head
            assert resets.tolist() == [False, True]
            continue
        assert resets.reshape(len(PLACES), -1).any(axis=1).all()
        assert resets[PLACES.index("everywhere")].all() and not resets[PLACES.index("head")][:, 0].any()


@each_form
@each_row
def test_every_form_is_exact(name: str, form: str, chunk: int | None) -> None:
    vectors = load(name)
    found = call(name, form, chunk, vectors.inputs, vectors.initial)
    for result, value in vectors.results.items():
        assert np.isfinite(found[result]).all()
        for place, error in errors(found[result], value).items():
            assert error <= 1e-12, (result, place)


@each_form
@each_row
def test_float32_is_never_nan(name: str, form: str, chunk: int | None) -> None:
    vectors = load(name)
    found = call(name, form, chunk, vectors.inputs, vectors.initial, np.float32)
    for result, value in vectors.results.items():
        assert np.isfinite(found[result]).all()
        for place, error in errors(found[result], value).items():
            assert error <= 1e-5, (result, place)


def shaken(vectors: Resets, gates: list[str], before: int) -> Resets:
    """The same with everything before a token a million times larger, gates apart."""
    inputs = {n: a.copy() for n, a in vectors.inputs.items()}
    for name, a in inputs.items():
        if name not in (*gates, "beta"):
            a[:, :before] *= 1e6
    return Resets(inputs, {n: 1e6 * s for n, s in vectors.initial.items()}, vectors.results)


@each_form
@pytest.mark.parametrize("name", FORGETFUL)
def test_nothing_passes_a_reset(name: str, form: str, chunk: int | None) -> None:
    """Whatever came before the reset, what comes after it is the same to the last bit."""
    vectors, token = load(name), 15
    for gate in GATES[name]:
        a = vectors.inputs[gate]
        a[:, token] = -np.inf if np.isneginf(a).any() else 0.0
    one = call(name, form, chunk, vectors.inputs, vectors.initial)
    large = shaken(vectors, GATES[name], token)
    other = call(name, form, chunk, large.inputs, large.initial)
    assert not np.array_equal(one["y"][:, :token], other["y"][:, :token])
    np.testing.assert_array_equal(one["y"][:, token:], other["y"][:, token:])
    for state in vectors.initial:
        np.testing.assert_array_equal(one[state], other[state])
