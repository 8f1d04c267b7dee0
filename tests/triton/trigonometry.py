"""A kernel of its own around the kernels' trigonometry. Imports triton: only for processes of `conftest`."""

import numpy as np
import torch
import triton
import triton.language as tl

from smir.backends.triton_gpu.tiles import cos_and_sin


@triton.jit
def both(x_ptr, cos_ptr, sin_ptr, N: tl.constexpr):
    i = tl.arange(0, N)
    cos, sin = cos_and_sin(tl.load(x_ptr + i))
    tl.store(cos_ptr + i, cos)
    tl.store(sin_ptr + i, sin)


def largest_error(size: float, count: int = 1 << 12) -> float:
    """Of cosines and sines of that many arguments up to a size."""
    x = torch.linspace(-size, size, count)
    cos, sin = torch.empty_like(x), torch.empty_like(x)
    both[(1,)](x, cos, sin, count)
    exact = x.double().numpy()
    return float(np.max([np.abs(cos.numpy() - np.cos(exact)), np.abs(sin.numpy() - np.sin(exact))]))
