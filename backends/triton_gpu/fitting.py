"""Kernels that fit the GPU at hand: what a program may take of its shared memory, else smaller blocks.

Cards differ: 227 KB on a data centre's Hopper, 99 KB on a workstation's Ampere or Ada, 64 KB on Turing. What a kernel
takes is known once it is compiled, before anything is launched.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

from smir.backends.triton_gpu.facts import SMALLEST_BLOCK
from smir.backends.triton_gpu.interpreter import is_interpreting
from smir.errors import BackendError

BLOCK = "BLOCK_"
KIB = 1024


def shared_limit(device: Any) -> int | None:
    """Bytes of shared memory that a program may take on this device; None where nothing bounds it."""
    if is_interpreting() or not str(device).startswith("cuda"):
        return None
    import torch
    from triton.compiler.compiler import max_shared_mem

    index = torch.device(device).index
    return int(max_shared_mem(torch.cuda.current_device() if index is None else index))


def fit(
    compiled: Callable[[], dict[str, int]], options: MutableMapping[str, dict[str, int]], limit: int | None, chunk: int
) -> None:
    """Makes the blocks of kernels smaller until each fits: `compiled` gives their bytes with the `options` of now.

    Raises BackendError for a kernel that doesn't fit with the smallest blocks.
    """
    while True:
        large = {name: size for name, size in compiled().items() if limit is not None and size > limit}
        if not large:
            return
        for name, size in large.items():
            smaller = narrower(options[name])
            if smaller is None:
                raise too_large(name, f"{-(-size // KIB)} KB of shared memory", f"{(limit or 0) // KIB} KB", chunk)
            options[name] = smaller


def narrower(options: dict[str, int]) -> dict[str, int] | None:
    """The options that take the next smaller share of memory: fewer loads that overlap, then half the widest block;
    None below the smallest."""
    if options["num_stages"] > 1:
        return {**options, "num_stages": options["num_stages"] - 1}
    widest = max((name for name in options if name.startswith(BLOCK)), key=lambda name: options[name], default=None)
    if widest is None or options[widest] <= SMALLEST_BLOCK:
        return None
    return {**options, widest: options[widest] // 2}


def too_large(kernel: str, needs: str, has: str, chunk: int) -> BackendError:
    """What to do about a kernel that no block makes small enough."""
    shorter = f"compile it with chunk={chunk // 2}, or " if chunk > SMALLEST_BLOCK else ""
    hint = f"{shorter}make its dimensions smaller, use form='step' or form='scan' where they are legal, or another GPU"
    return BackendError(f"kernel {kernel} needs {needs}, and a program of this GPU can have {has}", hint=hint)
