"""The part of `mixer.verify(gradients=True)` that compares gradients: what a training call runs, in every legal form.

The reference is the step form's backward pass in float64: backpropagation through time, token by token.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.compiler import Compilation, training_plan
from smir.ir.tile import OUTPUT, STEP
from smir.passes.adjoint_program import PREFIX
from smir.sampling import sample_cotangents

Array = NDArray[Any]
Arrays = Mapping[str, Array]


def form_gradients(
    done: Compilation, form: str, arrays: Arrays, states: Arrays, cotangents: Arrays, chunk: int
) -> dict[str, Array]:
    """Gradients of all inputs, parameters and initial states, as `d_<name>`; `cotangents` of y and the final states.

    One training step: the forward kernels, then the backward kernels with the values that were kept.
    """
    names = [d.name for d in done.spec.declarations] + [s.name for s in done.spec.states]
    plan = training_plan(done, form, frozenset(names))
    found, _ = run_results(plan.forward, arrays, states, chunk=chunk)
    given = {**arrays, **{plan.kept[n]: found[n] for n in plan.kept}, PREFIX + OUTPUT: cotangents[OUTPUT]}
    seeds = {PREFIX + s.name: cotangents[s.name] for s in done.spec.states}
    gradients, of_states = run_results(plan.backward, given, {**states, **seeds}, chunk=chunk)
    return {PREFIX + n: a for n in names if (a := {**gradients, **of_states}.get(PREFIX + n)) is not None}


def reference(done: Compilation, arrays: Arrays, states: Arrays, cotangents: Arrays) -> dict[str, Array]:
    """The gradients that all forms are compared with; every argument is float64."""
    return form_gradients(done, STEP, arrays, states, cotangents, 1)


def random_cotangents(done: Compilation, arrays: Arrays, seed: int) -> dict[str, Array]:
    """Of y and of every final state, float64, for these arguments in canonical layout."""
    batch, time, heads = arrays[done.spec.inputs[0].name].shape[:3]
    dims = {n: size for d in done.spec.declarations for n, size in zip(d.dims, arrays[d.name].shape, strict=False)}
    return {}
