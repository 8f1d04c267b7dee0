"""Every golden vector of the rows over pairs of positions: forward, and gradients through torch."""

import numpy as np
import pytest
import torch

from tests.golden.rows import PAIR_ROWS, PAIR_RUNS, call, compiled
from tests.golden.vectors import load, relative_rms

CHUNKS = (1, 5, 16, 64)
FLOAT64_BUDGET, FLOAT32_BUDGET, GRADIENT_BUDGET = 1e-9, 2e-6, 1e-8


@pytest.mark.parametrize("name", PAIR_ROWS)
def test_the_quadratic_form_is_the_only_one(name: str) -> None:
    assert compiled(name, "quadratic", 16).forms == ("quadratic",)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("name", "case"), PAIR_RUNS)
def test_form_agrees_in_both_types(name: str, case: str, chunk: int) -> None:
    golden = load(name, case)
    for dtype, budget in ((np.float64, FLOAT64_BUDGET), (np.float32, FLOAT32_BUDGET)):
        found = call(name, "quadratic", chunk, golden.inputs, dtype=dtype)
        assert set(found) == {"y"} and found["y"].dtype == dtype and found["y"].shape == golden.y.shape
        assert relative_rms(found["y"], golden.y) <= budget


@pytest.mark.parametrize("chunk", [5, 64])
@pytest.mark.parametrize(("name", "case"), PAIR_RUNS)
def test_gradients_through_torch(name: str, case: str, chunk: int) -> None:
    golden = load(name, case)
    tensors = {n: torch.tensor(a, requires_grad=True) for n, a in golden.inputs.items()}
    compiled(name, "quadratic", chunk)(**tensors).backward(torch.tensor(golden.dy))
    assert set(golden.gradients) == set(tensors)
    for n, tensor in tensors.items():
        assert tensor.grad is not None and tensor.grad.shape == tensor.shape
        assert relative_rms(tensor.grad.numpy(), golden.gradients[n]) <= GRADIENT_BUDGET, n


@pytest.mark.parametrize("name", ["forgetting_attention", "aft_full_causal"])
def test_gradcheck(name: str) -> None:
    rng = np.random.default_rng(0)
    golden = load(name, "a")
    cut = {n: a[:1, :5, ..., :2] if a.ndim > 3 else a[:1, :5] for n, a in golden.inputs.items()}
    if name == "aft_full_causal":
        cut = {n: rng.standard_normal((5, 5) if n == "w" else (1, 5, 3)) for n in golden.inputs}
    tensors = tuple(torch.tensor(a, requires_grad=True) for a in cut.values())
    mixer = compiled(name, "quadratic", 2)
    assert torch.autograd.gradcheck(lambda *args: mixer(**dict(zip(cut, args, strict=True))), tensors)
