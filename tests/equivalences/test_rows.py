"""Rows of a batch don't know of each other: the same bits whatever else is there; padding is nothing."""

import numpy as np
import pytest

from tests.equivalences.specs import CAUSAL, TOKENS, arguments, cut, error, forms, mixer, row_of, token, tokens


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_row_is_the_same_in_every_batch(name: str, dtype: type) -> None:
    """Also where the compiler chooses form and chunk."""
    arrays = {n: a.astype(dtype) for n, a in arguments(name, B=3).items()}
    for form in (None, *forms(name)):
        y, final = mixer(name, form)(**arrays, return_state=True)
        for row in (0, 2):
            own = row_of(name, arrays, row)
            one, state = mixer(name, form)(**own, return_state=True)
            assert np.array_equal(one[0], y[row], equal_nan=True), form
            for entry in (e for e in final if final[e].ndim):
                assert np.array_equal(state[entry][0], final[entry][row], equal_nan=True), (form, entry)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_row_decodes_to_the_same_bits_in_every_batch(name: str) -> None:
    arrays = arguments(name, B=3)
    _, state = mixer(name)(**tokens(name, arrays, 0, 8), return_state=True)
    y, _ = mixer(name).step(**token(name, arrays, 8), state=state)
    own = {entry: a[1:2] if a.ndim else a for entry, a in state.items()}
    one, _ = mixer(name).step(**token(name, row_of(name, arrays, 1), 8), state=own)
    assert np.array_equal(one[0], y[1])


@pytest.mark.parametrize("name", ["gated_delta_rule", "gla", "hgrn", "linear_attention", "mlstm", "softmax_causal"])
def test_many_rows_on_many_threads_are_the_rows(name: str) -> None:
    """Enough of them for the numpy backend to share its work between threads."""
    arrays = {n: a.astype(np.float32) for n, a in arguments(name, B=16, T=512).items()}
    arrays = {n: np.repeat(a, 4, axis=2) if a.ndim > 2 and a.shape[:2] == (16, 512) else a for n, a in arrays.items()}
    y = mixer(name)(**arrays)
    for row in (0, 11):
        assert np.array_equal(mixer(name)(**row_of(name, arrays, row))[0], y[row])


@pytest.mark.parametrize("name", CAUSAL)
def test_a_padded_batch_is_the_unpadded_rows(name: str) -> None:
    """Whatever stands behind a row's end: zeros, or any numbers."""
    lengths = (5, TOKENS, 16)
    arrays = arguments(name, B=3)
    for padded in (arrays, cut(name, arrays, lambda a: _with_zeros(a, lengths))):
        y = mixer(name)(**padded)
        for row, length in enumerate(lengths):
            own = mixer(name)(**tokens(name, row_of(name, arrays, row), 0, length))
            assert error(y[row : row + 1, :length], own) <= 1e-10


def _with_zeros(a: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """Zeros behind each row's length."""
    found = a.copy()
    for row, length in enumerate(lengths):
        found[row, length:] = 0.0
    return found
