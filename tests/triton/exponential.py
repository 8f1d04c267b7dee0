"""A kernel of its own around the kernels' exponential. Imports triton: only for processes of `conftest`.

On a GPU: `python -m tests.triton.exponential`.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from smir.backends.triton_gpu.tiles import exp

LOWEST, HIGHEST = -87.0, 88.0


@triton.jit
def power(x_ptr, y_ptr, N: tl.constexpr, PRODUCT: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(y_ptr + i, exp(tl.load(x_ptr + i), PRODUCT))


def powers(x: torch.Tensor) -> np.ndarray:
    """e^x of float32 numbers, a power of two of them, as kernels with float32 products compute it."""
    y = torch.empty_like(x)
    power[(1,)](x, y, x.numel(), tl.float32)
    return y.cpu().numpy()


def errors(count: int = 1 << 14, device: str = "cpu") -> dict[str, float]:
    """In units in the last place over the whole range: the largest, and the mean of those of small decays."""
    wide = torch.linspace(LOWEST, HIGHEST, count)
    small = -torch.logspace(-6, 0, count)
    found = {name: _units(powers(x.to(device)), x) for name, x in (("wide", wide), ("small", small))}
    return {"largest": max(float(np.abs(e).max()) for e in found.values()), "mean": float(found["small"].mean())}


def _units(found: np.ndarray, x: torch.Tensor) -> np.ndarray:
    exact = np.exp(x.double().numpy())
    return (found - exact) / np.spacing(exact.astype(np.float32))


def at_the_ends(device: str = "cpu") -> list[float]:
    """Of -inf, numbers whose power is too small or too large for float32, zero and NaN."""
    inf = float("inf")
    x = torch.tensor([-inf, -1e30, -200.0, 0.0, 100.0, inf, 88.7, float("nan")], device=device)
    return [float(y) for y in powers(x)]


if __name__ == "__main__":
    print(errors(device="cuda"), at_the_ends("cuda"))
