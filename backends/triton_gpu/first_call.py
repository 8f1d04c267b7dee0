"""The first call of a plan compiles all its kernels at once, in threads: it takes as long as the largest of them."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from smir.backends.triton_gpu.interpreter import is_interpreting
from smir.backends.triton_gpu.recording import recorded


def uncompiled(kernels: Sequence[str]) -> list[str]:
    """The kernels to compile together, of a plan that hasn't run yet."""
    return list(kernels) if len(kernels) > 1 and not is_interpreting() else []


def compile_together(function: Any, cold: list[str], inputs: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Compiles what `function(*inputs, **keywords)` would launch, and empties `cold`; launches find it.

    Kernels that Triton has on disk are only loaded.
    """
    from triton import AsyncCompileMode
    from triton.runtime._async_compile import active_mode

    names, cold[:] = tuple(cold), []
    if active_mode.get() is not None:  # somebody else's threads compile already
        return
    run, launches = recorded(function, names, runs=False)
    run(*inputs, **keywords)
    with ThreadPoolExecutor(min(len(launches), os.cpu_count() or 1)) as pool, AsyncCompileMode(pool):
        for launch in launches:
            launch.kernel.run(grid=launch.grid, warmup=True, **launch.keywords)
