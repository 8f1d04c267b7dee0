"""A compiled mixer in the place of the mixing inside a layer of transformers: the same layer output and gradients."""

import inspect
from typing import Any

import pytest
import torch
from torch import nn

import smir
from smir.specs import library_names
from tests.golden.vectors import relative_rms
from tests.peers.layers import LAYERS, TOKENS, WIDTH, Layer, Tensor, draw_weights

pytestmark = pytest.mark.peers

BUDGET = 1e-5


def built(case: Layer) -> nn.Module:
    """The layer with random weights."""
    torch.manual_seed(0)
    return draw_weights(case.build()).eval()


def outcome(case: Layer, layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's output, and the gradient of a fixed combination of its entries with respect to x."""
    x = x.clone().requires_grad_()
    y = case.run(layer, x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return y.detach(), torch.autograd.grad((weights * y).sum(), x)[0]


class Counted:
    """A mixer that knows how often it was called."""

    def __init__(self, spec: str, form: str) -> None:
        self.mixer, self.calls = smir.compile(spec, form=form), 0

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        return self.mixer(*args, **named)


KNOWN = [name for name, case in LAYERS.items() if case.spec in library_names()]


@pytest.mark.parametrize("name", KNOWN)
def test_layer_output_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = LAYERS[name]
    layer = built(case)
    owner = case.owner(layer)
    x = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))
    # their own torch code, not that of a package which they would rather call when it is installed
    monkeypatch.setattr(owner, case.name, inspect.unwrap(getattr(owner, case.name)))
    y, d_x = outcome(case, layer, x)
    assert y.std() > 1e-3
    for form in smir.compile(case.spec).forms:
        mixer = Counted(case.spec, form)
        with monkeypatch.context() as patch:
            patch.setattr(owner, case.name, case.adapter(mixer, owner))
            found, d_found = outcome(case, layer, x)
        assert mixer.calls == 1
        assert relative_rms(found.numpy(), y.numpy()) <= BUDGET, form
        assert relative_rms(d_found.numpy(), d_x.numpy()) <= BUDGET, form
