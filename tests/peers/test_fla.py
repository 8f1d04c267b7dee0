"""Library specs against fla-core's references: outputs, final states and gradients, in every form."""

from functools import cache

import numpy as np
import pytest
import torch

import smir
from docs.catalogue import LITERATURE
from smir.compilation import DIRECT
from smir.compiled import CompiledMixer
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP
from smir.sampling import dimension_names, sample, sample_states
from smir.specs import library_names
from tests.golden.vectors import relative_rms
from tests.peers.fla_references import REFERENCES, Tensor

pytestmark = pytest.mark.peers

BUDGET = 1e-5  # theirs are float32
SIZES = {"K": 8, "V": 12, "M": 6, "D": 10}
COTANGENTS = 7  # seed
AS_WRITTEN = ("stick_breaking",)  # without a program, and so without gradients
KNOWN = [name for name in REFERENCES if name in library_names() or (LITERATURE / f"{name}.smir").exists()]


@cache
def mixer(name: str, form: str | None = None) -> CompiledMixer:
    """Of the library, or of the literature."""
    spec = name if name in library_names() else LITERATURE / f"{name}.smir"
    return smir.compile(spec, form=form, chunk=None if form in (None, STEP, DIRECT) else 16)


def constrained(name: str, arrays: dict[str, np.ndarray], states: dict[str, np.ndarray]) -> None:
    """What theirs can't choose freely: fixed decays, states that start at zero, a running sum of squares."""
    if name == "retnet":
        arrays["gamma"] = 1 - 2.0 ** (-5 - np.arange(2))
    if name in ("retnet", "abc"):
        states.clear()
    if name == "preconditioned_delta_rule":
        states["A"] = np.abs(states["A"])


@cache
def arguments(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Float64 values that float32 holds: inputs and initial states of one spec."""
    spec = mixer(name).spec
    sizes = {d: SIZES["K" if name == "parallax" else d] for d in dimension_names(spec)}  # it has one size for both
    arrays, states = sample(spec, T=21, sizes=sizes, seed=3), sample_states(spec, 2, 2, sizes=sizes, seed=4)
    constrained(name, arrays, states)
    return rounded(arrays), rounded(states)


def rounded(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a.astype(np.float32).astype(np.float64) for name, a in arrays.items()}


def tensors(name: str, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    def leaves(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return {n: torch.tensor(a, dtype=dtype, requires_grad=True) for n, a in arrays.items()}

    inputs, states = arguments(name)
    return leaves(inputs), leaves(states)


def gradients(y: Tensor, leaves: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Of a fixed random combination of y's entries."""
    seed = torch.Generator().manual_seed(COTANGENTS)
    weights = torch.randn(y.shape, generator=seed, dtype=torch.float64).to(y.dtype)
    found = torch.autograd.grad((weights * y).sum(), list(leaves.values()), allow_unused=True)
    return {n: g.numpy() for n, g in zip(leaves, found, strict=True) if g is not None}


@cache
def theirs(name: str) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Their output, final states and gradients."""
    inputs, states = tensors(name, torch.float32)
    y, final = REFERENCES[name](inputs, states)
    return y.detach().numpy(), {n: a.detach().numpy() for n, a in final.items()}, gradients(y, {**inputs, **states})


@pytest.mark.parametrize("name", KNOWN)
def test_every_form_gives_their_output_and_final_states(name: str) -> None:
    inputs, states = arguments(name)
    expected, last, _ = theirs(name)
    for form in mixer(name).forms:
        # one that is only known as written has nothing to go on from
        found = mixer(name, form)(**inputs, state=states or None, return_state=bool(last))
        y, final = found if last else (found, {})
        assert relative_rms(y, expected) <= BUDGET, form
        for state, value in last.items():
            assert relative_rms(final[state], value) <= BUDGET, (form, state)


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in AS_WRITTEN])
def test_gradients(name: str) -> None:
    inputs, states = tensors(name, torch.float64)
    form = next(f for f in (CHUNKED, SCAN, QUADRATIC, STEP) if f in mixer(name).forms)
    y = mixer(name, form)(**inputs, state=states or None)
    found, expected = gradients(y, {**inputs, **states}), theirs(name)[2]
    assert expected
    for leaf, value in expected.items():
        assert relative_rms(found[leaf], value) <= BUDGET, leaf
