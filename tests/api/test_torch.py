"""Torch tensors on the CPU: the same numbers, in the tensors' own type."""

import numpy as np
import pytest

import smir

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def arrays():
    return smir.sample(smir.compile("gated_delta_rule").spec, B=2, T=40, H=2, seed=2)


def tensors(arrays, dtype):
    return {name: torch.from_numpy(a).to(dtype) for name, a in arrays.items()}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 3e-2), ("float16", 4e-3)]
)
def test_tensors_give_what_numpy_gives(arrays, dtype, tolerance):
    mixer = smir.compile("gated_delta_rule", form="chunked")
    expected, final = mixer(**arrays, return_state=True)
    y, state = mixer(**tensors(arrays, getattr(torch, dtype)), return_state=True)
    assert isinstance(y, torch.Tensor) and y.dtype == getattr(torch, dtype)
    assert np.abs(y.double().numpy() - expected).max() <= tolerance * np.abs(expected).max()
    assert np.abs(state["S"].double().numpy() - final["S"]).max() <= tolerance * np.abs(final["S"]).max()


def test_the_state_goes_round(arrays):
    mixer = smir.compile("gated_delta_rule")
    whole = mixer(**tensors(arrays, torch.float64))
    half = {n: a[:, :20] for n, a in tensors(arrays, torch.float64).items()}
    rest = {n: a[:, 20:] for n, a in tensors(arrays, torch.float64).items()}
    first, state = mixer(**half, return_state=True)
    second = mixer(**rest, state=state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)


def test_triton_without_a_gpu_is_one_clear_error(arrays):
    mixer = smir.compile("gated_delta_rule", backend="triton")
    with pytest.raises(smir.BackendError, match="GPU"):
        mixer(**tensors(arrays, torch.float32))
    with pytest.raises(smir.BackendError, match="numpy arrays"):
        mixer(**arrays)
