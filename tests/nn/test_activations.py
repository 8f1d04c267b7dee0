"""Every range is reached from all numbers, kept, and inverted."""

import math

import pytest
import torch

from smir.ir.interval import Interval
from smir.nn.activations import before, into, middle, near

INF = math.inf
RANGES = [Interval(-INF, 0.0), Interval(0.0, INF), Interval(0.0, 1.0), Interval(-2.0, 3.0), Interval(1.0, INF),
          Interval(-INF, 5.0), Interval()]  # fmt: skip
OPEN = [Interval(0.0, 1.0, True, True), Interval(0.0, INF, True), Interval(-INF, 0.0, False, True),
        Interval(10.0, 11.0, True, True)]  # fmt: skip
Z = torch.tensor([-1e4, -200.0, -30.0, -3.0, -0.1, 0.0, 0.1, 3.0, 30.0, 200.0, 1e4])


@pytest.mark.parametrize("promised", RANGES + OPEN, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_are_inside_and_increase(promised, dtype):
    y = into(Z.to(dtype), promised)
    assert all(float(v) in promised for v in y)
    assert (y.diff() >= 0).all() and y[4] < y[6]


@pytest.mark.parametrize("promised", RANGES, ids=str)
def test_the_inverse(promised):
    z = torch.linspace(-8, 8, 33, dtype=torch.float64)
    torch.testing.assert_close(before(into(z, promised), promised), z, rtol=1e-9, atol=1e-9)
    assert middle(promised) in promised


def test_gates_of_16_bit_layers_are_held_in_32():
    decay = into(before(torch.tensor([1 - 1 / 512]), Interval(0.0, 1.0)).bfloat16(), Interval(0.0, 1.0))
    assert decay.dtype == torch.float32 and 0.99 < decay < 1


def test_distances_are_of_the_width_where_it_is_finite():
    d = torch.tensor([0.25], dtype=torch.float64)
    assert near(0.0, d, Interval(-INF, 0.0)) == -0.25
    assert near(3.0, d, Interval(-1.0, 3.0)) == 2.0
    assert near(-1.0, d, Interval(-1.0, 3.0)) == 0.0
    assert near(0.0, d, Interval(0.0, INF)) == 0.25
