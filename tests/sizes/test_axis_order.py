"""Inputs and outputs with heads before tokens: views of the same call, of a step, of packed sequences, traced."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

import smir
from smir.errors import ArgumentError, SpecNameError
from tests.sizes.cases import CLASSES, mixer

TOKENS = 9


def arguments(name: str, B: int = 2, T: int = TOKENS) -> dict[str, Any]:
    drawn = smir.sample(mixer(name).spec, B=B, T=T, H=3, seed=4)
    return {n: torch.from_numpy(a) for n, a in drawn.items()}


def heads_first(name: str, arrays: dict[str, Any]) -> dict[str, Any]:
    inputs = {d.name for d in mixer(name).spec.inputs}
    return {n: a.transpose(1, 2).contiguous() if n in inputs else a for n, a in arrays.items()}


SOME = ["gla", "mamba1", "softmax_causal"]


@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.full) for n in CLASSES])
def test_a_call_with_heads_first(name: str) -> None:
    """Output, states and gradients, by keyword and as it was compiled."""
    arrays = arguments(name)
    turned = {n: a.requires_grad_() for n, a in heads_first(name, arrays).items()}
    plain = {n: a.clone().requires_grad_() for n, a in arrays.items()}
    y, final = mixer(name)(**plain, return_state=True)
    found, ends = mixer(name)(**turned, return_state=True, layout="BHTD")
    assert torch.allclose(found.transpose(1, 2), y, rtol=1e-10, atol=1e-12)
    assert all(torch.allclose(ends[n], s, rtol=1e-10, atol=1e-12, equal_nan=True) for n, s in final.items())
    own, other = (torch.autograd.grad(r.square().sum(), list(group.values())) for r, group in
                  ((found, turned), (y, plain)))  # fmt: skip
    for n, a, b in zip(plain, own, heads_first(name, dict(zip(plain, other, strict=True))).values(), strict=True):
        assert a.shape == turned[n].shape and torch.allclose(a, b, rtol=1e-8, atol=1e-10), n
    fixed = smir.compile(name, layout="BHTD")
    assert torch.equal(fixed(*turned.values()), found)
    assert torch.equal(fixed(*plain.values(), layout="BTHD"), y)


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs sees the caller's memory, and so does the caller the output's."""
    seen: dict[str, Any] = {}
    compiled = smir.compile("gla", layout="BHTD")
    eager = compiled.calls.eager

    def watched(given: dict[str, Any], *rest: Any) -> Any:
        seen.update(given)
        seen["y"] = eager(given, *rest)
        return seen["y"]

    monkeypatch.setattr(compiled.calls, "eager", watched)
    arrays = {n: a.numpy() for n, a in heads_first("gla", arguments("gla")).items()}
    y = compiled(**arrays)
    assert all(np.shares_memory(seen[n], a) for n, a in arrays.items()) and np.shares_memory(y, seen["y"])
    assert y.shape[:3] == (2, 3, TOKENS) and seen["q"].shape[:3] == (2, TOKENS, 3)


@pytest.mark.parametrize("name", ["gla", "softmax_causal"])
def test_steps_with_heads_first(name: str) -> None:
    """Several tokens have the order, a single one has none; states are the same."""
    arrays, fixed = arguments(name), smir.compile(name, layout="BHTD")
    whole = mixer(name)(**arrays)
    turned = heads_first(name, arrays)
    y, state = fixed(**{n: a[:, :, :4] for n, a in turned.items()}, return_state=True)
    more, state = fixed.step(**{n: a[:, :, 4:8] for n, a in turned.items()}, state=state, several=True)
    last, _ = fixed.step(**{n: a[:, :, 8] for n, a in turned.items()}, state=state)
    found = torch.cat([y, more, last[:, :, None]], 2).transpose(1, 2)
    assert torch.allclose(found, whole, rtol=1e-10, atol=1e-12)


def test_packed_sequences_with_heads_first() -> None:
    arrays, bounds = arguments("gla", B=1), torch.tensor([0, 4, TOKENS])
    y = mixer("gla")(**arrays, cu_seqlens=bounds)
    found = mixer("gla")(**heads_first("gla", arrays), cu_seqlens=bounds, layout="BHTD")
    assert torch.equal(found.transpose(1, 2), y)


def test_traced_calls_with_heads_first() -> None:
    torch._dynamo.reset()
    fixed = smir.compile("gla", layout="BHTD")
    turned = heads_first("gla", arguments("gla"))
    traced = torch.compile(lambda q, k, v, g: fixed(q, k, v=v, g=g), fullgraph=True, backend="aot_eager")
    assert torch.allclose(traced(*turned.values()), fixed(**turned), rtol=1e-10, atol=1e-12)


def test_calls_without_heads_have_no_order() -> None:
    arrays = {n: a[:, :, 0] for n, a in arguments("gla").items()}
    assert torch.equal(mixer("gla")(**arrays, layout="BHTD"), mixer("gla")(**arrays))


def test_what_is_kept_of_it() -> None:
    fixed = smir.compile("gla", layout="BHTD")
    assert pickle.loads(pickle.dumps(fixed)).layout == "BHTD" and fixed.asked["layout"] == "BHTD"


def test_wrong_layouts_and_shapes() -> None:
    with pytest.raises(ArgumentError, match="there is no layout 'HBTD'"):
        smir.compile("gla", layout="HBTD")
    arrays = arguments("gla")
    with pytest.raises(ArgumentError, match="there is no layout 'bhtd'"):
        mixer("gla")(**arrays, layout="bhtd")
    turned = heads_first("gla", arrays)
    with pytest.raises(ArgumentError, match=r"(?s)argument k has shape .*tokens first, \[B, T, H, dims"):
        mixer("gla")(**{**turned, "k": turned["k"][:, :, :4]}, layout="BHTD")
    with pytest.raises(SpecNameError, match="`layout` is reserved"):
        smir.compile("mixer m\n  input layout: D\n  y[t] = layout[t]\n")
