"""Mixers written with exponential gates and no stabiliser: golden vectors in every form, states as mantissa and log."""

import re
from functools import cache

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.errors import ArgumentError
from tests.golden.rows import call, compiled
from tests.golden.vectors import Case, cases, load, relative_rms

ROWS = ("mlstm", "rwkv4", "aft_simple_causal")
CHUNKS: dict[str, tuple[int | None, ...]] = {
    "step": (None,),
    "scan": (5, 16),
    "chunked": (5, 16, 64),
    "quadratic": (64, 16),
}
FORMS = {"mlstm": ("step", "chunked", "quadratic"), "rwkv4": ("step", "scan"), "aft_simple_causal": ("step", "scan")}
WAYS = [(name, form, chunk) for name in ROWS for form in FORMS[name] for chunk in CHUNKS[form]]
each_way = pytest.mark.parametrize(("name", "form", "chunk"), WAYS)
# A mask over all positions becomes states of both directions, which no call gives or takes.
BOTH_WAYS = [("aft_simple", form, chunk) for form in ("step", "scan") for chunk in CHUNKS[form]]
each_row = pytest.mark.parametrize(("name", "form", "chunk"), WAYS + BOTH_WAYS)
Arrays = dict[str, np.ndarray]
FLOAT64_BUDGET, FLOAT32_BUDGET, STEP_FACTOR = 1e-9, 2e-6, 2.0


def plain(found: Arrays, names: list[str]) -> Arrays:
    """y and the states, multiplied out in float64."""
    result = {"y": found["y"]}
    for name in names:
        mantissa, log = (found[n].astype(np.float64) for n in (name, f"{name}_log"))
        result[name] = mantissa * np.exp(log.reshape(*log.shape, *(1,) * (mantissa.ndim - log.ndim)))
    return result


def run(name: str, form: str, chunk: int | None, golden: Case, dtype: type = np.float64) -> Arrays:
    found = call(name, form, chunk, golden.inputs, golden.initial, dtype)
    assert all(np.isfinite(a).all() and a.dtype == dtype for a in found.values())
    return plain(found, list(golden.final))


@pytest.mark.parametrize("name", ROWS)
def test_forms(name: str) -> None:
    mixer = smir.compile(name)
    assert mixer.forms == FORMS[name]
    assert not mixer.compilation.remarks and not mixer.verify(T=21).unproved


@each_row
def test_form_agrees_in_float64(name: str, form: str, chunk: int | None) -> None:
    for case in cases(name):
        golden = load(name, case)
        expected = {"y": golden.y, **golden.final}
        for result, value in run(name, form, chunk, golden).items():
            assert relative_rms(value, expected[result]) <= FLOAT64_BUDGET, (case, result)


@cache
def conditioning(name: str, case: str) -> float:
    """What float32 inputs that round the other way would do to y, relative to its RMS."""
    golden, rng = load(name, case), np.random.default_rng(0)
    moved = {n: a * (1 + rng.choice([-1, 1], a.shape) * 2.0**-24) for n, a in golden.inputs.items()}
    y = run_mixer(compiled(name, "step", None).spec, _with_heads(name, moved), {})[0]
    return relative_rms(y.reshape(golden.y.shape), golden.y) if not golden.initial else 0.0


def _with_heads(name: str, arrays: Arrays) -> Arrays:
    if arrays["k"].ndim == 4:
        return arrays
    return {n: a[:, :, None] if a.ndim == 3 else a[None] for n, a in arrays.items()}


@cache
def float32_errors(name: str, case: str, form: str, chunk: int | None) -> dict[str, float]:
    golden = load(name, case)
    expected = {"y": golden.y, **golden.final}
    found = run(name, form, chunk, golden, np.float32)
    return {result: relative_rms(value, expected[result]) for result, value in found.items()}


@each_row
def test_form_keeps_the_float32_budget(name: str, form: str, chunk: int | None) -> None:
    """States of the stress cases reach 1e48. One denominator there nearly cancels: no float32 input fixes y better."""
    for case in cases(name):
        step = float32_errors(name, case, "step", None)
        for result, error in float32_errors(name, case, form, chunk).items():
            allowed = max(STEP_FACTOR * step[result], FLOAT32_BUDGET, conditioning(name, case) * (result == "y"))
            assert error <= allowed, (case, result)


