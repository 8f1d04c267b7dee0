"""The first call of a plan compiles all its kernels at once, in threads: it takes as long as the largest of them."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from smir.backends.triton_gpu.interpreter import is_interpreting
from smir.backends.triton_gpu.recording import recorded


def uncompiled(kernels: Sequence[str]) -> list[str]:
    """The kernels to compile together, of a plan that hasn't run yet."""
    return [] if is_interpreting() else list(kernels)


def compile_together(
    function: Any, cold: Sequence[str], inputs: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, int]:
    """Compiles what `function(*inputs, **keywords)` would launch of the kernels in `cold`; launches find it.

    Kernels that Triton has on disk are only loaded. Returns the bytes of shared memory that each takes: nothing where
    somebody else's threads compile already.
    """
    from triton import AsyncCompileMode
    from triton.runtime._async_compile import active_mode

    if active_mode.get() is not None:  # somebody else's threads compile already
        return {}
    run, launches = recorded(function, cold, runs=False)
    run(*inputs, **keywords)
    with ThreadPoolExecutor(min(len(launches), os.cpu_count() or 1)) as pool, AsyncCompileMode(pool):
        found = [(x.name, x.kernel.run(grid=x.grid, warmup=True, **x.keywords)) for x in launches]
    return {name: _shared_bytes(kernel) for name, kernel in found}


def _shared_bytes(kernel: Any) -> int:
    """Of a compiled kernel, or of one that was compiled in a thread."""
    return int((kernel.result() if hasattr(kernel, "result") else kernel).metadata.shared)
