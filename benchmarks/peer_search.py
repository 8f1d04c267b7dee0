"""Other people's Triton autotuners, hastened: what a search will try is compiled by many threads at once before it is
measured, and each configuration is measured for less long.

Triton's own search compiles one configuration after the other, which takes most of a minute for one mixer. What it
finds is the same: every configuration is still measured on the arguments of the call, alone on the device.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

WARMUP_MS, REPEATED_MS = 4, 16


class Hastened:
    """Every `triton.autotune` of this process from now on, as `install` leaves it.

    `threads` compile at once. Without `search` the first configuration that compiles is taken unmeasured: a process
    that only fills the cache on disk for others. `compiled` counts configurations, `seconds` is what compiling took.
    """

    def __init__(self, threads: int = 0, search: bool = True) -> None:
        self.threads, self.search = threads or os.cpu_count() or 1, search
        self.compiled, self.seconds = 0, 0.0

    def install(self) -> "Hastened":
        """Replaces what all autotuners of this process do."""
        from triton.runtime.autotuner import Autotuner

        ordinary = Autotuner.run

        def run(tuner: Any, *args: Any, **kwargs: Any) -> Any:
            if len(tuner.configs) > 1 and (key := _key(tuner, args, kwargs)) not in tuner.cache:
                self._ready(tuner, key, args, kwargs)
            return ordinary(tuner, *args, **kwargs)

        Autotuner.run = run
        Autotuner.do_bench = property(lambda tuner: _briefly)
        return self

    def _ready(self, tuner: Any, key: tuple[Any, ...], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        begin = time.perf_counter()
        tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
        configs = tuner.prune_configs(kwargs)
        try:
            found = self._compile(tuner, configs, args, kwargs)
        except Exception as error:  # Triton's internals have moved: its own search still works
            print(f"no compiling at once for {tuner.base_fn.__name__}: {type(error).__name__}: {error}", flush=True)
            return
        self.compiled += len(configs)
        self.seconds += time.perf_counter() - begin
        if not self.search:
            tuner.cache[key] = next(config for config, kernel in zip(configs, found, strict=True) if kernel)

    def _compile(self, tuner: Any, configs: Sequence[Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """The kernel of each configuration; None where it doesn't compile or fit the device."""
        from triton.runtime._async_compile import AsyncCompileMode

        with ThreadPoolExecutor(self.threads) as pool, AsyncCompileMode(pool, ignore_errors=True):
            begun = [_begin(tuner, config, args, kwargs) for config in configs]
        return [_finished(kernel) for kernel in begun]


def _begin(tuner: Any, config: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    try:
        return tuner.fn.run(*args, **{**kwargs, **config.all_kwargs(), "warmup": True})
    except Exception:  # what the search will meet again, and judge
        return None


def _finished(kernel: Any) -> Any:
    """The kernel once it is loaded, or None: some don't compile, and some don't fit the device."""
    try:
        done = kernel.result() if hasattr(kernel, "result") else kernel
        done._init_handles()
        return done
    except Exception:  # what the search will meet again, and judge
        return None


def _key(tuner: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """What a search's result belongs to, as `Autotuner.run` makes it."""
    given = {**dict(zip(tuner.arg_names, args, strict=False)), **kwargs}
    named = {name: value for name, value in given.items() if name in tuner.arg_names}
    types = [str(value.dtype) for value in named.values() if hasattr(value, "dtype")]
    return (*(named[name] for name in tuner.keys if name in named), *types)


def _briefly(call: Callable[[], Any], quantiles: Sequence[float]) -> Any:
    import triton

    return triton.testing.do_bench(call, warmup=WARMUP_MS, rep=REPEATED_MS, quantiles=quantiles)
