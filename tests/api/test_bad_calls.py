"""Bad input at call level, end to end: one error of this project's own class, never one of numpy or torch."""

import numpy as np
import pytest
import torch

import smir
from smir.calls.binding import bind
from smir.errors import ArgumentError, BackendError, FormError, RangeError, SmirError
from smir.sampling import sample_states

MIXER = smir.compile("gated_delta_rule")
ARRAYS = smir.sample(MIXER.spec, B=1, T=5, H=2)
TENSORS = {name: torch.from_numpy(a) for name, a in ARRAYS.items()}

CALLS = {
    "a keyword of `compile`": ({"form": "step"}, "no argument 'form'"),
    "an unknown argument": ({"bta": ARRAYS["beta"]}, "did you mean beta"),
    "a state by a wrong name": ({"state": {"R": np.zeros((1, 2, 8, 12))}}, "no state 'R'.*states of .* are S"),
    "a state by a number": ({"state": {3: np.zeros((1, 2, 8, 12))}}, "no state 3"),
    "a state that is None": ({"state": {"S": None}}, "state S is a NoneType"),
    "states as a string": ({"state": "S"}, "expected a dictionary"),
    "a state of another batch": ({"state": {"S": np.zeros((3, 2, 8, 12))}}, r"\[B, H, K, V\] = \(1, 2, 8, 12\)"),
    "a masked array": ({"q": np.ma.masked_array(ARRAYS["q"])}, "argument q is a MaskedArray"),
    "a matrix": ({"q": np.ones((2, 2)).view(np.matrix)}, "argument q is a matrix"),
    "text": ({"q": ARRAYS["q"].astype(str)}, "argument q holds str"),
    "extended precision": ({"q": ARRAYS["q"].astype(np.longdouble)}, "argument q holds"),
    "records": ({"q": np.zeros(ARRAYS["q"].shape, [("x", float)])}, "argument q holds void"),
    "a numpy number": ({"beta": np.float32(0.5)}, "argument beta is a float32, expected an array"),
    "a sequence of another length": ({"v": ARRAYS["v"][:, :4]}, "argument v has shape"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CALLS.values(), ids=CALLS)
def test_numpy_calls(change, message) -> None:
    if message == "argument q holds" and np.longdouble(0).dtype == np.float64:
        pytest.skip("this machine has no longer floats")
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        MIXER(**{**ARRAYS, **change})


TENSOR_CALLS = {
    "sparse": (lambda q: q.to_sparse(), "argument q is a tensor that is sparse"),
    "without data": (lambda q: q.to("meta"), "argument q is a tensor that is without data"),
    "complex": (lambda q: q.to(torch.complex64), "argument q holds complex64"),
    "integers": (lambda q: q.to(torch.int32), "argument q holds int32"),
    "8-bit floats": (lambda q: q.to(torch.float8_e4m3fn), "argument q holds float8_e4m3fn"),
    "numpy among tensors": (lambda q: q.numpy(), "q is a numpy array and k a torch one"),
    "rank": (lambda q: q[0, 0], "argument q has shape"),
}


@pytest.mark.parametrize(("change", "message"), TENSOR_CALLS.values(), ids=TENSOR_CALLS)
def test_torch_calls(change, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        MIXER(**{**TENSORS, "q": change(TENSORS["q"])})


def test_two_devices_are_named(monkeypatch) -> None:
    from smir.calls import binding

    monkeypatch.setattr(binding, "device_of", lambda a: "cuda:0" if a is TENSORS["v"] else "cpu")
    with pytest.raises(ArgumentError, match=r"q is on cpu and v on cuda:0\nhint: .*one device"):
        bind(MIXER.spec, (), TENSORS)


@pytest.mark.parametrize("name", ["g", "beta"])
def test_promises_are_checked_when_asked(name) -> None:
    outside = {**ARRAYS, name: ARRAYS[name] + 7}
    with pytest.raises(RangeError, match=rf"{name}\[0, 0, 0\] is .*, outside of"):
        MIXER(**outside, check_ranges=True)
    assert MIXER(**ARRAYS, check_ranges=True).shape == (1, 5, 2, 12)


REQUESTS = {
    "form_for no tokens": (lambda: MIXER.form_for(T=0), ArgumentError, "T is a positive whole number, not 0"),
    "form_for text": (lambda: MIXER.form_for(T="a"), ArgumentError, "T is a positive whole number, not 'a'"),
    "form_for half a token": (lambda: MIXER.form_for(T=2.5), ArgumentError, "not 2.5"),
    "form_for no sequences": (lambda: MIXER.form_for(T=5, sequences=0), ArgumentError, "sequences is a positive"),
    "form_for dimension": (lambda: MIXER.form_for(T=5, Q=3), ArgumentError, "no dimension 'Q'"),
    "form_for size": (lambda: MIXER.form_for(T=5, K=0), ArgumentError, "dimension K can't have the size 0"),
    "form_for backend": (lambda: MIXER.form_for(T=5, backend="x"), BackendError, "no backend 'x'"),
    "explain text": (lambda: MIXER.explain(K="a"), ArgumentError, "dimension K can't have the size 'a'"),
    "verify text": (lambda: MIXER.verify(T="x"), ArgumentError, "T is a positive whole number"),
    "verify part": (lambda: MIXER.verify(B=0.5), ArgumentError, "B is a positive whole number"),
    "sample nothing": (lambda: smir.sample(MIXER.spec, T=0), ArgumentError, "T is a positive whole number"),
    "sample less": (lambda: smir.sample(MIXER.spec, B=-1), ArgumentError, "B is a positive whole number"),
    "sample backwards": (
        lambda: smir.sample(MIXER.spec, seed=-1),
        ArgumentError,
        "seed is a whole number from 0 on, not -1",
    ),
    "sample without seed": (lambda: smir.sample(MIXER.spec, seed=None), ArgumentError, "seed .* not None"),
    "verify backwards": (lambda: MIXER.verify(seed=-1), ArgumentError, "seed is a whole number"),
    "states of half a batch": (
        lambda: sample_states(MIXER.spec, 0.5, 1),
        ArgumentError,
        "B is a positive whole number",
    ),
    "states by text": (lambda: sample_states(MIXER.spec, 1, 1, seed="a"), ArgumentError, "seed .* not 'a'"),
    "plan": (lambda: MIXER.plan("fast"), FormError, "no form 'fast'"),
    "ir of a form": (lambda: MIXER.ir("tile", "fast"), FormError, "no form 'fast'"),
    "ir level": (lambda: MIXER.ir(None), ArgumentError, "no IR level None"),
    "emit nowhere": (lambda: MIXER.emit(None), ArgumentError, "folder to write to is no path: None"),
    "emit to a number": (lambda: MIXER.emit(3), ArgumentError, "folder to write to is no path: 3"),
    "emit onto a file": (lambda: MIXER.emit(__file__), ArgumentError, "can't write to"),
}


@pytest.mark.parametrize(("request_", "error", "message"), REQUESTS.values(), ids=REQUESTS)
def test_bad_requests(request_, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        request_()
    assert isinstance(caught.value, SmirError) and caught.value.hint


def test_a_chunk_longer_than_any_memory_is_one_chunk() -> None:
    whole = smir.compile("gated_delta_rule", form="chunked", chunk=10**12)(**ARRAYS)
    np.testing.assert_allclose(whole, MIXER(**ARRAYS), atol=1e-12)


def test_a_mixer_that_looks_ahead_does_not_go_on_from_its_states() -> None:
    mixer = smir.compile("lion_s")
    arrays = smir.sample(mixer.spec)
    for state in ({"S": np.zeros((2, 2, 8, 12))}, mixer(**arrays, return_state=True)[1]):
        with pytest.raises(FormError, match=r"lion_s:8:8: .* above the diagonal, for later positions"):
            mixer(**arrays, state=state)


def test_unusual_arrays_that_are_fine() -> None:
    expected = MIXER(**ARRAYS)
    frozen = ARRAYS["q"].copy()
    frozen.setflags(write=False)
    for q in (frozen, ARRAYS["q"].astype(">f8"), np.asfortranarray(ARRAYS["q"]), ARRAYS["q"][..., ::-1][..., ::-1]):
        np.testing.assert_allclose(MIXER(**{**ARRAYS, "q": q}), expected, rtol=1e-12)
