"""Gradients of stabilised mixers by autograd: through states as mantissa and log, given, returned and given again."""

import numpy as np
import pytest
import torch

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from tests.golden.rows import compiled
from tests.golden.vectors import cases, load, relative_rms

WAYS = [("mlstm", "step", None), ("mlstm", "chunked", 8), ("rwkv4", "step", None), ("rwkv4", "scan", 8)]
each_way = pytest.mark.parametrize(("name", "form", "chunk"), WAYS)
BUDGET = 1e-9
Tensors = dict[str, torch.Tensor]


def leaves(arrays: dict[str, np.ndarray]) -> Tensors:
    return {n: torch.tensor(a, requires_grad=True) for n, a in arrays.items()}


def plain(state: Tensors, name: str) -> torch.Tensor:
    """A final state multiplied out."""
    mantissa, log = state[name], state[f"{name}_log"]
    return mantissa * torch.exp(log.reshape(*log.shape, *(1,) * (mantissa.ndim - log.ndim)))


def some(inputs: Tensors, part: slice) -> Tensors:
    tokens = max(a.shape[1] for a in inputs.values() if a.ndim > 1)
    return {n: a[:, part] if a.ndim > 1 and a.shape[1] == tokens else a for n, a in inputs.items()}


@each_way
def test_gradients_flow_through_a_returned_state(name: str, form: str, chunk: int | None) -> None:
    """Two calls, the second from the state that the first returned, have the gradients of one."""
    mixer, golden = compiled(name, form, chunk), load(name, "b")
    found = []
    for cuts in ((slice(0, None),), (slice(0, 16), slice(16, None))):
        inputs, initial = leaves(golden.inputs), leaves(golden.initial)
        state: Tensors = dict(initial)
        outputs = []
        for part in cuts:
            y, state = mixer(**some(inputs, part), state=state, return_state=True)
            outputs.append(y)
        total = (torch.cat(outputs, 1) * torch.tensor(golden.dy)).sum()
        total = total + sum((plain(state, n) * torch.tensor(d)).sum() for n, d in golden.dfinal.items())
        total.backward()
        assert all(not state[f"{n}_log"].requires_grad for n in golden.final)
        found.append({n: t.grad.numpy() for n, t in (inputs | initial).items()})
    expected = {n.removeprefix("initial_state_"): g for n, g in golden.gradients.items()}
    for gradients in found:
        for n, gradient in gradients.items():
            assert relative_rms(gradient, expected[n]) < BUDGET, n


@each_way
def test_a_state_of_zero_has_a_gradient(name: str, form: str, chunk: int | None) -> None:
    """Its log would be very low otherwise, and its mantissa worth nothing."""
    mixer, golden = compiled(name, form, chunk), load(name, "a")
    zeros = leaves({n: np.zeros_like(a) for n, a in golden.final.items()})
    y = mixer(**{n: torch.tensor(a) for n, a in golden.inputs.items()}, state=zeros)
    (y * torch.tensor(golden.dy)).sum().backward()
    rng, step = np.random.default_rng(0), 1e-5
    direction = {n: rng.standard_normal(a.shape) for n, a in golden.final.items()}
    heads = golden.y.ndim == 4
    canonical = golden.inputs if heads else {n: a[:, :, None] if a.ndim == 3 else a[None] for n, a in
                                             golden.inputs.items()}  # fmt: skip

    def loss(size: float) -> float:
        moved = {n: size * (d if heads else d[:, None]) for n, d in direction.items()}
        return float((run_mixer(mixer.spec, canonical, moved)[0].reshape(golden.y.shape) * golden.dy).sum())

    slope = (loss(step) - loss(-step)) / (2 * step)
    found = sum(float((zeros[n].grad.numpy() * d).sum()) for n, d in direction.items())
    assert slope != 0 and abs(found - slope) < 1e-6 * abs(slope)


def test_a_given_log_has_a_gradient_too() -> None:
    mixer, golden = compiled("mlstm", "chunked", 8), load("mlstm", "b")
    given = leaves({**golden.initial, "S_log": np.full((2, 2), 0.7), "z_log": np.full((2, 2), -0.4)})
    inputs = {n: torch.tensor(a) for n, a in golden.inputs.items()}
    (mixer(**inputs, state=given) * torch.tensor(golden.dy)).sum().backward()
    whole = leaves({n: plain({m: t.detach() for m, t in given.items()}, n).numpy() for n in "Sz"})
    (mixer(**inputs, state=whole) * torch.tensor(golden.dy)).sum().backward()
    for n in "Sz":
        by_element = (whole[n].grad * whole[n]).detach().numpy()
        assert relative_rms(given[f"{n}_log"].grad.numpy(), by_element.reshape(2, 2, -1).sum(-1)) < BUDGET
        scale = np.exp(0.7 if n == "S" else -0.4)
        assert relative_rms(given[n].grad.numpy(), whole[n].grad.numpy() * scale) < BUDGET


BIASED = """mixer biased
  input x, i: D
  param c: D
  state a, b: D
  a[t] = a[t-1] + exp(c + i[t]) * x[t]
  b[t] = b[t-1] + exp(c + i[t])
  y[t] = a[t] / b[t]
"""


def test_parameters_of_a_gate_don_t_see_the_rows_beyond_the_end() -> None:
    """There, inputs are zero and the running maximum is what it was: their difference has no bound."""
    mixer = smir.compile(BIASED, form="scan", chunk=16)
    arrays = {n: torch.tensor(a) for n, a in smir.sample(mixer.spec, 1, 21, 1).items()}
    arrays |= {"i": arrays["i"] - 800.0, "c": arrays["c"].requires_grad_()}
    (mixer(**arrays) ** 2).sum().backward()
    assert torch.isfinite(arrays["c"].grad).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shift", [-200.0, 60.0])
@pytest.mark.parametrize(("name", "gate"), [("mlstm", "i"), ("rwkv4", "k"), ("aft_simple_causal", "k")])
def test_ragged_ends_of_extreme_gates_leave_gradients_finite(
    name: str, gate: str, shift: float, dtype: torch.dtype
) -> None:
    """What is relative to a running maximum has no bound in the rows of tokens beyond the end."""
    golden = load(name, "a")
    for form in smir.compile(name).forms:
        mixer = compiled(name, form, None if form == "step" else 16)
        inputs = {n: torch.tensor(a + (shift if n == gate else 0.0)).to(dtype).requires_grad_()
                  for n, a in golden.inputs.items()}  # fmt: skip
        y = mixer(**inputs)
        (y * torch.tensor(golden.dy).to(dtype)).sum().backward()
        assert torch.isfinite(y).all() and all(torch.isfinite(t.grad).all() for t in inputs.values()), form


def test_the_vectors_have_states() -> None:
    assert all("b" in cases(name) and load(name, "b").initial for name, _, _ in WAYS)
