"""Golden vectors of time-invariant mixers in the convolution form: outputs, states and, by torch, all gradients."""

import numpy as np
import pytest
import torch

import smir
from smir.ir.convolution import CONVOLUTION
from tests.golden.rows import call
from tests.golden.vectors import cases, load, relative_rms

ROWS = ("s4d_real", "s4d")
RUNS = [(name, case) for name in ROWS for case in cases(name)]
FORWARD_BUDGET, GRADIENT_BUDGET, FLOAT32_BUDGET = 1e-9, 1e-8, 2e-6


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_outputs_and_states_in_float64(name: str, case: str) -> None:
    golden = load(name, case)
    found = call(name, CONVOLUTION, None, golden.inputs, golden.initial)
    for result, value in {"y": golden.y, **golden.final}.items():
        assert relative_rms(found[result], value) <= FORWARD_BUDGET, result


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_outputs_in_float32(name: str, case: str) -> None:
    golden = load(name, case)
    step, found = (call(name, form, None, golden.inputs, golden.initial, np.float32)["y"]
                   for form in ("step", CONVOLUTION))  # fmt: skip
    assert found.dtype == np.float32
    assert relative_rms(found, golden.y) <= max(2 * relative_rms(step, golden.y), FLOAT32_BUDGET)


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_all_gradients_through_torch(name: str, case: str) -> None:
    golden = load(name, case)
    arrays = {n: torch.tensor(a, requires_grad=True) for n, a in golden.inputs.items()}
    states = {n: torch.tensor(a, requires_grad=True) for n, a in golden.initial.items()}
    mixer = smir.compile(name, form=CONVOLUTION)
    y, final = mixer(**arrays, state=states or None, return_state=True)
    loss = (y * torch.tensor(golden.dy)).sum()
    loss = loss + sum((final[n] * torch.tensor(d)).sum() for n, d in golden.dfinal.items())
    names = [*arrays, *(f"initial_state_{n}" for n in states)]
    found = torch.autograd.grad(loss, [*arrays.values(), *states.values()])
    for n, gradient in zip(names, found, strict=True):
        assert relative_rms(gradient.numpy(), golden.gradients[n]) <= GRADIENT_BUDGET, n
