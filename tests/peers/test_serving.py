"""Compiled mixers and short convolutions in whole language models of transformers: what `step` decodes is theirs."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests.golden.vectors import relative_rms
from tests.peers.layers import Tensor, draw_weights
from tests.peers.served import BYTES, MODELS, Language, Served

pytestmark = pytest.mark.peers

BUDGET, WIDE_BUDGET = 1e-5, 1e-9
PROMPT, SEGMENT, DECODED = 27, 19, 32  # the prompt comes in two calls, the first one of SEGMENT tokens


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Models this small lose time to threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Language:
    """A model whose own mixing is their torch code, not that of a package which they would rather call."""
    case = MODELS[request.param]
    for name in case.functions:
        monkeypatch.setattr(case.module, name, inspect.unwrap(getattr(case.module, name)))
    return case


@pytest.fixture
def model(case: Language) -> nn.Module:
    torch.manual_seed(0)
    return draw_weights(case.build()).eval()


@pytest.fixture
def text() -> Tensor:
    return torch.randint(BYTES, (2, PROMPT), generator=torch.Generator().manual_seed(1))


def replace(case: Language, model: nn.Module, patch: pytest.MonkeyPatch) -> list[Served]:
    """Compiled layers in the place of theirs."""
    served = case.replaced(model)
    for one in served:
        patch.setattr(one.layer, "forward", one)
    return served


def decode(case: Language, model: nn.Module, text: Tensor, tokens: Tensor | None) -> Iterator[Tensor]:
    """Logits of the prompt in two parts, then of each decoded token, `[B, n, BYTES]`; the tokens are those given, else
    the likeliest ones."""
    cache: Any = None
    for part in (text[:, :SEGMENT], text[:, SEGMENT:]):
        found = model(part, use_cache=True, **{case.cache: cache})
        cache = found[case.cache]
        yield found.logits
    for i in range(DECODED):
        token = found.logits[:, -1:].argmax(-1) if tokens is None else tokens[:, i : i + 1]
        found = model(token, use_cache=True, **{case.cache: cache})
        yield found.logits


def assert_close(found: Tensor, expected: Tensor, where: object, budget: float = BUDGET) -> None:
    assert relative_rms(found.numpy(), expected.numpy()) <= budget, where


class Wide:
    """torch for a module that computes in float32 whatever it is given: in float64 instead."""

    def __getattr__(self, name: str) -> Any:
        return torch.float64 if name == "float32" else getattr(torch, name)


@torch.no_grad()
def test_prefill_and_decoded_tokens(
    case: Language, model: nn.Module, text: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(decode(case, model, text, None))
    tokens = torch.cat([logits[:, -1:].argmax(-1) for logits in expected[1:-1]], dim=1)
    whole = model(torch.cat([text, tokens], dim=1)).logits
    served = replace(case, model, monkeypatch)
    found = list(decode(case, model, text, tokens))
    assert len(found) == 2 + DECODED
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert_close(mine, theirs, i)
    assert_close(torch.cat(found, dim=1), whole, "their whole sequence")
    assert len(served) == 2 and all(m.steps == DECODED for one in served for m in (one.convolution, one.mixer))
    assert all(set(one.convolution.state) == {"x_past"} and set(one.mixer.state) == {"S"} for one in served)


@torch.no_grad()
def test_what_is_decoded_needs_the_states(
    case: Language, model: nn.Module, text: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either state at zero, and the next logits are others: what the comparison above sees."""
    for part in ("convolution", "mixer"):
        logits = []
        for forget in (False, True):
            with monkeypatch.context() as patch:
                served = replace(case, model, patch)
                found = model(text, use_cache=True)
                for mixer in (getattr(one, part) for one in served if forget):
                    mixer.state = {name: torch.zeros_like(a) for name, a in mixer.state.items()}
                logits.append(model(text[:, :1], use_cache=True, **{case.cache: found[case.cache]}).logits)
        assert relative_rms(*(a.numpy() for a in logits)) > 100 * BUDGET, part


def test_gradients_of_a_training_step(
    case: Language, model: nn.Module, text: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every weight, those of the short convolution and of the decay among them, in float64: sums over all tokens
    lose too many digits in float32 to tell anything."""
    monkeypatch.setattr(case.module, "torch", Wide())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    model = model.double().train()
    names, weights = zip(*model.named_parameters(), strict=True)
    expected = torch.autograd.grad(model(text, labels=text, use_cache=False).loss, weights)
    served = replace(case, model, monkeypatch)
    found = torch.autograd.grad(model(text, labels=text, use_cache=False).loss, weights)
    assert all(one.mixer.state is None for one in served)
    assert sum("conv1d" in name or "A_log" in name for name in names) >= 4
    for name, mine, theirs in zip(names, found, expected, strict=True):
        assert theirs.abs().max() > 1e-6, name
        assert_close(mine, theirs, name, WIDE_BUDGET)
