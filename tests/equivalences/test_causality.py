"""Causal mixers are numerically causal: other later tokens change no bit of the earlier ones."""

import numpy as np
import pytest

from smir.ir.convolution import CONVOLUTION
from tests.equivalences.specs import CAUSAL, Arrays, arguments, cut, error, forms, mixer


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", CAUSAL)
def test_the_future_changes_nothing_before_it(name: str, dtype: type) -> None:
    arrays, others = arguments(name), arguments(name, seed=5)
    for first in (1, 13):
        changed = later(name, arrays, others, first)
        for form in forms(name, exact=True):
            y = mixer(name, form)(**{n: a.astype(dtype) for n, a in arrays.items()})
            z = mixer(name, form)(**{n: a.astype(dtype) for n, a in changed.items()})
            assert np.array_equal(z[:, :first], y[:, :first]), form
            assert not np.array_equal(z[:, first:], y[:, first:]), form


@pytest.mark.parametrize("name", [name for name in CAUSAL if name in ("one_pole_memory", "s4d", "s4d_real")])
def test_a_fourier_transform_is_causal_up_to_rounding(name: str) -> None:
    arrays = arguments(name)
    y = mixer(name, CONVOLUTION)(**arrays)
    z = mixer(name, CONVOLUTION)(**later(name, arrays, arguments(name, seed=5), 13))
    assert error(z[:, :13], y[:, :13]) <= 1e-14


def later(name: str, arrays: Arrays, others: Arrays, first: int) -> Arrays:
    """The arguments, with the tokens of others from `first` on."""
    inputs = cut(name, arrays, lambda a: a[:, :first])
    return {n: np.concatenate([inputs[n], others[n][:, first:]], 1) if inputs[n] is not a else a
            for n, a in arrays.items()}  # fmt: skip
