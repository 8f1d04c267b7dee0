"""States carry gradients: those of a sequence in segments, or in steps, are those of the whole sequence."""

import itertools

import pytest
import torch

from smir.errors import GradientError
from tests.equivalences.specs import CAUSAL, TOKENS, arguments, error, forms, mixer, token, tokens

EDGES = (0, 6, 7, TOKENS)
# One of each kind of state; the others, and all forms, with the wide tests.
SOME = "gla retnet mlstm lstm short_convolution softmax_causal delayed_keys older_states".split()


def leaves(name: str, T: int = TOKENS) -> dict[str, torch.Tensor]:
    return {n: torch.tensor(a, requires_grad=True) for n, a in arguments(name, B=1, T=T).items()}


def weights(y: torch.Tensor) -> torch.Tensor:
    return torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)


def gradients(y: torch.Tensor, arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad((y * weights(y)).sum(), list(arrays.values()), allow_unused=True)
    return {n: torch.zeros_like(a) if g is None else g for (n, a), g in zip(arrays.items(), found, strict=True)}


def check_segments(name: str, form: str | None) -> None:
    arrays = leaves(name)
    expected = gradients(mixer(name, form)(**arrays), arrays)
    parts, state = [], None
    for first, last in itertools.pairwise(EDGES):
        y, state = mixer(name, form)(**tokens(name, arrays, first, last), state=state, return_state=True)
        parts.append(y)
    found = gradients(torch.cat(parts, dim=1), arrays)
    errors = {n: error(found[n], expected[n]) for n in arrays}
    assert max(errors.values()) <= 1e-10, errors


@pytest.mark.parametrize("name", SOME)
def test_gradients_through_a_carried_state(name: str) -> None:
    check_segments(name, None)


@pytest.mark.full
@pytest.mark.parametrize("name", CAUSAL)
def test_gradients_through_a_carried_state_in_every_form(name: str) -> None:
    for form in forms(name):
        check_segments(name, form)


@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.full) for n in CAUSAL])
def test_gradients_through_steps(name: str) -> None:
    arrays = leaves(name, T=4)
    expected = gradients(mixer(name)(**arrays), arrays)
    parts, state = [], None
    for t in range(4):
        y, state = mixer(name).step(**token(name, arrays, t), state=state)
        parts.append(y)
    found = gradients(torch.stack(parts, dim=1), arrays)
    errors = {n: error(found[n], expected[n]) for n in arrays}
    assert max(errors.values()) <= 1e-10, errors


def test_a_state_that_gradients_need_is_not_overwritten() -> None:
    arrays = leaves("gla")
    _, state = mixer("gla")(**tokens("gla", arrays, 0, 5), return_state=True)
    one = token("gla", arrays, 5)
    with pytest.raises(GradientError, match=r"inplace=True would overwrite a state that gradients need"):
        mixer("gla").step(**one, state=state, inplace=True)
    with torch.no_grad():
        kept = state["S"].detach().clone()
        _, after = mixer("gla").step(**one, state={"S": kept}, inplace=True)
    assert after["S"] is kept