@pytest.mark.parametrize("name", ROWS)
def test_the_step_form_in_float32_is_as_good_as_float32_gets(name: str) -> None:
    for case in cases(name):
        assert max(float32_errors(name, case, "step", None).values()) < 1e-6, case


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@each_way
def test_a_final_state_is_the_next_calls_initial_state(name: str, form: str, chunk: int | None, dtype: type) -> None:
    mixer, golden = compiled(name, form, chunk), load(name, cases(name)[-1])
    inputs: Arrays = {n: a.astype(dtype) for n, a in golden.inputs.items()}
    initial: Arrays = {n: a.astype(dtype) for n, a in golden.initial.items()}
    parts, state = [], initial
    for tokens in (slice(0, 17), slice(17, None)):
        part = {n: a[:, tokens] if a.shape[:2] == golden.y.shape[:2] else a for n, a in inputs.items()}
        y, state = mixer(**part, state=state, return_state=True)
        parts.append(y)
    whole, final = mixer(**inputs, state=initial, return_state=True)
    tolerance = FLOAT64_BUDGET if dtype is np.float64 else 1e-5
    assert relative_rms(np.concatenate(parts, 1), whole) < tolerance
    assert list(state) == list(final) == [n for s in golden.final for n in (s, f"{s}_log")]
    names = list(golden.final)
    expected = plain({"y": whole, **final}, names)
    for result, value in plain({"y": whole, **state}, names).items():
        assert relative_rms(value, expected[result]) < tolerance


# ---- extremes of the gates --------------------------------------------------------------------------------------


def gates(i: dict[int, float], f: dict[int, float], dtype: type, tokens: int = 21) -> Arrays:
    """mLSTM arguments with these gates at these tokens (or at ALL), the others normal."""
    rng = np.random.default_rng(0)
    shapes = {"q": (4,), "k": (4,), "v": (6,), "i": (), "f": ()}
    arrays = {n: rng.standard_normal((2, tokens, 1, *dims)) for n, dims in shapes.items()}
    for name, values in (("i", i), ("f", f)):
        for at, value in values.items():
            arrays[name][:, slice(None) if at is ALL else at] = value
    return {n: a.astype(dtype) for n, a in arrays.items()}


INF, ALL = float("inf"), -1
EXTREMES = {
    "i = 80": ({5: 80.0, 9: 80.0}, {}),
    "i = 700": ({5: 700.0}, {}),
    "i = -200 everywhere": ({ALL: -200.0}, {}),
    "f = -inf": ({}, {0: -INF, 3: -INF, 8: -INF, 12: -INF}),
    "f = inf": ({}, {3: INF}),
    "i = -inf": ({0: -INF, 1: -INF, 9: -INF}, {}),
    "nothing is ever written": ({ALL: -INF}, {}),
    "a reset that writes nothing": ({4: -INF, 5: -INF}, {4: -INF}),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", FORMS["mlstm"])
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_gates(extreme: str, form: str, dtype: type) -> None:
    mixer, arrays = compiled("mlstm", form, None if form == "step" else 8), gates(*EXTREMES[extreme], dtype)
    y, final = mixer(**arrays, return_state=True)
    truth, _ = run_mixer(mixer.spec, {n: a.astype(np.float64) for n, a in arrays.items()})
    assert all(np.isfinite(a).all() for a in (y, truth, *final.values()))
    size = np.abs(truth).max()
    assert np.abs(y - truth).max() <= (1e-12 if dtype is np.float64 else 5e-6) * (size if size > 1e-30 else 1.0)


@pytest.mark.parametrize("name", ROWS)
def test_one_token_and_states_of_zero(name: str) -> None:
    for form in FORMS[name]:
        mixer, golden = compiled(name, form, None if form == "step" else 16), load(name, "a")
        one = {n: a[:, :1] if a.shape[:2] == golden.y.shape[:2] else a for n, a in golden.inputs.items()}
        if name == "rwkv4":
            one["k"] = one["k"] - 500.0
        zeros = {n: np.zeros_like(a) for n, a in golden.final.items()}
        y, final = mixer(**one, return_state=True)
        again, same = mixer(**one, state=zeros, return_state=True)
        assert np.isfinite(y).all() and np.array_equal(y, again)
        assert all(np.array_equal(final[n], same[n]) for n in final)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"S_log": np.zeros((2, 1))}, "state S_log is given without S"),
        (
            {"S": np.zeros((2, 1, 4, 6)), "S_log": np.zeros((2, 1, 4))},
            "state S_log has shape (2, 1, 4), expected [B, H]",
        ),
        ({"S_lag": np.zeros((2, 1))}, "no state 'S_lag'"),
    ],
)
def test_wrong_logs(state: Arrays, message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        compiled("mlstm", "step", None)(**gates({}, {}, np.float64), state=state)
