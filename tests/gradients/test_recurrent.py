"""Backpropagation through time of non-linear recurrences: what the kernels keep, load and sum."""

import re

import pytest

import smir
from smir.backends.triton_gpu.emit_kernel import print_kernel
from smir.backends.triton_gpu.facts import Facts
from smir.derivatives import training_plan
from smir.ir.graph import walk
from smir.ir.kernel import KernelPlan
from smir.ir.tile import ONE, PARAM
from smir.ir.tile_program import STEP
from smir.sampling import sample_states
from tests.gradients.adjoints import Gradients, random_cotangents, relative_errors
from tests.gradients.adjoints import library as gradients_of

RECURRENT = ["elman", "gru", "lstm"]


def backward(name: str) -> KernelPlan:
    mixer = smir.compile(name).compilation
    wanted = frozenset({d.name for d in mixer.spec.declarations} | {s.name for s in mixer.spec.states})
    return training_plan(mixer, STEP, wanted).backward


@pytest.mark.parametrize("name", RECURRENT)
def test_every_token_keeps_vectors_only(name: str) -> None:
    """Not a matrix for each token: gradients of recurrent matrices are summed by loops.

    The states themselves are kept, in full precision, so that the backward pass walks through the sequence once.
    """
    plan = backward(name)
    matrices = {r.name for r in plan.results if r.kind == PARAM}
    assert len(plan.kernels) in (1, 1 + len(matrices)) and len(plan.given) == len(smir.compile(name).spec.states)
    assert all((b.cols, b.dtype) == (ONE, "float32") for b in plan.buffers)
    assert matrices == plan.totals == {f"d_{d.name}" for d in smir.compile(name).spec.declarations if len(d.dims) == 2}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_matrices_are_loaded_before_the_loop(name: str) -> None:
    spec = smir.compile(name).spec
    matrices = [d.name for d in spec.declarations if len(d.dims) == 2]
    for plan in (smir.compile(name).compilation.plans[STEP], backward(name)):
        for kernel in plan.kernels:
            before, _, inside = print_kernel(plan, kernel, Facts()).source.partition("    for ")
            loaded = [m for m in matrices if re.search(rf"\b{m}_base \+", before)]
            assert loaded or not any(n.op == "load" and n["kind"] == PARAM for n in walk(kernel.roots()))
            assert not [m for m in matrices if re.search(rf"\b{m}_base \+", inside)]
            assert "tl.dot" not in inside, "a matrix times one vector is no product for the matrix unit"


@pytest.mark.parametrize("name", RECURRENT)
def test_totals_are_the_sums_over_tokens(name: str) -> None:
    """The plan sums over the sequence, the tile program hands out every token's summand."""
    made: Gradients = gradients_of(name)
    arrays = smir.sample(made.mixer, 2, 9, 3, {"D": 4})
    at = random_cotangents(made.mixer, arrays, sample_states(made.mixer, 2, 3, {"D": 4}), seed=1)
    errors = relative_errors(made(STEP, 1, at), made(STEP, 1, at, by_tiles=True))
    assert max(errors.values()) < 1e-12
