"""Gradients are right: torch's gradcheck of every form, and the golden vectors."""

from typing import Any

import pytest

import smir
from smir.compiled import CompiledMixer
from smir.sampling import dimension_names
from tests.golden.rows import RUNS
from tests.golden.vectors import load, relative_rms
from tests.gradients.calls import (
    EVERY_FORM,
    compilation,
    compiled,
    leaves,
    multiplied_out,
    sampled,
)

torch = pytest.importorskip("torch")


def gradcheck(mixer: CompiledMixer, name: str, fast: bool) -> None:
    """Output and final states, by all arguments and initial states."""
    sizes = {n: 2 + 2 * i for i, n in enumerate(dimension_names(mixer.spec))}
    arrays, states = sampled(name, T=5 if fast else 3, H=1, sizes=sizes)

    def call(*tensors: Any) -> tuple[Any, ...]:
        given = dict(zip((*arrays, *states), tensors, strict=True))
        initial = {n: given.pop(n) for n in states}
        y, final = mixer(**given, state=initial, return_state=True)
        return (y, *multiplied_out(final))

    assert torch.autograd.gradcheck(call, (*arrays.values(), *states.values()), fast_mode=fast, atol=1e-6)


@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.full)], ids=["fast", "entries"])
@pytest.mark.parametrize("name", smir.library_names())
def test_gradcheck_of_the_library(name: str, fast: bool) -> None:
    """Several chunks, the last one ragged, where there is a form that has some. In full runs entry by entry."""
    form = next(f for f in ("chunked", "scan", None) if f is None or f in compilation(name).plans)
    gradcheck(compiled(name, form, 2), name, fast)


@pytest.mark.parametrize("name", smir.library_names())
def test_gradcheck_of_the_form_that_a_call_chooses(name: str) -> None:
    gradcheck(compiled(name, None, None), name, fast=True)


@pytest.mark.parametrize("form", ["step", "quadratic"])
@pytest.mark.parametrize("name", EVERY_FORM)
def test_gradcheck_of_every_form(name: str, form: str) -> None:
    gradcheck(compiled(name, form, 2), name, fast=False)


@pytest.mark.parametrize("form", [pytest.param("step", marks=pytest.mark.full), "chunked", "quadratic"])
@pytest.mark.parametrize(("name", "case"), RUNS)
def test_golden_gradients(name: str, case: str, form: str) -> None:
    golden = load(name, case)
    arrays, states = leaves(golden.inputs), leaves(golden.initial)
    y, final = compiled(name, form)(**arrays, state=states or None, return_state=True)
    total = (y * torch.from_numpy(golden.dy)).sum()
    for state, cotangent in golden.dfinal.items():
        total = total + (final[state] * torch.from_numpy(cotangent)).sum()
    total.backward()
    found = {n: a.grad for n, a in arrays.items()} | {f"initial_state_{n}": s.grad for n, s in states.items()}
    assert set(golden.gradients) <= set(found)
    for argument, expected in golden.gradients.items():
        assert relative_rms(found[argument].numpy(), expected) <= 1e-8, argument
