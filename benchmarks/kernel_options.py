"""How the largest kernels of a training step take launch options near the rule's: other warps, blocks, pipeline stages.

    python -m benchmarks.kernel_options [--specs gla,kda] [--seconds 300]

bf16 at 4 x 4096 x 16 x 128. Each kernel that takes long enough is launched again on its own tensors with each of the
tuner's moves; results aren't checked here (the tuner does). `warm` compiles, for many specs at once, what `times`
measures.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import smir
from benchmarks.gpu_forward import SPEED_SHAPES
from benchmarks.gpu_runs import TIMES, Rows, Task, fast_form, run
from benchmarks.kernel_profile import SIZE, launches, problem
from smir.backends.triton_gpu import tuning
from smir.backends.triton_gpu.options import default_chunk
from smir.backends.triton_gpu.recording import KernelLaunch
from smir.ir.kernel import Kernel
from smir.tuning.passes import passes_of

MODULE, WARM, BLOCK = "benchmarks.kernel_options", "warm", "BLOCK_"
# Milliseconds from which a kernel is worth it.
LEAST = 0.12


def warm(name: str) -> Iterator[dict[str, Any]]:
    """Runs every variant once."""
    for _, launch, kernel in _large(name):
        for options in _moves(launch, kernel):
            _run(launch, options)
    yield {"spec": name, "task": WARM}


def times(name: str) -> Iterator[dict[str, Any]]:
    """One row per kernel and options; the rule's come first."""
    for side, launch, kernel in _large(name):
        for options in (_options(launch), *_moves(launch, kernel)):
            compiled = _run(launch, options)
            milliseconds = 1e3 * tuning.seconds(lambda options=options, launch=launch: _run(launch, options))  # type: ignore[misc]
            yield {"task": TIMES, "spec": name, "pass": side, "kernel": launch.name, "options": options,
                   "ms": milliseconds, "registers": compiled.n_regs, "stack": compiled.n_spills}  # fmt: skip


def _large(name: str) -> Iterator[tuple[str, KernelLaunch, Kernel]]:
    """The launches that take long, with their pass and kernel."""
    done, shape = smir.compile(name).compilation, SPEED_SHAPES[0]
    form, asked = fast_form(name), problem(done, shape)
    kernels = passes_of(done, asked, form, default_chunk(asked.shape.sizes, float32=False, form=form)).kernels
    for side, launch in launches(name, shape):
        if 1e3 * tuning.seconds(launch.again) >= LEAST:
            yield side, launch, kernels[side, launch.name]


def _options(launch: KernelLaunch) -> dict[str, int]:
    return {k: v for k, v in launch.keywords.items() if k.startswith((BLOCK, "num_"))}


def _moves(launch: KernelLaunch, kernel: Kernel) -> tuple[dict[str, int], ...]:
    sizes = {k.removeprefix("SIZE_"): v for k, v in launch.keywords.items() if k.startswith("SIZE_")}
    return tuple(o for o in tuning.moves(kernel, _options(launch), sizes) if 4 <= o["num_warps"] <= 8)


def _run(launch: KernelLaunch, options: Mapping[str, int]) -> Any:
    """Launches with other options, in as many programs as they need."""
    programs, chosen = launch.grid[0], _options(launch)
    for name in (n for n in options if n.startswith(BLOCK) and options[n] != chosen[n]):
        size = launch.keywords[name.replace(BLOCK, "SIZE_")]
        programs = programs // -(-size // chosen[name]) * -(-size // options[name])
    return launch.kernel[(programs,)](**{**launch.keywords, **options})


def _summary(rows: Rows) -> None:
    for spec, side, kernel in dict.fromkeys((r["spec"], r["pass"], r["kernel"]) for r in rows if "ms" in r):
        rule, *others = [r for r in rows if (r.get("spec"), r.get("pass"), r.get("kernel")) == (spec, side, kernel)]
        best = sorted(others, key=lambda r: r["ms"])[:4]
        shown = "  ".join(f"{_changed(rule, r)} {r['ms']:.3f}" for r in best)
        print(f"{spec:<18}{side[:4]} {kernel[:24]:<25}{rule['ms']:7.3f} ms; {shown}")
    for r in rows:
        if "crashed" in r:
            print(r["spec"], r["crashed"][-500:])


def _changed(rule: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ",".join(f"{k.removeprefix('num_').removeprefix(BLOCK)}={v}" for k, v in other["options"].items()
                    if rule["options"].get(k) != v)  # fmt: skip


TASKS = {WARM: Task(warm, recorded=False), TIMES: Task(times, alone=True)}

if __name__ == "__main__":
    run(MODULE, __doc__, TASKS, _summary, f"K = V = {SIZE}, N = 16, M = 64, bfloat16")
