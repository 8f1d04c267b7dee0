"""Microseconds of a call on the host, from the arguments to the last launch: the kernels are replaced by nothing.

python -m benchmarks.host_overhead          (needs no GPU: CPU tensors stand for the device's)
"""

import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # lets CPU tensors through

import torch

import smir
from benchmarks.report import publish
from smir.backends.triton_gpu import runtime
from smir.sampling import dimension_names

SPECS, SIZE, CALLS = ("linear_attention", "scalar_decay", "gla", "gated_delta_rule", "rwkv7"), 64, 400
COLUMNS = ("spec", "arguments", "forward us", "recorded forward us", "training step us")


class Nothing:
    """A kernel that does nothing."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda **arguments: None


def without_kernels(plan: Any, facts: Any, real: Callable[..., Any] = runtime.launcher) -> Any:
    """The launcher of a plan, whose kernels do nothing."""
    launch = real(plan, facts)
    launch.__globals__.update({kernel.name: Nothing() for kernel in plan.kernels})
    return launch


def best_us(call: Callable[[], Any]) -> float:
    """The fastest tenth of many calls: what else the machine does isn't counted."""
    times = []
    for _ in range(CALLS):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return 1e6 * sorted(times)[CALLS // 10]


def measure(name: str) -> tuple[Any, ...]:
    mixer = smir.compile(name, form="chunked", backend="triton")
    drawn = smir.sample(mixer.spec, 1, 64, 2, dict.fromkeys(dimension_names(mixer.spec), SIZE))
    plain = {n: torch.from_numpy(a).bfloat16() for n, a in drawn.items()}
    recorded = {n: t.clone().requires_grad_() for n, t in plain.items()}
    seed = torch.ones_like(mixer(**plain))
    torch.autograd.grad(mixer(**recorded), list(recorded.values()), seed)
    calls = (lambda: mixer(**plain), lambda: mixer(**recorded),
             lambda: torch.autograd.grad(mixer(**recorded), list(recorded.values()), seed))  # fmt: skip
    return name, len(plain), *map(best_us, calls)


if __name__ == "__main__":
    runtime.launcher = without_kernels  # type: ignore[assignment]
    torch.set_num_threads(1)
    title = "microseconds on the host for calls of shapes that were seen before, launches left out"
    publish("host_overhead", title, COLUMNS, [measure(name) for name in SPECS], torch=torch.__version__)
