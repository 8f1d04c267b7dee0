"""Calls with gradients on the CPU that several tests make: mixers, arguments that require gradients, losses."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

import smir
from smir.compilation import Compilation
from smir.compiled import CompiledMixer
from smir.passes.stabilisation.stabilise import SUFFIX
from smir.sampling import sample_states

torch = pytest.importorskip("torch")

EVERY_FORM = ("gated_delta_rule", "rwkv6", "lion_s", "linear_attention_elu_norm")
Tensors = dict[str, Any]


@cache
def compiled(name: str, form: str | None = "chunked", chunk: int | None = 16) -> CompiledMixer:
    """A library mixer; all forms share one compilation."""
    return CompiledMixer(compilation(name), form, None, chunk)


@cache
def compilation(name: str) -> Compilation:
    return smir.compile(name).compilation


def sampled(
    name: str, B: int = 1, T: int = 21, H: int = 2, dtype: Any = torch.float64, sizes: Mapping[str, int] | None = None
) -> tuple[Tensors, Tensors]:
    """Arguments and initial states that require gradients."""
    spec = compiled(name).spec
    arrays, states = smir.sample(spec, B, T, H, sizes), sample_states(spec, B, H, sizes, seed=1)
    return leaves(arrays, dtype), leaves(states, dtype)


def leaves(arrays: Mapping[str, np.ndarray], dtype: Any = torch.float64) -> Tensors:
    return {n: torch.from_numpy(a).to(dtype).clone().requires_grad_() for n, a in arrays.items()}


def weighted(*results: Any) -> Any:
    """A loss with another cotangent for every element."""
    return sum((r * torch.linspace(-1, 2, r.numel(), dtype=r.dtype).view_as(r)).sum() for r in results)


def loss(mixer: CompiledMixer, arrays: Tensors, states: Tensors | None = None) -> Any:
    y, final = mixer(**arrays, state=states, return_state=True)
    return weighted(y, *final.values())


def gradients(mixer: CompiledMixer, arrays: Tensors, states: Tensors | None = None) -> list[Any]:
    wanted = [t for t in (*arrays.values(), *(states or {}).values()) if t.requires_grad]
    return list(torch.autograd.grad(loss(mixer, arrays, states), wanted))


def assert_same(found: list[Any], expected: list[Any]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def multiplied_out(final: Tensors) -> list[Any]:
    """The states themselves. The mantissa of a scaled one is no function of the arguments by itself: its log is held
    constant by gradients, and only the product of both doesn't depend on where the scale was put.
    """
    logs = {n: final[n + SUFFIX] for n in final if n + SUFFIX in final}
    scales = {n: a.exp().view(*a.shape, *(1,) * (final[n].ndim - a.ndim)) for n, a in logs.items()}
    return [a * scales.get(n, 1.0) for n, a in final.items() if n.removesuffix(SUFFIX) not in scales or n in scales]
