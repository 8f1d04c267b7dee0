"""Recurrences with identity and scalar decays as sums over pairs, and their own backward kernels."""

from functools import cache

import numpy as np
import pytest
import torch

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.pair_interpreter import run_pairs
from smir.compilation import Compilation
from smir.compiled import CompiledMixer
from smir.compiler import Options, compile_spec
from smir.derivatives import stateless_training_plan
from smir.ir.pairs import PairProgram
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile_program import QUADRATIC
from smir.ir.verifier import verify
from smir.library import load
from smir.passes.recognition.operators_to_pairs import operators_to_pairs
from smir.sampling import dimension_names, sample

# Identity, a decay for each token or head, normalised, backward in time, both directions, parameters and inputs.
EXPRESSIBLE = ["linear_attention", "scalar_decay", "retnet", "linear_attention_elu_norm", "gated_rfa", "lion_s",
               "bidir_half", "mamba2_ssd"]  # fmt: skip


@cache
def compiled(name: str) -> Compilation:
    return compile_spec(load(name), Options())


def pairs(name: str) -> PairProgram | None:
    operators = compiled(name).operators
    assert operators is not None
    return operators_to_pairs(operators)


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_the_sums_are_the_recurrence(name: str) -> None:
    program, done = pairs(name), compiled(name)
    assert program is not None
    verify(program)
    assert parse_ir(print_ir(program)) == program
    arrays = sample(done.spec, 2, 9, 2, {n: 3 for n in dimension_names(done.spec)}, 1)
    np.testing.assert_allclose(run_pairs(program, arrays), run_mixer(done.spec, arrays)[0], atol=1e-12)


@pytest.mark.parametrize("name", ["gla", "delta_rule", "kda", "dfw", "rwkv6"])
def test_what_does_more_than_decay_by_one_number_is_none(name: str) -> None:
    assert pairs(name) is None
    assert stateless_training_plan(compiled(name), QUADRATIC, frozenset("qkv")) is None


def gradients(name: str, form: str, final: bool) -> dict[str, np.ndarray]:
    mixer = CompiledMixer(compiled(name), form, None, 4)
    arrays = sample(mixer.spec, 2, 14, 2, {n: 3 for n in dimension_names(mixer.spec)}, 1)
    tensors = {n: torch.tensor(a, requires_grad=True) for n, a in arrays.items()}
    y, states = mixer(**tensors, return_state=True)
    weights = torch.tensor(np.random.default_rng(0).standard_normal(y.shape))
    loss = (y * weights).sum() + (sum((s * s).sum() for s in states.values()) if final else 0.0)
    loss.backward()
    return {n: t.grad.numpy() for n, t in tensors.items() if t.grad is not None}


@pytest.mark.parametrize("final", [False, True], ids=["y", "y and states"])
@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_gradients_are_those_of_the_step_form(name: str, final: bool) -> None:
    own = stateless_training_plan(
        compiled(name), QUADRATIC, frozenset(d.name for d in compiled(name).spec.declarations)
    )
    assert own is not None and {"rows", "columns"} <= {k.name for k in own.backward.kernels}
    expected, found = gradients(name, "step", final), gradients(name, "quadratic", final)
    assert set(found) == set(expected)
    for n, value in expected.items():
        np.testing.assert_allclose(found[n], value, atol=1e-11)


def test_resets_have_exact_gradients() -> None:
    """Decays of zero inside a chunk and between chunks: no NaN, and nothing flows across."""
    mixer = smir.compile("scalar_decay", form="quadratic", chunk=4)
    arrays = sample(mixer.spec, 1, 14, 1, {"K": 3, "V": 2}, 1)
    arrays["g"][:, [5, 8]] = -np.inf
    tensors = {n: torch.tensor(a, requires_grad=True) for n, a in arrays.items()}
    mixer(**tensors)[:, 9:].sum().backward()
    for n in ("k", "v"):
        grad = tensors[n].grad
        assert grad is not None and grad.isfinite().all() and not grad[:, :8].any() and grad[:, 8:].any()
