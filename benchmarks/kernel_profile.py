"""Where the time of a training step goes on a GPU: every kernel's milliseconds, the bytes it must move, what it takes.

    python -m benchmarks.kernel_profile [--specs gla,kda] [--seconds 300]

bf16 at the two large shapes, K = V = 128, in the form that long calls take, without initial states. `megabytes` counts
every tensor of a launch once, `copy_ms` is what a copy of as many bytes takes; registers and stack (spills, in bytes)
are a thread's. `warm` compiles, for many specs at once, what `times` measures.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import smir
from benchmarks.gpu_forward import SPEED_SHAPES
from benchmarks.gpu_runs import TIMES, Rows, Task, fast_form, run
from smir.backends.triton_gpu import runtime, tuning
from smir.backends.triton_gpu.options import default_chunk
from smir.backends.triton_gpu.recording import KernelLaunch
from smir.bench.ceilings import measure_ceilings
from smir.calls.execution import cut_in_time
from smir.compilation import Compilation
from smir.ir.kernel import KernelPlan
from smir.sampling import common_sizes
from smir.tuning.arguments import Shape
from smir.tuning.lookup import find
from smir.tuning.passes import passes
from smir.tuning.problem import Problem
from smir.tuning.trial import Bench

MODULE, WARM, DEVICE, DTYPE, SIZE = "benchmarks.kernel_profile", "warm", "cuda:0", "bfloat16", 128
WARM_SHAPE = (1, 2048, 16)


def problem(done: Compilation, shape: tuple[int, int, int]) -> Problem:
    """A training step with gradients of all arguments."""
    spec = done.spec
    sizes = Shape.even(spec, *shape, common_sizes(spec, SIZE))
    return Problem.of_sizes(done, "triton", sizes, DTYPE, DEVICE, [d.name for d in spec.declarations])


def warm(name: str) -> Iterator[dict[str, Any]]:
    """Runs every kernel once."""
    launches(name, WARM_SHAPE)
    yield {"spec": name, "task": WARM}


def times(name: str) -> Iterator[dict[str, Any]]:
    """One row per shape and kernel."""
    rate = measure_ceilings(DEVICE, DTYPE, tuning.seconds).bytes_per_second
    for shape in SPEED_SHAPES:
        for side, launch in launches(name, shape):
            moved = _bytes(launch.keywords)
            compiled = launch.kernel[launch.grid](**launch.keywords)
            yield {
                "task": TIMES,
                "spec": name,
                "shape": "x".join(map(str, shape)),
                "pass": side,
                "kernel": launch.name,
                "ms": 1e3 * tuning.seconds(launch.again),
                "copy_ms": 1e3 * moved / rate,
                "megabytes": moved / 1e6,
                "programs": prod(launch.grid),
                "options": {k: v for k, v in launch.keywords.items() if k.startswith(("BLOCK_", "num_"))},
                "registers": compiled.n_regs,
                "stack": compiled.n_spills,
                "shared": compiled.metadata.shared,
            }


def launches(name: str, shape: tuple[int, int, int]) -> list[tuple[str, KernelLaunch]]:
    """The launches of a training step that was run, by side."""
    done, form = smir.compile(name).compilation, fast_form(name)
    asked = problem(done, shape)
    bench, found = Bench(asked), find(done, asked).settings.get(form)
    chunk = found.chunk if found else default_chunk(asked.shape.sizes, float32=False, form=form)
    launches: list[tuple[str, list[KernelLaunch]]] = []

    def prepare(side: str, plan: KernelPlan, given: Mapping[str, Any]) -> Any:
        options = found.options_of(plan) if found else {}
        cut = cut_in_time(plan, given, chunk)
        runner, made = tuning.watched(runtime.prepare(cut, given, chunk, options), cut)
        launches.append((side, made))
        return runner

    passes(done, form, frozenset(asked.wanted)).run(prepare, *bench.large)
    return [(side, launch) for side, made in launches for launch in made]


def _bytes(keywords: Mapping[str, Any]) -> int:
    """Of all tensors of a launch, each storage once."""
    tensors = {x.data_ptr(): x.numel() * x.element_size() for x in keywords.values() if hasattr(x, "data_ptr")}
    return sum(tensors.values())


def _summary(rows: Rows) -> None:
    for spec, shape in dict.fromkeys((r["spec"], r["shape"]) for r in rows if "ms" in r):
        own = [r for r in rows if r.get("shape") == shape and r["spec"] == spec]
        print(f"{spec} {shape}: {sum(r['ms'] for r in own):.3f} ms")
        for r in own:
            options = " ".join(f"{k.removeprefix('num_').lower()}={v}" for k, v in r["options"].items())
            print(f"  {r['pass'][:4]} {r['kernel'][:28]:<29}{r['ms']:8.3f} ms, copy{r['copy_ms']:7.3f}"
                  f"{r['programs']:>7} x {options:<42}"
                  f"{r['registers']:>4} regs{r['stack']:>5} B{r['shared']:>8} B")  # fmt: skip
    for r in rows:
        if "crashed" in r:
            print(r["spec"], r["crashed"][-500:])


TASKS = {WARM: Task(warm, recorded=False), TIMES: Task(times, alone=True)}

if __name__ == "__main__":
    run(MODULE, __doc__, TASKS, _summary, f"K = V = {SIZE}, N = 16, M = 64, {DTYPE}")
